"""A copy of a memory's truth: all that another home needs of it, for the index is built anew from it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def copy_truth(source: Path, target: Path) -> None:
    """Copy the file `memory.db` as it is now, also while an agent writes to it."""
    # Read the usual way, one that nobody has open gets two files beside it, which a reader can't take away again.
    journal = source.with_name(f"{source.name}-wal")
    if not journal.exists():
        _back_up(f"{source.as_uri()}?mode=ro&immutable=1", target)
    # Or somebody has opened it meanwhile.
    if journal.exists():
        _back_up(f"{source.as_uri()}?mode=ro", target)


def _back_up(uri: str, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(uri, uri=True)) as there,
        contextlib.closing(sqlite3.connect(target)) as here,
    ):
        there.backup(here)
