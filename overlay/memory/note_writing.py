"""Writing: what becomes of a new note beside those that are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from overlay.errors import NoteError
from overlay.memory import fold_tables
from overlay.memory.duplicates import is_echo
from overlay.memory.mention_links import MentionLinks
from overlay.memory.note import NewNote, Note, Outcome, Written
from overlay.memory.passage_embedding import PassageEmbedding, Pieces
from overlay.memory.truth import Truth

_DEFAULT_IMPORTANCE = 0.5


class NoteWriting:
    """Writes notes into the truth: first `prepare` them, which takes the longest, then `write` in a transaction."""

    def __init__(self, truth: Truth, embedding: PassageEmbedding, clock: Callable[[], float]) -> None:
        self._truth = truth
        self._embedding = embedding
        self._clock = clock
        self._mentions = MentionLinks(truth)

    def reset(self) -> None:
        """Notes were deleted, or a transaction was undone."""
        self._mentions.reset()

    def prepare(self, group: Sequence[NewNote]) -> dict[tuple[str, str], Pieces]:
        """Passages and vectors, by title and text, of what of a group will probably be written."""
        wanted: dict[tuple[str, str], None] = {}
        for new in group:
            present = self._present(new)
            if present is None:
                wanted[self._title_of(new), new.text] = None
            elif (title := self._described(present[1], new).title) != present[1].title:
                wanted[title, present[1].text] = None
        return self._embedding.of_notes(list(wanted))

    def write(self, new: NewNote, prepared: Mapping[tuple[str, str], Pieces]) -> Written:
        """Write one of the notes that were prepared; what wasn't foreseen is embedded now. Raises NoteError."""
        now = self._clock()
        repeated = self._repeated(new)
        if repeated is not None:
            self._truth.journal.write(now, "echoed", repeated.id)
            return Written(repeated, "echoed")
        present = self._present(new)
        if present is not None:
            return self._add_to(present, new, now, prepared)
        old = None if new.note_id is None else self._truth.notes.find(new.note_id)
        note = self._new_note(new, old[1] if old else None, now)
        outcome: Outcome = "superseded" if old and old[1].is_current else "added"
        sequence = self._truth.journal.write(now, outcome, note.id)
        if old is not None:
            fold_tables.mark_stale(self._truth, [old[0]])
            self._truth.notes.supersede(old[0], note.id, note.event_at, sequence)
        name = note.title, note.text
        # A text that was there when the group began may have been superseded within it.
        pieces = prepared[name] if name in prepared else self._embedding.of_notes([name])[name]
        key = self._truth.notes.insert(note, sequence, pieces.passages, list(pieces.vectors))
        if note.kind != "fold":
            self._mentions.link(key, note.text, note.title, note.namespace, is_new_text=True)
        return Written(note, outcome)

    def _new_note(self, new: NewNote, old: Note | None, now: float) -> Note:
        """The note to write: what isn't given is as it was in the one whose id it takes."""
        if old is not None and old.namespace != new.namespace:
            raise NoteError(
                f"the note '{old.id}' belongs to the namespace '{old.namespace}', not to '{new.namespace}'",
                "give the new note another id",
            )
        event_at = now if new.event_at is None else new.event_at
        stream = new.stream or (old.stream if old else "")
        place = new.place
        if place is None:
            is_same = old is not None and old.stream == stream
            place = old.place if old is not None and is_same else self._truth.notes.next_place(new.namespace, stream)
        return Note(
            id=self._truth.notes.free_id() if new.note_id is None else new.note_id,
            text=new.text,
            kind=new.kind,
            source=new.source,
            title=_given(new.title, old and old.title, ""),
            tags=tuple(dict.fromkeys(_given(new.tags, old and old.tags, ()))),
            links=tuple(dict.fromkeys(_given(new.links, old and old.links, ()))),
            written_at=now,
            event_at=event_at,
            valid_from=event_at,
            importance=_given(new.importance, old and old.importance, _DEFAULT_IMPORTANCE),
            pinned=_given(new.pinned, old and old.pinned, False),
            expires_at=_given(new.expires_at, old and old.expires_at, None),
            namespace=new.namespace,
            stream=stream,
            place=place,
            state=dict(new.state),
            height=new.height,
        )

    def _add_to(
        self, present: tuple[int, Note], new: NewNote, now: float, prepared: Mapping[tuple[str, str], Pieces]
    ) -> Written:
        """The text is there already: what else comes with it is written to the note that has it."""
        key, note = present
        described = self._described(note, new)
        outcome: Outcome = "merged" if new.note_id is None else "described"
        is_described = described != note
        if is_described:
            pieces = None
            if described.title != note.title:
                name = described.title, note.text
                found = prepared.get(name) or self._embedding.of_notes([name])[name]
                pieces = list(zip(found.passages, found.vectors, strict=True))
            self._truth.notes.describe(key, described, pieces)
            if pieces is not None and note.kind != "fold":
                self._truth.links.drop_mentions(note.id)
                self._mentions.link(key, note.text, described.title, note.namespace, is_new_text=False)
            fold_tables.mark_stale(self._truth, [key])
        if not (self._truth.notes.add_source(key, new.source, now) or is_described):
            return Written(note, "unchanged")
        if not is_described:
            outcome = "merged"
        self._truth.journal.write(now, outcome, note.id)
        return Written(described, outcome)

    @staticmethod
    def _described(note: Note, new: NewNote) -> Note:
        """The note with what comes with another writing of its text."""
        if new.note_id is None:
            # Another source must not take away what the first one said.
            return replace(
                note,
                title=note.title or new.title or "",
                tags=tuple(dict.fromkeys((*note.tags, *(new.tags or ())))),
                links=tuple(dict.fromkeys((*note.links, *(new.links or ())))),
                importance=max(note.importance, _given(new.importance, note.importance, 0.0)),
                pinned=note.pinned or bool(new.pinned),
                expires_at=_later(note.expires_at, new.expires_at),
            )
        return replace(
            note,
            title=_given(new.title, note.title, ""),
            tags=tuple(dict.fromkeys(_given(new.tags, note.tags, ()))),
            links=tuple(dict.fromkeys(_given(new.links, note.links, ()))),
            importance=_given(new.importance, note.importance, 0.0),
            pinned=_given(new.pinned, note.pinned, False),
            expires_at=_given(new.expires_at, note.expires_at, None),
        )

    def _title_of(self, new: NewNote) -> str:
        if new.title is not None or new.note_id is None:
            return new.title or ""
        old = self._truth.notes.find(new.note_id)
        return old[1].title if old else ""

    def _present(self, new: NewNote) -> tuple[int, Note] | None:
        """The note that holds and already says this, if any."""
        if new.note_id is None:
            return self._truth.notes.find_same(new.text, new.kind, new.namespace, self._clock())
        found = self._truth.notes.find(new.note_id)
        is_same = found and found[1].is_current and found[1].text == new.text and found[1].namespace == new.namespace
        return found if is_same else None

    def _repeated(self, new: NewNote) -> Note | None:
        """The first of the notes named in `echoes` that the text only repeats, if it repeats nothing else."""
        known = [found[1] for note_id in new.echoes if (found := self._truth.notes.find(note_id)) is not None]
        if not known or not is_echo(new.text, [note.text for note in known]):
            return None
        return next((note for note in known if is_echo(new.text, [note.text])), known[0])


def _given(new: Any, old: Any, default: Any) -> Any:
    """What is given, else what was, else the default."""
    return new if new is not None else old if old is not None else default


def _later(one: float | None, other: float | None) -> float | None:
    """The later end of two; None is no end."""
    return None if one is None or other is None else max(one, other)
