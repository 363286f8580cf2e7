"""Scaling: how strong something must be to cost a given volatility."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from overlay.model import Volatility

TOLERANCE = 0.05
"""Of the volatility that is wanted: seeds differ by much more."""

ATTEMPTS = 10


@dataclass(frozen=True)
class Scaled:
    """A strength and what it costs; `reached` says whether that is what was wanted."""

    scale: float
    volatility: Volatility
    reached: bool


def scale_to(measure: Callable[[float], Volatility], p95: float, *, first: float, largest: float) -> Scaled:
    """Find the strength whose volatility has this 95th percentile, by bisection between what is too weak and too much.

    KL grows with the square of a small strength, so each measurement tells where to look next; where that leads out of
    the bracket, its middle is taken. Where even `largest` costs less, that is what comes back, not reached.

    Args:
        measure: volatility at a strength above 0. first: the strength that is tried first.
    """
    low, high, scale = 0.0, math.inf, first
    best: Scaled | None = None
    for _ in range(ATTEMPTS):
        found = measure(scale)
        near = abs(found.p95 - p95)
        if best is None or near < abs(best.volatility.p95 - p95):
            best = Scaled(scale, found, near <= TOLERANCE * p95)
        if best.reached:
            return best
        if found.p95 < p95:
            low = scale
            if scale >= largest:
                break
        else:
            high = scale
        wanted = min(largest, scale * min(8.0, math.sqrt(p95 / max(found.p95, 1e-9))))
        scale = wanted if low < wanted < high else (low + high) / 2
    assert best is not None
    return best
