"""Influence: a state becomes an intervention that costs no more than the budget, or is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts

from overlay.axes import Axis, ContrastSet, build_axis
from overlay.errors import ArgumentError, AxisUnproven
from overlay.inner import Influence, State
from overlay.model import NO_VOLATILITY, Row, VolatilityGauge

CAP = 3.0
"""The largest cap that settings allow."""


@pytest.fixture(scope="module")
def second_axis(tiny_llama: Any, tiny_gauge: VolatilityGauge) -> Axis:
    """Almost the first one: their costs add up."""
    contrast = toy_contrast("likewise", positive=toy_texts(LETTERS["positive"], seed=4))
    return build_axis(ContrastSet(**contrast), tiny_llama, tiny_gauge, budget=BUDGET)


@pytest.fixture(scope="module")
def influence(toy_axis: Axis, second_axis: Axis, tiny_gauge: VolatilityGauge) -> Influence:
    return Influence([toy_axis, second_axis], tiny_gauge, BUDGET)


@pytest.mark.parametrize("values", list(itertools.product([-CAP, -1.0, 0.5, CAP], repeat=2)))
def test_no_state_ever_costs_more_than_the_budget(
    influence: Influence, tiny_llama: Any, values: tuple[float, float]
) -> None:
    found = influence.of(State(dict(zip(("vowels", "likewise"), values, strict=True))), span="all")
    measured = VolatilityGauge(tiny_llama).measure(found.intervention)
    assert measured == found.volatility and measured.mean <= BUDGET
    assert found.intervention.doses


def test_a_scaled_down_state_spends_the_budget_and_keeps_its_proportions(influence: Influence) -> None:
    found = influence.of(State({"vowels": 3.0, "likewise": 1.5}), span="all")
    by_name = {dose.direction.name: dose.coefficient for dose in found.intervention.doses}
    wanted = {name: axis.calibration.budget_dose for name, axis in influence.axes.items()}
    assert 0 < found.scale < 1 and found.volatility.mean >= 0.8 * BUDGET
    assert by_name["vowels"] / (3.0 * wanted["vowels"]) == pytest.approx(found.scale)
    assert by_name["likewise"] / (1.5 * wanted["likewise"]) == pytest.approx(found.scale)


def test_a_state_within_the_budget_is_not_scaled(influence: Influence, toy_axis: Axis) -> None:
    found = influence.of(State({"vowels": 0.5, "likewise": 0.0}))
    assert found.scale == 1 and found.volatility.mean < BUDGET
    assert found.intervention.doses[1] == toy_axis.dose(0.5, "turn")


def test_a_state_of_nothing_does_nothing(influence: Influence) -> None:
    for state in (State(), State({"vowels": 0.0, "likewise": 0.0}), State({"unknown": 1.0})):
        found = influence.of(state)
        assert not found.intervention.doses and found.volatility == NO_VOLATILITY


def test_the_opposite_state_does_the_opposite(influence: Influence) -> None:
    up = influence.of(State({"vowels": 0.4})).intervention
    down = influence.of(State({"vowels": -0.4})).intervention
    assert [dose.coefficient for dose in down.doses] == [-dose.coefficient for dose in up.doses]


def test_an_unproven_axis_is_refused(toy_axis: Axis, tiny_gauge: VolatilityGauge) -> None:
    weak = replace(toy_axis, evidence=replace(toy_axis.evidence, auroc={"anger": 0.6}))
    with pytest.raises(AxisUnproven, match=r"anger is 0\.60"):
        Influence([weak], tiny_gauge, BUDGET)


def test_a_forced_axis_is_used_and_named_as_unproven(toy_axis: Axis, tiny_gauge: VolatilityGauge) -> None:
    weak = replace(toy_axis, evidence=replace(toy_axis.evidence, auroc={"anger": 0.6}), forced=True)
    influence = Influence([replace(weak, name="weak"), toy_axis], tiny_gauge, BUDGET)
    assert influence.unproven == ("weak",) and Influence([toy_axis], tiny_gauge, BUDGET).unproven == ()
    assert influence.of(State({"weak": 0.5})).intervention.doses


@pytest.mark.parametrize("budget", [0.0, -1.0])
def test_a_budget_of_nothing_is_refused(toy_axis: Axis, tiny_gauge: VolatilityGauge, budget: float) -> None:
    with pytest.raises(ArgumentError, match="budget"):
        Influence([toy_axis], tiny_gauge, budget)


def test_texts_are_read_on_every_axis_in_order(influence: Influence, tiny_llama: Any) -> None:
    texts = [*toy_texts(LETTERS["positive"], 2, 7), *toy_texts(LETTERS["negative"], 2, 7)]
    found = influence.read(tiny_llama, texts)
    assert [set(reading) for reading in found] == [{"vowels", "likewise"}] * 4
    alone = [influence.read(tiny_llama, [text])[0]["vowels"] for text in texts]
    assert [reading["vowels"] for reading in found] == pytest.approx(alone, abs=1e-2)
    assert min(alone[:2]) > max(alone[2:])
    assert influence.read(tiny_llama, []) == []


def test_each_axis_reads_the_positions_it_was_made_from(
    toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    by_pool = {pool: replace(toy_axis, name=pool, pool=pool) for pool in ("ramp", "mean", "last")}
    texts = [*toy_texts(LETTERS["positive"], 2, 7), *toy_texts(LETTERS["negative"], 1, 7)]
    together = Influence([*by_pool.values(), toy_axis], tiny_gauge, BUDGET).read(tiny_llama, texts)
    for pool, axis in by_pool.items():
        seen = tiny_llama.observe([Row(text=text) for text in texts], pool=pool)
        assert [one[pool] for one in together] == pytest.approx([axis.project(one.activations) for one in seen])
    assert len({round(together[0][pool], 3) for pool in by_pool}) == 3
    assert [one["vowels"] for one in together] == [one["ramp"] for one in together]
    assert Influence([], tiny_gauge, BUDGET).read(tiny_llama, texts) == [{}, {}, {}]
