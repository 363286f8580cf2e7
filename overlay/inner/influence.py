"""Influence: from a state to an intervention that stays inside the volatility budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overlay.axes import Axis
from overlay.errors import ArgumentError
from overlay.inner.state import State
from overlay.model import Intervention, Observation, Row, Span

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
        AxisUnproven: an axis did not pass its checks.
    """

    def __init__(self, axes: Sequence[Axis], gauge: VolatilityGauge, budget: float) -> None:
        if budget <= 0:
            raise ArgumentError(f"a budget of {budget} nats per token", "give a number above 0")
        for axis in axes:
            axis.require_proof()
        self.axes = {axis.name: axis for axis in axes}
        self.gauge = gauge
        self.budget = budget

    def of(self, state: State, span: Span = "turn") -> Influenced:
        """The state's intervention; all doses shrink together while their joint cost exceeds the budget."""
        from overlay.model import NO_VOLATILITY  # brings torch, which reading a home must not wait for

        doses = tuple(
            self.axes[name].dose(value, span) for name, value in sorted(state.values.items()) if name in self.axes
        )
        if not any(dose.coefficient for dose in doses):
            return Influenced(Intervention(), NO_VOLATILITY, 1.0)
        wanted = Intervention(doses)
        scale = 1.0
        for _ in range(12):
            volatility = self.gauge.measure(wanted * scale)
            if volatility.mean <= self.budget:
                return Influenced(wanted * scale, volatility, scale)
            # KL grows with the square of a small dose.
            scale *= math.sqrt(self.budget * (1 - TOLERANCE) / volatility.mean)
        return Influenced(Intervention(), NO_VOLATILITY, 0.0)

    def read(self, model: LanguageModel, texts: Sequence[str]) -> list[Mapping[str, float]]:
        """What each text reads on each axis: z, in deviations of neutral text. Texts are read unsteered."""
        seen: list[Observation] = model.observe([Row(text=text) for text in texts])
        return [{name: axis.project(one.activations) for name, axis in self.axes.items()} for one in seen]
