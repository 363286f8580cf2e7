"""What every statistic demands of its arguments before it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError


def finite(values: Sequence[float]) -> NDArray[np.float64]:
    """The values as an array (n,).

    Raises:
        ArgumentError: one of them isn't finite; the message names its position, counted from 0.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        position = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ArgumentError(
            f"value {position} is {numbers[position]}, which nothing can be computed from",
            "exclude the unit and say so in the record, or find out why it was not measured",
        )
    return numbers


def check_confidence(confidence: float) -> None:
    """Raise ArgumentError unless `confidence` is a share strictly between 0 and 1."""
    if not 0 < confidence < 1:
        raise ArgumentError(f"a confidence of {confidence} is outside 0 to 1", "give a share such as 0.95")


def check_significance(significance: float) -> None:
    """Raise ArgumentError unless `significance` is strictly between 0 and .5."""
    if not 0 < significance < 0.5:
        raise ArgumentError(f"a significance level of {significance} is outside 0 to 0.5", "give a share such as 0.05")


def check_count(successes: int, n: int) -> None:
    """Raise ArgumentError unless `successes` of `n` units is a rate."""
    if n < 1:
        raise ArgumentError(
            "a rate over 0 units has no interval", "run at least one unit, or report the rate as unknown"
        )
    if not 0 <= successes <= n:
        raise ArgumentError(f"{successes} successes in {n} units is impossible", "count the successes again")


def check_p_values(p_values: Mapping[str, float]) -> None:
    """Raise ArgumentError, with the comparison's name, unless every p is between 0 and 1."""
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ArgumentError(f"the p of {name!r} is {p}, not between 0 and 1", "compute this comparison again")


def pair_outcomes(first: Sequence[bool], second: Sequence[bool]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both arms' outcomes as arrays (pairs,), paired by position.

    Raises:
        ArgumentError: the two sequences don't have the same length.
    """
    if len(first) != len(second):
        raise ArgumentError(
            f"outcomes can't be paired: {len(first)} in the first arm, {len(second)} in the second",
            "leave out the units that only one arm has, in both arms",
        )
    return np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
