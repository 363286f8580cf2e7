"""Sequential evidence: a run may be looked at after every pair, and stopped at any time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from overlay.statistics.arguments import check_significance, pair_outcomes

_PRIOR = 0.5
"""The bet's Beta(1/2, 1/2) start (Krichevsky and Trofimov): seven one-way pairs in a row reach e = 20."""


@dataclass(frozen=True)
class SequentialEvidence:
    """Evidence against "as often either way", as it stood when the run was stopped.

    Attributes:
        e: wealth of a gambler who began with 1 and bet against the null on every pair; 20 is strong evidence.
        largest: the most that e ever was.
        p: 1 / `largest`, at most 1: a p that may be looked at after every pair.
        crossed_after: pairs after which e first reached 1 / significance; None if it never did.
    """

    e: float
    largest: float
    p: float
    crossed_after: int | None


def sequential_evidence(
    first: Sequence[bool], second: Sequence[bool], significance: float = 0.05
) -> SequentialEvidence:
    """The e-value of outcomes paired by position, in the order in which they were run.

    Under the null, whatever rule stops the run, e reaches 1 / significance with a chance of at most `significance`.
    It bets on discordant pairs only: with u of them one way and d the other,
    e = 2^(u + d) B(1/2 + u, 1/2 + d) / B(1/2, 1/2), where B is the beta function. Two-sided: see which way it went.
    Each pair must be as likely to go either way whatever came before, which paraphrases of one item, or items of one
    scenario, are not: give one pair per item, or per scenario one pair that says which arm had the higher rate.
    Sources: Ville (1939); Shafer, Shen, Vereshchagin and Vovk, Statistical Science 26 (2011); the bet from
    Krichevsky and Trofimov, IEEE Transactions on Information Theory 27 (1981).

    Raises:
        ArgumentError: lengths differ, or `significance` isn't between 0 and .5.
    """
    from scipy.special import betaln

    before, after = pair_outcomes(first, second)
    check_significance(significance)
    up, down = np.cumsum(after & ~before), np.cumsum(before & ~after)
    logs = (up + down) * math.log(2) + betaln(_PRIOR + up, _PRIOR + down) - betaln(_PRIOR, _PRIOR)
    # A float's largest is e^709; a thousand one-way pairs would pass it.
    wealth = np.exp(np.minimum(np.concatenate([[0.0], logs]), 700.0))
    # 1 / .05 isn't exactly 20.
    crossed = np.flatnonzero(wealth * significance >= 1 - 1e-12)
    largest = float(wealth.max())
    return SequentialEvidence(
        float(wealth[-1]), largest, min(1.0, 1 / largest), int(crossed[0]) if crossed.size else None
    )
