"""Equivalence: evidence that two arms differ by less than what would matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError
from overlay.statistics.arguments import check_significance, finite, pair_outcomes
from overlay.statistics.interval import Interval
from overlay.statistics.pairs import tango_interval, tango_score

# Shares of one-way pairs that the exact p is maximised over: this many in all, then this many around the largest.
_SHARES = 101
# Two scores of mirrored outcomes differ by rounding; a tie must stay a tie.
_TIE = 1e-9
# A spread below this share of the largest value is rounding, not variation.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a difference (second minus first) against a margin on both sides.

    Attributes:
        difference: the estimate, in the unit of what was compared.
        interval: its interval at 1 - 2 * `significance`, 90% by default.
        margin: the smallest difference that would matter, stated before the run.
        p: the larger of the two one-sided p.
        significance: the level that `equivalent` judges by.
    """

    difference: float
    interval: Interval
    margin: float
    p: float
    significance: float

    @property
    def equivalent(self) -> bool:
        """Whether a difference as large as the margin is rejected on both sides."""
        return self.p < self.significance


def equivalence_of_means(differences: Sequence[float], margin: float, significance: float = 0.05) -> Equivalence:
    """Whether the mean of paired differences, one per cluster, lies within plus and minus `margin`.

    Two one-sided t tests; `equivalent` exactly when the interval lies inside the margin. For shifts in nats and the
    like: rates of rare events aren't nearly normal, and belong in `equivalence_of_rates`.
    Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987).

    Raises:
        ArgumentError: fewer than two differences, all of them equal, one that isn't finite, or a margin not above 0.
    """
    from statsmodels.stats.weightstats import DescrStatsW

    numbers = finite(differences)
    _check_margin(margin)
    check_significance(significance)
    if numbers.size < 2:
        raise ArgumentError(
            f"{numbers.size} difference(s) can't show how differences vary", "run at least two clusters, better twelve"
        )
    if float(np.ptp(numbers)) <= _ROUNDING * float(np.abs(numbers).max()):
        raise ArgumentError(
            f"all {numbers.size} differences are {numbers[0]:g}: without variation a t test claims anything",
            "compare yes-or-no outcomes with equivalence_of_rates, or check that the intervention was on",
        )
    described = DescrStatsW(numbers)
    low, high = described.tconfint_mean(alpha=2 * significance)
    p = float(described.ttost_mean(-margin, margin)[0])
    return Equivalence(float(numbers.mean()), Interval(float(low), float(high)), margin, p, significance)


def equivalence_of_rates(
    first: Sequence[bool], second: Sequence[bool], margin: float, significance: float = 0.05
) -> Equivalence:
    """Whether two rates of the same units, paired by position, differ by less than `margin` (a share, 0 to 1).

    Outcomes are ordered by Tango's score; the exact p is the largest over every share of discordant pairs that the
    margin leaves possible. The p decides; the interval is Tango's, an approximation, and may differ from it by a
    hair. Few pairs can't show much: even without any discordant pair, a margin of .1 takes 29.
    Pairs must be independent of each other: give one paraphrase of each item.
    Sources: Tango, Statistics in Medicine 17 (1998); Hsueh, Liu and Chen, Biometrics 57 (2001).

    Raises:
        ArgumentError: lengths differ, there is no pair, or the margin isn't between 0 and 1.
    """
    before, after = pair_outcomes(first, second)
    _check_margin(margin)
    check_significance(significance)
    if margin >= 1:
        raise ArgumentError(f"no two rates differ by {margin}", "state a margin between 0 and 1, such as 0.1")
    pairs = before.size
    if not pairs:
        raise ArgumentError("0 pairs can't show that two rates agree", "run at least one unit in both arms")
    only_first, only_second = int(np.sum(before & ~after)), int(np.sum(after & ~before))
    # Not below -margin is not above margin with the arms exchanged.
    p = max(_exact_p(only_first, only_second, pairs, margin), _exact_p(only_second, only_first, pairs, margin))
    interval = tango_interval(only_first, only_second, pairs, 1 - 2 * significance)
    return Equivalence((only_second - only_first) / pairs, interval, margin, p, significance)


def _exact_p(only_first: int, only_second: int, pairs: int, margin: float) -> float:
    """The largest chance of an outcome this far below a true difference of `margin`, over all nuisance shares."""
    from scipy.stats import binom

    observed = float(tango_score(np.array([only_first]), np.array([only_second]), pairs, margin)[0])
    # The score rises with the pairs that say yes in the second arm only, so that each count of the others has a
    # largest one that is still as extreme; -1 where there is none.
    down = np.arange(pairs + 1)
    most, beyond = np.full(pairs + 1, -1), pairs - down + 1
    while (beyond - most > 1).any():
        middle = (most + beyond) // 2
        # Where the search is over the middle is `most` itself, and -1 pairs have no score.
        extreme = tango_score(down, np.maximum(middle, 0), pairs, margin) <= observed + _TIE
        extreme &= middle >= 0
        most, beyond = np.where(extreme, middle, most), np.where(extreme, beyond, middle)
        beyond = np.maximum(beyond, most + 1)

    def chances(shares: NDArray[np.float64]) -> NDArray[np.float64]:
        rest = np.minimum(1, (shares + margin) / (1 - shares))
        likely, tail = binom.pmf(down, pairs, shares[:, None]), binom.cdf(most, pairs - down, rest[:, None])
        summed: NDArray[np.float64] = np.multiply(likely, tail).sum(axis=1)
        return summed

    coarse = np.linspace(0, (1 - margin) / 2, _SHARES)
    peak = int(chances(coarse).argmax())
    fine = np.linspace(coarse[max(0, peak - 1)], coarse[min(_SHARES - 1, peak + 1)], _SHARES)
    return min(1.0, float(chances(fine).max()))


def _check_margin(margin: float) -> None:
    if not (margin > 0 and np.isfinite(margin)):
        raise ArgumentError(
            f"a margin of {margin} can't be met", "state, before the run, the smallest difference that would matter"
        )
