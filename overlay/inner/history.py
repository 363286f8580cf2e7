"""The history of a state: what the sessions' journals say of how it moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from overlay.errors import RecordDamaged
from overlay.inner.state import StateChange
from overlay.records import read_journal

_KEYS = {entry.name for entry in fields(StateChange)}


@dataclass(frozen=True)
class LivedTurn:
    """What one journalled record did to the state: a turn, or what happened to the state between two turns.

    Attributes:
        time: epoch seconds.
        kind: "turn", "lived", "reset" for a state that was put back to rest, or "emerged" for axes that came or went.
        before, after: the accumulators' values by axis.
    """

    time: float
    session: str
    number: int
    kind: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    changes: tuple[StateChange, ...]

    @property
    def is_turn(self) -> bool:
        """Whether something was read in it: resets, and looks at what has emerged, are journalled beside the turns."""
        return self.kind in ("turn", "lived")

    def moves(self, axis: str | None = None) -> tuple[StateChange, ...]:
        """The changes that moved something, of one axis or of all, in their order."""
        return tuple(change for change in self.changes if change.before != change.after and axis in (None, change.axis))


def read_history(sessions: Path) -> tuple[LivedTurn, ...]:
    """Every record of every journal in a folder, oldest first. Raises RecordDamaged."""
    turns = [_read(path, record) for path in sorted(sessions.glob("*.jsonl")) for record in read_journal(path)]
    return tuple(sorted(turns, key=lambda turn: turn.time))


def latest_moves(
    history: Sequence[LivedTurn], axis: str | None = None, last: int | None = None
) -> tuple[tuple[LivedTurn, StateChange], ...]:
    """The last changes that moved an axis, or any, with their turns, oldest first; all of them without `last`."""
    found = [(turn, change) for turn in history for change in turn.moves(axis)]
    return tuple(found if last is None else found[max(0, len(found) - last) :])


def _read(path: Path, record: Mapping[str, Any]) -> LivedTurn:
    try:
        return LivedTurn(
            record["time"],
            record["session"],
            record["number"],
            record["kind"],
            record["state_before"],
            record["state_after"],
            # Journals outlive versions: what a later one adds to a change is left out.
            tuple(StateChange(**{key: change[key] for key in _KEYS & change.keys()}) for change in record["changes"]),
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise RecordDamaged(f"{path} holds a record that is no turn ({error!r})", f"move {path.name} aside") from error
