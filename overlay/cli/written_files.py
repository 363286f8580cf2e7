"""Files that commands write where people say, and leave alone where something is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from overlay.errors import ArgumentError

OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it there instead of printing it.")]


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all, with the folders above it.

    Raises:
        ArgumentError: nothing can be written there. StorageFull
    """
    from overlay.records import write_record

    try:
        write_record(path, text)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error


def require_writable(path: Path) -> None:
    """Raise ArgumentError where no file can be written, before anything is measured for it; nothing is made there."""
    folder = path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if path.is_dir():
        raise _unwritable(path, "it is a folder")
    if not folder.is_dir():
        raise _unwritable(path, f"{folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(path, f"you may not write to {folder}")


def require_page(path: Path | None) -> None:
    """Raise ArgumentError where a page was asked for that is no Markdown, or can't be written."""
    from overlay.errors import ArgumentError

    if path is None:
        return
    if path.suffix.lower() != ".md":
        raise ArgumentError(f"{path} doesn't end in .md", "the page is Markdown: give its file this ending")
    require_writable(path)


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


def _unwritable(path: Path, reason: str) -> ArgumentError:
    from overlay.errors import ArgumentError

    return ArgumentError(f"{path} can't be written: {reason}", "choose a place you may write to")
