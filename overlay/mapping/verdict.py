"""Verdicts: whether what is said about an aim's place stands beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from overlay.mapping.intervention_map import InterventionMap
from overlay.mapping.spread import Spread, crossed

Outcome = Literal["stands", "falls", "undecided"]

RIVALS = ("early", "middle", "late", "head", "tokens")
"""The regions of which a claim names one; "all" holds three of them, and rivals none."""


@dataclass(frozen=True)
class Verdict:
    """What became of a claim. `rivals`: by region, what the claimed one gained less what this one gained."""

    outcome: Outcome
    reason: str
    rivals: dict[str, Spread]


def verdict(found: InterventionMap) -> Verdict | None:
    """Whether the claimed region teaches better than each other one, at equal size and volatility; None: no claim.

    It stands where its gain is beyond the null and the whole 95% interval of its lead over every other region is
    above 0 (an intersection of tests, which needs no correction). A place that no scale brought to the common
    volatility is left out of all of it, and said. It falls where the whole interval of its lead over
    some region, corrected for how many there are (Bonferroni), is below 0. Otherwise it is undecided.
    """
    if not found.claimed:
        return None
    regions = {region: _gains(found, region) for region in RIVALS}
    own = regions.pop(found.claimed, None)
    others = {region: gains for region, gains in regions.items() if gains is not None}
    if own is None or not others:
        reason = f"the map has no place '{found.claimed}' at the common volatility, or nothing beside it"
        return Verdict("undecided", reason, {})
    leads = {region: crossed(own - gains) for region, gains in others.items()}
    strict = {region: crossed(own - gains, 1 - 0.05 / len(others)) for region, gains in others.items()}
    beaten = [region for region, lead in strict.items() if lead.high < 0]
    if beaten:
        best = min(beaten, key=lambda region: leads[region].value)
        lead = leads[best]
        return Verdict(
            "falls",
            f"{_named(best)} gain more: {-lead.value:.2f} nats per token ({-lead.high:.2f} to {-lead.low:.2f}) above "
            f"{_named(found.claimed)}",
            leads,
        )
    mean = crossed(own)
    if found.null_reach is None:
        return Verdict("undecided", "no null was measured", leads)
    if mean.low <= found.null_reach:
        return Verdict(
            "undecided",
            f"what {_named(found.claimed)} gain, {mean.value:.2f} nats per token ({mean.low:.2f} to {mean.high:.2f}), "
            f"is not beyond the null",
            leads,
        )
    open_ = [region for region, lead in leads.items() if lead.low <= 0]
    if not open_:
        return Verdict("stands", f"{_named(found.claimed)} gain more than {_listed(list(leads))}", leads)
    return Verdict("undecided", f"{_named(found.claimed)} can't be told from {_listed(open_)}", leads)


def _gains(found: InterventionMap, region: str) -> NDArray[np.float64] | None:
    """Mean over the places of a region that are at the common volatility, (seeds, choices)."""
    places = [place.name for place in found.places if place.region == region and found.is_reached(place.name)]
    return np.mean([found.gains(place) for place in places], axis=0) if places else None


def _named(region: str) -> str:
    return {"head": "the head's weights", "tokens": "token rows"}.get(region, f"{region} blocks")


def _listed(regions: Sequence[str]) -> str:
    names = [_named(region) for region in regions]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
