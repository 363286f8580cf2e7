"""Dose-response: what each dose of a direction does to the likelihood of texts, group by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from overlay.axes.text import Text, likelihood_row
from overlay.errors import ArgumentError
from overlay.model import NOTHING, Direction, Dose, Intervention
from overlay.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from overlay.model import LanguageModel, VolatilityGauge

OWN = "positive"
"""The group of texts that the axis is about."""

LEAST_DOSES = 7
"""With fewer doses a bend can't be told from noise."""

RESAMPLES = 2000
"""Bootstrap draws: the ends of a 95% interval then move by about a twentieth of its width from seed to seed."""

Values = NDArray[np.float64]
"""Changes of the log-likelihood per token, nats: (texts,) of one dose, or (doses, texts)."""


@dataclass(frozen=True)
class Effect:
    """A mean over texts, nats per token, with its 95% bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class DosePoint:
    """What one dose costs and does.

    Attributes:
        dose: coefficient, as a fraction of each block's median residual norm.
        volatility_mean, volatility_p95: KL on neutral text, nats per token.
        groups: by group, how the log-likelihood of its texts changes from dose 0, nats per token.
        specific: the change of the own texts minus the mean of the other groups' changes.
    """

    dose: float
    volatility_mean: float
    volatility_p95: float
    groups: dict[str, Effect]
    specific: Effect


@dataclass(frozen=True)
class DoseResponse:
    """The points of an axis by dose, and on how many texts of each group they were measured.

    Attributes:
        fresh: whether the axis was built without these texts.
    """

    fresh: bool
    texts: dict[str, int]
    points: tuple[DosePoint, ...]


def even_doses(limit: float, count: int) -> tuple[float, ...]:
    """`count` doses evenly from -limit to +limit, among them exactly 0.

    Raises:
        ArgumentError: too few doses, or an even number of them, which leaves 0 out.
    """
    if count < LEAST_DOSES or count % 2 == 0:
        raise ArgumentError(
            f"{count} doses", f"give an odd number of at least {LEAST_DOSES}: as many below as above 0, and 0 itself"
        )
    half = count // 2
    return tuple(limit * step / half for step in range(-half, half + 1))


class Likelihoods:
    """How doses change the likelihood of fixed texts; what dose 0 gives is scored once.

    All doses meet the same rows in the same batches, so that they differ in nothing else.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[Text]], model: LanguageModel, progress: Progress | None = None
    ) -> None:
        if OWN not in groups or len(groups) < 2 or not all(groups.values()):
            raise ArgumentError(
                f"texts of the groups {', '.join(groups) or 'none'}",
                f"give the group '{OWN}' and at least one other, none of them empty",
            )
        self.groups = tuple(groups)
        self.texts = {group: len(texts) for group, texts in groups.items()}
        self._rows = [likelihood_row(text) for texts in groups.values() for text in texts]
        self._model = model
        self._progress = progress or SilentProgress()
        self._unsteered: Values | None = None

    def changes(self, doses: Sequence[Dose], what: str) -> list[dict[str, Values]]:
        """By dose and group: the change of each text's log-likelihood per token from dose 0, (texts,) nats."""
        found: list[dict[str, Values]] = []
        rows = len(self._rows)
        for place, dose in enumerate(doses):

            def step(done: int, place: int = place) -> None:
                self._progress.step(what, place * rows + done, len(doses) * rows)

            if self._unsteered is None:
                self._unsteered = self._score(NOTHING, step)
            change = self._score(Intervention((dose,)), step) - self._unsteered if dose.coefficient else np.zeros(rows)
            found.append(self._by_group(change))
        return found

    def _score(self, intervention: Intervention, step: Callable[[int], None]) -> Values:
        rows = [replace(row, intervention=intervention) for row in self._rows]
        scored = self._model.score(rows, progress=step)
        return np.array([one.per_token[0] for one in scored])

    def _by_group(self, values: Values) -> dict[str, Values]:
        ends = np.cumsum(list(self.texts.values()))[:-1]
        return dict(zip(self.groups, np.split(values, ends), strict=True))


def measure_response(
    direction: Direction,
    blocks: tuple[int, ...],
    doses: Sequence[float],
    likelihoods: Likelihoods,
    gauge: VolatilityGauge,
    *,
    fresh: bool,
    progress: Progress | None = None,
) -> tuple[DoseResponse, list[dict[str, Values]]]:
    """The dose-response of a direction, and the changes of single texts that it sums up."""
    progress = progress or SilentProgress()
    changes = likelihoods.changes([Dose(direction, dose, blocks) for dose in doses], "measuring the dose-response")
    points = []
    for place, (dose, change) in enumerate(zip(doses, changes, strict=True)):
        progress.step("measuring what each dose costs", place, len(doses))
        volatility = gauge.measure(Intervention((Dose(direction, dose, blocks),)) if dose else NOTHING)
        effects = {group: mean_effect(values) for group, values in change.items()}
        points.append(DosePoint(dose, volatility.mean, volatility.p95, effects, specific_effect(change)))
    return DoseResponse(fresh, dict(likelihoods.texts), tuple(points)), changes


def mean_effect(values: Values) -> Effect:
    """The mean over texts with its percentile bootstrap interval (Efron 1979); the draws are always the same."""
    return _effect(float(values.mean()), _resampled_means(values, 0))


def specific_effect(change: Mapping[str, Values]) -> Effect:
    """Own texts minus the mean of the other groups, each group resampled by itself."""
    resampled = {group: _resampled_means(values, place) for place, (group, values) in enumerate(change.items())}
    others = [draws for group, draws in resampled.items() if group != OWN]
    return _effect(specific_mean(change), resampled[OWN] - np.mean(others, axis=0))


def specific_mean(change: Mapping[str, Values]) -> float:
    """Mean of the own texts minus the mean of the other groups' means: each group counts alike."""
    others = [float(values.mean()) for group, values in change.items() if group != OWN]
    return float(change[OWN].mean()) - float(np.mean(others))


def _resampled_means(values: Values, seed: int) -> Values:
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    means: Values = values[drawn].mean(1)
    return means


def _effect(mean: float, resampled: Values) -> Effect:
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Effect(mean, float(low), float(high))
