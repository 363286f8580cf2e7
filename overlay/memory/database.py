"""The database: one SQLite file, several threads, whole transactions, and errors that say what to do."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from overlay.errors import NoteError, StorageFull
from overlay.memory.schema import SCHEMA, SCHEMA_VERSION
from overlay.records import storage_errors

_BUSY_MILLISECONDS = 10_000

_PAGE_BYTES = 8_192

# Pages that SQLite keeps by itself; a query of a large memory looks at some hundred notes all over the file, and with
# the usual 2 MB a tenth of its time went into fetching pages again.
_CACHE_KILOBYTES = 16_000

_MAGIC = b"SQLite format 3\x00"


class Database:
    """The SQLite file behind a memory. Usable from several threads, one transaction at a time.

    Raises (every method):
        NoteError: the file is missing, isn't a memory, is damaged or of a newer program; it is left as it is.
        StorageFull: the disk is full; nothing of the transaction is written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.guard = threading.RLock()
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
                raise damaged(path, "it is not an SQLite file")
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
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KILOBYTES}")
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
                self._connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA}COMMIT;")
            elif "meta" not in tables or "notes" not in tables:
                raise damaged(self.path, "it is an SQLite file, but no memory")
        version = self.meta("schema")
        if version != SCHEMA_VERSION:
            raise NoteError(
                f"{self.path} has the schema {version}; this program knows {SCHEMA_VERSION}",
                "use the version of the program that wrote it, and export its notes there to import them here",
            )

    def close(self) -> None:
        """Close the file."""
        with self.guard, self._errors():
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside, or none; committed and on the disk when it ends. Inside another it is a part of that."""
        with self.guard, self._errors():
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite may have rolled back by itself, as it does when the disk is full.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[sqlite3.Row]:
        """The rows that a query gives; columns by name."""
        with self.guard, self._errors():
            return self._connection.execute(statement, values).fetchall()

    def run(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """Run one writing statement."""
        with self.guard, self._errors():
            return self._connection.execute(statement, values)

    def fetch(self, cursor: sqlite3.Cursor, count: int) -> list[sqlite3.Row]:
        """The next rows of a query that was run."""
        with self.guard, self._errors():
            return cursor.fetchmany(count)

    def run_many(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run one writing statement once for each of `values`."""
        with self.guard, self._errors():
            self._connection.executemany(statement, values)

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

    def count_once(self, statement: str) -> int:
        """A count, taken again only after this or another connection has written."""
        with self.guard:
            version = (int(self.rows("PRAGMA data_version")[0][0]), self._connection.total_changes)
            known = self._counted.get(statement)
            if known is None or known[0] != version:
                known = self._counted[statement] = (version, int(self.rows(statement)[0]["n"]))
            return known[1]

    def scrub(self) -> None:
        """Leave no byte of what was deleted in the file or its write-ahead log.

        Raises:
            NoteError: another process still reads the old pages.
        """
        with self.guard, self._errors():
            self._connection.execute("VACUUM")
            if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise NoteError(
                    f"forgotten, but another process still reads old pages of {self.path.name}",
                    "close it, then open this memory once more: what is left on the disk is wiped then",
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
                raise damaged(self.path, str(error)) from error
            raise NoteError(f"{self.path}: {error}", "check that the file and its folder can be written") from error


def _mode(path: Path, read_only: bool) -> str:
    if not read_only:
        return "mode=rwc"
    # In a folder that can't be written SQLite can't make the files that readers and writers share; nobody
    # writes there either, so there is nothing to share.
    journal = path.with_name(f"{path.name}-wal")
    can_write = os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    return "mode=ro" if can_write or journal.exists() else "mode=ro&immutable=1"


def damaged(path: Path, problem: str) -> NoteError:
    """The error that names a damaged file."""
    return NoteError(
        f"{path} is damaged: {problem}; the file was left as it is",
        f"put a backup in its place, or move {path.name} aside to begin with an empty memory",
    )
