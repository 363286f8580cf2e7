"""The queue of the index: passages whose change the vector index has not seen yet."""

from __future__ import annotations

from collections.abc import Iterable

from overlay.memory.database import Database


class IndexQueue:
    """Passages that were written or left, until the index was told."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, passages: Iterable[int]) -> None:
        """These passages have changed."""
        self._database.run_many("INSERT OR IGNORE INTO index_queue VALUES (?)", ((key,) for key in passages))

    def first(self, limit: int) -> list[int]:
        """Up to `limit` of them."""
        rows = self._database.rows("SELECT passage FROM index_queue ORDER BY passage LIMIT ?", (limit,))
        return [row["passage"] for row in rows]

    def drop(self, passages: Iterable[int]) -> None:
        """These changes have reached the index, or there is nothing left to tell of them."""
        with self._database.transaction():
            self._database.run_many("DELETE FROM index_queue WHERE passage = ?", ((key,) for key in passages))

    def clear(self) -> None:
        """The index has seen all changes."""
        with self._database.transaction():
            self._database.run("DELETE FROM index_queue")
