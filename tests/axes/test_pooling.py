"""Pooling is the axis's own: chosen when it is built, saved with it, and used whenever it is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts, write_contrast

from overlay.axes import Axis, AxisLibrary, ContrastSet, build_axis, load_axis, read_pool, write_pool
from overlay.errors import ArgumentError, RecordDamaged
from overlay.model import Row, VolatilityGauge, neutral_texts


@given(st.one_of(st.sampled_from(["ramp", "mean", "last"]), st.sets(st.integers(-99, -1), min_size=1).map(tuple)))
def test_a_pool_is_read_as_it_is_written(pool: Any) -> None:
    assert read_pool(write_pool(pool)) == pool


@pytest.mark.parametrize("text", ["-1,-2", " -1 , -2 ", "-1, -2"])
def test_positions_may_be_written_with_blanks(text: str) -> None:
    assert read_pool(text) == (-1, -2)


@pytest.mark.parametrize("text", ["", "median", "Ramp", "1", "-1,2", "0", "-1,", "-1,-1", "-1;-2", "last,-1", "--1"])
def test_what_is_no_pool_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(ArgumentError, match="is not a pool") as caught:
        read_pool(text)
    assert "ramp, mean, last" in caught.value.next_step and "-1,-2" in caught.value.next_step


@pytest.mark.parametrize("pool", ["median", (), (1,), (-1, 0), (-1, -1), [-1], None, (True,)])
def test_no_axis_is_built_over_what_is_no_pool(tiny_llama: Any, tiny_gauge: VolatilityGauge, pool: Any) -> None:
    with pytest.raises(ArgumentError, match="is not a pool"):
        build_axis(ContrastSet(**toy_contrast()), tiny_llama, tiny_gauge, pool=pool, budget=BUDGET)


@pytest.fixture(scope="module", params=["mean", "last", (-1, -2)], ids=write_pool)
def pooled_axis(request: pytest.FixtureRequest, tiny_llama: Any, tiny_gauge: VolatilityGauge) -> Axis:
    return build_axis(ContrastSet(**toy_contrast()), tiny_llama, tiny_gauge, pool=request.param, budget=BUDGET)


def test_an_axis_is_made_from_activations_pooled_its_own_way(
    pooled_axis: Axis, toy_axis: Axis, tiny_llama: Any
) -> None:
    assert toy_axis.pool == "ramp" and pooled_axis.direction != toy_axis.direction
    seen = tiny_llama.observe([Row(text=text) for text in neutral_texts()], pool=pooled_axis.pool)
    readings = [pooled_axis.project(one.activations) for one in seen]
    assert sum(readings) / len(readings) == pytest.approx(0, abs=1e-3)


def test_every_pool_makes_an_axis_of_its_own(tiny_llama: Any, tiny_gauge: VolatilityGauge) -> None:
    contrast = ContrastSet(**toy_contrast())
    pools: list[Any] = ["ramp", "mean", "last", (-1, -2), (-2,)]
    built = [build_axis(contrast, tiny_llama, tiny_gauge, pool=pool, budget=BUDGET) for pool in pools]
    assert len({axis.direction.digest for axis in built}) == len(pools)


def test_the_pool_is_saved_with_the_axis(pooled_axis: Axis, tmp_path: Path) -> None:
    found = load_axis(pooled_axis.save(tmp_path))
    assert found == pooled_axis and found.pool == pooled_axis.pool


def test_an_axis_whose_saved_pool_is_none_is_damaged(toy_axis: Axis, tmp_path: Path) -> None:
    path = replace(toy_axis, pool="median").save(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(RecordDamaged, match="median"):
        load_axis(path)


def test_building_again_for_another_budget_keeps_method_and_pool(
    tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    write_contrast(tmp_path / "written", toy_contrast())
    library = AxisLibrary(tmp_path / "written", tmp_path / "built")
    first = library.build("vowels", tiny_llama, tiny_gauge, budget=BUDGET, method="difference", pool="last")
    again = library.ready("vowels", tiny_llama, tiny_gauge, BUDGET / 2)
    assert (again.method, again.pool) == ("difference", "last") and again.calibration.budget == BUDGET / 2
    assert again.direction == first.direction
    write_contrast(tmp_path / "written", toy_contrast(neutral=toy_texts(LETTERS["neutral"], seed=2)))
    anew = library.ready("vowels", tiny_llama, tiny_gauge, BUDGET)
    assert (anew.method, anew.pool) == ("difference", "last")
