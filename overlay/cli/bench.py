"""The benchmarks of a source checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from overlay.cli.console import JsonOption, new_table, print_table

app = typer.Typer()


@app.command(epilog="Example: overlay bench engine --json")
def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark: engine.")] = "engine", as_json: JsonOption = False
) -> None:
    """Measure speed and memory, as ratios within one run."""
    import runpy

    import overlay
    from overlay.errors import ArgumentError

    folder = Path(overlay.__file__).parent.parent / "benchmarks"
    known = sorted(path.stem for path in folder.glob("*.py"))
    if name not in known:
        raise ArgumentError(
            f"there is no benchmark '{name}'",
            f"known: {', '.join(known)}" if known else "benchmarks are part of the source checkout only",
        )
    figures = runpy.run_path(str(folder / f"{name}.py"))["measure"]()
    if as_json:
        print(json.dumps(figures))
    else:
        table = new_table("figure", "value")
        for figure, value in figures.items():
            table.add_row(figure, str(value))
        print_table(table)
