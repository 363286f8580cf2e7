"""The truth: one SQLite file with texts, vectors, full-text index, links, sources and a journal.

Everything else can be built from it. A note's `key` (an integer, never used twice) is its name in
here and in the vector index; its id is its name outside and moves on when a newer text takes it.
The journal says what was done to which id and when, and holds no text.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlay.errors import NoteError, StorageFull
from overlay.memory.note import Note
from overlay.records import storage_errors

SCHEMA_VERSION = "1"

_BUSY_MILLISECONDS = 10_000

_MAGIC = b"SQLite format 3\x00"

# Stands in the journal for the ids of notes that were forgotten.
FORGOTTEN = "(forgotten)"

_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}');
CREATE TABLE notes (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    digest BLOB NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    title TEXT NOT NULL,
    tags TEXT NOT NULL,
    written_at REAL NOT NULL,
    event_at REAL NOT NULL,
    valid_from REAL NOT NULL,
    valid_to REAL,
    superseded_by TEXT
);
CREATE INDEX notes_digest ON notes(digest);
-- The name by which links find a note at any time: its id, or the id that it once had.
CREATE INDEX notes_name ON notes(coalesce(superseded_by, id));
CREATE TABLE vectors (
    key INTEGER PRIMARY KEY REFERENCES notes(key) ON DELETE CASCADE,
    vector BLOB NOT NULL
);
-- The columns of the primary key stand first: SQLite 3.40 takes any other order for damage (PRAGMA quick_check).
CREATE TABLE links (
    key INTEGER NOT NULL REFERENCES notes(key) ON DELETE CASCADE,
    target TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (key, target)
) WITHOUT ROWID;
CREATE INDEX links_target ON links(target);
CREATE TABLE sources (
    key INTEGER NOT NULL REFERENCES notes(key) ON DELETE CASCADE,
    source TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (key, source)
) WITHOUT ROWID;
CREATE TABLE vault_files (
    note_id TEXT PRIMARY KEY,
    folder TEXT NOT NULL,
    file TEXT NOT NULL
) WITHOUT ROWID;
-- Keys whose change the vector index has not seen yet.
CREATE TABLE index_queue (key INTEGER PRIMARY KEY);
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    action TEXT NOT NULL,
    note_id TEXT NOT NULL
);
CREATE VIRTUAL TABLE notes_text USING fts5(
    title, text, content='notes', content_rowid='key', tokenize='porter unicode61'
);
CREATE TRIGGER notes_text_insert AFTER INSERT ON notes BEGIN
    INSERT INTO notes_text(rowid, title, text) VALUES (new.key, new.title, new.text);
END;
CREATE TRIGGER notes_text_delete AFTER DELETE ON notes BEGIN
    INSERT INTO notes_text(notes_text, rowid, title, text) VALUES ('delete', old.key, old.title, old.text);
END;
CREATE TRIGGER notes_text_update AFTER UPDATE OF title, text ON notes BEGIN
    INSERT INTO notes_text(notes_text, rowid, title, text) VALUES ('delete', old.key, old.title, old.text);
    INSERT INTO notes_text(rowid, title, text) VALUES (new.key, new.title, new.text);
END;
"""

_NOTE = """
    SELECT key, id, text, kind, source, title, tags, written_at, event_at, valid_from, valid_to, superseded_by,
        (SELECT json_group_array(target)
            FROM (SELECT target FROM links WHERE links.key = notes.key ORDER BY position)) AS links
    FROM notes
"""

# Without :as_of, notes that hold now; else those that held then. Without :kinds, of every kind.
_HELD = "(CASE WHEN :as_of IS NULL THEN {0}.valid_to IS NULL ELSE {0}.valid_from <= :as_of AND ({0}.valid_to IS NULL OR {0}.valid_to > :as_of) END)"  # noqa: E501
_OF_KIND = "(:kinds IS NULL OR notes.kind IN (SELECT value FROM json_each(:kinds)))"
_ELIGIBLE = f"{_HELD.format('notes')} AND {_OF_KIND}"


