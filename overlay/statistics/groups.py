"""Groups: two rates from units that aren't pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overlay.statistics.arguments import check_count


@dataclass(frozen=True)
class Boschloo:
    """The rates of two groups and the exact two-sided p of their difference."""

    first_rate: float
    second_rate: float
    p: float


def boschloo(first_successes: int, first_n: int, second_successes: int, second_n: int) -> Boschloo:
    """Boschloo's exact unconditional test of two unpaired rates; p is 1 when everything or nothing succeeded.

    For units that only one arm could run; where pairs exist, `mcnemar_exact` sees more. Two-sided p is twice the
    smaller one-sided p, at most 1. Source: Boschloo, Statistica Neerlandica 24 (1970).

    Raises:
        ArgumentError: a group is empty, or its successes aren't between 0 and its size.
    """
    from scipy.stats import boschloo_exact

    check_count(first_successes, first_n)
    check_count(second_successes, second_n)
    rates = first_successes / first_n, second_successes / second_n
    if first_successes + second_successes in (0, first_n + second_n):
        return Boschloo(*rates, 1.0)
    table = np.array(
        [[first_successes, second_successes], [first_n - first_successes, second_n - second_successes]], dtype=np.int64
    )
    return Boschloo(*rates, float(boschloo_exact(table, alternative="two-sided").pvalue))
