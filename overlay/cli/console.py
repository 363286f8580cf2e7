"""What the commands share: their options, tables, progress and the one message of a failure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.table import Table

HomeOption = Annotated[Path, typer.Option("--home", help="The agent's home.", envvar="OVERLAY_HOME")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
DTypeOption = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
HERE = Path()


def fail(message: str, code: int) -> NoReturn:
    """Say on standard error what went wrong, and end with this exit code."""
    print(f"overlay: {message}", file=sys.stderr)
    sys.exit(code)


def new_table(*columns: str) -> Table:
    """An empty table with these columns, as every listing looks."""
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD)


def print_table(table: Table) -> None:
    """Print a table, as wide as the terminal is."""
    from rich.console import Console

    Console().print(table)


def console_progress() -> Any:
    """Progress on standard error, for a `with`: a bar on a terminal, a line a step elsewhere."""
    from overlay.progress import ConsoleProgress

    return ConsoleProgress()
