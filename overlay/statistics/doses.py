"""Doses: whether more of the state brings more of the behaviour."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError
from overlay.statistics.arguments import finite

LEAST_DOSES = 4
"""Three points fit almost any curve; a trend over four has to be more than one lucky step."""

MOST_DOSES = 8
"""All orders of an item's values are counted, and those of nine doses (362,880) would take too long."""


@dataclass(frozen=True)
class DoseTrend:
    """How a measure goes with the dose.

    Attributes:
        doses: the doses, rising.
        means: mean over items at each dose, in the unit of what was measured.
        statistic: Page's L.
        agreement: mean over items of the rank correlation of dose and value, -1 to 1.
        p: one-sided exact p, small when values rise with the dose.
    """

    doses: tuple[float, ...]
    means: tuple[float, ...]
    statistic: float
    agreement: float
    p: float

    @property
    def falls(self) -> int:
        """Steps from one dose to the next at which the mean falls; 0 where it is monotone."""
        return sum(later < earlier for earlier, later in itertools.pairwise(self.means))


def dose_trend(doses: Sequence[float], rows: Sequence[Sequence[float]]) -> DoseTrend:
    """Page's trend test over (items, doses): each row is one item, measured once at every dose.

    Only the order inside each item counts, so items may differ as they like. The p is exact, also with ties, which
    yes-or-no outcomes are full of and for which scipy's page_trend_test has no exact answer. A small p means that
    values rise on the whole; `falls` says whether every step does. Rows must be independent: average paraphrases
    first, and over several scenarios give one row per scenario.
    Source: Page, Journal of the American Statistical Association 58 (1963).

    Raises:
        ArgumentError: not 4 to 8 doses in rising order, no row, a row of another length, or a value not finite.
    """
    from scipy.stats import rankdata

    levels = finite(doses)
    if not LEAST_DOSES <= levels.size <= MOST_DOSES:
        raise ArgumentError(
            f"a trend needs {LEAST_DOSES} to {MOST_DOSES} doses, not {levels.size}", "run the doses that are missing"
        )
    if not (np.diff(levels) > 0).all():
        raise ArgumentError("the doses don't rise from each to the next", "sort doses and values by dose")
    if not len(rows):
        raise ArgumentError("a trend over 0 items can't be tested", "run at least one item at every dose")
    for number, row in enumerate(rows):
        if len(row) != levels.size:
            raise ArgumentError(
                f"item {number} has {len(row)} values for {levels.size} doses", "leave out items that missed a dose"
            )
    values = np.array([finite(row) for row in rows])
    # Middle ranks are halves; doubled, they and every score are whole numbers.
    doubled = np.rint(2 * rankdata(values, axis=1)).astype(np.int64)
    weights = np.arange(1, levels.size + 1)
    statistic = int((doubled @ weights).sum())
    spread = doubled - (levels.size + 1)
    norms = np.sqrt((spread**2).sum(axis=1) * 4.0 * ((weights - weights.mean()) ** 2).sum())
    # An item that is the same at every dose agrees with nothing and contradicts nothing.
    agreement = (spread @ (2 * weights - levels.size - 1)) / np.where(norms > 0, norms, 1.0)
    return DoseTrend(
        tuple(map(float, levels)),
        tuple(map(float, values.mean(axis=0))),
        statistic / 2,
        float(agreement.mean()),
        _tail(doubled, statistic),
    )


def _tail(doubled: NDArray[np.int64], statistic: int) -> float:
    """The chance of a sum of scores this large when every item's values come in any order."""
    chances = np.ones(1)
    smallest = 0
    for row in np.sort(doubled, axis=1):
        start, one = _scores(tuple(map(int, row)))
        chances = np.convolve(chances, one)
        smallest += start
    return min(1.0, float(chances[statistic - smallest :].sum()))


@lru_cache(maxsize=256)
def _scores(doubled: tuple[int, ...]) -> tuple[int, NDArray[np.float64]]:
    """The smallest score of one item over all orders of its doubled ranks, and the chance of each from there on."""
    orders = np.array(list(itertools.permutations(doubled)))
    scores = orders @ np.arange(1, len(doubled) + 1)
    start = int(scores.min())
    return start, np.bincount(scores - start) / len(scores)
