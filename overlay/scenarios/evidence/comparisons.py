"""Comparisons: every arm against base under every detector, each p adjusted in the family that it belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np

from overlay.scenarios.evidence.summaries import rate_p
from overlay.scenarios.evidence.units import Units, bounds, by_item, changes
from overlay.statistics import (
    benjamini_hochberg,
    holm,
    paired_difference,
    sequential_evidence,
)


def planned_comparisons(units: Units) -> list[tuple[str, str]]:
    """Arm and detector of every comparison that was promised before the run."""
    promised = units.scenario.preregistration
    detectors = promised.detectors or (units.scenario.primary,)
    return [(arm, detector) for arm in promised.comparisons for detector in detectors]


def comparisons(units: Units) -> list[dict[str, Any]]:
    """All comparisons that can be made, planned ones first: difference of rates, Tango's interval, exact p.

    Planned ones are adjusted by Holm, all others by Benjamini and Hochberg. Random directions are controls of
    the treated arm and are in neither family. `item_interval` is a bootstrap over whole items.
    """
    planned = planned_comparisons(units)
    detectors = [detector.name for detector in units.scenario.detectors]
    arms = [name for name in units.names if name != "base" and name not in units.random_names()]
    every = dict.fromkeys([*planned, *((arm, detector) for arm in arms for detector in detectors)])
    rows = [row for arm, detector in every if arm in arms for row in _compare(units, arm, detector)]
    for row in rows:
        row["planned"] = (row["arm"], row["detector"]) in planned
    for kind, adjust, key in ((True, holm, "holm_p"), (False, benjamini_hochberg, "bh_p")):
        family = {_name(row): row["p"] for row in rows if row["planned"] is kind}
        adjusted = adjust(family) if len(family) > 1 else family
        for row in rows:
            row[key] = adjusted.get(_name(row))
    return rows


def _name(row: dict[str, Any]) -> str:
    return f"{row['arm']} / {row['detector']}"


def _compare(units: Units, arm: str, detector: str) -> list[dict[str, Any]]:
    p = rate_p(units, arm, detector)
    if p is None:
        return []
    pairs = units.pairs(arm, detector=detector)
    row: dict[str, Any] = {"arm": arm, "detector": detector, "n": len(pairs), "test": "exact McNemar", "p": p}
    if pairs:
        outcomes = [pair.outcomes(detector) for pair in pairs]
        found = paired_difference([before for before, _ in outcomes], [after for _, after in outcomes])
        moved = changes(pairs, detector)
        row |= {
            "difference": found.estimate,
            "interval": [found.interval.low, found.interval.high],
            "item_interval": bounds(moved),
            "e_value": _evidence(moved) if (arm, detector) == ("treated", units.scenario.primary) else None,
        }
        return [row]
    from statsmodels.stats.proportion import confint_proportions_2indep

    before, after = units.usable("base", detector), units.usable(arm, detector)
    fired = [sum(bool(record["detectors"][detector]["fired"]) for record in side) for side in (before, after)]
    low, high = confint_proportions_2indep(fired[1], len(after), fired[0], len(before), method="newcomb")
    row |= {
        "n": len(after),
        "test": "Boschloo",
        "difference": fired[1] / len(after) - fired[0] / len(before),
        "interval": [float(low), float(high)],
        "item_interval": None,
        "e_value": None,
    }
    return [row]


def _evidence(moved: list[tuple[str, float]]) -> float:
    """The e-value over items in the order of the script: which of the two arms had the higher rate in each."""
    ways = np.sign(list(by_item(moved).values()))
    return sequential_evidence([bool(way < 0) for way in ways], [bool(way > 0) for way in ways]).e
