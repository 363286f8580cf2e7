"""The demonstration: everything once, on the real model."""

from __future__ import annotations

import typer

from overlay.cli.console import HERE, HomeOption, console_progress

app = typer.Typer()


@app.command(epilog="Example: overlay demo")
def demo(home: HomeOption = HERE) -> None:
    """One chat turn, one adapter swap and one scenario, on the real model."""
    from overlay.demo import run_demo
    from overlay.home import Home

    with console_progress() as progress:
        run_demo(Home.open(home), progress)
