"""Files that commands write where people say, and leave alone where something is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it there instead of printing it.")]


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the folders above it.

    Raises:
        ArgumentError: nothing can be written there. StorageFull
    """
    from overlay.errors import ArgumentError
    from overlay.records import write_record

    try:
        write_record(path, text)
    except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise ArgumentError(f"{path} can't be written: {error.strerror}", "choose a place you may write to") from error


def begin_file(path: Path, text: str, other: str = "choose another name or folder") -> None:
    """The same, but never over a file that is there; `other` is then the advice."""
    from overlay.errors import ArgumentError

    if path.exists():
        raise ArgumentError(f"{path} is there already, and was left as it is", other)
    write_file(path, text)


def write_or_print(text: str, out: Path | None) -> None:
    """Print a text, or write it into a file and say which."""
    if out is None:
        print(text, end="")
    else:
        write_file(out, text)
        print(out)
