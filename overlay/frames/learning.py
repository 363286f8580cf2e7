"""Learning: links between frames that texts wake together grow, and unused growth is forgotten.

Hebb's rule with a soft bound and decay: w <- w + rate · e_i · e_j · (1 - w) where both were woken, and otherwise back
towards the written weight by a share of the way each turn. A weight moves between two values of [-1, 1] only, so it
stays there whatever is lived.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from overlay.errors import ArgumentError, RecordDamaged
from overlay.frames.frame import Frame
from overlay.records import write_record

if TYPE_CHECKING:
    from overlay.frames.graph import FrameTurn

RATE = 0.1
"""How far a link grows towards 1 when both frames are woken with full energy."""

FORGETTING = 0.02
"""The share of what was learned that a turn takes away where it isn't used: half of it goes in about 34 turns."""

LEAST = 1e-4
"""Learned weights below this are forgotten at once, so that the record stays as small as what is known."""


@dataclass(frozen=True)
class LearnedWeights:
    """What was learned beside the written weights.

    Attributes:
        changes: by origin and goal, what is added to the written weight (0 where no link is written).
        turns: from how many turns.
    """

    changes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    turns: int = 0

    def weights_of(self, frame: Frame) -> dict[str, float]:
        """Written and learned together: the weight of each link that leads away from a frame."""
        learned = self.changes.get(frame.name, {})
        return {
            goal: min(1.0, max(-1.0, frame.links.get(goal, 0.0) + learned.get(goal, 0.0)))
            for goal in sorted({*frame.links, *learned})
        }

    def to_plain(self) -> dict[str, Any]:
        """The same as what JSON can hold."""
        return {"turns": self.turns, "changes": {origin: dict(goals) for origin, goals in self.changes.items()}}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> LearnedWeights:
        """What `to_plain` gave; nothing is nothing learned. Raises ArgumentError when it is something else."""
        if isinstance(plain, Mapping) and not plain:
            return NOTHING_LEARNED
        try:
            changes = {
                str(origin): {str(goal): float(change) for goal, change in goals.items()}
                for origin, goals in plain["changes"].items()
            }
            turns = int(plain["turns"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArgumentError(f"these are no learned weights: {error!r}", "reset what frames learned") from None
        if not all(-2 <= change <= 2 for goals in changes.values() for change in goals.values()):
            raise ArgumentError("a learned weight is out of all bounds", "reset what frames learned")
        return cls(changes, turns)


NOTHING_LEARNED = LearnedWeights(MappingProxyType({}))


def learn(
    learned: LearnedWeights,
    frames: Sequence[Frame],
    turn: FrameTurn,
    *,
    rate: float = RATE,
    forgetting: float = FORGETTING,
) -> LearnedWeights:
    """What is known after one more turn.

    Two frames that are both active grow together by how much the text woke each. What came to them over links
    doesn't count, or a link would grow by what it did itself. What was learned about frames that are no longer written
    is dropped.

    Raises:
        ArgumentError: `rate` or `forgetting` isn't in [0, 1].
    """
    for name, value in (("rate", rate), ("forgetting", forgetting)):
        if not 0 <= value <= 1:
            raise ArgumentError(f"{name} is {value}", f"choose a {name} from 0 to 1")
    woken = {
        one.frame.name: min(1.0, one.cause.woken)
        for one in turn.active
        if one.cause is not None and one.cause.woken > 0
    }
    names = {frame.name for frame in frames}
    changes: dict[str, dict[str, float]] = {}
    for frame in frames:
        before = learned.changes.get(frame.name, {})
        used = woken.keys() - {frame.name} if frame.name in woken else set()
        after: dict[str, float] = {}
        for goal in sorted({*(before.keys() & names), *(used & names)}):
            written, change = frame.links.get(goal, 0.0), before.get(goal, 0.0)
            if goal in used:
                weight = min(1.0, max(-1.0, written + change))
                change = weight + rate * woken[frame.name] * woken[goal] * (1 - weight) - written
            else:
                change *= 1 - forgetting
            if abs(change) >= LEAST:
                after[goal] = change
        if after:
            changes[frame.name] = after
    return LearnedWeights(changes, learned.turns + 1)


def read_learned(path: Path) -> LearnedWeights:
    """What is kept in a file; nothing where there is none. Raises RecordDamaged."""
    if not path.exists():
        return NOTHING_LEARNED
    try:
        return LearnedWeights.from_plain(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        reason = error.problem if isinstance(error, ArgumentError) else str(error)
        raise RecordDamaged(f"{path} can't be read back: {reason}", "run `overlay frames reset`") from None


def write_learned(path: Path, learned: LearnedWeights) -> None:
    """Keep what was learned: after a crash the file holds the old weights or the new. Raises StorageFull."""
    write_record(path, json.dumps(learned.to_plain(), ensure_ascii=False))
