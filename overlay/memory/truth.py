"""The truth: one SQLite file with texts, vectors, full-text index, links, sources and a journal.

Everything else can be built from it. A note's `key` (an integer, never used twice) is its name in
here; its id is its name outside and moves on when a newer text takes it. A long text is divided
into passages, and a passage's key is its name in the full-text index, among the vectors and in the
vector index. The journal says what was done to which id and when, and holds no text; its sequence
numbers order all writes, also where a clock was set back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from overlay.errors import NoteError, StorageFull
from overlay.memory.duplicates import folded
from overlay.memory.fold_tables import FOLD_SCHEMA
from overlay.memory.note import Filters, Note
from overlay.memory.passages import Passage
from overlay.memory.vector_cache import VectorCache
from overlay.memory.words import stemmer_version, stems
from overlay.records import storage_errors

SCHEMA_VERSION = "2"

_BUSY_MILLISECONDS = 10_000

_PAGE_BYTES = 8_192

_MAGIC = b"SQLite format 3\x00"

# Stands in the journal for the ids of notes that were forgotten.
FORGOTTEN = "(forgotten)"

# Rows that one step of long work reads.
_PAGE = 500

# How many times the hits that are wanted are read, in rounds, until half of those wanted pass a filter. What
# is behind them shares so little with the query that words alone would not bring it up.
_TEXT_ROUNDS = (1, 8)

# Links that are followed from one note, each way: beyond it a note is about everything.
_LINKS_OF_ONE = 16

# Notes whose links one step follows.
_LINKED_AT_ONCE = 64

_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}');
CREATE TABLE notes (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    title TEXT NOT NULL,
    tags TEXT NOT NULL,
    written_at REAL NOT NULL,
    event_at REAL NOT NULL,
    valid_from REAL NOT NULL,
    valid_to REAL,
    superseded_by TEXT,
    importance REAL NOT NULL,
    pinned INTEGER NOT NULL,
    expires_at REAL,
    namespace TEXT NOT NULL,
    stream TEXT NOT NULL,
    place INTEGER NOT NULL,
    state TEXT NOT NULL,
    height INTEGER NOT NULL,
    -- The journal's numbers of the writes that made it and that ended its validity.
    written INTEGER NOT NULL,
    closed INTEGER,
    -- Of the text without what doesn't change what it says: case, space, punctuation.
    digest BLOB NOT NULL,
    -- Last, so that a query for anything else doesn't read through it.
    text TEXT NOT NULL
);
CREATE INDEX notes_digest ON notes(digest);
-- The name by which links find a note at any time: its id, or the id that it once had.
CREATE INDEX notes_name ON notes(coalesce(superseded_by, id));
CREATE INDEX notes_current ON notes(namespace, kind, height) WHERE valid_to IS NULL;
CREATE INDEX notes_closed ON notes(closed) WHERE closed IS NOT NULL;
CREATE INDEX notes_stream ON notes(namespace, stream, place) WHERE stream <> '';
CREATE INDEX notes_expiry ON notes(expires_at) WHERE expires_at IS NOT NULL AND valid_to IS NULL;
CREATE TABLE tags (
    tag TEXT NOT NULL,
    key INTEGER NOT NULL REFERENCES notes(key) ON DELETE CASCADE,
    PRIMARY KEY (tag, key)
) WITHOUT ROWID;
CREATE INDEX tags_key ON tags(key);
CREATE TABLE passages (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    note INTEGER NOT NULL REFERENCES notes(key) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL
);
CREATE INDEX passages_note ON passages(note, position);
CREATE TABLE vectors (
    passage INTEGER PRIMARY KEY REFERENCES passages(key) ON DELETE CASCADE,
    vector BLOB NOT NULL
);
-- What another embedder has computed so far; it takes the place of `vectors` when it is complete.
CREATE TABLE vectors_next (
    passage INTEGER PRIMARY KEY REFERENCES passages(key) ON DELETE CASCADE,
    vector BLOB NOT NULL
);
-- The columns of the primary key stand first: SQLite 3.40 takes any other order for damage (PRAGMA quick_check).
CREATE TABLE links (
    key INTEGER NOT NULL REFERENCES notes(key) ON DELETE CASCADE,
    target TEXT NOT NULL,
    position INTEGER NOT NULL,
    made_by TEXT NOT NULL,
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
    file TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX vault_files_folder ON vault_files(folder);
-- Passages whose change the vector index has not seen yet.
CREATE TABLE index_queue (passage INTEGER PRIMARY KEY);
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    action TEXT NOT NULL,
    note_id TEXT NOT NULL
);
CREATE INDEX journal_note ON journal(note_id);
-- It is given stems and keeps no text: the tokenizer only has to divide them at the spaces.
CREATE VIRTUAL TABLE passages_text USING fts5(stems, content='', tokenize='unicode61 remove_diacritics 0');
CREATE VIRTUAL TABLE passages_words USING fts5vocab(passages_text, row);
{FOLD_SCHEMA}
"""

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


