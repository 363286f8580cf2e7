"""A note as it is written into a file of an export, and read back: all that the memory keeps of it but its vector."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from overlay.documents import Document, MistakeAt
from overlay.memory.memory import Memory
from overlay.memory.note import Kind, NewNote, Note

_BEGINNING = datetime.datetime.fromtimestamp(0, datetime.UTC)


def _epoch_seconds(time: object) -> object:
    if isinstance(time, str):
        try:
            moment = datetime.datetime.fromisoformat(time)
        except ValueError:
            raise ValueError("this is no time; write it as 2024-05-31T09:30:00+02:00, or in epoch seconds") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return (moment - _BEGINNING).total_seconds()
    return time


Seconds = Annotated[float, BeforeValidator(_epoch_seconds), Field(allow_inf_nan=False)]


class Origin(Document):
    """A place that a note came from, and when it was noted (epoch seconds)."""

    source: str = Field(min_length=1)
    at: Seconds


class KeptNote(Document):
    """Everything around a note's text. Times are ISO 8601 or epoch seconds; what is left out has its default.

    A note with `written_at` was kept by a memory, and is put back as it was there: a version that was
    replaced says by which id (`superseded_by`) and until when it held (`valid_to`). A note without
    `written_at` is a new one.
    """

    id: str | None = None
    kind: Kind = "read"
    source: str | None = None
    sources: tuple[Origin, ...] | None = None
    title: str | None = None
    tags: tuple[str, ...] | None = None
    links: tuple[str, ...] | None = None
    importance: float | None = None
    pinned: bool | None = None
    namespace: str = ""
    stream: str = ""
    place: int | None = None
    state: dict[str, float] = Field(default_factory=dict)
    echoes: tuple[str, ...] = ()
    written_at: Seconds | None = None
    event_at: Seconds | None = None
    valid_from: Seconds | None = None
    valid_to: Seconds | None = None
    expires_at: Seconds | None = None
    superseded_by: str | None = None

    @model_validator(mode="after")
    def _is_kept(self) -> Self:
        for name in ("valid_from", "valid_to", "superseded_by", "sources"):
            if self.written_at is None and getattr(self, name) is not None:
                raise MistakeAt((name,), "only a note that also has 'written_at' can have this")
        return self

    def new_note(self, text: str, source: str) -> NewNote:
        """The note to be remembered; `source` is where it was read, for one that names none. Raises ArgumentError."""
        return NewNote(
            text,
            self.kind,
            source if self.source is None else self.source,
            note_id=self.id,
            title=self.title,
            tags=self.tags,
            links=self.links,
            event_at=self.event_at if self.event_at is not None else self.written_at,
            importance=self.importance,
            pinned=self.pinned,
            expires_at=self.expires_at,
            namespace=self.namespace,
            stream=self.stream,
            place=self.place,
            state=self.state,
            echoes=self.echoes,
        )


def kept_notes(memory: Memory) -> Iterator[tuple[dict[str, Any], str]]:
    """What is to be written of each note, and its text; oldest first, also notes that no longer hold.

    Folds are left out: they are made from the notes, and are made again.
    """
    for note in memory.notes():
        if note.kind != "fold":
            yield _kept(note, _origins(memory, note)), note.text


def _kept(note: Note, origins: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """The fields of a note that aren't what they would be if they were left out, in the order of people's interest."""
    kept: dict[str, Any] = {"id": note.id, "kind": note.kind, "source": note.source}
    if origins != [(note.source, note.written_at)]:
        kept["sources"] = [{"source": source, "at": _written_time(at)} for source, at in origins]
    optional: Mapping[str, tuple[Any, Any]] = {
        "title": (note.title, ""),
        "tags": (list(note.tags), []),
        "links": (list(note.links), []),
        "importance": (note.importance, 0.5),
        "pinned": (note.pinned, False),
        "namespace": (note.namespace, ""),
        "stream": (note.stream, ""),
        "place": (note.place if note.stream else 0, 0 if not note.stream else None),
        "state": (dict(note.state), {}),
        "written_at": (_written_time(note.written_at), None),
        "event_at": (_written_time(note.event_at), _written_time(note.written_at)),
        "valid_from": (_written_time(note.valid_from), _written_time(note.event_at)),
        "valid_to": (_written_time(note.valid_to), None),
        "expires_at": (_written_time(note.expires_at), None),
        "superseded_by": (note.superseded_by, None),
    }
    return kept | {name: value for name, (value, default) in optional.items() if value != default}


def _origins(memory: Memory, note: Note) -> list[tuple[str, float]]:
    rows = memory.truth.rows(
        """SELECT sources.source, sources.at FROM sources JOIN notes USING (key) WHERE notes.id = ?
            ORDER BY sources.at, sources.source""",
        (note.id,),
    )
    return [(row["source"], row["at"]) for row in rows]


def _written_time(time: float | None) -> str | float | None:
    """ISO 8601, where that says the same to the last bit; else epoch seconds."""
    if time is None:
        return None
    try:
        written = (_BEGINNING + datetime.timedelta(seconds=time)).isoformat()
    except OverflowError:
        return float(time)
    return written if _epoch_seconds(written) == time and math.copysign(1, time) > 0 else float(time)
