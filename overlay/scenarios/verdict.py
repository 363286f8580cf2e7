"""The verdict: what the evidence says, with the reason for each part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VerdictKind = Literal["behaviour shown", "no change detected", "invalid"]

SIGNIFICANCE = 0.05
LEAST_ITEMS = 6
"""A sign-flip test over fewer items can't reach p < .05 (2 / 2^6 = .031)."""

LEAST_UNITS = 12


@dataclass(frozen=True)
class Check:
    """One condition of a valid run."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Effect:
    """What the treated arm did against base, and what its controls did.

    Attributes:
        rate_before, rate_after: share of units with the behaviour, in base and treated.
        choice_p: exact McNemar over units. item_p: sign-flip over the items' mean shifts.
        shift: mean change of the margin towards the behaviour, nats per token, all units.
        random_units_shift: the same on the units that the random directions ran on.
        random_shifts: shifts of all random directions, both matchings.
        reversed_shift: shift of the reversed arm.
    """

    rate_before: float
    rate_after: float
    choice_p: float
    item_p: float
    shift: float
    random_units_shift: float
    random_shifts: tuple[float, ...]
    reversed_shift: float


@dataclass(frozen=True)
class Verdict:
    """The verdict in one word, in one sentence, and the reasons for it."""

    kind: VerdictKind
    headline: str
    reasons: tuple[str, ...]


def judge(checks: list[Check], effect: Effect | None) -> Verdict:
    """Judge a run: first whether it is valid, then whether every condition for an effect holds.

    "Behaviour shown" needs more of the behaviour in the treated arm (McNemar over units), the same over
    items (sign-flip), a shift beyond every random direction, and a reversed arm that doesn't follow.
    """
    failed = [check for check in checks if not check.passed]
    if failed or effect is None:
        return Verdict(
            "invalid",
            "This run proves nothing either way: " + (failed[0].name if failed else "nothing was measured") + ".",
            tuple(f"{check.name}: {check.detail}" for check in failed) or ("no arm was measured",),
        )
    beyond = sum(effect.random_units_shift > shift for shift in effect.random_shifts)
    total = len(effect.random_shifts)
    conditions = [
        (
            effect.rate_after > effect.rate_before and effect.choice_p < SIGNIFICANCE,
            f"choices: {effect.rate_before:.0%} in base, {effect.rate_after:.0%} treated "
            f"(exact McNemar p = {effect.choice_p:.3f})",
        ),
        (
            effect.shift > 0 and effect.item_p < SIGNIFICANCE,
            f"preference: moved by {effect.shift:+.3f} nats per token (sign-flip over items p = {effect.item_p:.3f})",
        ),
        (
            beyond == total and total > 0,
            f"random directions: the treated shift of {effect.random_units_shift:+.3f} on their units exceeds "
            f"{beyond} of {total} (theirs: {_span(effect.random_shifts)})",
        ),
        (
            effect.reversed_shift < effect.shift / 2,
            f"reversed: the opposite state moved the preference by {effect.reversed_shift:+.3f}",
        ),
    ]
    reasons = tuple(f"{'met' if met else 'not met'}: {text}" for met, text in conditions)
    if all(met for met, _ in conditions):
        headline = (
            "The state made the agent do it more often, and nothing that was controlled for did: "
            f"{effect.rate_before:.0%} of choices in base, {effect.rate_after:.0%} under the state."
        )
        return Verdict("behaviour shown", headline, reasons)
    if conditions[1][0] and conditions[2][0] and conditions[3][0]:
        headline = (
            f"The state tilted the preference ({effect.shift:+.3f} nats per token, beyond all {total} random "
            "directions) but not often enough to show in what was chosen."
        )
    else:
        headline = "No change in what the agent chose could be told from chance or from random directions."
    return Verdict("no change detected", headline, reasons)


def _span(shifts: tuple[float, ...]) -> str:
    return f"{min(shifts):+.3f} to {max(shifts):+.3f}" if shifts else "none"
