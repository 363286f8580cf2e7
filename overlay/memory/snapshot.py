"""A snapshot: the memory as it stood at one moment, while others go on writing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from overlay.errors import NoteError
from overlay.memory.note import Filters, Note
from overlay.memory.recalled import Recalled
from overlay.memory.scope import Scope

if TYPE_CHECKING:
    from overlay.memory.memory import Memory


class Snapshot:
    """A read-only view of a memory, for a voice or a fork of the agent; made by `Memory.snapshot`.

    It sees nothing that is written or closed later, by the journal's numbers and not by the clock.
    Two things reach it all the same: what is forgotten is gone from here too, and a title or tag
    that was changed without a change of the text shows as it is now. Nothing expires in it.
    It lives as long as its memory is open.
    """

    def __init__(self, memory: Memory, sequence: int, now: float) -> None:
        self._memory = memory
        self.sequence = sequence
        self.taken_at = now

    def recall(
        self,
        query: str,
        count: int = 4,
        *,
        filters: Filters | None = None,
        state: Mapping[str, float] | None = None,
        tag_boosts: Mapping[str, float] | None = None,
    ) -> list[Recalled]:
        """As `Memory.recall`, over the notes of this moment."""
        scope = replace(self._scope, filters=filters or Filters())
        return self._memory.recall_in(scope, query, count, state=state, tag_boosts=tag_boosts)

    def get(self, note_id: str) -> Note:
        """The note that had this id, as it was. Raises NoteError if there was none that held."""
        found = self._memory.truth.notes.find_then(note_id, self._scope)
        if found is None:
            raise NoteError(f"there was no note '{note_id}' when the snapshot was taken", "list its notes to see them")
        return found[1]

    def __contains__(self, note_id: str) -> bool:
        return self._memory.truth.notes.find_then(note_id, self._scope) is not None

    def notes(self) -> Iterator[Note]:
        """Every note that held, oldest first."""
        return self._memory.truth.notes.every(self._scope)

    def count(self) -> int:
        """How many notes held."""
        return self._memory.truth.notes.count(self._scope)

    @property
    def _scope(self) -> Scope:
        return Scope(self.taken_at, sequence=self.sequence)
