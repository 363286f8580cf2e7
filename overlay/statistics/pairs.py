"""Pairs: the same units under two conditions, yes or no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError
from overlay.statistics.arguments import check_confidence, pair_outcomes
from overlay.statistics.interval import Interval

Counts = NDArray[np.int64]

# A variance below this is that of an outcome which can't vary; anything real is at least 1 / pairs.
_NO_VARIANCE = 1e-12
# How close to -1 and 1 the search for an end goes; the ends themselves are returned where they are the answer.
_EDGE = 1e-10


@dataclass(frozen=True)
class McNemar:
    """Pairs that say yes under one condition only, each way, and the exact two-sided p of that split."""

    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True)
class Difference:
    """A difference of two rates, second minus first, -1 to 1, and its interval."""

    estimate: float
    interval: Interval


def mcnemar_exact(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Exact two-sided McNemar test of outcomes paired by position; without a discordant pair p is 1.

    Pairs must be independent of each other: those of several scenarios are not.

    Raises:
        ArgumentError: the two sequences don't have the same length.
    """
    before, after = pair_outcomes(first, second)
    only_first, only_second = int(np.sum(before & ~after)), int(np.sum(after & ~before))
    [p] = mcnemar_p(np.array([only_first]), np.array([only_second]))
    return McNemar(only_first, only_second, float(p))


def mcnemar_p(only_first: Counts, only_second: Counts) -> NDArray[np.float64]:
    """Exact two-sided p of each split of discordant pairs, (runs,): a fair coin's binomial test."""
    from scipy.stats import binom

    smaller, discordant = np.minimum(only_first, only_second), only_first + only_second
    return np.minimum(1.0, 2 * binom.cdf(smaller, discordant, 0.5))


def paired_difference(first: Sequence[bool], second: Sequence[bool], confidence: float = 0.95) -> Difference:
    """Tango's score interval of the rate in `second` minus that in `first`, paired by position.

    It lies inside [-1, 1], contains the estimate, has a width even without a discordant pair, and covers about what
    it promises from 16 pairs on. Pairs must be independent of each other: over items with several paraphrases, or
    over scenarios, use `cluster_bootstrap`. Near p = .05 it may disagree with the exact McNemar test, which decides.
    Source: Tango, Statistics in Medicine 17 (1998).

    Raises:
        ArgumentError: lengths differ, there is no pair, or `confidence` isn't between 0 and 1.
    """
    before, after = pair_outcomes(first, second)
    check_confidence(confidence)
    if not before.size:
        raise ArgumentError("a difference over 0 pairs has no interval", "run at least one unit in both arms")
    only_first, only_second = int(np.sum(before & ~after)), int(np.sum(after & ~before))
    return Difference(
        (only_second - only_first) / before.size, tango_interval(only_first, only_second, before.size, confidence)
    )


def tango_interval(only_first: int, only_second: int, pairs: int, confidence: float) -> Interval:
    """The differences (second minus first) that Tango's score test doesn't reject at 1 - `confidence`."""
    from scipy.optimize import brentq
    from scipy.special import ndtri

    z = float(ndtri((1 + confidence) / 2))
    estimate = (only_second - only_first) / pairs
    counts = np.array([only_first]), np.array([only_second])

    def beyond(difference: float, target: float) -> float:
        return float(tango_score(*counts, pairs, difference)[0]) - target

    low = -1.0 if estimate == -1 else float(brentq(beyond, -1 + _EDGE, estimate, args=(z,)))
    high = 1.0 if estimate == 1 else float(brentq(beyond, estimate, 1 - _EDGE, args=(-z,)))
    return Interval(min(low, estimate), max(high, estimate))


def tango_score(only_first: Counts, only_second: Counts, pairs: int, difference: float) -> NDArray[np.float64]:
    """Tango's z of every outcome (outcomes,) against a true difference, second minus first; falls as that rises.

    The variance uses the likeliest share of pairs that say yes in `first` only, among those that the difference
    leaves possible. Where that variance is 0, an outcome that fits is 0 and any other is infinite.
    """
    # The likeliest share solves 2 pairs x^2 + linear x + constant = 0.
    linear = (2 * pairs + only_first - only_second) * difference - only_first - only_second
    constant = -only_first * difference * (1 - difference)
    root = np.sqrt(np.maximum(0.0, linear**2 - 8 * pairs * constant))
    share = np.clip((root - linear) / (4 * pairs), max(0.0, -difference), (1 - difference) / 2)
    variance = pairs * (2 * share + difference * (1 - difference))
    distance = only_second - only_first - pairs * difference
    fixed = variance < _NO_VARIANCE * pairs
    score = distance / np.sqrt(np.where(fixed, 1.0, variance))
    unreachable = np.where(np.abs(distance) < _NO_VARIANCE * pairs, 0.0, np.copysign(np.inf, distance))
    return np.where(fixed, unreachable, score)
