"""Summaries: what each arm, each level of influence and each item did, in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overlay.scenarios.cells import Arm
from overlay.scenarios.evidence.units import Pair, Units, bounds, by_item, changes, mean, shifts
from overlay.scenarios.verdict import LEAST_DIRECTIONS, Measure
from overlay.statistics import boschloo, mcnemar_exact, rank_among, sign_flip, wilson

LEVELS = (("base", "base"), ("topic", "topic"), ("prompted", "prompted"), ("adapter", "adapter"), ("treated", "state"))
"""Arms by level of influence, 0 to 4, and what each level is called."""


def measure_of(units: Units) -> Measure:
    """What shifts are counted in: margins where the treated arm's behaviour was scored, else rates."""
    pairs = units.pairs("treated") or [pair for name in units.names if name != "base" for pair in units.all_pairs(name)]
    return "margin" if shifts(pairs) or not pairs else "rate"


def values_of(units: Units, pairs: list[Pair], measure: Measure) -> list[tuple[str, float]]:
    """Item and shift of every pair, in the unit of `measure`."""
    return shifts(pairs) if measure == "margin" else changes(pairs, units.scenario.primary)


def arm_summaries(units: Units, measure: Measure, leaks: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Every arm that ran: rate with Wilson's interval, score and shift with intervals over items, p against base."""
    return {name: _summary(units, name, measure, leaks.get(name, 0)) for name in units.names if units.records(name)}


def level_rows(units: Units, summaries: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The levels of influence that ran, side by side, all of them on the units that every one of them met."""
    primary = units.scenario.primary
    found = {name: units.pairs(name) for name, _ in LEVELS if name != "base" and name in summaries}
    if not found:
        return []
    shared = set.intersection(*({pair.key for pair in own} for own in found.values()))
    rows = []
    for level, (arm, name) in enumerate(LEVELS):
        own = [pair for pair in next(iter(found.values())) if arm == "base"] or found.get(arm, [])
        pairs = [pair for pair in own if pair.key in shared]
        if not pairs:
            continue
        fired = sum(pair.outcomes(primary)[arm != "base"] for pair in pairs)
        rate, moved = wilson(fired, len(pairs)), [] if arm == "base" else shifts(pairs)
        rows.append(
            {
                "level": level,
                "arm": arm,
                "name": name,
                "n": len(pairs),
                "rate": fired / len(pairs),
                "rate_interval": [rate.low, rate.high],
                "shift": mean(moved),
                "shift_interval": bounds(moved),
                "volatility_mean": summaries[arm]["volatility_mean"],
            }
        )
    return rows


def item_rows(units: Units) -> list[dict[str, Any]]:
    """Each item, treated against base; `interval` is Student's over its wordings, None with fewer than two."""
    primary = units.scenario.primary
    rows = []
    for item in units.scenario.trial.items:
        pairs = [pair for pair in units.pairs("treated") if pair.item == item.id]
        if not pairs:
            continue
        outcomes = [pair.outcomes(primary) for pair in pairs]
        moved = by_item([(str(pair.key[1]), pair.shift) for pair in pairs if pair.shift is not None])
        rows.append(
            {
                "item": item.id,
                "shift": mean(shifts(pairs)),
                "interval": _student(list(moved.values())),
                "rate_base": float(np.mean([before for before, _ in outcomes])),
                "rate_treated": float(np.mean([after for _, after in outcomes])),
            }
        )
    return rows


def _summary(units: Units, name: str, measure: Measure, leaks: int) -> dict[str, Any]:
    members = units.members(name)
    pairs = [] if name == "base" else units.all_pairs(name)
    # An arm that shares no unit with base still has a rate of its own.
    own = [pair.own for pair in pairs] or units.usable(name)
    primary = units.scenario.primary
    fired = sum(bool(record["detectors"][primary]["fired"]) for record in own)
    margins = [(record["item"], record["margin"]) for record in own if record["margin"] is not None]
    moved = shifts(pairs)
    rate = wilson(fired, len(own)) if own else None
    summary: dict[str, Any] = {
        "label": members[0].label,
        "n": len(own),
        "rate": fired / len(own) if own else None,
        "rate_interval": [rate.low, rate.high] if rate else None,
        "rate_base": mean([(pair.item, float(pair.outcomes(primary)[0])) for pair in pairs]),
        "mean_score": mean(margins),
        "score_interval": bounds(margins),
        "shift": mean(moved),
        "shift_interval": bounds(moved),
        "p": None,
        "item_p": None,
        "volatility_mean": _volatility(members, "mean"),
        "volatility_p95": _volatility(members, "p95"),
        "leaks": leaks,
    }
    if name == "base" or not own:
        return summary
    if members[0].direction is not None:
        return summary | _directions(units, name, members, measure)
    values = values_of(units, pairs, measure)
    summary["p"] = rate_p(units, name, primary)
    summary["item_p"] = sign_flip(list(by_item(values).values())) if values else None
    return summary


def rate_p(units: Units, name: str, detector: str) -> float | None:
    """Exact p of an arm's rate against base: McNemar over pairs; Boschloo where no unit pairs; None over nothing."""
    outcomes = [pair.outcomes(detector) for pair in units.pairs(name, detector=detector)]
    if outcomes:
        return mcnemar_exact([before for before, _ in outcomes], [after for _, after in outcomes]).p
    before, after = units.usable("base", detector), units.usable(name, detector)
    if not before or not after:
        return None
    fired = [sum(bool(record["detectors"][detector]["fired"]) for record in side) for side in (before, after)]
    return boschloo(fired[0], len(before), fired[1], len(after)).p


def empirical_p(units: Units, name: str, measure: Measure) -> float | None:
    """Where treated stands among the random directions of one matching, on their units; None with fewer than 39."""
    treated = mean(values_of(units, treated_on(units, [name]), measure))
    found = [mean(values_of(units, units.pairs(name, arm.direction), measure)) for arm in units.members(name)]
    others = [value for value in found if value is not None]
    return None if treated is None or len(others) < LEAST_DIRECTIONS else rank_among(treated, others)


def _directions(units: Units, name: str, members: list[Arm], measure: Measure) -> dict[str, Any]:
    """Each random direction on its own, and, with enough of them, where the treated arm stands among them."""
    primary = units.scenario.primary
    rows = [
        {
            "seed": arm.direction,
            "shift": mean(shifts(pairs)),
            "rate": float(np.mean([pair.outcomes(primary)[1] for pair in pairs])),
            "rate_difference": mean(changes(pairs, primary)),
            "volatility_mean": arm.volatility.mean if arm.volatility else None,
        }
        for arm in members
        if (pairs := units.pairs(name, arm.direction))
    ]
    return {"directions": rows, "empirical_p": empirical_p(units, name, measure)}


def treated_on(units: Units, names: list[str]) -> list[Pair]:
    """The treated arm's pairs, only those whose units any of these arms could show too."""
    keys = {pair.key for name in names for pair in units.all_pairs(name)}
    return [pair for pair in units.pairs("treated") if pair.key in keys]


def _volatility(members: list[Arm], which: str) -> float | None:
    known = [getattr(arm.volatility, which) for arm in members if arm.volatility is not None]
    return float(np.mean(known)) if known else None


def _student(values: list[float]) -> list[float] | None:
    """Student's interval of a mean: a bootstrap of four wordings would be far too narrow."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    centre = float(np.mean(values))
    reach = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return [centre - reach, centre + reach]
