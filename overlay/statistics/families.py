"""Families of comparisons: what a p is worth when it isn't the only one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from overlay.statistics.arguments import check_p_values


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p of every planned comparison, under the same names in the same order.

    It bounds the chance of even one false alarm in the family, however the comparisons depend on each other.
    Source: Holm, Scandinavian Journal of Statistics 6 (1979).

    Raises:
        ArgumentError: a p isn't between 0 and 1.
    """
    return _adjust(p_values, "holm")


def benjamini_hochberg(p_values: Mapping[str, float]) -> dict[str, float]:
    """Benjamini and Hochberg's adjusted p of every exploratory comparison, same names, same order.

    Those at or below .05 hold at most 5% false ones on average, if the comparisons are independent or positively
    dependent. It says which comparisons deserve a run of their own, never that a behaviour was shown.
    Source: Benjamini and Hochberg, Journal of the Royal Statistical Society B 57 (1995).

    Raises:
        ArgumentError: a p isn't between 0 and 1.
    """
    return _adjust(p_values, "fdr_bh")


def _adjust(p_values: Mapping[str, float], method: Literal["holm", "fdr_bh"]) -> dict[str, float]:
    from statsmodels.stats.multitest import multipletests

    check_p_values(p_values)
    if not p_values:
        return {}
    adjusted = cast("NDArray[np.float64]", multipletests(list(p_values.values()), method=method)[1])
    return dict(zip(p_values, map(float, adjusted), strict=True))
