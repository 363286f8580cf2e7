"""Living with an agent: making its home, and talking to it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption

app = typer.Typer()


@app.command(epilog="Example: overlay init my-home")
def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Make a new home: the stock notes, frames, voices, axes, adapters and scenarios, yours to edit."""
    from overlay.home import create_home

    home = create_home(folder)
    print(f"A new home in {home.folder}. Next: overlay chat --home {folder}")


@app.command(epilog="Examples: overlay chat · echo 'What is volatility?' | overlay chat --plain")
def chat(
    home: HomeOption = HERE,
    plain: Annotated[bool, typer.Option("--plain", help="Line by line; also works through a pipe.")] = False,
    session: Annotated[
        str | None, typer.Option(help="Go on with the newest session instead of a new one: its name, or `last`.")
    ] = None,
    dtype: DTypeOption = "auto",
) -> None:
    """Talk to the agent. Esc stops a reply; every answered turn is saved."""
    from overlay.home import Home

    opened = Home.open(home)
    if session is not None:
        from overlay.session import session_path

        session = session_path(opened.sessions, session).stem
    if plain or not sys.stdin.isatty() or not sys.stdout.isatty():
        from overlay.tui.plain import plain_chat

        plain_chat(opened, dtype=dtype, session=session)
    else:
        from overlay.tui import run_chat

        run_chat(opened, dtype=dtype, session=session)
