"""Measured mixes: what was measured is not measured again, in this process or the next, and only while it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_axis import BUDGET

from overlay.axes import Axis
from overlay.inner import Influence, MeasuredMixes, State
from overlay.model import Intervention, Volatility, VolatilityGauge

RESTS_ON = {"model": "one", "budget": BUDGET}


@pytest.fixture
def counted(tiny_gauge: VolatilityGauge, monkeypatch: pytest.MonkeyPatch) -> list[Intervention]:
    """Every intervention that the gauge measures."""
    asked: list[Intervention] = []
    measure = VolatilityGauge.measure

    def counting(self: VolatilityGauge, intervention: Intervention) -> Volatility:
        asked.append(intervention)
        return measure(self, intervention)

    monkeypatch.setattr(VolatilityGauge, "measure", counting)
    return asked


@pytest.fixture
def opened(tmp_path: Path, toy_axis: Axis, tiny_gauge: VolatilityGauge) -> Callable[..., Influence]:
    def open_with(writes: bool = True, **rests_on: Any) -> Influence:
        measured = MeasuredMixes(tmp_path, RESTS_ON | rests_on, writes=writes)
        return Influence([toy_axis], tiny_gauge, BUDGET, measured=measured)

    return open_with


STATE = State({"vowels": 0.7})


def test_a_state_is_measured_once_in_all_openings_and_acts_the_same_to_the_last_bit(
    opened: Callable[..., Influence], counted: list[Intervention]
) -> None:
    first = opened().of(STATE)
    acting = [one for one in counted if one.doses]
    assert acting
    again = opened(writes=False).of(STATE)
    assert again == first and [one for one in counted if one.doses] == acting


def test_another_model_budget_or_state_is_measured_anew(
    opened: Callable[..., Influence], counted: list[Intervention]
) -> None:
    opened().of(STATE)
    for influence, state in ((opened(model="two"), STATE), (opened(), State({"vowels": 0.9}))):
        before = len(counted)
        influence.of(state)
        assert any(one.doses for one in counted[before:])


def test_who_may_not_write_keeps_nothing_and_a_damaged_table_is_measured_anew(
    opened: Callable[..., Influence], counted: list[Intervention], tmp_path: Path
) -> None:
    first = opened(writes=False).of(STATE)
    assert not list(tmp_path.iterdir())
    opened().of(STATE)
    (table,) = tmp_path.iterdir()
    table.write_text('{"state": "nothing"}\n')
    assert opened().of(STATE) == first
    assert len(MeasuredMixes(tmp_path, RESTS_ON, writes=False)) == 1