@dataclass(frozen=True)
class Scope:
    """Which notes a question is about: those that hold at `now`, or held at `filters.as_of`.

    With `sequence`, nothing that was written or closed after that number of the journal has happened.
    """

    now: float
    filters: Filters = field(default_factory=Filters)
    sequence: int | None = None

    @property
    def moment(self) -> float:
        """The time that is asked about."""
        return self.now if self.filters.as_of is None else self.filters.as_of

    @property
    def is_present(self) -> bool:
        """Whether only what holds now is asked for, which is what the vector index has."""
        return self.filters.as_of is None and self.sequence is None

    def held(self, alias: str = "notes") -> str:
        """An SQL condition: the note held then; filters aside. Its values are those of `values`."""
        conditions = [f"({alias}.pinned OR {alias}.expires_at IS NULL OR {alias}.expires_at > :moment)"]
        if self.filters.as_of is not None:
            conditions.append(f"{alias}.valid_from <= :moment")
            ended = f"{alias}.valid_to > :moment"
        else:
            ended = "FALSE"
        if self.sequence is not None:
            conditions.append(f"{alias}.written <= :sequence")
            ended = f"({ended} OR {alias}.closed > :sequence)"
        return " AND ".join([*conditions, f"({alias}.valid_to IS NULL OR {ended})"])

    def matches(self, alias: str = "notes") -> str:
        """An SQL condition: the note held then, and passes the filters."""
        conditions = [self.held(alias)]
        if self.filters.kinds is not None:
            conditions.append(f"{alias}.kind IN (SELECT value FROM json_each(:kinds))")
        if self.filters.namespaces is not None:
            conditions.append(f"{alias}.namespace IN (SELECT value FROM json_each(:namespaces))")
        if self.filters.height is not None:
            conditions.append(f"{alias}.height = :height")
        if self.filters.tags is not None:
            conditions.append(
                f"{alias}.key IN (SELECT key FROM tags WHERE tag IN (SELECT value FROM json_each(:tags)))"
            )
        return " AND ".join(conditions)

    def values(self) -> dict[str, Any]:
        """The values of the conditions."""
        lists = {name: getattr(self.filters, name) for name in ("kinds", "namespaces", "tags")}
        return {
            "moment": self.moment,
            "sequence": self.sequence,
            "height": self.filters.height,
            **{name: None if names is None else json.dumps(list(names)) for name, names in lists.items()},
        }


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
    """A passage's text, the first one of a note with the title, and facts of the note."""

    text: str
    facts: Facts


