"""The stock axis in seconds, for tests to which it is nothing how well it was made: the real one takes minutes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from overlay.axes import Axis, Calibration, Evidence
from overlay.axes.separation import difference
from overlay.home import Home
from overlay.model import Direction, Row, neutral_texts

BUDGET = 0.15


def quick_axis(home: Home, model: Any) -> Axis:
    """An axis of the stock contrast set, made from a few of its texts with a dose that was measured on no text."""
    contrast = home.axes.contrast("tenderness")
    groups = [contrast.positive[:6], contrast.negative[:6], neutral_texts()[:6]]
    own, twins, neutral = (
        np.stack([seen.activations for seen in model.observe([Row(text=text) for text in texts])]) for texts in groups
    )
    direction = Direction("tenderness", difference(own, {"negative": twins}), model.residual_norms(neutral_texts()[:6]))
    axis = Axis(
        name="tenderness",
        method="mean",
        direction=direction,
        writing=direction,
        blocks=tuple(range(12, 20)),
        reading_blocks=tuple(range(15, 23)),
        neutral_mean=0.0,
        neutral_deviation=1.0,
        model_name=model.name,
        model_digest=model.digest,
        data_digest=contrast.digest,
        lexicon=contrast.lexicon,
        evidence=Evidence(),
        calibration=Calibration(BUDGET, 0.008, False, ((0.0, 0.0, 0.0), (0.008, 0.1, 0.2)), 0.02, False, ()),
        forced=True,
    )
    readings = [axis.project(one) for one in neutral]
    return replace(axis, neutral_mean=float(np.mean(readings)), neutral_deviation=float(np.std(readings, ddof=1)))
