"""Budget: the dose of a direction that spends a given volatility."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from overlay.errors import ArgumentError
from overlay.model import Direction, Dose, Intervention
from overlay.progress import Progress

if TYPE_CHECKING:
    from overlay.model import VolatilityGauge

LARGEST_DOSE = 1.0
"""A dose as large as the residual stream; text falls apart long before, at about 0.05 on the embedded model."""

BUDGET_TOLERANCE = 0.03
"""The budget dose may fall short of the budget by this share; it never exceeds it."""

FIRST_DOSE = 0.01
"""Where the search starts; two measurements later its start no longer matters."""

Costs = tuple[tuple[float, float, float], ...]
"""(dose, mean, 95th percentile) of volatility in nats per token, by dose."""


def spend_budget(
    direction: Direction,
    blocks: tuple[int, ...],
    gauge: VolatilityGauge,
    budget: float,
    progress: Progress | None = None,
) -> tuple[float, Costs]:
    """Find the largest dose whose volatility stays within `budget` under either sign, and all that was measured.

    KL grows with the square of a small dose, so each measurement tells where to look next.

    Raises:
        ArgumentError: the budget isn't above 0, or no dose up to the size of the residual stream spends it.
    """
    if not budget > 0:
        raise ArgumentError(f"a budget of {budget} nats", "give a number above 0")
    measured: dict[float, tuple[float, float]] = {0.0: (0.0, 0.0)}
    dose, low, high = FIRST_DOSE, 0.0, math.inf
    for attempt in range(12):
        if progress:
            progress.step("finding the dose that spends the budget", attempt, 12)
        for sign in (dose, -dose):
            volatility = gauge.measure(Intervention((Dose(direction, sign, blocks),)))
            measured[sign] = (volatility.mean, volatility.p95)
        cost = max(measured[dose][0], measured[-dose][0])
        if cost <= budget:
            low = dose
            if cost >= budget * (1 - BUDGET_TOLERANCE):
                break
        else:
            high = dose
        step = dose * math.sqrt(budget * (1 - BUDGET_TOLERANCE / 2) / max(cost, 1e-9))
        dose = step if low < step < high else (low + min(high, 4 * max(low, 1e-4))) / 2
        if dose > LARGEST_DOSE:
            raise ArgumentError(
                f"a budget of {budget} nats per token can't be spent on '{direction.name}': even a dose as large as "
                "the residual stream costs less",
                "give a smaller budget, or other blocks",
            )
    return low, tuple((dose, *measured[dose]) for dose in sorted(measured))
