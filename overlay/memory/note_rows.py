"""Notes as rows: what is known of each besides its passages."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from overlay.memory.database import Database
from overlay.memory.duplicates import folded
from overlay.memory.journal import Journal
from overlay.memory.keys import key_list
from overlay.memory.link_rows import LinkRows
from overlay.memory.note import Note
from overlay.memory.passage_rows import PassageRows
from overlay.memory.passages import Passage
from overlay.memory.scope import Scope
from overlay.memory.vector_rows import VectorRows

# Rows that one step of long work reads.
_PAGE = 500

_NOTE = """
    SELECT key, id, text, kind, source, title, tags, written_at, event_at, valid_from, valid_to, superseded_by,
        importance, pinned, expires_at, namespace, stream, place, state, height, closed,
        (SELECT json_group_array(target) FROM (
            SELECT target FROM links WHERE links.key = notes.key AND made_by = 'written' ORDER BY position
        )) AS links,
        kind = 'fold' AND EXISTS (SELECT 1 FROM folds WHERE folds.id = notes.id AND made < changed) AS is_stale
    FROM notes
"""

_INSERT_NOTE = """
    INSERT INTO notes(id, kind, source, title, tags, written_at, event_at, valid_from, importance, pinned,
        expires_at, namespace, stream, place, state, height, written, digest, text)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class NoteRows:
    """All notes, by key and by id, also those that no longer hold."""

    def __init__(
        self, database: Database, passages: PassageRows, vectors: VectorRows, links: LinkRows, journal: Journal
    ) -> None:
        self._database = database
        self._passages = passages
        self._vectors = vectors
        self._links = links
        self._journal = journal

    def find(self, note_id: str) -> tuple[int, Note] | None:
        """The note with this id and its key."""
        rows = self._database.rows(f"{_NOTE} WHERE id = ?", (note_id,))
        return (rows[0]["key"], _note(rows[0])) if rows else None

    def find_then(self, note_id: str, scope: Scope) -> tuple[int, Note] | None:
        """The note that had this id in that scope, as it was then, and its key."""
        rows = self._database.rows(
            f"{_NOTE} WHERE coalesce(superseded_by, id) = :id AND {scope.held()} ORDER BY key DESC LIMIT 1",
            {"id": note_id, **scope.values()},
        )
        return (rows[0]["key"], _note(rows[0], scope.sequence)) if rows else None

    def find_same(self, text: str, kind: str, namespace: str, now: float) -> tuple[int, Note] | None:
        """The oldest note of this kind that says the same (see duplicates.py) and still holds."""
        rows = self._database.rows(
            f"""{_NOTE} WHERE digest = ? AND kind = ? AND namespace = ? AND valid_to IS NULL
                AND (pinned OR expires_at IS NULL OR expires_at > ?) ORDER BY key""",
            (_digest(text), kind, namespace, now),
        )
        exact = [row for row in rows if row["text"] == text] or rows
        return (exact[0]["key"], _note(exact[0])) if exact else None

    def of(self, keys: Iterable[int], sequence: int | None = None) -> dict[int, Note]:
        """The notes with these keys; with `sequence`, as they were when that was the newest write."""
        rows = self._database.rows(f"{_NOTE} WHERE key IN (SELECT value FROM json_each(?))", (key_list(keys),))
        return {row["key"]: _note(row, sequence) for row in rows}

    def every(self, scope: Scope | None = None) -> Iterator[Note]:
        """Every note, oldest first, also those that no longer hold, or those of a scope; read in pages."""
        last, condition, values = 0, "TRUE", {}
        if scope is not None:
            condition, values = scope.matches(), scope.values()
        while rows := self._database.rows(
            f"{_NOTE} WHERE key > :last AND {condition} ORDER BY key LIMIT {_PAGE}", {"last": last, **values}
        ):
            for row in rows:
                yield _note(row, scope.sequence if scope else None)
            last = rows[-1]["key"]

    def count(self, scope: Scope | None = None) -> int:
        """How many notes there are, or how many in a scope."""
        if scope is None:
            return int(self._database.rows("SELECT count(*) AS n FROM notes")[0]["n"])
        if scope.is_present and scope.filters.lets_all_through:
            # The small index of what is there, less what has expired since.
            whole = self._database.count_once("SELECT count(*) AS n FROM notes WHERE valid_to IS NULL")
            gone = self._database.rows(
                """SELECT count(*) AS n FROM notes WHERE expires_at IS NOT NULL AND valid_to IS NULL
                    AND expires_at <= ? AND NOT pinned""",
                (scope.now,),
            )
            return whole - int(gone[0]["n"])
        return int(
            self._database.rows(f"SELECT count(*) AS n FROM notes WHERE {scope.matches()}", scope.values())[0]["n"]
        )

    def free_id(self) -> str:
        """An id that no note has and none had."""
        rows = self._database.rows("SELECT seq FROM sqlite_sequence WHERE name = 'notes'")
        number = (rows[0]["seq"] if rows else 0) + 1
        while self._database.rows("SELECT 1 FROM notes WHERE id = ?", (f"note:{number}",)):
            number += 1
        return f"note:{number}"

    def next_place(self, namespace: str, stream: str) -> int:
        """The place after the last one of a stream."""
        rows = self._database.rows(
            "SELECT max(place) AS place FROM notes WHERE namespace = ? AND stream = ? AND stream <> ''",
            (namespace, stream),
        )
        return 0 if rows[0]["place"] is None else int(rows[0]["place"]) + 1

    def insert(
        self, note: Note, written: int, pieces: Sequence[Passage], vectors: Sequence[NDArray[np.float32]]
    ) -> int:
        """Write a note that has a free id, with its passages and their vectors; they are queued for the index."""
        cursor = self._database.run(
            _INSERT_NOTE,
            (
                note.id,
                note.kind,
                note.source,
                note.title,
                json.dumps(note.tags, ensure_ascii=False),
                note.written_at,
                note.event_at,
                note.valid_from,
                note.importance,
                note.pinned,
                note.expires_at,
                note.namespace,
                note.stream,
                note.place,
                json.dumps(dict(note.state), ensure_ascii=False) if note.state else "{}",
                note.height,
                written,
                _digest(note.text),
                note.text,
            ),
        )
        key = int(cursor.lastrowid or 0)
        for piece, vector in zip(pieces, vectors, strict=True):
            self._passages.insert(key, note.title, piece, vector)
        self._write_tags(key, note.tags)
        self._links.write(key, note.links)
        self.add_source(key, note.source, note.written_at)
        return key

    def add_source(self, key: int, source: str, at: float) -> bool:
        """Note where a text (also) came from; False if that was known."""
        return self._database.run("INSERT OR IGNORE INTO sources VALUES (?, ?, ?)", (key, source, at)).rowcount > 0

    def sources(self, note_id: str) -> tuple[str, ...]:
        """Where a note came from, the oldest first."""
        rows = self._database.rows(
            "SELECT sources.source FROM sources JOIN notes USING (key) WHERE id = ? ORDER BY at, sources.source",
            (note_id,),
        )
        return tuple(row["source"] for row in rows)

    def describe(self, key: int, note: Note, pieces: Sequence[tuple[Passage, NDArray[np.float32]]] | None) -> None:
        """Replace what stands around a note's text; a changed title needs its passages with their vectors."""
        if pieces is not None:
            self._passages.replace(key, note.title, pieces)
        self._database.run(
            "UPDATE notes SET title = ?, tags = ?, importance = ?, pinned = ?, expires_at = ? WHERE key = ?",
            (note.title, json.dumps(note.tags, ensure_ascii=False), note.importance, note.pinned, note.expires_at, key),
        )
        self._database.run("DELETE FROM tags WHERE key = ?", (key,))
        self._write_tags(key, note.tags)
        self._links.replace(key, note.links)

    def close(self, key: int, at: float, sequence: int) -> None:
        """A note holds no longer; it leaves the index and stays in the truth."""
        self._database.run(
            "UPDATE notes SET valid_to = max(valid_from, ?), closed = ? WHERE key = ? AND valid_to IS NULL",
            (at, sequence, key),
        )
        self._passages.requeue(key)

    def supersede(self, key: int, note_id: str, at: float, sequence: int) -> None:
        """A note gives its id to a successor, and keeps its text as "ID@N"."""
        number = 1
        while self._database.rows("SELECT 1 FROM notes WHERE id = ?", (f"{note_id}@{number}",)):
            number += 1
        self._database.run(
            "UPDATE notes SET id = ?, superseded_by = ? WHERE key = ?", (f"{note_id}@{number}", note_id, key)
        )
        self.close(key, at, sequence)

    def pin(self, key: int, pinned: bool) -> None:
        """Pin a note, or take the pin out."""
        self._database.run("UPDATE notes SET pinned = ? WHERE key = ?", (pinned, key))

    def expired(self, now: float) -> list[tuple[int, str, float]]:
        """(key, id, epoch seconds) of the notes whose time is over and that still stand as if they held."""
        rows = self._database.rows(
            """SELECT key, id, expires_at FROM notes WHERE expires_at IS NOT NULL AND valid_to IS NULL
                AND expires_at <= ? AND NOT pinned ORDER BY key""",
            (now,),
        )
        return [(row["key"], row["id"], row["expires_at"]) for row in rows]

    def versions(self, note_id: str) -> list[int]:
        """Keys of a note and of its older versions."""
        rows = self._database.rows(
            "SELECT key FROM notes WHERE id = ? OR coalesce(superseded_by, id) = ?", (note_id, note_id)
        )
        return sorted(row["key"] for row in rows)

    def delete(self, note_id: str) -> int:
        """Delete a note with its older versions, every link to it, and its id from the journal.

        The full-text index must be filled anew, and the file scrubbed, before they are gone from it.
        """
        rows = self._database.rows(
            "SELECT key, id FROM notes WHERE id = ? OR coalesce(superseded_by, id) = ?", (note_id, note_id)
        )
        for row in rows:
            self._passages.unqueue(row["key"])
            self._database.run("DELETE FROM notes WHERE key = ?", (row["key"],))
            self._links.drop_to(row["id"])
            self._database.run("DELETE FROM vault_files WHERE note_id = ?", (row["id"],))
            self._journal.hide(row["id"])
        if rows:
            self._vectors.changed()
        return len(rows)

    def within(self, keys: Iterable[int], scope: Scope) -> list[int]:
        """Those of these notes that are in the scope."""
        rows = self._database.rows(
            f"""SELECT key FROM notes WHERE key IN (SELECT value FROM json_each(:keys)) AND {scope.matches()}
                ORDER BY key""",
            {"keys": key_list(keys), **scope.values()},
        )
        return [row["key"] for row in rows]

    def beside(self, keys: Iterable[int], most: int, scope: Scope) -> list[int]:
        """The notes of a scope at most `most` places from these in their streams."""
        rows = self._database.rows(
            f"""SELECT DISTINCT other.key FROM notes AS here CROSS JOIN notes AS other
                ON other.namespace = here.namespace AND other.stream = here.stream AND other.stream <> ''
                AND other.place BETWEEN here.place - {most} AND here.place + {most}
                WHERE here.key IN (SELECT value FROM json_each(:keys)) AND {scope.matches("other")}
                ORDER BY other.key""",
            {"keys": key_list(keys), **scope.values()},
        )
        return [row["key"] for row in rows]

    def _write_tags(self, key: int, tags: Sequence[str]) -> None:
        if tags:
            self._database.run_many("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(tag, key) for tag in tags])


def _note(row: sqlite3.Row, sequence: int | None = None) -> Note:
    note = Note(
        id=row["id"],
        text=row["text"],
        kind=row["kind"],
        source=row["source"],
        title=row["title"],
        tags=tuple(json.loads(row["tags"])),
        links=tuple(json.loads(row["links"])),
        written_at=row["written_at"],
        event_at=row["event_at"],
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        superseded_by=row["superseded_by"],
        importance=row["importance"],
        pinned=bool(row["pinned"]),
        expires_at=row["expires_at"],
        namespace=row["namespace"],
        stream=row["stream"],
        place=row["place"],
        state=json.loads(row["state"]),
        height=row["height"],
        is_stale=bool(row["is_stale"]),
    )
    if sequence is not None and row["closed"] is not None and row["closed"] > sequence:
        return replace(note, id=note.superseded_by or note.id, valid_to=None, superseded_by=None)
    return note


def _digest(text: str) -> bytes:
    return hashlib.sha256(folded(text).encode("utf-8")).digest()[:16]
