"""The room of axes: directions of the residual stream that have shown what they are.

In go contrast texts (and a model to read them), or control vectors of llama.cpp; out come axes with
their evidence: held-out separation from negatives, foils and neutral text, and what their doses cost
and do, beside random directions. An axis is never used before it passed its checks (unless a person
forced it, and then it says so), beyond the dose at which text falls apart, nor on another model than
the one it was made on.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.axes.axis import Axis, Evidence, load_axis
from overlay.axes.calibration import Calibration, calibrate
from overlay.axes.calibration_page import calibration_record, calibration_tables, findings, write_page
from overlay.axes.coherence import Reading, distinct, is_coherent, repeated
from overlay.axes.contrast import ContrastSet, find_words, read_contrast
from overlay.axes.control_vector import ControlVector, read_control_vector
from overlay.axes.library import AxisLibrary, AxisStatus
from overlay.axes.pooling import read_pool, write_pool
from overlay.axes.random_direction import random_direction
from overlay.axes.response import even_doses
from overlay.axes.separation import read_method, read_writes
from overlay.axes.text import Text, text_parts, text_row

if TYPE_CHECKING:
    from overlay.axes.build import auroc, build_axis

__all__ = [
    "Axis",
    "AxisLibrary",
    "AxisStatus",
    "Calibration",
    "ContrastSet",
    "ControlVector",
    "Evidence",
    "Reading",
    "Text",
    "auroc",
    "build_axis",
    "calibrate",
    "calibration_record",
    "calibration_tables",
    "distinct",
    "even_doses",
    "find_words",
    "findings",
    "is_coherent",
    "load_axis",
    "random_direction",
    "read_contrast",
    "read_control_vector",
    "read_method",
    "read_pool",
    "read_writes",
    "repeated",
    "text_parts",
    "text_row",
    "write_page",
    "write_pool",
]


def __getattr__(name: str) -> Any:
    # Building needs the model room, and with it torch; reading an axis's evidence does not.
    if name in ("auroc", "build_axis"):
        return getattr(importlib.import_module("overlay.axes.build"), name)
    raise AttributeError(f"module 'overlay.axes' has no attribute '{name}'")
