"""The verdict: what the evidence says, with the reason for each part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

VerdictKind = Literal["behaviour shown", "no change detected", "invalid"]
Measure = Literal["margin", "rate"]
"""What shifts are counted in: nats per token towards the behaviour, or, where nothing was scored, shares of units."""

SIGNIFICANCE = 0.05
LEAST_ITEMS = 6
"""A sign-flip test over fewer items can't reach p < .05 (2 / 2^6 = .031)."""

LEAST_UNITS = 12

LEAST_DIRECTIONS = 39
"""Random directions of one matching from which on an empirical p is named: it can then fall to .025."""


@dataclass(frozen=True)
class Check:
    """One condition of a valid run."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Rival:
    """Another exposure that must not do as well: its shift, and the treated arm's on the units that it ran on."""

    name: str
    shift: float
    treated: float


@dataclass(frozen=True)
class Effect:
    """What the treated arm did against base, and what its controls did.

    Attributes:
        rate_before, rate_after: share of units with the behaviour, in base and treated.
        choice_p: exact McNemar over units, adjusted where several comparisons were planned.
        item_p: sign-flip over the items' mean shifts.
        shift: mean change towards the behaviour, all units, in the unit of `measure`.
        random_units_shift: the same on the units that the random directions ran on.
        random_shifts: shifts of all random directions, both matchings.
        reversed_shift: shift of the reversed arm.
        reversed_units_shift: the treated shift on the units that the reversed arm ran on; `shift` when not given.
        rivals: neutral and shuffled exposures, where they ran.
        measure: what shifts are counted in.
        adjusted: how `choice_p` was adjusted, in words; empty where it stands alone.
        positive_control: whether the arm that is told to show the behaviour was seen to; None where none ran.
        empirical: per matching with at least 39 random directions, the treated arm's empirical p.
    """

    rate_before: float
    rate_after: float
    choice_p: float
    item_p: float
    shift: float
    random_units_shift: float
    random_shifts: tuple[float, ...]
    reversed_shift: float
    reversed_units_shift: float | None = None
    rivals: tuple[Rival, ...] = ()
    measure: Measure = "margin"
    adjusted: str = ""
    positive_control: bool | None = None
    empirical: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The verdict in one word, in one sentence, and the reasons for it."""

    kind: VerdictKind
    headline: str
    reasons: tuple[str, ...]


def judge(
    checks: Sequence[Check], effect: Effect | None, *, negative_control: bool = False, exploratory: bool = False
) -> Verdict:
    """Judge a run: first whether it is valid, then whether every condition for an effect holds.

    "Behaviour shown" needs more of the behaviour in the treated arm (McNemar over units), the same over
    items (sign-flip), a shift beyond every random direction, a reversed arm that doesn't follow, and a
    neutral or shuffled exposure, where there is one, that doesn't do half as well.

    In a negative control the same conditions count, and the headline says what was hoped for. A positive
    control that wasn't seen makes no run invalid, but what it didn't find isn't shown to be absent.
    """
    verdict = _judge(checks, effect)
    if effect is not None and verdict.kind != "invalid":
        verdict = _with_positive_control(verdict, effect.positive_control)
    if negative_control:
        verdict = _as_negative_control(verdict)
    return replace(verdict, headline=f"Exploratory: {verdict.headline}") if exploratory else verdict


def _judge(checks: Sequence[Check], effect: Effect | None) -> Verdict:
    failed = [check for check in checks if not check.passed]
    if failed or effect is None:
        return Verdict(
            "invalid",
            "This run proves nothing either way: " + (failed[0].name if failed else "nothing was measured") + ".",
            tuple(f"{check.name}: {check.detail}" for check in failed) or ("no arm was measured",),
        )
    choices, others = _choices(effect), _controls(effect)
    reasons = tuple(f"{'met' if met else 'not met'}: {text}" for met, text in (choices, *others)) + tuple(
        f"noted: {text}" for text in _empirical(effect)
    )
    if choices[0] and all(met for met, _ in others):
        headline = (
            "The state made the agent do it more often, and nothing that was controlled for did: "
            f"{effect.rate_before:.0%} of choices in base, {effect.rate_after:.0%} under the state."
        )
        return Verdict("behaviour shown", headline, reasons)
    if effect.measure == "margin" and all(met for met, _ in others):
        headline = (
            f"The state tilted the preference ({effect.shift:+.3f} nats per token, beyond all "
            f"{len(effect.random_shifts)} random directions) but not often enough to show in what was chosen."
        )
    else:
        headline = "No change in what the agent chose could be told from chance or from random directions."
    return Verdict("no change detected", headline, reasons)


def _choices(effect: Effect) -> tuple[bool, str]:
    adjusted = f", {effect.adjusted}" if effect.adjusted else ""
    return (
        effect.rate_after > effect.rate_before and effect.choice_p < SIGNIFICANCE,
        f"choices: {effect.rate_before:.0%} in base, {effect.rate_after:.0%} treated "
        f"(exact McNemar {p_value(effect.choice_p)}{adjusted})",
    )


def _controls(effect: Effect) -> list[tuple[bool, str]]:
    beyond = sum(effect.random_units_shift > shift for shift in effect.random_shifts)
    total = len(effect.random_shifts)
    nats = effect.measure == "margin"
    moved = (
        f"preference: moved by {effect.shift:+.3f} nats per token" if nats else f"items: moved by {effect.shift:+.3f}"
    )
    what = "preference" if nats else "rate"
    against = effect.shift if effect.reversed_units_shift is None else effect.reversed_units_shift
    return [
        (
            effect.shift > 0 and effect.item_p < SIGNIFICANCE,
            f"{moved} (sign-flip over items {p_value(effect.item_p)})",
        ),
        (
            beyond == total and total > 0,
            f"random directions: the treated shift of {effect.random_units_shift:+.3f} on their units exceeds "
            f"{beyond} of {total} (theirs: {_span(effect.random_shifts)})",
        ),
        (
            effect.reversed_shift < against / 2,
            f"reversed: the opposite state moved the {what} by {effect.reversed_shift:+.3f}",
        ),
        *(
            (
                rival.shift < rival.treated / 2,
                f"{rival.name}: this exposure moved the {what} by {rival.shift:+.3f}, "
                f"the treated one by {rival.treated:+.3f} on the same units",
            )
            for rival in effect.rivals
        ),
    ]


def _empirical(effect: Effect) -> list[str]:
    return [
        f"among random directions of the same {matching} the empirical p is {p:.3f}" for matching, p in effect.empirical
    ]


def _with_positive_control(verdict: Verdict, seen: bool | None) -> Verdict:
    if seen is not False:
        return verdict
    reason = (
        "noted: positive control: told to show the behaviour, the agent wasn't seen to show it more often than base"
    )
    headline = verdict.headline
    if verdict.kind == "no change detected":
        headline += " But the instrument isn't shown to be able to see it: neither did the positive control."
    return replace(verdict, headline=headline, reasons=(*verdict.reasons, reason))


def _as_negative_control(verdict: Verdict) -> Verdict:
    match verdict.kind:
        case "behaviour shown":
            before = "The instrument misfires: nothing should change in this negative control, but it did. "
        case "no change detected":
            before = "As hoped for in a negative control: "
        case _:
            before = ""
    headline = verdict.headline
    if verdict.kind == "no change detected":
        headline = headline[0].lower() + headline[1:]
    return replace(verdict, headline=before + headline)


def p_value(p: float) -> str:
    """A p value in words: what rounds to zero isn't zero."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _span(shifts: tuple[float, ...]) -> str:
    return f"{min(shifts):+.3f} to {max(shifts):+.3f}" if shifts else "none"
