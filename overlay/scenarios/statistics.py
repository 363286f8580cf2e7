"""Statistics: what the numbers of a run can carry, as pure functions.

Pairs of one scenario go to `mcnemar_exact`; several scenarios go to `sign_flip`, one value each, because pooling
their pairs raises false alarms to 12% where scenario effects vary. scipy and statsmodels are imported inside the
functions: they take a second to load, and most commands never count anything.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError

# 2^14 sign patterns are the most that are fewer than the random draws taken instead.
LARGEST_EXACT_SIGN_FLIP = 14
SIGN_FLIP_DRAWS = 20_000
_DRAWS_AT_ONCE = 1_000
# Two sums of the same values in another order differ by rounding; a tie must stay a tie.
_TIE = 1e-9


@dataclass(frozen=True)
class Interval:
    """A confidence interval, both ends included; `low` <= `high`, in the unit of what was estimated."""

    low: float
    high: float


@dataclass(frozen=True)
class McNemar:
    """Pairs that say yes under one condition only, each way, and the exact two-sided p of that split."""

    only_first: int
    only_second: int
    p: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a rate; it stays inside [0, 1] and always contains `successes / n`.

    Raises:
        ArgumentError: `n` is 0, `successes` isn't between 0 and `n`, or `confidence` isn't between 0 and 1.
    """
    from statsmodels.stats.proportion import proportion_confint

    if n < 1:
        raise ArgumentError(
            "a rate over 0 units has no interval", "run at least one unit, or report the rate as unknown"
        )
    if not 0 <= successes <= n:
        raise ArgumentError(f"{successes} successes in {n} units is impossible", "count the successes again")
    _check_confidence(confidence)
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    # At 0 or n successes the formula's end is the rate itself, up to a rounding error on either side.
    rate = successes / n
    return Interval(max(0.0, min(float(low), rate)), min(1.0, max(float(high), rate)))


def mcnemar_exact(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Exact two-sided McNemar test of outcomes paired by position; without a discordant pair p is 1.

    Raises:
        ArgumentError: the two sequences don't have the same length.
    """
    from scipy.stats import binomtest

    if len(first) != len(second):
        raise ArgumentError(
            f"outcomes can't be paired: {len(first)} in the first arm, {len(second)} in the second",
            "leave out the units that only one arm has, in both arms",
        )
    only_first = sum(bool(a) and not b for a, b in zip(first, second, strict=True))
    only_second = sum(bool(b) and not a for a, b in zip(first, second, strict=True))
    discordant = only_first + only_second
    p = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(only_first, only_second, p)


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    draws: int = 4000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Percentile interval of the mean of `values` when whole clusters are drawn with replacement.

    `clusters[i]` names the cluster of `values[i]`; the same seed gives the same interval, whatever the order of
    the units. With few clusters it is too narrow (at 8, a nominal 95% covers about 89%): let `sign_flip` decide,
    and let this show the size. Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), 3.8.

    Raises:
        ArgumentError: lengths differ, fewer than two clusters, a value isn't finite, or `draws` < 1.
    """
    if len(values) != len(clusters):
        raise ArgumentError(
            f"{len(values)} values but {len(clusters)} cluster names", "give each value the name of its cluster"
        )
    _check_confidence(confidence)
    if draws < 1:
        raise ArgumentError(f"a bootstrap of {draws} draws says nothing", "ask for at least 1,000 draws")
    numbers = _finite(values)
    # Sorted names, so that the draws don't depend on the order in which units were run.
    names = sorted(set(clusters), key=repr)
    if len(names) < 2:
        raise ArgumentError(
            f"a bootstrap over {len(names)} cluster(s) can't show how clusters vary",
            "run at least two items, or report the mean without an interval",
        )
    place = {name: index for index, name in enumerate(names)}
    member = np.array([place[name] for name in clusters])
    sums = np.bincount(member, weights=numbers, minlength=len(names))
    sizes = np.bincount(member, minlength=len(names))
    picks = np.random.default_rng(seed).integers(0, len(names), size=(draws, len(names)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def sign_flip(values_per_cluster: Sequence[float]) -> float:
    """Two-sided permutation p of the mean against 0, one value per cluster, under all or many sign patterns.

    Exact for up to 14 values, so that p is at least 2 / 2^n: six values are the fewest that can reach p < .05.
    Beyond that 20,000 seeded draws, the observed pattern counted as one of them (Phipson and Smyth 2010).
    Unlike scipy's permutation_test it keeps ties that differ only by rounding, so that p depends neither on
    the order of the values nor on their common sign.

    Raises:
        ArgumentError: no value, or a value that isn't finite.
    """
    numbers = _finite(values_per_cluster)
    if numbers.size == 0:
        raise ArgumentError("a sign-flip test needs at least one cluster", "run at least six clusters for p < .05")
    # Under the null only the sizes count; sorted, so that the draws don't depend on the order either.
    sizes = np.sort(np.abs(numbers))
    reach = abs(float(numbers.sum())) - _TIE * float(sizes.sum())
    if numbers.size <= LARGEST_EXACT_SIGN_FLIP:
        patterns = np.arange(2**numbers.size)[:, None] >> np.arange(numbers.size)[None, :] & 1
        sums = (2 * patterns - 1) @ sizes
        return float(np.mean(np.abs(sums) >= reach))
    generator = np.random.default_rng(0)
    as_extreme = 0
    for _ in range(SIGN_FLIP_DRAWS // _DRAWS_AT_ONCE):
        signs = 2 * generator.integers(0, 2, size=(_DRAWS_AT_ONCE, numbers.size)) - 1
        as_extreme += int(np.count_nonzero(np.abs(signs @ sizes) >= reach))
    return (1 + as_extreme) / (1 + SIGN_FLIP_DRAWS)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p of every planned comparison, under the same names in the same order.

    Raises:
        ArgumentError: a p isn't between 0 and 1.
    """
    from statsmodels.stats.multitest import multipletests

    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ArgumentError(f"the p of {name!r} is {p}, not between 0 and 1", "compute this comparison again")
    if not p_values:
        return {}
    adjusted = cast("NDArray[np.float64]", multipletests(list(p_values.values()), method="holm")[1])
    return dict(zip(p_values, map(float, adjusted), strict=True))


def rank_among(value: float, others: Sequence[float]) -> float:
    """One-sided empirical p of `value` among its controls: (1 + those at or above it) / (1 + all of them).

    It can't fall below 1 / (1 + controls), so 19 controls are the fewest for p = .05; without any it is 1.

    Raises:
        ArgumentError: a number isn't finite.
    """
    [own] = _finite([value])
    controls = _finite(others)
    return (1 + int(np.count_nonzero(controls >= own))) / (1 + controls.size)


def _finite(values: Sequence[float]) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        position = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ArgumentError(
            f"value {position} is {numbers[position]}, which nothing can be computed from",
            "exclude the unit and say so in the record, or find out why it was not measured",
        )
    return numbers


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ArgumentError(f"a confidence of {confidence} is outside 0 to 1", "give a share such as 0.95")
