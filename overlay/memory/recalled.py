"""What recall gives back: a note, the passage that matched, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from overlay.memory.note import Note
from overlay.memory.passages import Passage


@dataclass(frozen=True)
class Recalled:
    """A note, its score, and the terms that the score is the weighted sum of.

    passage: the piece of the note's text that matched best; of a short note, all of it.
    beside: the texts of the passages before and after it in a long note.
    """

    note: Note
    score: float
    terms: Mapping[str, float] = field(hash=False)
    passage: Passage
    beside: tuple[str, ...] = ()
