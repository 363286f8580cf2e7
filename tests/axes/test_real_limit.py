"""On the embedded model text falls apart somewhere, well above a small dose and well below the residual norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overlay.axes import calibrate, read_contrast
from overlay.axes.separation import difference
from overlay.model import Direction, Row, VolatilityGauge, neutral_texts

ROOT = Path(__file__).parents[2]
BLOCKS = tuple(range(12, 20))


@pytest.mark.real
def test_the_limit_of_a_real_direction_lies_where_text_falls_apart(real_model: Any) -> None:
    contrast = read_contrast(ROOT / "adapters" / "steering" / "tenderness.yaml")
    norms = real_model.residual_norms(neutral_texts())
    own, twins = (
        np.stack([seen.activations for seen in real_model.observe([Row(text=text) for text in texts])])
        for texts in (contrast.positive[:12], contrast.negative[:12])
    )
    direction = Direction("difference", difference(own, {"negative": twins}), norms)
    found = calibrate(direction, BLOCKS, VolatilityGauge(real_model), 0.15)
    assert found.spends_budget and found.falls_apart
    assert 0.01 < found.budget_dose <= found.limit < 0.2
    surprise = {point.dose: point.surprise for point in found.coherence}
    broken = max(surprise)
    assert (surprise[broken] or np.inf) > 1.3 * (surprise[0.0] or 0)
