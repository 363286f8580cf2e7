"""A note: one unit of external semantic memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from overlay.errors import ArgumentError

Kind = Literal["said", "thought", "read", "fold", "fact"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Note:
    """A note as it is stored; times are epoch seconds.

    `links` are ids of other notes. `valid_to` is None while the note holds; a note that was
    replaced keeps its text under the id "ID@N" and names its successor in `superseded_by`.
    """

    id: str
    text: str
    kind: Kind
    source: str
    title: str
    tags: tuple[str, ...]
    links: tuple[str, ...]
    written_at: float
    event_at: float
    valid_from: float
    valid_to: float | None = None
    superseded_by: str | None = None

    @property
    def is_current(self) -> bool:
        """Whether the note still holds."""
        return self.valid_to is None


@dataclass(frozen=True)
class NewNote:
    """What is to be remembered.

    Without `note_id` the memory chooses one. `title`, `tags` and `links` left at None mean "as it
    was" for a note that exists, and "none" for a new one. `event_at` (epoch seconds) is when it
    happened, by default when it is written.

    Raises:
        ArgumentError: the text is empty or not valid Unicode, the kind is unknown, the source or
            the id is empty, or the time isn't finite.
    """

    text: str
    kind: Kind
    source: str
    note_id: str | None = None
    title: str | None = None
    tags: tuple[str, ...] | None = None
    links: tuple[str, ...] | None = None
    event_at: float | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ArgumentError("a note needs a text", "give at least one word")
        check_kind(self.kind)
        if not self.source.strip():
            raise ArgumentError("a note needs a source", 'say where it comes from, such as "session:7:turn:3:user"')
        if self.note_id is not None and not self.note_id.strip():
            raise ArgumentError("a note's id can't be empty", "leave it out to have one chosen")
        if self.event_at is not None and not math.isfinite(self.event_at):
            raise ArgumentError(f"event_at is {self.event_at}, not a time", "give epoch seconds")
        names = [*(self.tags or ()), *(self.links or ())]
        if not all(name.strip() for name in names):
            raise ArgumentError("a tag or link of the note is empty", "leave it out")
        for written in (self.text, self.source, self.note_id or "", self.title or "", *names):
            try:
                written.encode("utf-8")
            except UnicodeEncodeError:
                raise ArgumentError(
                    f"not valid Unicode: {written[:40]!a}", "decode the text with the encoding it was written in"
                ) from None


def check_kind(kind: str) -> None:
    """Raise ArgumentError unless `kind` is one of KINDS."""
    if kind not in KINDS:
        raise ArgumentError(f"'{kind}' is not a kind of note", f"use one of {', '.join(KINDS)}")
