"""Calibration: what doses of an axis cost, up to where they may go, and what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from overlay.axes.budget import Costs, spend_budget
from overlay.axes.coherence import FULL_SEARCH, QUICK_SEARCH, CoherenceGauge, CoherencePoint, LimitSearch, find_limit
from overlay.axes.layer_sweep import LayerSweep, sweep_layers
from overlay.axes.random_comparison import RandomComparison, choose_texts, compare_with_random
from overlay.axes.response import DoseResponse, Likelihoods, even_doses, measure_response
from overlay.axes.text import Text
from overlay.errors import ArgumentError
from overlay.model import Direction, Dose, Intervention
from overlay.progress import Progress

if TYPE_CHECKING:
    from overlay.model import VolatilityGauge

DOSES = 9
"""Doses from -limit to +limit: four on each side of 0 show whether an effect is straight."""


@dataclass(frozen=True)
class Effort:
    """How much a full calibration measures.

    Attributes:
        limit: how carefully the coherent limit is looked for.
        texts: texts of the dose-response in all, None for every one.
        random_texts, sweep_texts: texts in all on which random directions and windows of blocks are compared.
        sweep_step: blocks from one window to the next.
        directions: random directions, where the caller names no number.
    """

    limit: LimitSearch
    texts: int | None
    random_texts: int
    sweep_texts: int
    sweep_step: int
    directions: int


FULL = Effort(FULL_SEARCH, texts=None, random_texts=32, sweep_texts=64, sweep_step=2, directions=8)
"""On the embedded model about ten minutes on two cores; 32 texts make one batch.

Eight random directions tell an effect that all of them fall short of: a chance of one in nine.
"""

QUICK = Effort(QUICK_SEARCH, texts=32, random_texts=32, sweep_texts=32, sweep_step=4, directions=3)


@dataclass(frozen=True)
class Calibration:
    """What was measured of an axis's doses, which are fractions of each block's median residual norm.

    Attributes:
        budget: volatility that may be spent, nats per token.
        budget_dose: the dose that spends it in the dearer of its two signs, or the limit where that is smaller.
        spends_budget: whether the budget dose spends the budget; if not, text falls apart before it is spent.
        costs: (dose, mean, 95th percentile) of volatility, by dose, of every dose of the search.
        limit: the largest dose that may be given: under either sign the model's own text stays coherent.
        falls_apart: whether text was seen to fall apart above the limit; if not, larger doses were not tried.
        coherence: what the model wrote under every dose of the search for the limit, by dose.
        response, comparisons, sweep: what doses do; None and empty until `overlay axes calibrate`.
    """

    budget: float
    budget_dose: float
    spends_budget: bool
    costs: Costs
    limit: float
    falls_apart: bool
    coherence: tuple[CoherencePoint, ...]
    response: DoseResponse | None = None
    comparisons: tuple[RandomComparison, ...] = ()
    sweep: LayerSweep | None = None

    @property
    def cost(self) -> float:
        """What the budget dose costs in the dearer of its signs, mean, nats per token."""
        return max(mean for dose, mean, _ in self.costs if abs(dose) == self.budget_dose)

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Calibration:
        """The calibration that `to_json` made `data` from. Raises ValueError where it is none."""
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"calibration.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def calibrate(
    direction: Direction,
    blocks: tuple[int, ...],
    gauge: VolatilityGauge,
    budget: float,
    progress: Progress | None = None,
    *,
    search: LimitSearch = QUICK_SEARCH,
) -> Calibration:
    """Find the dose that spends `budget` nats per token, and the largest dose that leaves text coherent.

    Raises:
        ArgumentError: the budget isn't above 0, no dose up to the size of the residual stream spends it, or
            text falls apart at every dose.
    """
    budget_dose, costs = spend_budget(direction, blocks, gauge, budget, progress)
    written = CoherenceGauge(direction, blocks, gauge.model, search, progress)
    limit, falls_apart = find_limit(written.both_signs, budget_dose, search)
    spends_budget = budget_dose <= limit
    if not spends_budget:
        budget_dose = limit
        measured = {dose: (mean, p95) for dose, mean, p95 in costs}
        for dose in (limit, -limit):
            volatility = gauge.measure(Intervention((Dose(direction, dose, blocks),)))
            measured[dose] = (volatility.mean, volatility.p95)
        costs = tuple((dose, *measured[dose]) for dose in sorted(measured))
    return Calibration(budget, budget_dose, spends_budget, costs, limit, falls_apart, written.points)


def calibrate_fully(
    direction: Direction,
    blocks: tuple[int, ...],
    groups: Mapping[str, Sequence[Text]],
    gauge: VolatilityGauge,
    budget: float,
    *,
    fresh: bool,
    doses: int = DOSES,
    directions: int | None = None,
    effort: Effort = FULL,
    progress: Progress | None = None,
) -> Calibration:
    """Calibrate, then measure what doses do: dose-response, random directions on the same texts, layer sweep.

    Args:
        groups: texts by group, "positive" the axis's own; without any, only costs and limit are measured.
        fresh: whether the axis was built without these texts.

    Raises:
        ArgumentError: as `calibrate`, or fewer doses or directions than mean anything.
    """
    # Whatever may be refused is, before anything is measured.
    even_doses(1.0, doses)
    count = effort.directions if directions is None else directions
    if count < 1:
        raise ArgumentError(f"{count} random directions", "an effect without its control is no evidence")
    used = groups if effort.texts is None else choose_texts(groups, effort.texts)
    likelihoods, for_random, for_sweep = (
        Likelihoods(chosen, gauge.model, progress) if chosen else None
        for chosen in (used, choose_texts(used, effort.random_texts), choose_texts(groups, effort.sweep_texts))
    )
    found = calibrate(direction, blocks, gauge, budget, progress, search=effort.limit)
    if likelihoods is None or for_random is None or for_sweep is None:
        return found
    wanted = even_doses(found.limit, doses)
    response, changes = measure_response(
        direction,
        blocks,
        wanted,
        likelihoods,
        gauge,
        fresh=fresh,
        progress=progress,
    )
    comparisons = compare_with_random(
        direction,
        blocks,
        wanted,
        changes,
        for_random,
        gauge,
        cost=found.cost,
        budget_dose=found.budget_dose,
        directions=count,
        progress=progress,
    )
    sweep = sweep_layers(
        direction,
        blocks,
        for_sweep,
        gauge,
        cost=found.cost,
        budget_dose=found.budget_dose,
        step=effort.sweep_step,
        progress=progress,
    )
    return replace(found, response=response, comparisons=comparisons, sweep=sweep)
