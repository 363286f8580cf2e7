"""Random comparison: whether doses of an axis do more than doses of any direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from overlay.axes.budget import spend_budget
from overlay.axes.random_direction import random_direction
from overlay.axes.response import OWN, Likelihoods, Values, specific_mean
from overlay.axes.text import Text
from overlay.model import Direction, Dose, Intervention
from overlay.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from overlay.model import VolatilityGauge

Matching = Literal["norm", "volatility"]

Part = Literal["own", "specific"]
"""The change of the own texts, or that minus the mean change of the other groups."""

SUBSET_SHARE = 0.35
"""Share of own texts in a subset; the others share the rest, for the mean over groups averages more of them."""


@dataclass(frozen=True)
class RandomComparison:
    """Random directions under doses that match those of an axis, on the same texts.

    Attributes:
        matching: "norm": the same doses; "volatility": doses scaled so that the direction costs, at the
            budget dose of the axis, what the axis costs there in the dearer of its signs.
        texts: by group, how many texts were scored.
        doses: the doses of the axis that were matched.
        scales: by direction, its dose as a multiple of the axis's.
        costs: by direction, its volatility in the dearer of its signs at the budget dose, nats per token.
        own, specific: by direction and dose, the change of the own texts, and own minus other groups, nats per token.
        axis_own, axis_specific: the same of the axis, by dose.
    """

    matching: Matching
    texts: dict[str, int]
    doses: tuple[float, ...]
    scales: tuple[float, ...]
    costs: tuple[float, ...]
    own: tuple[tuple[float, ...], ...]
    specific: tuple[tuple[float, ...], ...]
    axis_own: tuple[float, ...]
    axis_specific: tuple[float, ...]

    def as_far(self, place: int, part: Part = "specific") -> int:
        """How many random directions went at least as far as the axis under its dose number `place`.

        Far is upwards for a dose above 0 and downwards below it: what a direction of these texts should do.
        """
        way = 1 if self.doses[place] >= 0 else -1
        return sum(values[place] * way >= self.of_axis(part)[place] * way for values in self.of_directions(part))

    def spread(self, place: int, part: Part = "specific") -> tuple[float, float, float]:
        """Mean, smallest and largest over the random directions under dose number `place`, nats per token."""
        values = [row[place] for row in self.of_directions(part)]
        return sum(values) / len(values), min(values), max(values)

    def of_axis(self, part: Part) -> tuple[float, ...]:
        """The axis's effect by dose."""
        return self.axis_own if part == "own" else self.axis_specific

    def of_directions(self, part: Part) -> tuple[tuple[float, ...], ...]:
        """The random directions' effects by direction and dose."""
        return self.own if part == "own" else self.specific


def choose_texts(groups: Mapping[str, Sequence[Text]], rows: int) -> dict[str, tuple[Text, ...]]:
    """The first texts of each group, about `rows` in all: one full batch costs no more than half of one."""
    others = max(1, round((1 - SUBSET_SHARE) * rows / max(1, len(groups) - 1)))
    own = max(2, rows - others * (len(groups) - 1))
    return {group: tuple(texts[: own if group == OWN else others]) for group, texts in groups.items()}


def compare_with_random(
    direction: Direction,
    blocks: tuple[int, ...],
    doses: Sequence[float],
    axis_changes: Sequence[Mapping[str, Values]],
    likelihoods: Likelihoods,
    gauge: VolatilityGauge,
    *,
    cost: float,
    budget_dose: float,
    directions: int,
    progress: Progress | None = None,
) -> tuple[RandomComparison, RandomComparison]:
    """The comparison by norm and the one by volatility; `cost` is what the axis costs at its budget dose.

    `axis_changes` are those of the axis under `doses`, on texts that begin with those of `likelihoods`.

    Raises:
        ArgumentError: a random direction on which no dose costs as much.
    """
    progress = progress or SilentProgress()
    drawn = [random_direction(direction, blocks, seed) for seed in range(directions)]
    scales, matched_costs, same_costs = [], [], []
    for place, one in enumerate(drawn):
        progress.step("matching random directions", place, directions)
        dose, costs = spend_budget(one, blocks, gauge, cost)
        scales.append(dose / budget_dose)
        matched_costs.append(max(mean for at, mean, _ in costs if abs(at) == dose))
        signs = [Intervention((Dose(one, sign * budget_dose, blocks),)) for sign in (1, -1)]
        same_costs.append(max(gauge.measure(sign).mean for sign in signs))
    same = [{group: values[: likelihoods.texts[group]] for group, values in one.items()} for one in axis_changes]
    found = []
    matchings: tuple[tuple[Matching, list[float], list[float]], ...] = (
        ("norm", [1.0] * directions, same_costs),
        ("volatility", scales, matched_costs),
    )
    for matching, factors, dear in matchings:
        wanted = [
            Dose(one, dose * factor, blocks) for one, factor in zip(drawn, factors, strict=True) for dose in doses
        ]
        changes = likelihoods.changes(wanted, f"measuring random directions of the same {matching}")
        rows = [changes[start : start + len(doses)] for start in range(0, len(changes), len(doses))]
        found.append(
            RandomComparison(
                matching=matching,
                texts=dict(likelihoods.texts),
                doses=tuple(doses),
                scales=tuple(factors),
                costs=tuple(dear),
                own=tuple(tuple(float(np.mean(change[OWN])) for change in row) for row in rows),
                specific=tuple(tuple(specific_mean(change) for change in row) for row in rows),
                axis_own=tuple(float(np.mean(change[OWN])) for change in same),
                axis_specific=tuple(specific_mean(change) for change in same),
            )
        )
    return found[0], found[1]
