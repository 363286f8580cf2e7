"""What the tests of inner life share: a gauge on the tiny model, and one axis built from letters."""

from __future__ import annotations

from typing import Any

import pytest
from toy_axis import BUDGET, toy_contrast

from overlay.axes import Axis, ContrastSet, build_axis
from overlay.model import VolatilityGauge


@pytest.fixture(scope="session")
def tiny_gauge(tiny_llama: Any) -> VolatilityGauge:
    return VolatilityGauge(tiny_llama)


@pytest.fixture(scope="session")
def toy_axis(tiny_llama: Any, tiny_gauge: VolatilityGauge) -> Axis:
    return build_axis(ContrastSet(**toy_contrast()), tiny_llama, tiny_gauge, budget=BUDGET)
