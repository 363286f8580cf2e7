"""Arms as the report draws them: in a fixed order, each with its colour and what it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from overlay.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, VERMILION
from overlay.scenarios.report.numbers import number, p_value, pair

MEANING = {
    "base": "the unchanged model",
    "treated": "the accumulated state acts",
    "dose_1.5": "one and a half times the treated dose",
    "half": "half the treated dose",
    "dose_0.5": "half the treated dose",
    "double": "twice the treated dose",
    "reversed": "the same intervention, sign turned",
    "random_norm": "random directions with the norm of the treated dose",
    "random_volatility": "random directions with the volatility of the treated arm",
    "shuffled": "the state after the same words out of order",
    "neutral": "the state after texts about something else",
    "zeroed": "the state back at rest before the trial",
    "sham": "hook on, dose 0",
    "topic": "level 1: a prompt that brings up the topic",
    "prompted": "level 2: an instruction names the state",
    "adapter": "level 3: an adapter trained on texts of the state",
    "positive_control": "what is known to bring the behaviour about",
}
"""What each arm is; rows of every plot and table stand in this order, other names follow as they were given."""

COLOUR = {
    "base": INK, "treated": BLUE, "reversed": VERMILION, "dose_1.5": BLUE, "dose_0.5": BLUE, "half": BLUE,
    "double": BLUE, "topic": ORANGE, "prompted": PURPLE, "adapter": GREEN, "state": BLUE, "positive_control": PURPLE,
}  # fmt: skip

RANDOM = {"random_norm": "of the same norm", "random_volatility": "of the same volatility"}


@dataclass(frozen=True)
class ReportedArm:
    """One arm with every number either finite or None, so that a broken one leaves a gap and not a crash."""

    name: str
    label: str
    meaning: str
    colour: str
    n: int | None
    leaks: int | None
    rate: float | None
    rate_interval: tuple[float, float] | None
    rate_base: float | None
    mean_score: float | None
    score_interval: tuple[float, float] | None
    shift: float | None
    shift_interval: tuple[float, float] | None
    p: float | None
    item_p: float | None
    empirical_p: float | None
    volatility_mean: float | None
    volatility_p95: float | None
    directions: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, name: str, arm: Mapping[str, Any]) -> ReportedArm:
        return cls(
            name=name,
            label=str(arm.get("label") or name),
            meaning=MEANING.get(name, ""),
            colour=COLOUR.get(name, GREY),
            n=arm.get("n"),
            leaks=arm.get("leaks"),
            rate=number(arm.get("rate")),
            rate_interval=pair(arm.get("rate_interval")),
            rate_base=number(arm.get("rate_base")),
            mean_score=number(arm.get("mean_score")),
            score_interval=pair(arm.get("score_interval")),
            shift=number(arm.get("shift")),
            shift_interval=pair(arm.get("shift_interval")),
            p=number(arm.get("p")),
            item_p=number(arm.get("item_p")),
            empirical_p=number(arm.get("empirical_p")),
            volatility_mean=number(arm.get("volatility_mean")),
            volatility_p95=number(arm.get("volatility_p95")),
            directions=tuple(arm.get("directions") or ()),
        )

    def cloud(self, key: str) -> list[float]:
        """One number of each random direction, where it was measured."""
        found = (number(direction.get(key)) for direction in self.directions)
        return [value for value in found if value is not None]


def arms_of(result: Mapping[str, Any]) -> dict[str, ReportedArm]:
    """All arms of a result, in the report's order."""
    given = result["arms"]
    return {name: ReportedArm.of(name, given[name]) for name in in_order(given)}


def in_order(names: Mapping[str, Any]) -> list[str]:
    """Names of arms as the report orders them."""
    return [name for name in MEANING if name in names] + [name for name in names if name not in MEANING]


def beside_treated(arms: Mapping[str, ReportedArm]) -> Iterator[str]:
    """What the random directions say of the treated arm's shift, in sentences.

    Directions are only counted against the treated shift where they ran on as many units as the treated arm: on
    fewer units the treated arm may have moved otherwise, and the run's own reasons compare like with like.
    """
    treated = arms.get("treated")
    if treated is None or treated.shift is None:
        return
    way = -1.0 if treated.shift < 0 else 1.0
    counted, partly = [], []
    for name, matching in RANDOM.items():
        shifts = arms[name].cloud("shift") if name in arms else []
        if not shifts:
            continue
        if arms[name].n == (treated.n or 0) * len(shifts):
            as_far = sum(shift * way >= treated.shift * way for shift in shifts)
            counted.append(f"{as_far} of {len(shifts)} random directions {matching}")
        else:
            partly.append(f"{len(shifts)} random directions {matching}")
    if counted:
        yield f"{' and '.join(counted)} went as far as the treated arm, in its direction."
    if partly:
        yield (
            f"{' and '.join(partly)} ran on part of the units, to save time. The verdict compares them with "
            "the treated arm on those units alone; its row here shows all units."
        )
    for name, matching in RANDOM.items():
        p = arms[name].empirical_p if name in arms else None
        if p is not None:
            yield f"Among the random directions {matching} the treated arm's empirical p is {p_value(p)}."
