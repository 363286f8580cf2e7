"""Estimates of E: the share of a treatment's influence that a prompt leaves undone, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError

DRAWS = 4000

CONFIDENCE = 0.95

FAINTEST = 1e-4
"""Nats per token: a treatment that does less than this on its queries leaves nothing to be reproduced."""


@dataclass(frozen=True)
class Estimate:
    """A ratio with the interval of a bootstrap over queries; with few queries it is somewhat too narrow.

    Attributes:
        by_draw: the same ratio in each sampling draw alone.
    """

    value: float
    low: float
    high: float
    by_draw: tuple[float, ...] = ()

    @property
    def words(self) -> str:
        """As a table shows it."""
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def unreproduced(prompted: NDArray[np.float64], base: NDArray[np.float64]) -> Estimate:
    """E = ΣKL(treated ‖ prompted) / ΣKL(treated ‖ base) of sums (queries, draws), nats.

    0: the prompt is the treatment. 1: it is no nearer than the base model. Above 1: it leads away from it.
    The interval is a percentile bootstrap over queries (Efron and Tibshirani 1993), whole queries at a time.

    Raises:
        ArgumentError: shapes differ, there are fewer than two queries, or the treatment does nothing on them.
    """
    if prompted.shape != base.shape or prompted.ndim != 2 or len(prompted) < 2:
        raise ArgumentError(
            f"sums of shape {prompted.shape} and {base.shape}", "give (queries, draws), at least two queries, alike"
        )
    if base.sum() <= 0:
        raise ArgumentError("the treatment does nothing on these queries", "give queries on which it acts")
    low, high = _interval(prompted.sum(1), base.sum(1))
    totals = base.sum(0)
    by_draw = tuple(float(part / total) for part, total in zip(prompted.sum(0), totals, strict=True) if total > 0)
    return Estimate(float(prompted.sum() / base.sum()), low, high, by_draw)


def excess(one: NDArray[np.float64], other: NDArray[np.float64], base: NDArray[np.float64]) -> Estimate:
    """How much larger E is for `one` than for `other` on the same queries: sums (queries, draws), as `unreproduced`."""
    difference = (one - other).sum(1)
    low, high = _interval(difference, base.sum(1))
    return Estimate(float(difference.sum() / base.sum()), low, high)


def per_query(prompted: NDArray[np.float64], base: NDArray[np.float64]) -> tuple[float | None, ...]:
    """E of each query alone, from sums (queries, draws); None where the treatment does nothing to speak of."""
    totals = base.sum(1)
    return tuple(
        float(part / total) if total > FAINTEST else None for part, total in zip(prompted.sum(1), totals, strict=True)
    )


def _interval(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> tuple[float, float]:
    from scipy.stats import bootstrap

    def ratio(above: NDArray[np.float64], below: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        # All queries of a draw may be ones on which nothing happens.
        return np.asarray(above.sum(axis) / np.maximum(below.sum(axis), np.finfo(float).tiny))

    if np.ptp(numerator / np.maximum(denominator, np.finfo(float).tiny)) == 0:
        value = float(numerator.sum() / denominator.sum())
        return value, value
    found = bootstrap(
        (numerator, denominator), ratio, paired=True, vectorized=True, n_resamples=DRAWS, method="percentile",
        confidence_level=CONFIDENCE, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def quantile(values: Sequence[NDArray[np.float64]], share: float) -> float:
    """A quantile over the positions of several samples."""
    return float(np.quantile(np.concatenate(values), share))
