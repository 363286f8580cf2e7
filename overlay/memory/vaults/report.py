"""What an import did, and what it found wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from overlay.errors import DocumentError
from overlay.memory.note import Outcome


class BrokenLink(NamedTuple):
    """A link to a note that the vault doesn't have; the line counts from 1."""

    file: Path
    line: int
    target: str


class AmbiguousLink(NamedTuple):
    """A link whose name several files have; `chosen` is the note it was taken for, `others` are the rest."""

    file: Path
    line: int
    target: str
    chosen: str
    others: tuple[str, ...]


class Skipped(NamedTuple):
    """A file (or a line or chat of it) that was left out; `line` counts from 1, None where there is none."""

    file: Path
    line: int | None
    problem: str
    next_step: str

    @classmethod
    def of(cls, error: DocumentError) -> Skipped:
        """What is wrong with a file, without its place, which stands beside it."""
        where = str(error.path) if error.line is None else f"{error.path}:{error.line}"
        return cls(error.path, error.line, error.problem.removeprefix(f"{where}: "), error.next_step)

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.problem}" + (f"\n  -> {self.next_step}" if self.next_step else "")


class Moved(NamedTuple):
    """A file that has another place now: its note goes on under another id."""

    before: str
    note_id: str


@dataclass(frozen=True)
class ImportReport:
    """Ids of the notes that an import added, changed, found unchanged, renamed, or whose validity it ended.

    A note that moved and changed its title or links stands under `moved` only.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    moved: tuple[Moved, ...] = ()
    removed: tuple[str, ...] = ()
    broken: tuple[BrokenLink, ...] = ()
    ambiguous: tuple[AmbiguousLink, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def reported_as(outcome: Outcome) -> str:
    """In which field of a report a note stands after this outcome of writing it."""
    return {"added": "added", "superseded": "changed", "described": "changed"}.get(outcome, "unchanged")
