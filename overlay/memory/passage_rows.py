"""Passages: the pieces of texts that are embedded, indexed and compared with queries."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from overlay.memory.database import Database
from overlay.memory.index_queue import IndexQueue
from overlay.memory.keys import key_list
from overlay.memory.passage_text import PASSAGE_TEXTS, embedded_text
from overlay.memory.passages import Passage
from overlay.memory.scope import Scope
from overlay.memory.text_index import TextIndex, stems_line
from overlay.memory.vector_rows import VectorRows


@dataclass(frozen=True)
class Facts:
    """What recall needs to know of a note besides its text; `stream` is (namespace, stream)."""

    event_at: float
    importance: float
    pinned: bool
    stream: tuple[str, str]
    place: int
    tags_line: str
    state_line: str

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return tuple(json.loads(self.tags_line))

    @property
    def state(self) -> Mapping[str, float]:
        """What it read on each axis when it was written."""
        read: dict[str, float] = json.loads(self.state_line)
        return read


class Look(NamedTuple):
    """The stems of a passage below its title, and facts of its note."""

    stems: frozenset[str]
    facts: Facts


class PassageRows:
    """The passages of all notes. Each is written with its vector and its words, and queued for the index."""

    def __init__(self, database: Database, vectors: VectorRows, text: TextIndex, queue: IndexQueue) -> None:
        self._database = database
        self._vectors = vectors
        self._text = text
        self._queue = queue

    def insert(self, note: int, title: str, piece: Passage, vector: NDArray[np.float32]) -> None:
        """Write a passage of a note."""
        cursor = self._database.run(
            "INSERT INTO passages(note, position, start, end, stems) VALUES (?, ?, ?, ?, ?)",
            (note, piece.position, piece.start, piece.end, stems_line(title, piece.text, piece.position)),
        )
        passage = int(cursor.lastrowid or 0)
        self._vectors.write(passage, vector)
        self._text.add(passage)
        self._queue.add([passage])

    def replace(self, note: int, title: str, pieces: Sequence[tuple[Passage, NDArray[np.float32]]]) -> None:
        """Write a note's passages anew, under new keys, below its new title: every one of them carries it."""
        for passage in self._of(note):
            self._text.remove(passage)
            self._database.run("DELETE FROM passages WHERE key = ?", (passage,))
            self._queue.add([passage])
        for piece, vector in pieces:
            self.insert(note, title, piece, vector)

    def requeue(self, note: int) -> None:
        """The index must look at a note's passages again."""
        self._queue.add(self._of(note))

    def unqueue(self, note: int) -> None:
        """The index needs to hear nothing of a note that is about to be deleted."""
        self._queue.drop(self._of(note))

    def count(self) -> int:
        """How many passages there are."""
        return self._database.count_once("SELECT count(*) AS n FROM passages")

    def owners(self, passages: Sequence[int], scope: Scope) -> dict[int, int]:
        """Passage to note, for those of `passages` whose notes are in the scope."""
        rows = self._database.rows(
            f"""SELECT passages.key AS passage, passages.note FROM passages JOIN notes ON notes.key = passages.note
                WHERE passages.key IN (SELECT value FROM json_each(:passages)) AND {scope.matches()}""",
            {"passages": key_list(passages), **scope.values()},
        )
        return {row["passage"]: row["note"] for row in rows}

    def within(self, scope: Scope) -> list[int]:
        """Keys of all passages of the notes in a scope."""
        rows = self._database.rows(
            f"""SELECT passages.key FROM notes JOIN passages ON passages.note = notes.key
                WHERE {scope.matches()} ORDER BY passages.key""",
            scope.values(),
        )
        return [row["key"] for row in rows]

    def ids(self, passages: Iterable[int]) -> dict[int, str]:
        """Passage to the id of its note."""
        rows = self._database.rows(
            """SELECT passages.key AS passage, notes.id FROM passages JOIN notes ON notes.key = passages.note
                WHERE passages.key IN (SELECT value FROM json_each(?))""",
            (key_list(passages),),
        )
        return {row["passage"]: row["id"] for row in rows}

    def closed_since(self, sequence: int) -> list[int]:
        """Keys of the passages of notes that were closed by later writes than this one."""
        rows = self._database.rows(
            "SELECT passages.key FROM notes JOIN passages ON passages.note = notes.key WHERE notes.closed > ?",
            (sequence,),
        )
        return [row["key"] for row in rows]

    def around(self, passage: int) -> tuple[Passage | None, Passage, Passage | None]:
        """A passage between its neighbours in the same text."""
        rows = self._database.rows(
            """SELECT near.position, near.start, near.end, here.position AS middle,
                    substr(notes.text, near.start + 1, near.end - near.start) AS text
                FROM passages AS here JOIN passages AS near ON near.note = here.note
                    AND near.position BETWEEN here.position - 1 AND here.position + 1
                JOIN notes ON notes.key = here.note WHERE here.key = ?""",
            (passage,),
        )
        near = {row["position"] - row["middle"]: _passage(row) for row in rows}
        return near.get(-1), near[0], near.get(1)

    def first_of(self, keys: Iterable[int]) -> list[tuple[int, int]]:
        """(passage, note) of the first passage of each of these notes."""
        rows = self._database.rows(
            """SELECT key, note FROM passages WHERE note IN (SELECT value FROM json_each(?)) AND position = 0
                ORDER BY note""",
            (key_list(keys),),
        )
        return [(row["key"], row["note"]) for row in rows]

    def of_notes(self, keys: Iterable[int], most: int, also: Iterable[int] = ()) -> list[tuple[int, int]]:
        """(passage, note) of the first `most` passages of each of these notes, and of some more passages."""
        rows = self._database.rows(
            """SELECT key, note FROM passages WHERE note IN (SELECT value FROM json_each(:keys)) AND position < :most
                UNION ALL
                SELECT key, note FROM passages WHERE key IN (SELECT value FROM json_each(:also)) AND position >= :most
                ORDER BY 2, 1""",
            {"keys": key_list(keys), "most": most, "also": key_list(also)},
        )
        return [(row["key"], row["note"]) for row in rows]

    def looks(self, passages: Iterable[int]) -> dict[int, Look]:
        """Passage to what recall looks at."""
        rows = self._database.rows(
            """SELECT passages.key, stems, event_at, importance, pinned, namespace, stream, place, tags, state
                FROM passages JOIN notes ON notes.key = passages.note
                WHERE passages.key IN (SELECT value FROM json_each(?))""",
            (key_list(passages),),
        )
        return {
            row[0]: Look(
                frozenset(row[1].split()),
                Facts(row[2], row[3], bool(row[4]), (row[5], row[6]), row[7], row[8], row[9]),
            )
            for row in rows
        }

    def texts(self, passages: Iterable[int]) -> dict[int, str]:
        """Passage to its text below its title."""
        rows = self._database.rows(
            f"{PASSAGE_TEXTS} WHERE passages.key IN (SELECT value FROM json_each(?))", (key_list(passages),)
        )
        return {row["key"]: embedded_text(row["title"], row["text"], row["position"]) for row in rows}

    def _of(self, note: int) -> list[int]:
        return [row["key"] for row in self._database.rows("SELECT key FROM passages WHERE note = ?", (note,))]


def _passage(row: sqlite3.Row) -> Passage:
    return Passage(row["text"], row["start"], row["end"], row["position"])
