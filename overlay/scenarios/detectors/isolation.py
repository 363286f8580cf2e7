"""Isolation: units are measured together, and one that can't be measured takes no other with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from overlay.errors import OverlayError
from overlay.scenarios.detectors.finding import Finding

Unit = TypeVar("Unit")
Measured = TypeVar("Measured", float, bool)


def measure_each(
    units: Sequence[Unit], measure: Callable[[Sequence[Unit]], Sequence[Measured]]
) -> list[Measured | Finding]:
    """What `measure` gives for each unit, or an excluding finding where it fails or gives no finite number.

    All units are measured in one call; only when that raises is each measured by itself, to find the one to blame.
    """
    if not units:
        return []
    try:
        found = list(measure(units))
        if len(found) != len(units):
            raise ValueError(f"{len(found)} results for {len(units)} units")
    # Whatever goes wrong in a detector must reach the record as an exclusion: anything else would count as "no".
    except Exception as error:
        if len(units) == 1:
            return [Finding.excluded(_reason(error))]
        return [one for unit in units for one in measure_each([unit], measure)]
    # NaN is above no margin, so it would pass for a silent detector.
    return [value if math.isfinite(value) else Finding.excluded(f"the score is {value}") for value in found]


def _reason(error: Exception) -> str:
    if isinstance(error, OverlayError):
        return error.problem
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