class Truth:
    """The SQLite file behind a memory. Usable from several threads, one transaction at a time.

    Raises (every method):
        NoteError: the file is missing, isn't a memory, is damaged or of a newer program; it is left as it is.
        StorageFull: the disk is full; nothing of the transaction is written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._guard = threading.RLock()
        self._vectors = VectorCache()
        # Passages that the index has seen and that still stand in its queue: taking them out would wait
        # for the disk once more, so the next transaction does it along the way.
        self._fed: set[int] = set()
        self._counted: dict[str, tuple[tuple[int, int], int]] = {}
        if read_only and not path.exists():
            raise NoteError(f"there is no memory at {path}", "open it once for writing, which makes it")
        # SQLite would answer only after it has made files of its own beside a foreign file.
        if path.exists():
            try:
                with open(path, "rb") as file:
                    start = file.read(len(_MAGIC))
            except OSError as error:
                raise NoteError(f"{path} can't be read: {error.strerror}", "check the rights of the file") from None
            if start and start != _MAGIC:
                raise _damaged(path, "it is not an SQLite file")
        with self._errors():
            self._connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?{_mode(path, read_only)}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
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
                # It counts only for a file that is still empty. A vector of 384 numbers takes more than a
                # third of SQLite's usual page: two would go into each, and the rest be lost.
                self._connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
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
                "use the version of the program that wrote it, and export its notes there to import them here",
            )
        if not read_only:
            self._keep_stems()

    def _keep_stems(self) -> None:
        """Fill the full-text index anew when its stems were another stemmer's: they would never meet again."""
        if self.meta("stems") == stemmer_version():
            return
        with self.transaction():
            self.fill_text_anew()
            self.write_meta({"stems": stemmer_version()})

    def close(self) -> None:
        """Close the file."""
        with self._guard, self._errors():
            if self._fed:
                # If this fails the index is only told again what it knows.
                with contextlib.suppress(NoteError, StorageFull), self.transaction():
                    pass
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside, or none; committed and on the disk when it ends. Inside another it is a part of that."""
        with self._guard, self._errors():
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                fed = list(self._fed)
                self._connection.executemany("DELETE FROM index_queue WHERE passage = ?", ((key,) for key in fed))
                yield
                self._connection.execute("COMMIT")
                self._fed.difference_update(fed)
            except BaseException:
                # SQLite may have rolled back by itself, as it does when the disk is full.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[sqlite3.Row]:
        """The rows that a query gives; columns by name."""
        with self._guard, self._errors():
            return self._connection.execute(statement, values).fetchall()

    def run(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """Run one writing statement."""
        with self._guard, self._errors():
            return self._connection.execute(statement, values)

    def run_many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one writing statement once for each of `values`."""
        with self._guard, self._errors():
            self._connection.executemany(statement, values)

    # -- meta and journal ---------------------------------------------------------------------

    def meta(self, name: str) -> str | None:
        """A fact about the memory itself, or None."""
        rows = self.rows("SELECT value FROM meta WHERE name = ?", (name,))
        return str(rows[0]["value"]) if rows else None

    def write_meta(self, facts: Mapping[str, str | None]) -> None:
        """Write facts about the memory itself; None removes one."""
        for name, value in facts.items():
            if value is None:
                self.run("DELETE FROM meta WHERE name = ?", (name,))
            else:
                self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def write_journal(self, at: float, action: str, note_id: str) -> int:
        """Journal what was done to which id; the sequence number of this write."""
        cursor = self.run("INSERT INTO journal(at, action, note_id) VALUES (?, ?, ?)", (at, action, note_id))
        return int(cursor.lastrowid or 0)

    def journal(self) -> list[tuple[float, str, str]]:
        """(epoch seconds, action, note id) of every write, oldest first."""
        rows = self.rows("SELECT at, action, note_id FROM journal ORDER BY seq")
        return [(row["at"], row["action"], row["note_id"]) for row in rows]

    def memory_id(self, folder: Path) -> str:
        """This memory's own name, for places that several memories share; a copy in another folder gets another one."""
        home = str(folder.resolve())
        known = self.meta("memory_id")
        if known is None or self.meta("memory_folder") != home:
            known = secrets.token_hex(8)
            with self.transaction():
                self.write_meta({"memory_id": known, "memory_folder": home})
        return known

    def sequence(self) -> int:
        """The number of the newest write."""
        return int(self.rows("SELECT coalesce(max(seq), 0) AS seq FROM journal")[0]["seq"])

    # -- notes --------------------------------------------------------------------------------

    def find(self, note_id: str) -> tuple[int, Note] | None:
        """The note with this id and its key."""
        rows = self.rows(f"{_NOTE} WHERE id = ?", (note_id,))
        return (rows[0]["key"], _note(rows[0])) if rows else None

    def find_then(self, note_id: str, scope: Scope) -> tuple[int, Note] | None:
        """The note that had this id in that scope, as it was then, and its key."""
        rows = self.rows(
            f"{_NOTE} WHERE coalesce(superseded_by, id) = :id AND {scope.held()} ORDER BY key DESC LIMIT 1",
            {"id": note_id, **scope.values()},
        )
        return (rows[0]["key"], _note(rows[0], scope.sequence)) if rows else None

    def find_same(self, text: str, kind: str, namespace: str, now: float) -> tuple[int, Note] | None:
        """The oldest note of this kind that says the same (see duplicates.py) and still holds."""
        rows = self.rows(
            f"""{_NOTE} WHERE digest = ? AND kind = ? AND namespace = ? AND valid_to IS NULL
                AND (pinned OR expires_at IS NULL OR expires_at > ?) ORDER BY key""",
            (_digest(text), kind, namespace, now),
        )
        exact = [row for row in rows if row["text"] == text] or rows
        return (exact[0]["key"], _note(exact[0])) if exact else None

    def notes_of(self, keys: Iterable[int], sequence: int | None = None) -> dict[int, Note]:
        """The notes with these keys; with `sequence`, as they were when that was the newest write."""
        rows = self.rows(f"{_NOTE} WHERE key IN (SELECT value FROM json_each(?))", (_list(keys),))
        return {row["key"]: _note(row, sequence) for row in rows}

    def notes(self, scope: Scope | None = None) -> Iterator[Note]:
        """Every note, oldest first, also those that no longer hold, or those of a scope; read in pages."""
        last, condition, values = 0, "TRUE", {}
        if scope is not None:
            condition, values = scope.matches(), scope.values()
        while rows := self.rows(
            f"{_NOTE} WHERE key > :last AND {condition} ORDER BY key LIMIT {_PAGE}", {"last": last, **values}
        ):
            for row in rows:
                yield _note(row, scope.sequence if scope else None)
            last = rows[-1]["key"]

    def count(self, scope: Scope | None = None) -> int:
        """How many notes there are, or how many in a scope."""
        if scope is None:
            return int(self.rows("SELECT count(*) AS n FROM notes")[0]["n"])
        if scope.is_present and scope.filters.lets_all_through:
            # The small index of what is there, less what has expired since.
            whole = self._count_once("SELECT count(*) AS n FROM notes WHERE valid_to IS NULL")
            gone = self.rows(
                """SELECT count(*) AS n FROM notes WHERE expires_at IS NOT NULL AND valid_to IS NULL
                    AND expires_at <= ? AND NOT pinned""",
                (scope.now,),
            )
            return whole - int(gone[0]["n"])
        return int(self.rows(f"SELECT count(*) AS n FROM notes WHERE {scope.matches()}", scope.values())[0]["n"])

    def free_id(self) -> str:
        """An id that no note has and none had."""
        rows = self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'notes'")
        number = (rows[0]["seq"] if rows else 0) + 1
        while self.rows("SELECT 1 FROM notes WHERE id = ?", (f"note:{number}",)):
            number += 1
        return f"note:{number}"

    def next_place(self, namespace: str, stream: str) -> int:
        """The place after the last one of a stream."""
        rows = self.rows(
            "SELECT max(place) AS place FROM notes WHERE namespace = ? AND stream = ? AND stream <> ''",
            (namespace, stream),
        )
        return 0 if rows[0]["place"] is None else int(rows[0]["place"]) + 1

    def insert(
        self, note: Note, written: int, pieces: Sequence[Passage], vectors: Sequence[NDArray[np.float32]]
    ) -> int:
        """Write a note that has a free id, with its passages and their vectors; they are queued for the index."""
        cursor = self.run(
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
            self._insert_passage(key, note.title, piece, vector)
        self._write_tags(key, note.tags)
        self._write_links(key, note.links)
        self.add_source(key, note.source, note.written_at)
        return key

    def add_source(self, key: int, source: str, at: float) -> bool:
        """Note where a text (also) came from; False if that was known."""
        return self.run("INSERT OR IGNORE INTO sources VALUES (?, ?, ?)", (key, source, at)).rowcount > 0

    def sources(self, note_id: str) -> tuple[str, ...]:
        """Where a note came from, the oldest first."""
        rows = self.rows(
            "SELECT sources.source FROM sources JOIN notes USING (key) WHERE id = ? ORDER BY at, sources.source",
            (note_id,),
        )
        return tuple(row["source"] for row in rows)

    def describe(self, key: int, note: Note, pieces: Sequence[tuple[Passage, NDArray[np.float32]]] | None) -> None:
        """Replace what stands around a note's text; a changed title needs its passages with their vectors."""
        if pieces is not None:
            self._retitle(key, note.title, pieces)
        self.run(
            "UPDATE notes SET tags = ?, importance = ?, pinned = ?, expires_at = ? WHERE key = ?",
            (json.dumps(note.tags, ensure_ascii=False), note.importance, note.pinned, note.expires_at, key),
        )
        self.run("DELETE FROM tags WHERE key = ?", (key,))
        self._write_tags(key, note.tags)
        self.run("DELETE FROM links WHERE key = ? AND made_by = 'written'", (key,))
        self._write_links(key, note.links)

    def unlink_mentions(self, note_id: str) -> None:
        """Take away the links by which texts mention this note, whose title has changed."""
        self.run("DELETE FROM links WHERE target = ? AND made_by = 'mention'", (note_id,))

    def close_note(self, key: int, at: float, sequence: int) -> None:
        """A note holds no longer; it leaves the index and stays in the truth."""
        self.run(
            "UPDATE notes SET valid_to = max(valid_from, ?), closed = ? WHERE key = ? AND valid_to IS NULL",
            (at, sequence, key),
        )
        self._queue(row["key"] for row in self.rows("SELECT key FROM passages WHERE note = ?", (key,)))

    def supersede(self, key: int, note_id: str, at: float, sequence: int) -> None:
        """A note gives its id to a successor, and keeps its text as "ID@N"."""
        number = 1
        while self.rows("SELECT 1 FROM notes WHERE id = ?", (f"{note_id}@{number}",)):
            number += 1
        self.run("UPDATE notes SET id = ?, superseded_by = ? WHERE key = ?", (f"{note_id}@{number}", note_id, key))
        self.close_note(key, at, sequence)

    def pin(self, key: int, pinned: bool) -> None:
        """Pin a note, or take the pin out."""
        self.run("UPDATE notes SET pinned = ? WHERE key = ?", (pinned, key))

    def expired(self, now: float) -> list[tuple[int, str, float]]:
        """(key, id, epoch seconds) of the notes whose time is over and that still stand as if they held."""
        rows = self.rows(
            """SELECT key, id, expires_at FROM notes WHERE expires_at IS NOT NULL AND valid_to IS NULL
                AND expires_at <= ? AND NOT pinned ORDER BY key""",
            (now,),
        )
        return [(row["key"], row["id"], row["expires_at"]) for row in rows]

    def versions(self, note_id: str) -> list[int]:
        """Keys of a note and of its older versions."""
        rows = self.rows("SELECT key FROM notes WHERE id = ? OR coalesce(superseded_by, id) = ?", (note_id, note_id))
        return sorted(row["key"] for row in rows)

    def delete(self, note_id: str) -> int:
        """Delete a note with its older versions, every link to it, and its id from the journal.

        The full-text index must be filled anew, and the file scrubbed, before they are gone from it.
        """
        rows = self.rows(
            "SELECT key, id FROM notes WHERE id = ? OR coalesce(superseded_by, id) = ?", (note_id, note_id)
        )
        for row in rows:
            passages = self.rows("SELECT key FROM passages WHERE note = ?", (row["key"],))
            self.run_many("DELETE FROM index_queue WHERE passage = ?", ((passage["key"],) for passage in passages))
            self.run("DELETE FROM notes WHERE key = ?", (row["key"],))
            self.run("DELETE FROM links WHERE target = ?", (row["id"],))
            self.run("DELETE FROM vault_files WHERE note_id = ?", (row["id"],))
            self.run("UPDATE journal SET note_id = ? WHERE note_id = ?", (FORGOTTEN, row["id"]))
        if rows:
            self.write_meta({"vectors": secrets.token_hex(8)})
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

    # -- words --------------------------------------------------------------------------------

    def fill_text_anew(self) -> None:
        """Empty the full-text index, which only marks what is deleted from it, and fill it again."""
        self.run("INSERT INTO passages_text(passages_text) VALUES ('delete-all')")
        last = 0
        statement = f"{_PASSAGE_TEXTS} WHERE passages.key > ? ORDER BY passages.key LIMIT {_PAGE}"
        while rows := self.rows(statement, (last,)):
            self.run_many(
                "INSERT INTO passages_text(rowid, stems) VALUES (?, ?)",
                ((row["key"], _stems_line(row["title"], row["text"], row["position"])) for row in rows),
            )
            last = rows[-1]["key"]

    def frequencies(self, stems: Iterable[str]) -> dict[str, int]:
        """In how many passages each of these stems stands; those that stand nowhere are left out."""
        found: dict[str, int] = {}
        for stem in stems:
            for row in self.rows("SELECT doc FROM passages_words WHERE term = ?", (stem,)):
                found[stem] = int(row["doc"])
        return found

    def text_hits(self, match: str, limit: int, scope: Scope) -> list[tuple[int, int, float]]:
        """(passage, note, BM25) of the best passages for an FTS5 expression, best first; higher is better."""
        if not match:
            return []
        # Joined to their notes at once, thousands of hits would be looked up of which a few hundred are kept.
        for factor in _TEXT_ROUNDS:
            rows = self.rows(
                "SELECT rowid, rank FROM passages_text WHERE passages_text MATCH ? ORDER BY rank LIMIT ?",
                (match, limit * factor),
            )
            fitting = self.notes_of_passages([row["rowid"] for row in rows], scope)
            if len(rows) < limit * factor or len(fitting) >= limit // 2:
                break
        return [(row["rowid"], fitting[row["rowid"]], -row["rank"]) for row in rows if row["rowid"] in fitting][:limit]

    # -- passages and vectors -----------------------------------------------------------------

    def count_passages(self) -> int:
        """How many passages there are."""
        return self._count_once("SELECT count(*) AS n FROM passages")

    def notes_of_passages(self, passages: Sequence[int], scope: Scope) -> dict[int, int]:
        """Passage to note, for those of `passages` whose notes are in the scope."""
        rows = self.rows(
            f"""SELECT passages.key AS passage, passages.note FROM passages JOIN notes ON notes.key = passages.note
                WHERE passages.key IN (SELECT value FROM json_each(:passages)) AND {scope.matches()}""",
            {"passages": _list(passages), **scope.values()},
        )
        return {row["passage"]: row["note"] for row in rows}

    def passages_in(self, scope: Scope) -> list[int]:
        """Keys of all passages of the notes in a scope."""
        rows = self.rows(
            f"""SELECT passages.key FROM notes JOIN passages ON passages.note = notes.key
                WHERE {scope.matches()} ORDER BY passages.key""",
            scope.values(),
        )
        return [row["key"] for row in rows]

    def ids_of_passages(self, passages: Iterable[int]) -> dict[int, str]:
        """Passage to the id of its note."""
        rows = self.rows(
            """SELECT passages.key AS passage, notes.id FROM passages JOIN notes ON notes.key = passages.note
                WHERE passages.key IN (SELECT value FROM json_each(?))""",
            (_list(passages),),
        )
        return {row["passage"]: row["id"] for row in rows}

    def passages_closed_since(self, sequence: int) -> list[int]:
        """Keys of the passages of notes that were closed by later writes than this one."""
        rows = self.rows(
            "SELECT passages.key FROM notes JOIN passages ON passages.note = notes.key WHERE notes.closed > ?",
            (sequence,),
        )
        return [row["key"] for row in rows]

    def passages_around(self, passage: int) -> tuple[Passage | None, Passage, Passage | None]:
        """A passage between its neighbours in the same text."""
        rows = self.rows(
            """SELECT near.position, near.start, near.end, here.position AS middle,
                    substr(notes.text, near.start + 1, near.end - near.start) AS text
                FROM passages AS here JOIN passages AS near ON near.note = here.note
                    AND near.position BETWEEN here.position - 1 AND here.position + 1
                JOIN notes ON notes.key = here.note WHERE here.key = ?""",
            (passage,),
        )
        near = {row["position"] - row["middle"]: _passage(row) for row in rows}
        return near.get(-1), near[0], near.get(1)

    def vectors_of(self, passages: Iterable[int]) -> dict[int, NDArray[np.float32]]:
        """Passage to unit vector."""
        rows = self.rows(
            "SELECT passage, vector FROM vectors WHERE passage IN (SELECT value FROM json_each(?))", (_list(passages),)
        )
        return {row["passage"]: np.frombuffer(row["vector"], dtype="<f4") for row in rows}

    def first_passages(self, keys: Iterable[int]) -> list[tuple[int, int]]:
        """(passage, note) of the first passage of each of these notes."""
        rows = self.rows(
            """SELECT key, note FROM passages WHERE note IN (SELECT value FROM json_each(?)) AND position = 0
                ORDER BY note""",
            (_list(keys),),
        )
        return [(row["key"], row["note"]) for row in rows]

    def looks_of(self, passages: Iterable[int]) -> dict[int, Look]:
        """Passage to what recall looks at."""
        rows = self.rows(
            """SELECT passages.key, position, start, end, title, text, event_at, importance, pinned, namespace, stream,
                    place, tags, state FROM passages JOIN notes ON notes.key = passages.note
                WHERE passages.key IN (SELECT value FROM json_each(?))""",
            (_list(passages),),
        )
        return {
            row[0]: Look(
                embedded_text(row[4], row[5][row[2] : row[3]], row[1]),
                Facts(row[6], row[7], bool(row[8]), (row[9], row[10]), row[11], row[12], row[13]),
            )
            for row in rows
        }

    def passage_vectors_of_notes(
        self, keys: Iterable[int], most: int, also: Iterable[int] = ()
    ) -> tuple[list[int], list[int], NDArray[np.float32]]:
        """Passages, their notes, and their vectors, shape (passages, dimension): `most` of each note, and some more."""
        rows = self.rows(
            """SELECT passages.key, passages.note, vector FROM passages JOIN vectors ON passage = passages.key
                WHERE passages.note IN (SELECT value FROM json_each(:keys)) AND position < :most
                UNION ALL
                SELECT passages.key, passages.note, vector FROM passages JOIN vectors ON passage = passages.key
                WHERE passages.key IN (SELECT value FROM json_each(:also)) AND position >= :most
                ORDER BY 2, 1""",
            {"keys": _list(keys), "most": most, "also": _list(also)},
        )
        matrix = np.frombuffer(b"".join(row["vector"] for row in rows), dtype="<f4")
        width = len(rows[0]["vector"]) // 4 if rows else 0
        return [row["key"] for row in rows], [row["note"] for row in rows], matrix.reshape(len(rows), width)

    def vectors_of_notes(self, keys: Iterable[int]) -> dict[int, NDArray[np.float32]]:
        """Note to the mean of its passages' vectors, of unit length."""
        wanted, found = sorted(set(keys)), {}
        for start in range(0, len(wanted), _PAGE):
            part = wanted[start : start + _PAGE]
            _, notes, vectors = self.passage_vectors_of_notes(part, 2**31)
            owners = np.array(notes, dtype=np.int64)
            for key in dict.fromkeys(notes):
                mean = vectors[owners == key].mean(axis=0)
                found[key] = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
        return found

    def nearest(self, vector: NDArray[np.float32], limit: int, scope: Scope) -> list[tuple[int, int, float]]:
        """(passage, note, cosine) of the passages in a scope nearest to a unit vector: exact, by a scan."""
        with self._guard:
            self._load_vectors()
            for passages, cosines in self._vectors.nearest(vector, limit):
                fitting = self.notes_of_passages(passages, scope)
                if len(fitting) >= limit or len(passages) == len(self._vectors):
                    pairs = zip(passages, cosines, strict=True)
                    return [(one, fitting[one], value) for one, value in pairs if one in fitting][:limit]
        return []

    def nearest_of(
        self, passages: Sequence[int], vector: NDArray[np.float32], limit: int, scope: Scope
    ) -> list[tuple[int, int, float]]:
        """The same among some passages only."""
        fitting = self.notes_of_passages(passages, scope)
        vectors = self.vectors_of(fitting)
        if not vectors:
            return []
        keys = sorted(vectors)
        cosines = np.stack([vectors[key] for key in keys]) @ vector
        best = np.argsort(-cosines, kind="stable")[:limit]
        return [(keys[row], fitting[keys[row]], float(cosines[row])) for row in best]

    def _load_vectors(self) -> None:
        """Bring the vectors in memory up to the file: only what was added is read, unless something was deleted."""
        generation = self.meta("vectors") or ""
        if self._vectors.generation != generation:
            self._vectors = VectorCache(generation)
        newer = "SELECT passage, vector FROM vectors WHERE passage > ? ORDER BY passage"
        cursor = self.run(newer, (self._vectors.last,))
        with self._errors():
            while rows := cursor.fetchmany(4_096):
                self._vectors.add([row["passage"] for row in rows], b"".join(row["vector"] for row in rows))

    # -- what recall asks ---------------------------------------------------------------------

    def eligible(self, keys: Iterable[int], scope: Scope) -> list[int]:
        """Those of these notes that are in the scope."""
        rows = self.rows(
            f"""SELECT key FROM notes WHERE key IN (SELECT value FROM json_each(:keys)) AND {scope.matches()}
                ORDER BY key""",
            {"keys": _list(keys), **scope.values()},
        )
        return [row["key"] for row in rows]

    def beside(self, keys: Iterable[int], most: int, scope: Scope) -> list[int]:
        """The notes of a scope at most `most` places from these in their streams."""
        rows = self.rows(
            f"""SELECT DISTINCT other.key FROM notes AS here CROSS JOIN notes AS other
                ON other.namespace = here.namespace AND other.stream = here.stream AND other.stream <> ''
                AND other.place BETWEEN here.place - {most} AND here.place + {most}
                WHERE here.key IN (SELECT value FROM json_each(:keys)) AND {scope.matches("other")}
                ORDER BY other.key""",
            {"keys": _list(keys), **scope.values()},
        )
        return [row["key"] for row in rows]

    def links_around(self, keys: Iterable[int], hops: int, scope: Scope) -> tuple[set[tuple[int, int]], list[int]]:
        """Links within `hops` steps of `keys`, either way, between notes that held then; and the notes met.

        Only so many are followed from one note, and on each step: a note that everything links to says
        nothing about anything. The notes met are in order: nearest first, and then those with more links.
        """
        links: set[tuple[int, int]] = set()
        frontier = sorted(set(keys))
        seen, met = set(frontier), []
        for _ in range(hops):
            found = self._links_of(frontier[:_LINKED_AT_ONCE], scope)
            degrees = Counter(key for link in found for key in link if key not in seen)
            links |= found
            frontier = sorted(degrees, key=lambda key: (-degrees[key], key))
            seen.update(frontier)
            met.extend(frontier)
            if not frontier:
                break
        return links, met

    def links_among(self) -> list[tuple[int, int]]:
        """All links between notes that hold, as pairs of keys."""
        rows = self.rows(
            """SELECT links.key AS one, goal.key AS other FROM links JOIN notes AS origin ON origin.key = links.key
                JOIN notes AS goal ON coalesce(goal.superseded_by, goal.id) = links.target
                WHERE origin.valid_to IS NULL AND goal.valid_to IS NULL AND origin.key <> goal.key
                ORDER BY one, other"""
        )
        return [(row["one"], row["other"]) for row in rows]

    def _links_of(self, keys: Iterable[int], scope: Scope) -> set[tuple[int, int]]:
        rows = self.rows(
            f"""SELECT key, name,
                    (SELECT json_group_array(target) FROM (
                        SELECT target FROM links WHERE links.key = chosen.key LIMIT {_LINKS_OF_ONE})) AS away,
                    (SELECT json_group_array(key) FROM (
                        SELECT key FROM links WHERE links.target = chosen.name LIMIT {_LINKS_OF_ONE})) AS here
                FROM (SELECT key, coalesce(superseded_by, id) AS name FROM notes
                    WHERE key IN (SELECT value FROM json_each(?))) AS chosen""",
            (_list(keys),),
        )
        away = [(row["key"], target) for row in rows for target in json.loads(row["away"])]
        here = [(origin, row["key"]) for row in rows for origin in json.loads(row["here"])]
        goals = self._holders({target for _, target in away}, scope)
        origins = set(self._holding({origin for origin, _ in here}, scope))
        found = {(one, goals[target]) for one, target in away if target in goals}
        found.update(pair for pair in here if pair[0] in origins)
        return {(one, other) for one, other in found if one != other}

    def _holders(self, names: Iterable[str], scope: Scope) -> dict[str, int]:
        """By id, the note that had it and held."""
        rows = self.rows(
            f"""SELECT key, coalesce(superseded_by, id) AS name FROM notes
                WHERE coalesce(superseded_by, id) IN (SELECT value FROM json_each(:names)) AND {scope.held()}""",
            {"names": json.dumps(sorted(names)), **scope.values()},
        )
        return {row["name"]: row["key"] for row in rows}

    def _holding(self, keys: Iterable[int], scope: Scope) -> list[int]:
        """Those of these notes that held."""
        rows = self.rows(
            f"SELECT key FROM notes WHERE key IN (SELECT value FROM json_each(:keys)) AND {scope.held()}",
            {"keys": _list(keys), **scope.values()},
        )
        return [row["key"] for row in rows]

    # -- what the index asks ------------------------------------------------------------------

    def index_queue(self, limit: int) -> list[int]:
        """Up to `limit` passages whose change the index has not seen."""
        with self._guard:
            rows = self.rows("SELECT passage FROM index_queue ORDER BY passage LIMIT ?", (limit + len(self._fed),))
            return [row["passage"] for row in rows if row["passage"] not in self._fed][:limit]

    def index_has_seen(self, passages: Iterable[int]) -> None:
        """These changes have reached the index; a process that ends now makes the next one tell it again."""
        with self._guard:
            self._fed.update(passages)

    def clear_index_queue(self) -> None:
        """The index has seen all changes."""
        with self.transaction():
            self.run("DELETE FROM index_queue")

    def _queue(self, passages: Iterable[int]) -> None:
        changed = list(passages)
        self._fed.difference_update(changed)
        self.run_many("INSERT OR IGNORE INTO index_queue VALUES (?)", ((key,) for key in changed))

    # -- embedding again ----------------------------------------------------------------------

    def texts_to_embed(self, limit: int) -> list[tuple[int, str]]:
        """(passage, what is embedded of it) of passages that have no vector of the next embedder yet."""
        rows = self.rows(
            f"""{_PASSAGE_TEXTS} LEFT JOIN vectors_next ON vectors_next.passage = passages.key
                WHERE vectors_next.passage IS NULL ORDER BY passages.key LIMIT ?""",
            (limit,),
        )
        return [(row["key"], embedded_text(row["title"], row["text"], row["position"])) for row in rows]

    def count_next_vectors(self) -> int:
        """How many passages have a vector of the next embedder."""
        return int(self.rows("SELECT count(*) AS n FROM vectors_next")[0]["n"])

    def write_next_vectors(self, passages: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Write vectors of the next embedder, shape (passages, dimension)."""
        self.run_many(
            "INSERT INTO vectors_next VALUES (?, ?)",
            ((passage, _blob(vector)) for passage, vector in zip(passages, vectors, strict=True)),
        )

    def drop_next_vectors(self) -> None:
        """Forget what a next embedder has computed."""
        self.run("DELETE FROM vectors_next")

    def take_next_vectors(self) -> None:
        """The next embedder's vectors take the place of the present ones."""
        self.run("DELETE FROM vectors")
        self.run("INSERT INTO vectors SELECT passage, vector FROM vectors_next ORDER BY passage")
        self.run("DELETE FROM vectors_next")
        self.write_meta({"vectors": secrets.token_hex(8)})

    # -- checking -----------------------------------------------------------------------------

    def quick_check(self) -> None:
        """Raise NoteError if the file or its full-text index is damaged inside."""
        found = self.rows("PRAGMA quick_check(1)")[0][0]
        if found != "ok":
            raise _damaged(self.path, str(found))
        self.run("INSERT INTO passages_text(passages_text) VALUES ('integrity-check')")

    def passages_without(self) -> tuple[list[int], list[int], list[int]]:
        """Notes without a passage, and of the passages those without a vector and those without words' entry."""
        bare = self.rows("SELECT key FROM notes WHERE key NOT IN (SELECT note FROM passages)")
        blind = self.rows("SELECT key FROM passages WHERE key NOT IN (SELECT passage FROM vectors)")
        mute = self.rows("SELECT key FROM passages WHERE key NOT IN (SELECT id FROM passages_text_docsize)")
        return [row["key"] for row in bare], [row["key"] for row in blind], [row["key"] for row in mute]

    def words_of_nothing(self) -> int:
        """How many entries of the full-text index belong to no passage."""
        rows = self.rows("SELECT count(*) AS n FROM passages_text_docsize WHERE id NOT IN (SELECT key FROM passages)")
        return int(rows[0]["n"])

    def broken_folds(self) -> list[str]:
        """Ids of folds whose place in the tree is broken: a parent that isn't one higher, or a loop."""
        rows = self.rows(
            """SELECT folds.id FROM folds LEFT JOIN folds AS above ON above.number = folds.parent
                WHERE folds.parent IS NOT NULL
                AND (above.number IS NULL OR above.height <> folds.height + 1 OR above.namespace <> folds.namespace)
                UNION SELECT folds.id FROM fold_members JOIN folds ON folds.number = fold_members.fold
                WHERE folds.height <> 1
                UNION SELECT notes.id FROM notes WHERE kind = 'fold' AND valid_to IS NULL
                AND id NOT IN (SELECT id FROM folds) AND id LIKE 'fold:%' ORDER BY 1"""
        )
        return [row["id"] for row in rows]

    # -- inside -------------------------------------------------------------------------------

    def _count_once(self, statement: str) -> int:
        """A count, taken again only after this or another connection has written."""
        with self._guard:
            version = (int(self.rows("PRAGMA data_version")[0][0]), self._connection.total_changes)
            known = self._counted.get(statement)
            if known is None or known[0] != version:
                known = self._counted[statement] = (version, int(self.rows(statement)[0]["n"]))
            return known[1]

    def _insert_passage(self, note: int, title: str, piece: Passage, vector: NDArray[np.float32]) -> None:
        cursor = self.run(
            "INSERT INTO passages(note, position, start, end) VALUES (?, ?, ?, ?)",
            (note, piece.position, piece.start, piece.end),
        )
        passage = int(cursor.lastrowid or 0)
        self.run("INSERT INTO vectors VALUES (?, ?)", (passage, _blob(vector)))
        self.run(
            "INSERT INTO passages_text(rowid, stems) VALUES (?, ?)",
            (passage, _stems_line(title, piece.text, piece.position)),
        )
        self._queue([passage])

    def _retitle(self, key: int, title: str, pieces: Sequence[tuple[Passage, NDArray[np.float32]]]) -> None:
        """Every passage carries the title, so all are written anew, under new keys."""
        for row in self.rows(f"{_PASSAGE_TEXTS} WHERE passages.note = ?", (key,)):
            old = _stems_line(row["title"], row["text"], row["position"])
            self.run(
                "INSERT INTO passages_text(passages_text, rowid, stems) VALUES ('delete', ?, ?)", (row["key"], old)
            )
            self.run("DELETE FROM passages WHERE key = ?", (row["key"],))
            self._queue([row["key"]])
        self.run("UPDATE notes SET title = ? WHERE key = ?", (title, key))
        for piece, vector in pieces:
            self._insert_passage(key, title, piece, vector)

    def _write_tags(self, key: int, tags: Sequence[str]) -> None:
        if tags:
            self.run_many("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(tag, key) for tag in tags])

    def _write_links(self, key: int, links: Sequence[str]) -> None:
        if links:
            self.run_many(
                "INSERT OR REPLACE INTO links(key, target, position, made_by) VALUES (?, ?, ?, 'written')",
                [(key, target, position) for position, target in enumerate(links)],
            )

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


_PASSAGE_TEXTS = """
    SELECT passages.key, passages.position, passages.start, passages.end, notes.title,
        substr(notes.text, passages.start + 1, passages.end - passages.start) AS text
    FROM passages JOIN notes ON notes.key = passages.note
"""


def embedded_text(title: str, text: str, position: int) -> str:
    """What of a passage is embedded: the note's title, unless the note begins with it, and the passage.

    A passage from the middle of a text seldom says what the text is about.
    """
    if not title or (position == 0 and text.lstrip("# \n").casefold().startswith(title.casefold())):
        return text
    return f"{title}\n{text}"


def _mode(path: Path, read_only: bool) -> str:
    if not read_only:
        return "mode=rwc"
    # In a folder that can't be written SQLite can't make the files that readers and writers share; nobody
    # writes there either, so there is nothing to share.
    journal = path.with_name(f"{path.name}-wal")
    can_write = os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    return "mode=ro" if can_write or journal.exists() else "mode=ro&immutable=1"


def _stems_line(title: str, text: str, position: int) -> str:
    return " ".join(stems(embedded_text(title, text, position)))


def _damaged(path: Path, problem: str) -> NoteError:
    return NoteError(
        f"{path} is damaged: {problem}; the file was left as it is",
        f"put a backup in its place, or move {path.name} aside to begin with an empty memory",
    )


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


def _passage(row: sqlite3.Row) -> Passage:
    return Passage(row["text"], row["start"], row["end"], row["position"])


def _list(keys: Iterable[int]) -> str:
    return json.dumps(sorted(int(key) for key in keys))


def _blob(vector: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def _digest(text: str) -> bytes:
    return hashlib.sha256(folded(text).encode("utf-8")).digest()[:16]
