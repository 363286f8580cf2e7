"""A note: one unit of external semantic memory, as it comes in and as it is stored."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from overlay.errors import ArgumentError

Kind = Literal["said", "thought", "read", "fold", "fact"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Outcome = Literal["added", "superseded", "described", "merged", "echoed", "unchanged"]

# A book of a thousand pages has some 3 MB; what is larger is a mistake, or belongs into several notes.
LARGEST_TEXT = 10_000_000

# What no text has use for, and what terminals would take for commands. White space is fine.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")


@dataclass(frozen=True)
class Note:
    """A note as it is stored; times are epoch seconds.

    id, links: `links` are ids of other notes, as they were given.
    valid_to: None while the note holds. A note that was replaced keeps its text under the id "ID@N"
        and names its successor in `superseded_by`.
    importance: in [0, 1].
    pinned: never expires, and isn't dimmed by age.
    expires_at: from then on recall doesn't see it.
    namespace: whose note it is; "" is the home's own.
    stream, place: what it is a piece of (a session, a chat, a book; "" for none), and where in it.
    state: what its text read on each axis when it was written (standardised), by the axis's name.
    height: 0 for a plain note; of a fold: 1 folds notes, 2 folds folds, and so on.
    is_stale: a fold whose sources have changed since it was made.
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
    importance: float = 0.5
    pinned: bool = False
    expires_at: float | None = None
    namespace: str = ""
    stream: str = ""
    place: int = 0
    state: Mapping[str, float] = field(default_factory=dict, hash=False)
    height: int = 0
    is_stale: bool = False

    @property
    def is_current(self) -> bool:
        """Whether the note still holds."""
        return self.valid_to is None


@dataclass(frozen=True)
class NewNote:
    """What is to be remembered.

    Without `note_id` the memory chooses one. `title`, `tags`, `links`, `importance`, `pinned` and
    `expires_at` left at None mean "as it was" for a note that exists, and the default for a new one.
    `event_at` (epoch seconds) is when it happened, by default when it is written. `place` is by
    default the next free one of the stream. `echoes` are the ids of notes that were recalled when
    this was written: a text that only repeats them is not stored again.

    Raises:
        ArgumentError: the text is empty, too large, not valid Unicode or holds control characters;
            the kind is unknown; the source or the id is empty; a number is out of its range.
    """

    text: str
    kind: Kind
    source: str
    note_id: str | None = None
    title: str | None = None
    tags: tuple[str, ...] | None = None
    links: tuple[str, ...] | None = None
    event_at: float | None = None
    importance: float | None = None
    pinned: bool | None = None
    expires_at: float | None = None
    namespace: str = ""
    stream: str = ""
    place: int | None = None
    state: Mapping[str, float] = field(default_factory=dict, hash=False)
    echoes: tuple[str, ...] = ()
    height: int = 0

    def __post_init__(self) -> None:
        _check_text(self.text)
        check_kind(self.kind)
        if not self.source.strip():
            raise ArgumentError("a note needs a source", 'say where it comes from, such as "session:7:turn:3:user"')
        if self.note_id is not None and not self.note_id.strip():
            raise ArgumentError("a note's id can't be empty", "leave it out to have one chosen")
        for name in ("event_at", "expires_at"):
            time = getattr(self, name)
            if time is not None and not math.isfinite(time):
                raise ArgumentError(f"{name} is {time}, not a time", "give epoch seconds")
        if self.importance is not None and not 0 <= self.importance <= 1:
            raise ArgumentError(f"the importance is {self.importance}", "give a number from 0 to 1")
        if self.place is not None and not (self.stream and 0 <= self.place < 2**53):
            raise ArgumentError(f"the place {self.place} is in no stream", "name a stream, and count from 0")
        if self.height < 0 or (self.height > 0 and self.kind != "fold"):
            raise ArgumentError(f"a {self.kind} can't have the height {self.height}", "only folds have heights above 0")
        if not all(math.isfinite(value) for value in self.state.values()):
            raise ArgumentError("the state of a note holds something that is no number", "leave that axis out")
        names = [*(self.tags or ()), *(self.links or ()), *self.state]
        if not all(name.strip() for name in names):
            raise ArgumentError("a tag, link or axis of the note is empty", "leave it out")
        for written in (self.source, self.note_id or "", self.title or "", self.namespace, self.stream, *names):
            _check_characters(written)


@dataclass(frozen=True)
class Written:
    """What became of a new note.

    `outcome`: it was "added"; an older text of this id was "superseded"; the text stood there and what
    stands around it was replaced ("described"); a new source was "merged" into a note with this text;
    the text only repeats a note that had been recalled for it ("echoed": nothing is stored, and `note`
    is the one repeated); or all of it was there ("unchanged").
    """

    note: Note
    outcome: Outcome


@dataclass(frozen=True)
class Filters:
    """Which notes may be recalled; None leaves a filter out.

    tags: notes with any of them. as_of: what held at that time (epoch seconds). height: folds of
    this height, or 0 for plain notes only.

    Raises:
        ArgumentError: a kind is unknown, or a time isn't finite.
    """

    kinds: Sequence[str] | None = None
    tags: Sequence[str] | None = None
    namespaces: Sequence[str] | None = None
    as_of: float | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        for name in ("kinds", "tags", "namespaces"):
            if isinstance(getattr(self, name), str):
                raise ArgumentError(f"the filter {name} is one string", "give a list of strings")
        for kind in self.kinds or ():
            check_kind(kind)
        if self.as_of is not None and not math.isfinite(self.as_of):
            raise ArgumentError(f"as_of is {self.as_of}, not a time", "give epoch seconds")

    @property
    def lets_nothing_through(self) -> bool:
        """Whether one of the lists is there and empty."""
        return any(names is not None and not names for names in (self.kinds, self.tags, self.namespaces))

    @property
    def lets_all_through(self) -> bool:
        """Whether nothing but the time is asked for."""
        return self.kinds is None and self.tags is None and self.namespaces is None and self.height is None


def check_kind(kind: str) -> None:
    """Raise ArgumentError unless `kind` is one of KINDS."""
    if kind not in KINDS:
        raise ArgumentError(f"'{kind}' is not a kind of note", f"use one of {', '.join(KINDS)}")


def without_control_characters(text: str) -> str:
    """The text with a space for every character that a note refuses, as a model may write some."""
    return _CONTROL.sub(" ", text)


def _check_text(text: str) -> None:
    if len(text) > LARGEST_TEXT or len(text.encode("utf-8", "surrogatepass")) > LARGEST_TEXT:
        raise ArgumentError(
            f"the text has {len(text):,} characters; a note takes {LARGEST_TEXT // 1_000_000} MB",
            "divide it into several notes, such as one a chapter",
        )
    if not text.strip():
        raise ArgumentError("a note needs a text", "give at least one word")
    _check_characters(text)


def _check_characters(written: str) -> None:
    try:
        written.encode("utf-8")
    except UnicodeEncodeError:
        raise ArgumentError(
            f"not valid Unicode: {written[:40]!a}", "decode the text with the encoding it was written in"
        ) from None
    if found := _CONTROL.search(written):
        line = written.count("\n", 0, found.start()) + 1
        raise ArgumentError(
            f"character {found.start() + 1} (line {line}) is the control character U+{ord(found[0]):04X}",
            "take it out; a binary file is no text",
        )
