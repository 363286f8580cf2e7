"""Influence: from a state to an intervention that stays inside the volatility budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overlay.axes import Axis
from overlay.errors import ArgumentError
from overlay.inner.state import State
from overlay.model import Intervention, Observation, Pool, Row, Span

if TYPE_CHECKING:
    from overlay.model import LanguageModel, Volatility, VolatilityGauge

TOLERANCE = 0.02
"""How far below the budget the scaling may land; it never lands above."""


@dataclass(frozen=True)
class Influenced:
    """An intervention, what it costs, and by how much it was scaled down to fit the budget."""

    intervention: Intervention
    volatility: Volatility
    scale: float


class Influence:
    """Turns states into interventions on one model, with its axes and one budget in nats per token.

    Raises:
        AxisUnproven: an axis did not pass its checks, and nobody forced it.

    Attributes:
        unproven: names of the axes that were forced; whatever rests on them must say so.
    """

    def __init__(self, axes: Sequence[Axis], gauge: VolatilityGauge, budget: float) -> None:
        if budget <= 0:
            raise ArgumentError(f"a budget of {budget} nats per token", "give a number above 0")
        for axis in axes:
            axis.require_proof()
        self.axes = {axis.name: axis for axis in axes}
        self.unproven = tuple(axis.name for axis in axes if not axis.proven)
        self.gauge = gauge
        self.budget = budget

    def of(self, state: State, span: Span = "turn") -> Influenced:
        """The state's intervention; all doses shrink together while one is beyond its axis's coherent limit, or
        while their joint cost exceeds the budget.
        """
        from overlay.model import NO_VOLATILITY  # brings torch, which reading a home must not wait for

        values = {name: value for name, value in sorted(state.values.items()) if name in self.axes}
        if not any(values.values()):
            return Influenced(Intervention(), NO_VOLATILITY, 1.0)
        # Within the limits first: a dose beyond them can't even be asked for.
        scale = min(1.0, *(self.axes[name].reach / abs(value) for name, value in values.items() if value))
        within = Intervention(tuple(self.axes[name].dose(value * scale, span) for name, value in values.items()))
        share = 1.0
        for _ in range(12):
            volatility = self.gauge.measure(within * share)
            if volatility.mean <= self.budget:
                return Influenced(within * share, volatility, scale * share)
            # KL grows with the square of a small dose.
            share *= math.sqrt(self.budget * (1 - TOLERANCE) / volatility.mean)
        return Influenced(Intervention(), NO_VOLATILITY, 0.0)

    def read(self, model: LanguageModel, texts: Sequence[str]) -> list[Mapping[str, float]]:
        """What each text reads on each axis: z, in deviations of neutral text. Texts are read unsteered.

        Every axis sees the positions that it was made from: texts pass once for each pool that axes have.
        """
        rows = [Row(text=text) for text in texts]
        pools = dict.fromkeys(axis.pool for axis in self.axes.values())
        seen: dict[Pool, list[Observation]] = {pool: model.observe(rows, pool=pool) for pool in pools}
        return [
            {name: axis.project(seen[axis.pool][place].activations) for name, axis in self.axes.items()}
            for place in range(len(rows))
        ]
