"""One value among its controls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from overlay.statistics.arguments import finite


def rank_among(value: float, others: Sequence[float]) -> float:
    """One-sided empirical p of `value` among its controls: (1 + those at or above it) / (1 + all of them).

    It can't fall below 1 / (1 + controls), so 19 controls are the fewest for p = .05; without any it is 1.

    Raises:
        ArgumentError: a number isn't finite.
    """
    [own] = finite([value])
    controls = finite(others)
    return (1 + int(np.count_nonzero(controls >= own))) / (1 + controls.size)
