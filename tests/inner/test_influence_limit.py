"""A state that asks for more than the coherent limit gets the limit, and how much it was scaled is reported."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toy_axis import BUDGET

from overlay.axes import Axis
from overlay.inner import Influence, State
from overlay.model import VolatilityGauge


def limited(axis: Axis, name: str, reach: float) -> Axis:
    found = axis.calibration
    return replace(axis, name=name, calibration=replace(found, limit=reach * found.budget_dose))


@pytest.mark.parametrize("value", [3.0, -3.0, 1.05])
def test_a_state_beyond_the_limit_is_scaled_down_to_it(
    toy_axis: Axis, tiny_gauge: VolatilityGauge, value: float
) -> None:
    axis = limited(toy_axis, "narrow", 1.0)
    found = Influence([axis], tiny_gauge, 100 * BUDGET).of(State({"narrow": value}), span="all")
    (dose,) = found.intervention.doses
    assert abs(dose.coefficient) == pytest.approx(axis.calibration.limit) and dose.coefficient * value > 0
    assert found.scale == pytest.approx(1 / abs(value))
    assert found == Influence([axis], tiny_gauge, 100 * BUDGET).of(State({"narrow": value}), span="all")


def test_all_doses_shrink_together_so_that_a_state_keeps_its_proportions(
    toy_axis: Axis, tiny_gauge: VolatilityGauge
) -> None:
    axes = [limited(toy_axis, "narrow", 1.0), limited(toy_axis, "wide", 5.0)]
    found = Influence(axes, tiny_gauge, 100 * BUDGET).of(State({"narrow": 2.0, "wide": -1.0}), span="all")
    narrow, wide = (dose.coefficient for dose in found.intervention.doses)
    assert found.scale == pytest.approx(0.5) and narrow == pytest.approx(-2 * wide)
    assert narrow == pytest.approx(axes[0].calibration.limit)


def test_limit_and_budget_hold_together(toy_axis: Axis, tiny_gauge: VolatilityGauge) -> None:
    axis = limited(toy_axis, "narrow", 2.0)
    found = Influence([axis], tiny_gauge, BUDGET).of(State({"narrow": 3.0}), span="all")
    (dose,) = found.intervention.doses
    assert found.volatility.mean <= BUDGET and dose.coefficient == pytest.approx(
        3.0 * found.scale * axis.calibration.budget_dose
    )
    assert found.scale < 2 / 3
