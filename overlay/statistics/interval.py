"""A confidence interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A confidence interval, both ends included; `low` <= `high`, in the unit of what was estimated."""

    low: float
    high: float
