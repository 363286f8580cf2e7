"""The proposal: what the journals give reason to write into the agent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from overlay.errors import AxisMissing, DocumentError
from overlay.home import Home
from overlay.inner import LivedTurn, read_history
from overlay.reprogramming.decision import decisions, holding
from overlay.reprogramming.own_texts import Pair, own_pairs
from overlay.reprogramming_settings import ReprogrammingSettings, Writes

CALM = 0.5
"""Share of the threshold below which a turn counts as calm."""

_KINDS = ("turn", "lived", "reset")
"""Records that say where the state went: a turn with a reply, one without, and back to rest by hand."""


@dataclass(frozen=True)
class Proposal:
    """An accumulator that stayed beyond its threshold, and what the agent could learn from it.

    Attributes:
        side: "high" or "low", of 0.
        turns: (session, number) of each turn that it stayed there, oldest first.
        lived_until: when the newest turn was lived, epoch seconds.
        pairs: what was said in those turns, newest first, each with what the same voice said in a calm one.
        left_out: how many of the agent's texts were left out, by reason.
        hindrance: why nothing can be built from this; empty when nothing is in the way.
    """

    axis: str
    writes: Writes
    side: Literal["high", "low"]
    threshold: float
    turns: tuple[tuple[str, int], ...]
    lived_until: float
    pairs: tuple[Pair, ...]
    left_out: Mapping[str, int]
    hindrance: str

    def record(self) -> dict[str, Any]:
        """The same for a journal: places instead of texts, which the sessions' journals hold."""
        kept = asdict(self) | {"pairs": [[own.place, twin.place] for own, twin in self.pairs]}
        found: dict[str, Any] = json.loads(json.dumps(kept))
        return found


def due(home: Home) -> Proposal | None:
    """What the journals give reason to write into the agent; None when nothing is due, or when it is off.

    No model is loaded. A proposal may have a hindrance; deciding about it then drops it, and says so in the journal.

    Raises:
        DocumentError: agent.yaml watches an axis that isn't there, or a threshold beyond its cap.
        RecordDamaged: a journal can't be read.
    """
    settings = home.settings.reprogramming
    if settings is None:
        return None
    _require_watchable(home, settings)
    history = [turn for turn in read_history(home.sessions) if turn.kind in _KINDS]
    decided = [one for one in holding(decisions(home)) if one.axis == settings.axis]
    since = [turn for turn in history if not decided or turn.time > decided[-1].lived_until]
    if decided and len([turn for turn in since if turn.kind != "reset"]) < settings.cooldown:
        return None
    stay = _stay(since, settings)
    if len(stay) < settings.turns:
        return None
    side: Literal["high", "low"] = "high" if stay[-1].after[settings.axis] > 0 else "low"
    calm = [turn for turn in history if turn.kind != "reset" and _is_calm(turn, settings)]
    pairs: tuple[Pair, ...] = ()
    left_out: dict[str, int] = {}
    hindrance = ""
    try:
        pairs, left_out = own_pairs(home, settings.axis, stay, calm)
    except AxisMissing as error:
        hindrance = f"nothing can be compared with what people wrote: {error.problem}"
    if settings.writes == "axis" and side == "low":
        hindrance = "the state stood on the low side, and an axis grows by texts that it should fire on"
    elif not hindrance and len(pairs) < settings.texts:
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()))
        hindrance = (
            f"{len(pairs)} own texts have a twin that the same voice said in a calm turn, and {settings.texts} are "
            f"asked for (left out: {reasons or 'none'})"
        )
    return Proposal(
        axis=settings.axis,
        writes=settings.writes,
        side=side,
        threshold=settings.threshold,
        turns=tuple((turn.session, turn.number) for turn in stay),
        lived_until=history[-1].time,
        pairs=pairs,
        left_out=left_out,
        hindrance=hindrance,
    )


def _require_watchable(home: Home, settings: ReprogrammingSettings) -> None:
    accumulator = home.settings.state.axes.get(settings.axis)
    path = home.folder / "agent.yaml"
    if accumulator is None:
        known = ", ".join(home.settings.state.axes) or "none"
        raise DocumentError(
            path,
            None,
            f"reprogramming watches the axis '{settings.axis}', which is not under state",
            f"use one of {known}",
        )
    if settings.threshold > accumulator.cap:
        raise DocumentError(
            path,
            None,
            f"reprogramming waits for '{settings.axis}' to stay beyond {settings.threshold:g}, and its cap is "
            f"{accumulator.cap:g}",
            "lower the threshold",
        )


def _stay(turns: Sequence[LivedTurn], settings: ReprogrammingSettings) -> list[LivedTurn]:
    """The last turns on end, oldest first, after which the axis stood beyond the threshold on one side."""
    found: list[LivedTurn] = []
    for turn in reversed(turns):
        value = turn.after.get(settings.axis, 0.0)
        if turn.kind == "reset" or abs(value) < settings.threshold:
            break
        if found and (value > 0) != (found[-1].after[settings.axis] > 0):
            break
        found.append(turn)
    return found[::-1]


def _is_calm(turn: LivedTurn, settings: ReprogrammingSettings) -> bool:
    """Whether what was said in this turn was said out of no state to speak of."""
    values = [values.get(settings.axis) for values in (turn.before, turn.after)]
    return all(value is not None and abs(value) < CALM * settings.threshold for value in values)
