"""The journal: what was done to which id and when. It holds no text; its numbers order all writes."""

from __future__ import annotations

from overlay.memory.database import Database

# Stands in the journal for the ids of notes that were forgotten.
FORGOTTEN = "(forgotten)"


class Journal:
    """Every write of a memory, numbered, so that their order stands also where a clock was set back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, at: float, action: str, note_id: str) -> int:
        """Journal what was done to which id; the sequence number of this write."""
        cursor = self._database.run("INSERT INTO journal(at, action, note_id) VALUES (?, ?, ?)", (at, action, note_id))
        return int(cursor.lastrowid or 0)

    def entries(self) -> list[tuple[float, str, str]]:
        """(epoch seconds, action, note id) of every write, oldest first."""
        rows = self._database.rows("SELECT at, action, note_id FROM journal ORDER BY seq")
        return [(row["at"], row["action"], row["note_id"]) for row in rows]

    def newest(self) -> int:
        """The number of the newest write."""
        return int(self._database.rows("SELECT coalesce(max(seq), 0) AS seq FROM journal")[0]["seq"])

    def hide(self, note_id: str) -> None:
        """A note was forgotten: its id stands here no longer."""
        self._database.run("UPDATE journal SET note_id = ? WHERE note_id = ?", (FORGOTTEN, note_id))
