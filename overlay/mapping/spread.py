"""Spread: a mean over seeds and items, and between what bounds it would lie with others of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 4000


@dataclass(frozen=True)
class Spread:
    """A mean with its interval."""

    value: float
    low: float
    high: float


def crossed(values: NDArray[np.float64], confidence: float = 0.95) -> Spread:
    """The mean of (seeds, items) with a percentile interval for which seeds and items are both drawn anew.

    Each is drawn with replacement on its own, as if every seed met every item by chance (Owen 2007, The pigeonhole
    bootstrap, Annals of Applied Statistics 1). Of three seeds little can be learned about seeds: such an interval
    speaks of the items, and only roughly of the seeds. The draws are the same every time.
    """
    random = np.random.default_rng(0)
    seeds, items = values.shape
    across = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS)
    down = random.multinomial(items, np.full(items, 1 / items), size=DRAWS)
    means = ((across @ values) * down).sum(1) / (seeds * items)
    low, high = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Spread(float(values.mean()), float(low), float(high))
