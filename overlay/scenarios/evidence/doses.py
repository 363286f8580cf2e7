"""Doses: the same intervention at several strengths, from reversed to beyond the treated one."""

from __future__ import annotations

from typing import Any

from overlay.scenarios.evidence.summaries import values_of
from overlay.scenarios.evidence.units import Units, bounds, by_item, mean, shifts
from overlay.scenarios.verdict import Measure
from overlay.statistics import dose_trend
from overlay.statistics.doses import LEAST_DOSES

FACTORS = {"reversed": -1.0, "sham": 0.0, "dose_0.5": 0.5, "treated": 1.0, "dose_1.5": 1.5}
"""Arms along the dose, as multiples of the treated one, rising."""


def dose_response(units: Units, measure: Measure) -> dict[str, Any] | None:
    """Shift and rate at every dose that ran, and Page's trend over items where there are at least four.

    All of it counts only units that every dose met, for what differs may be nothing but the dose. None with fewer
    than two doses, or without such a unit.
    """
    primary = units.scenario.primary
    found = {name: own for name in FACTORS if name in units.names and (own := units.pairs(name))}
    if len(found) < 2:
        return None
    shared = set.intersection(*({pair.key for pair in own} for own in found.values()))
    if not shared:
        return None
    pairs = {name: [pair for pair in own if pair.key in shared] for name, own in found.items()}
    doses = [
        {
            "factor": FACTORS[name],
            "n": len(own),
            "shift": mean(shifts(own)),
            "shift_interval": bounds(shifts(own)),
            "rate": sum(pair.outcomes(primary)[1] for pair in own) / len(own),
        }
        for name, own in pairs.items()
    ]
    if len(pairs) < LEAST_DOSES:
        return {"doses": doses, "trend_p": None, "test": f"no trend tested: it takes at least {LEAST_DOSES} doses"}
    columns = [by_item(values_of(units, own, measure)) for own in pairs.values()]
    items = [item for item in columns[0] if all(item in column for column in columns)]
    if not items:
        return {"doses": doses, "trend_p": None, "test": "no trend tested: no item was scored at every dose"}
    trend = dose_trend([FACTORS[name] for name in pairs], [[column[item] for column in columns] for item in items])
    what = "shifts" if measure == "margin" else "rates"
    test = f"Page's trend test, exact and one-sided, over the {what} of {len(items)} items at {len(pairs)} doses"
    return {"doses": doses, "trend_p": trend.p, "test": test, "falls": trend.falls}
