"""The room of axes: directions of the residual stream that have shown what they are.

In go contrast texts (and a model to read them); out come axes with their evidence: held-out
separation from negatives, foils and neutral text, and the dose that spends the budget. An axis is
never used before it passed its checks, nor on another model than the one it was made on.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.axes.axis import Axis, Calibration, Evidence, load_axis
from overlay.axes.contrast import ContrastSet, find_words, read_contrast
from overlay.axes.library import AxisLibrary, AxisStatus

if TYPE_CHECKING:
    from overlay.axes.build import build_axis, calibrate, random_direction

__all__ = [
    "Axis",
    "AxisLibrary",
    "AxisStatus",
    "Calibration",
    "ContrastSet",
    "Evidence",
    "build_axis",
    "calibrate",
    "find_words",
    "load_axis",
    "random_direction",
    "read_contrast",
]


def __getattr__(name: str) -> Any:
    # Building needs the model room, and with it torch; reading an axis's evidence does not.
    if name in ("build_axis", "calibrate", "random_direction"):
        return getattr(importlib.import_module("overlay.axes.build"), name)
    raise AttributeError(f"module 'overlay.axes' has no attribute '{name}'")
