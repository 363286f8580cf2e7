"""Putting notes back that a memory wrote into files, with their history."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from overlay.memory.memory import Memory
from overlay.memory.note import NewNote
from overlay.memory.vaults.kept_note import KeptNote
from overlay.memory.vaults.report import ImportReport, Skipped, reported_as
from overlay.progress import Progress

# Notes written together: what an interrupted import may have to do again.
_GROUP = 512

# Under this name the memory knows which notes are written, and not yet put back as they were.
_PENDING = "restoring"


class Incoming(NamedTuple):
    """A note on its way in, what a memory kept of it, and where it stands (`line` is None for a file of its own)."""

    new: NewNote
    kept: KeptNote | None
    file: Path
    line: int | None

    @property
    def is_past(self) -> bool:
        """Whether it is a note that held no longer where it was kept."""
        return self.kept is not None and self.kept.written_at is not None and self.kept.valid_to is not None


def take_in(memory: Memory, notes: Sequence[Incoming], description: str, progress: Progress) -> ImportReport:
    """Remember notes in order; those that a memory had kept get the times, sources and validity that they had.

    A kept note whose id is taken changes the note that has it as any new text does. One that held no
    longer changes nothing there: if another text stands under its id, it is left out and reported.
    """
    ids: dict[str, list[str]] = defaultdict(list)
    skipped: list[Skipped] = []
    # What an import that was cut short had written, but not put back.
    pending = set(json.loads(memory.truth.meta(_PENDING) or "[]"))
    for start in range(0, len(notes), _GROUP):
        progress.step(description, start, len(notes))
        group = notes[start : start + _GROUP]
        wanted: list[Incoming] = []
        again: list[tuple[str, KeptNote]] = []
        for incoming in group:
            note_id = incoming.new.note_id
            if note_id is None or note_id not in memory:
                wanted.append(incoming)
            elif incoming.kept and _digest(note_id) in pending and memory.get(note_id).text == incoming.new.text:
                again.append((note_id, incoming.kept))
                ids["added"].append(note_id)
            elif not incoming.is_past:
                wanted.append(incoming)
            elif memory.get(note_id).text == incoming.new.text:
                ids["unchanged"].append(note_id)
            else:
                problem = f"another note has the id '{note_id}' here"
                skipped.append(Skipped(incoming.file, incoming.line, problem, "import it into an empty memory"))
        fresh = [one.new.note_id for one in wanted if one.new.note_id and one.new.note_id not in memory]
        if any(one.kept and one.kept.written_at is not None for one in wanted):
            _write_pending(memory, pending | {_digest(note_id) for note_id in fresh})
        written = memory.remember_many([one.new for one in wanted])
        put_back = [
            (one.note.id, incoming.kept)
            for incoming, one in zip(wanted, written, strict=True)
            if one.outcome == "added" and incoming.kept is not None and incoming.kept.written_at is not None
        ]
        _put_back(memory, [*again, *put_back])
        for one in written:
            ids[reported_as(one.outcome)].append(one.note.id)
    if memory.truth.meta(_PENDING) is not None:
        _write_pending(memory, set())
    if notes:
        progress.step(description, len(notes), len(notes))
    found = {name: tuple(dict.fromkeys(names)) for name, names in ids.items()}
    return ImportReport(
        added=found.get("added", ()),
        changed=found.get("changed", ()),
        unchanged=found.get("unchanged", ()),
        skipped=tuple(skipped),
    )


def _put_back(memory: Memory, notes: Sequence[tuple[str, KeptNote]]) -> None:
    """Give notes that have just been written the times, sources and validity that they had."""
    truth = memory.truth
    keys = {
        note_id: int(truth.rows("SELECT key FROM notes WHERE id = ?", (note_id,))[0]["key"]) for note_id, _ in notes
    }
    past = [note_id for note_id, kept in notes if kept.valid_to is not None and memory.get(note_id).is_current]
    if past:
        with truth.transaction():
            for note_id in past[:-1]:
                at = memory.get(note_id).valid_from
                truth.notes.close(keys[note_id], at, truth.journal.write(at, "retire", note_id))
        # The last one by the front door, which brings the index up to all of them.
        memory.retire(past[-1])
    with truth.transaction():
        for note_id, kept in notes:
            written_at = kept.written_at or 0.0
            event_at = written_at if kept.event_at is None else kept.event_at
            valid_from = event_at if kept.valid_from is None else kept.valid_from
            truth.run(
                """UPDATE notes SET written_at = ?, event_at = ?, valid_from = ?, valid_to = ?, superseded_by = ?
                    WHERE key = ?""",
                (written_at, event_at, valid_from, kept.valid_to, kept.superseded_by, keys[note_id]),
            )
            if origins := _origins(kept, written_at):
                truth.run("DELETE FROM sources WHERE key = ?", (keys[note_id],))
                for source, at in origins:
                    truth.notes.add_source(keys[note_id], source, at)


def _origins(kept: KeptNote, written_at: float) -> list[tuple[str, float]]:
    if kept.sources is None:
        return [(kept.source, written_at)] if kept.source else []
    return [(origin.source, origin.at) for origin in kept.sources]


def _write_pending(memory: Memory, digests: set[str]) -> None:
    with memory.truth.transaction():
        memory.truth.write_meta({_PENDING: json.dumps(sorted(digests)) if digests else None})


def _digest(note_id: str) -> str:
    """An id may not stand anywhere once its note is forgotten."""
    return hashlib.sha256(note_id.encode()).hexdigest()
