"""Evidence: from the units of every level to comparisons with base, as pure functions over records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from overlay.levels.level import LEVELS, RANDOM
from overlay.levels.quantity import Quantity
from overlay.scenarios import Record
from overlay.statistics import cluster_bootstrap, holm, mcnemar_exact, paired_difference, sign_flip

SIGNIFICANCE = 0.05

Word = Literal["up", "down", "no change detected", "no more than random directions"]

Units = Mapping[str, tuple[str, float]]
"""By unit: the cluster that it belongs to, and its value."""


@dataclass(frozen=True)
class Comparison:
    """One quantity under one level, against base on the same units.

    Attributes:
        n, clusters: units that could be read in both, and how many independent ones they make.
        base, own: means over those units; `change` is their difference, with its 95% interval over clusters.
        p: two-sided; `holm` is adjusted over all planned comparisons, and None for what wasn't planned.
        word: what was found. A change is up or down if it was planned, its adjusted p is below .05 and, under the
            state, it goes further than that of every random direction.
        is_identical: whether every unit has exactly base's value.
    """

    quantity: str
    level: str
    n: int
    clusters: int
    base: float
    own: float
    change: float
    low: float | None
    high: float | None
    p: float | None
    holm: float | None = None
    word: Word = "no change detected"
    is_identical: bool = False


def compare(
    records: Mapping[str, Sequence[Record]], quantities: Sequence[Quantity]
) -> tuple[list[Comparison], dict[str, list[float]]]:
    """Every quantity under every level but base, and by quantity what random directions changed it by.

    `records` are the units of each level, base among them.
    """
    found: list[Comparison] = []
    for quantity in quantities:
        base = _units(records["base"], quantity.name)
        for level, own in records.items():
            if level != "base" and (one := _comparison(quantity, level, base, _units(own, quantity.name))):
                found.append(one)
    random: dict[str, list[float]] = {}
    for one in found:
        if one.level.startswith(RANDOM):
            random.setdefault(one.quantity, []).append(one.change)
    return _judged(found, quantities, random), random


def _units(records: Sequence[Record], quantity: str) -> Units:
    return {
        record["unit"]: (record["cluster"], record["values"][quantity])
        for record in records
        if record["values"].get(quantity) is not None
    }


def _comparison(quantity: Quantity, level: str, base: Units, own: Units) -> Comparison | None:
    shared = [unit for unit in base if unit in own]
    if not shared:
        return None
    clusters = [base[unit][0] for unit in shared]
    before, after = (np.array([units[unit][1] for unit in shared]) for units in (base, own))
    changes = after - before
    low = high = p = None
    if len(set(clusters)) > 1:
        low, high, p = _tested(before, after, clusters)
    return Comparison(
        quantity.name,
        level,
        len(shared),
        len(set(clusters)),
        float(before.mean()),
        float(after.mean()),
        float(changes.mean()),
        low,
        high,
        p,
        is_identical=bool((changes == 0).all()),
    )


def _tested(before: Any, after: Any, clusters: Sequence[str]) -> tuple[float, float, float]:
    """Interval and p of the mean change: exact for independent yes and no, else over clusters."""
    is_yes_or_no = set(np.unique([before, after])) <= {0.0, 1.0}
    if is_yes_or_no and len(set(clusters)) == len(clusters):
        first, second = before.astype(bool).tolist(), after.astype(bool).tolist()
        interval = paired_difference(first, second).interval
        return interval.low, interval.high, mcnemar_exact(first, second).p
    changes = after - before
    interval = cluster_bootstrap(changes.tolist(), clusters)
    by_cluster: dict[str, list[float]] = {}
    for cluster, change in zip(clusters, changes.tolist(), strict=True):
        by_cluster.setdefault(cluster, []).append(change)
    return interval.low, interval.high, sign_flip([float(np.mean(own)) for own in by_cluster.values()])


def _judged(
    found: Sequence[Comparison], quantities: Sequence[Quantity], random: Mapping[str, Sequence[float]]
) -> list[Comparison]:
    planned = {quantity.name for quantity in quantities if quantity.is_planned}
    family = {
        f"{one.quantity} {one.level}": one.p
        for one in found
        if one.quantity in planned and one.level in LEVELS and one.p is not None
    }
    adjusted = holm(family)
    return [_word(one, adjusted.get(f"{one.quantity} {one.level}"), random.get(one.quantity, ())) for one in found]


def _word(one: Comparison, adjusted: float | None, random: Sequence[float]) -> Comparison:
    if adjusted is None or adjusted >= SIGNIFICANCE:
        return replace(one, holm=adjusted)
    if one.level == "state" and not all(_is_beyond(one.change, other) for other in random):
        return replace(one, holm=adjusted, word="no more than random directions")
    return replace(one, holm=adjusted, word="up" if one.change > 0 else "down")


def _is_beyond(change: float, other: float) -> bool:
    """Whether a change goes further than a random direction's, in its own direction."""
    return change > other if change > 0 else change < other


def difference(
    records: Mapping[str, Sequence[Record]], quantity: Quantity, first: str, second: str
) -> dict[str, Any] | None:
    """One quantity under two levels, the second minus the first; exploratory. None where one of them wasn't asked."""
    units = [_units(records.get(level, ()), quantity.name) for level in (first, second)]
    found = _comparison(quantity, second, *units)
    return None if found is None else asdict(found) | {"against": first}