class Truth:
    """The SQLite file behind a memory. Usable from several threads, one transaction at a time.

    Raises (every method):
        NoteError: the file is missing, isn't a memory, is damaged or of a newer program; it is left as it is.
        StorageFull: the disk is full; nothing of the transaction is written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._guard = threading.RLock()
        self._vectors: tuple[tuple[int, int], NDArray[np.int64], NDArray[np.float32]] | None = None
        if read_only and not path.exists():
            raise NoteError(f"there is no memory at {path}", "open it once for writing, which makes it")
        # SQLite would answer only after it has made files of its own beside a foreign file.
        if path.exists():
            with open(path, "rb") as file:
                start = file.read(len(_MAGIC))
            if start and start != _MAGIC:
                raise _damaged(path, "it is not an SQLite file")
        with self._errors():
            self._connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            self._prepare(read_only)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, read_only: bool) -> None:
        with self._errors():
            self._connection.row_factory = sqlite3.Row
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
            if not read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA foreign_keys = ON")
                self._connection.execute("PRAGMA secure_delete = ON")
            tables = {row["name"] for row in self._connection.execute("SELECT name FROM sqlite_master")}
            if not tables and not read_only:
                self._connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
            elif "meta" not in tables or "notes" not in tables:
                raise _damaged(self.path, "it is an SQLite file, but no memory")
        version = self.meta("schema")
        if version != SCHEMA_VERSION:
            raise NoteError(
                f"{self.path} has the schema {version}; this program knows {SCHEMA_VERSION}",
                "use the version of the program that wrote it",
            )

    def close(self) -> None:
        """Close the file."""
        with self._guard, self._errors():
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside, or none; committed and on the disk when it ends."""
        with self._guard, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite may have rolled back by itself, as it does when the disk is full.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    # -- meta and journal ---------------------------------------------------------------------

    def meta(self, name: str) -> str | None:
        """A fact about the memory itself, or None."""
        rows = self._rows("SELECT value FROM meta WHERE name = ?", (name,))
        return str(rows[0]["value"]) if rows else None

    def write_meta(self, facts: Mapping[str, str | None]) -> None:
        """Write facts about the memory itself; None removes one."""
        for name, value in facts.items():
            if value is None:
                self._run("DELETE FROM meta WHERE name = ?", (name,))
            else:
                self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def write_journal(self, at: float, action: str, note_id: str) -> None:
        """Journal what was done to which id."""
        self._run("INSERT INTO journal(at, action, note_id) VALUES (?, ?, ?)", (at, action, note_id))

    def journal(self) -> list[tuple[float, str, str]]:
        """(epoch seconds, action, note id) of every write, oldest first."""
        rows = self._rows("SELECT at, action, note_id FROM journal ORDER BY seq")
        return [(row["at"], row["action"], row["note_id"]) for row in rows]

    # -- notes --------------------------------------------------------------------------------

    def find(self, note_id: str) -> tuple[int, Note] | None:
        """The note with this id and its key."""
        rows = self._rows(f"{_NOTE} WHERE id = ?", (note_id,))
        return (rows[0]["key"], _note(rows[0])) if rows else None

    def find_same(self, text: str, kind: str) -> tuple[int, Note] | None:
        """The oldest note of this kind with exactly this text that still holds."""
        rows = self._rows(
            f"{_NOTE} WHERE digest = ? AND kind = ? AND text = ? AND valid_to IS NULL ORDER BY key LIMIT 1",
            (_digest(text), kind, text),
        )
        return (rows[0]["key"], _note(rows[0])) if rows else None

    def notes_of(self, keys: Iterable[int]) -> dict[int, Note]:
        """The notes with these keys."""
        rows = self._rows(f"{_NOTE} WHERE key IN (SELECT value FROM json_each(?))", (_list(keys),))
        return {row["key"]: _note(row) for row in rows}

    def notes(self) -> Iterator[Note]:
        """Every note, oldest first, also those that no longer hold; read in pages."""
        last = 0
        while rows := self._rows(f"{_NOTE} WHERE key > ? ORDER BY key LIMIT 500", (last,)):
            for row in rows:
                yield _note(row)
            last = rows[-1]["key"]

    def count(self, *, current: bool = False) -> int:
        """How many notes there are, or how many of them still hold."""
        return int(self._rows(f"SELECT count(*) AS n FROM notes{' WHERE valid_to IS NULL' if current else ''}")[0]["n"])

    def free_id(self) -> str:
        """An id that no note has and none had."""
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'notes'")
        number = (rows[0]["seq"] if rows else 0) + 1
        while self.find(f"note:{number}"):
            number += 1
        return f"note:{number}"

    def insert(self, note: Note, vector: NDArray[np.float32]) -> int:
        """Write a note that has a free id; its key is queued for the index."""
        cursor = self._run(
            """INSERT INTO notes(id, text, digest, kind, source, title, tags, written_at, event_at, valid_from)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (
                note.id,
                note.text,
                _digest(note.text),
                note.kind,
                note.source,
                note.title,
                json.dumps(note.tags, ensure_ascii=False),
                note.written_at,
                note.event_at,
                note.valid_from,
            ),
        )
        key = int(cursor.lastrowid or 0)
        self._run("INSERT INTO vectors VALUES (?, ?)", (key, _blob(vector)))
        self._write_links(key, note.links)
        self.add_source(key, note.source, note.written_at)
        self._queue([key])
        return key

    def add_source(self, key: int, source: str, at: float) -> bool:
        """Note where a text (also) came from; False if that was known."""
        return self._run("INSERT OR IGNORE INTO sources VALUES (?, ?, ?)", (key, source, at)).rowcount > 0

    def sources(self, note_id: str) -> tuple[str, ...]:
        """Where a note came from, the oldest first."""
        rows = self._rows(
            "SELECT sources.source FROM sources JOIN notes USING (key) WHERE id = ? ORDER BY at, sources.source",
            (note_id,),
        )
        return tuple(row["source"] for row in rows)

    def describe(self, key: int, title: str, tags: Sequence[str], links: Sequence[str]) -> None:
        """Replace what stands around a note's text."""
        self._run(
            "UPDATE notes SET title = ?, tags = ? WHERE key = ?", (title, json.dumps(tags, ensure_ascii=False), key)
        )
        self._run("DELETE FROM links WHERE key = ?", (key,))
        self._write_links(key, links)

    def retire(self, key: int, at: float) -> None:
        """A note holds no longer; it leaves the index and stays in the truth."""
        self._run("UPDATE notes SET valid_to = max(valid_from, ?) WHERE key = ? AND valid_to IS NULL", (at, key))
        self._queue([key])

    def supersede(self, key: int, note_id: str, at: float) -> None:
        """A note gives its id to a successor, and keeps its text as "ID@N"."""
        number = 1
        while self.find(f"{note_id}@{number}"):
            number += 1
        self._run("UPDATE notes SET id = ?, superseded_by = ? WHERE key = ?", (f"{note_id}@{number}", note_id, key))
        self.retire(key, at)

    def delete(self, note_id: str, at: float) -> int:
        """Delete a note with its older versions, every link to it, and its id from the journal."""
        rows = self._rows("SELECT key, id FROM notes WHERE id = ? OR superseded_by = ?", (note_id, note_id))
        for row in rows:
            self._run("DELETE FROM notes WHERE key = ?", (row["key"],))
            self._run("DELETE FROM links WHERE target = ?", (row["id"],))
            self._run("DELETE FROM vault_files WHERE note_id = ?", (row["id"],))
            self._run("DELETE FROM index_queue WHERE key = ?", (row["key"],))
            self._run("UPDATE journal SET note_id = ? WHERE note_id = ?", (FORGOTTEN, row["id"]))
        if rows:
            # A full-text index only marks what is deleted: its words stay in it until it is built anew.
            self._run("INSERT INTO notes_text(notes_text) VALUES ('rebuild')")
            self.write_journal(at, "forget", FORGOTTEN)
        return len(rows)

    def scrub(self) -> None:
        """Leave no byte of what was deleted in the file or its write-ahead log.

        Raises:
            NoteError: another process still reads the old pages.
        """
        with self._guard, self._errors():
            self._connection.execute("VACUUM")
            if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise NoteError(
                    f"forgotten, but another process still reads old pages of {self.path.name}",
                    "close it, then open this memory once more: what is left on the disk is wiped then",
                )

    # -- vault files --------------------------------------------------------------------------

    def vault_files(self, folder: str) -> dict[str, str]:
        """Note id to file, for the notes that came from this folder and still hold."""
        rows = self._rows(
            """SELECT note_id, file FROM vault_files JOIN notes ON notes.id = note_id
                WHERE folder = ? AND valid_to IS NULL""",
            (folder,),
        )
        return {row["note_id"]: row["file"] for row in rows}

    def vault_file(self, note_id: str) -> tuple[str, str] | None:
        """The folder and the file that a note came from."""
        rows = self._rows("SELECT folder, file FROM vault_files WHERE note_id = ?", (note_id,))
        return (rows[0]["folder"], rows[0]["file"]) if rows else None

    def write_vault_files(self, folder: str, files: Mapping[str, str]) -> None:
        """Write which file of a folder each note came from."""
        with self.transaction():
            for note_id, file in files.items():
                self._run("INSERT OR REPLACE INTO vault_files VALUES (?, ?, ?)", (note_id, folder, file))

    # -- what recall asks ---------------------------------------------------------------------

    def text_hits(self, match: str, limit: int, kinds: Sequence[str] | None, as_of: float | None) -> dict[int, float]:
        """The best `limit` notes for an FTS5 expression: key to BM25, higher is better."""
        if not match:
            return {}
        rows = self._rows(
            f"""SELECT notes.key, -bm25(notes_text) AS value
                FROM notes_text JOIN notes ON notes.key = notes_text.rowid
                WHERE notes_text MATCH :match AND {_ELIGIBLE} ORDER BY value DESC, notes.key LIMIT :limit""",
            {"match": match, "limit": limit, **_scope(kinds, as_of)},
        )
        return {row["key"]: row["value"] for row in rows}

    def eligible(self, keys: Iterable[int] | None, kinds: Sequence[str] | None, as_of: float | None) -> list[int]:
        """Those of `keys` (or of all) that are of these kinds and held at that time."""
        rows = self._rows(
            f"""SELECT key FROM notes WHERE {_ELIGIBLE}
                AND (:keys IS NULL OR key IN (SELECT value FROM json_each(:keys))) ORDER BY key""",
            {"keys": None if keys is None else _list(keys), **_scope(kinds, as_of)},
        )
        return [row["key"] for row in rows]

    def nearest(
        self, vector: NDArray[np.float32], limit: int, kinds: Sequence[str] | None, as_of: float | None
    ) -> list[int]:
        """Keys of the `limit` notes nearest to a unit vector: exact, by a scan over all vectors."""
        with self._guard:
            keys, vectors = self._all_vectors()
            rows = np.flatnonzero(np.isin(keys, np.array(self.eligible(None, kinds, as_of), dtype=np.int64)))
        cosines = vectors[rows] @ vector
        best = np.argsort(-cosines, kind="stable")[:limit]
        return [int(key) for key in keys[rows[best]]]

    def vectors_of(self, keys: Iterable[int]) -> dict[int, NDArray[np.float32]]:
        """Key to unit vector."""
        rows = self._rows(
            "SELECT key, vector FROM vectors WHERE key IN (SELECT value FROM json_each(?))", (_list(keys),)
        )
        return {row["key"]: np.frombuffer(row["vector"], dtype="<f4") for row in rows}

    def links_around(self, keys: Iterable[int], hops: int, as_of: float | None) -> set[tuple[int, int]]:
        """Links within `hops` steps of `keys`, either way, between notes that held at that time."""
        links: set[tuple[int, int]] = set()
        frontier, seen = set(keys), set(keys)
        both_held = f"{_HELD.format('origin')} AND {_HELD.format('goal')}"
        for _ in range(hops):
            found: set[tuple[int, int]] = set()
            for side in ("origin", "goal"):
                rows = self._rows(
                    f"""SELECT origin.key AS one, goal.key AS other
                        FROM links JOIN notes AS origin ON origin.key = links.key
                        JOIN notes AS goal ON coalesce(goal.superseded_by, goal.id) = links.target
                        WHERE {both_held} AND {side}.key IN (SELECT value FROM json_each(:keys))""",
                    {"keys": _list(frontier), "as_of": as_of},
                )
                found.update((row["one"], row["other"]) for row in rows)
            links |= found
            frontier = {key for link in found for key in link} - seen
            seen |= frontier
        return links

    # -- what the index asks ------------------------------------------------------------------

    def index_queue(self) -> list[int]:
        """Keys whose change the index has not seen."""
        return [row["key"] for row in self._rows("SELECT key FROM index_queue ORDER BY key")]

    def clear_index_queue(self, keys: Iterable[int] | None = None) -> None:
        """The index has seen these (or all) changes."""
        with self.transaction():
            if keys is None:
                self._run("DELETE FROM index_queue")
            else:
                self._run("DELETE FROM index_queue WHERE key IN (SELECT value FROM json_each(?))", (_list(keys),))

    def texts(self) -> tuple[list[int], list[str]]:
        """Keys and texts of all notes."""
        rows = self._rows("SELECT key, text FROM notes ORDER BY key")
        return [row["key"] for row in rows], [row["text"] for row in rows]

    def replace_vectors(self, keys: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Replace every vector; `vectors` has the shape (keys, dimension)."""
        self._run("DELETE FROM vectors")
        for key, vector in zip(keys, vectors, strict=True):
            self._run("INSERT INTO vectors VALUES (?, ?)", (key, _blob(vector)))

    def count_vectors(self) -> int:
        """How many notes have a vector."""
        return int(self._rows("SELECT count(*) AS n FROM vectors")[0]["n"])

    def quick_check(self) -> None:
        """Raise NoteError if the file is damaged inside."""
        found = self._rows("PRAGMA quick_check(1)")[0][0]
        if found != "ok":
            raise _damaged(self.path, str(found))

    # -- inside -------------------------------------------------------------------------------

    def _all_vectors(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """All keys and vectors, read again only after this or another connection has written."""
        version = (self._rows("PRAGMA data_version")[0][0], self._connection.total_changes)
        if self._vectors is None or self._vectors[0] != version:
            rows = self._rows("SELECT key, vector FROM vectors ORDER BY key")
            keys = np.array([row["key"] for row in rows], dtype=np.int64)
            width = len(rows[0]["vector"]) // 4 if rows else 0
            vectors = np.frombuffer(b"".join(row["vector"] for row in rows), dtype="<f4").reshape(len(rows), width)
            self._vectors = (version, keys, vectors)
        return self._vectors[1], self._vectors[2]

    def _write_links(self, key: int, links: Sequence[str]) -> None:
        for position, target in enumerate(links):
            self._run("INSERT OR IGNORE INTO links(key, position, target) VALUES (?, ?, ?)", (key, position, target))

    def _queue(self, keys: Iterable[int]) -> None:
        for key in keys:
            self._run("INSERT OR IGNORE INTO index_queue VALUES (?)", (key,))

    def _rows(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[sqlite3.Row]:
        with self._guard, self._errors():
            return self._connection.execute(statement, values).fetchall()

    def _run(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        with self._guard, self._errors():
            return self._connection.execute(statement, values)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with storage_errors(self.path):
                yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without details
            if code == sqlite3.SQLITE_FULL:
                raise StorageFull(
                    f"the disk is full: {self.path} was not written (what was saved before is untouched)",
                    f"free some space under {self.path.parent} and run the command again",
                ) from error
            if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
                raise _damaged(self.path, str(error)) from error
            raise NoteError(f"{self.path}: {error}", "check that the file and its folder can be written") from error


def _damaged(path: Path, problem: str) -> NoteError:
    return NoteError(
        f"{path} is damaged: {problem}; the file was left as it is",
        f"put a backup in its place, or move {path.name} aside to begin with an empty memory",
    )


def _note(row: sqlite3.Row) -> Note:
    return Note(
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
    )


def _scope(kinds: Sequence[str] | None, as_of: float | None) -> dict[str, Any]:
    return {"kinds": None if kinds is None else json.dumps(list(kinds)), "as_of": as_of}


def _list(keys: Iterable[int]) -> str:
    return json.dumps(sorted(int(key) for key in keys))


def _blob(vector: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()
