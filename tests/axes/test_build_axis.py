"""A built axis points where its texts differ, spends its budget and no more, and is refused unless it passed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts

from overlay.axes import Axis, ContrastSet, build_axis, calibrate, load_axis, random_direction
from overlay.axes.build import auroc
from overlay.axes.separation import METHODS, WRITES
from overlay.errors import ArgumentError, AxisUnproven
from overlay.model import Direction, Intervention, Row, VolatilityGauge


def readings(axis: Axis, model: Any, texts: list[str]) -> list[float]:
    return [axis.project(seen.activations) for seen in model.observe([Row(text=text) for text in texts])]


# --- direction and reading -----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_block_of_an_axis_has_unit_length(tiny_llama: Any, tiny_gauge: VolatilityGauge, method: str) -> None:
    axis = build_axis(ContrastSet(**toy_contrast()), tiny_llama, tiny_gauge, method=method, budget=BUDGET)
    vectors = axis.direction.vectors
    assert vectors.shape == (tiny_llama.layers, tiny_llama.width) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert axis.method == method and axis.evidence.auroc["negative"] > 0.95


def test_a_dose_up_the_gradient_makes_fresh_own_texts_likelier_than_one_along_the_reading(
    tiny_llama: Any, tiny_gauge: VolatilityGauge, tmp_path: Path
) -> None:
    fresh = {group: toy_texts(letters, seed=9) for group, letters in LETTERS.items()}
    contrast = ContrastSet(**toy_contrast())
    built = {
        writes: build_axis(contrast, tiny_llama, tiny_gauge, writes=writes, budget=BUDGET, confirmation=fresh)
        for writes in WRITES
    }
    assert {writes: axis.writes for writes, axis in built.items()} == {writes: writes for writes in WRITES}
    read, uphill = built["reading"], built["gradient"]
    assert uphill.direction == read.direction and uphill.evidence.auroc == read.evidence.auroc
    assert uphill.writing != uphill.direction and uphill.digest != read.digest
    assert uphill.dose(1.0).direction == uphill.writing
    assert uphill.evidence.writing["positive"] > read.evidence.writing["positive"]
    spent = tiny_gauge.measure(Intervention((uphill.dose(1.0),))).mean
    assert spent <= BUDGET * 1.05
    assert load_axis(uphill.save(tmp_path)) == uphill


def test_fresh_texts_of_its_kind_read_above_those_of_every_other_group(toy_axis: Axis, tiny_llama: Any) -> None:
    own = readings(toy_axis, tiny_llama, toy_texts(LETTERS["positive"], seed=9))
    for group in ("negative", "foil", "neutral"):
        other = readings(toy_axis, tiny_llama, toy_texts(LETTERS[group], seed=9))
        assert auroc(own, other) > 0.95 and np.mean(own) > np.mean(other)


def test_readings_are_deviations_from_neutral_prose(toy_axis: Axis, tiny_llama: Any) -> None:
    from overlay.model import neutral_texts

    found = readings(toy_axis, tiny_llama, list(neutral_texts()))
    assert np.mean(found) == pytest.approx(0, abs=1e-3) and np.std(found, ddof=1) == pytest.approx(1, abs=1e-3)


def test_building_twice_gives_the_same_axis(toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge) -> None:
    again = build_axis(ContrastSet(**toy_contrast()), tiny_llama, tiny_gauge, budget=BUDGET)
    assert again == toy_axis


# --- evidence ------------------------------------------------------------------------------------


def test_an_axis_that_separates_passes(toy_axis: Axis) -> None:
    assert set(toy_axis.evidence.auroc) == set(toy_axis.evidence.auroc_ablated) == {"negative", "liquids", "neutral"}
    assert min(toy_axis.evidence.auroc.values()) > 0.95 and toy_axis.evidence.against_sign == 0
    toy_axis.require_proof()


def test_an_axis_whose_texts_do_not_differ_from_their_twins_is_refused_with_the_reason(
    tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    same = toy_texts(LETTERS["negative"], seed=1)
    axis = build_axis(ContrastSet(**toy_contrast(positive=same)), tiny_llama, tiny_gauge, budget=BUDGET)
    with pytest.raises(
        AxisUnproven, match=r"'vowels' did not pass.*held-out AUROC against negative is 0\.\d\d"
    ) as caught:
        axis.require_proof()
    assert "build it again" in caught.value.next_step
    assert not any("neutral" in failure for failure in axis.evidence.failures)


def test_an_axis_that_fires_on_a_foil_as_much_is_refused_by_the_foils_name(
    tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    foils = {"liquids": toy_texts(LETTERS["foil"]), "likeness": toy_texts(LETTERS["positive"], seed=5)}
    axis = build_axis(ContrastSet(**toy_contrast(foils=foils)), tiny_llama, tiny_gauge, budget=BUDGET)
    assert any("against likeness" in failure for failure in axis.evidence.failures)
    with pytest.raises(AxisUnproven, match="likeness"):
        axis.require_proof()


def test_an_axis_of_one_telling_word_is_refused_once_the_word_is_gone(
    tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    """All texts are of one kind; a single repeated word makes the positive ones."""
    plain = {group: toy_texts("abcdefgh", seed=place) for place, group in enumerate(LETTERS)}
    marked = [f"zzzzzzz qqqqqqq zzzzzzz {text} zzzzzzz qqqqqqq zzzzzzz" for text in plain["positive"]]
    contrast = toy_contrast(
        positive=marked, negative=plain["negative"], foils={"other": plain["foil"]}, neutral=plain["neutral"]
    )
    evidence = build_axis(ContrastSet(**contrast), tiny_llama, tiny_gauge, budget=BUDGET).evidence
    assert min(evidence.auroc.values()) > 0.9
    assert any("without its telling words" in failure for failure in evidence.failures)


@pytest.mark.parametrize(("value", "passes"), [(0.80, True), (0.79, False)])
def test_the_bar_is_where_it_is_said_to_be(toy_axis: Axis, value: float, passes: bool) -> None:
    evidence = replace(toy_axis.evidence, auroc=toy_axis.evidence.auroc | {"liquids": value})
    assert (not evidence.failures) is passes


def test_confirmation_texts_are_read_but_shape_nothing(
    toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    fresh = {"positive": toy_texts(LETTERS["positive"], 8, 3), "liquids": toy_texts(LETTERS["foil"], 8, 3)}
    axis = build_axis(ContrastSet(**toy_contrast()), tiny_llama, tiny_gauge, budget=BUDGET, confirmation=fresh)
    assert axis.evidence.confirmation == {"liquids": pytest.approx(1, abs=0.05)}
    assert axis.direction == toy_axis.direction and axis.calibration == toy_axis.calibration


@pytest.mark.parametrize(
    "wrong", [{"method": "magic"}, {"blocks": (7,)}, {"blocks": ()}, {"blocks": (-1,)}, {"budget": 0.0}]
)
def test_what_cannot_be_built_is_refused(tiny_llama: Any, tiny_gauge: VolatilityGauge, wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        build_axis(ContrastSet(**toy_contrast()), tiny_llama, tiny_gauge, **wrong)


# --- dose ----------------------------------------------------------------------------------------


def test_the_budget_dose_spends_the_budget_and_never_more_under_either_sign(toy_axis: Axis, tiny_llama: Any) -> None:
    gauge = VolatilityGauge(tiny_llama)
    up, down = (gauge.measure(Intervention((toy_axis.dose(sign),))).mean for sign in (1.0, -1.0))
    assert max(up, down) <= BUDGET and max(up, down) >= 0.9 * BUDGET


@pytest.mark.parametrize("budget", [0.002, 0.02, 0.06])
@pytest.mark.parametrize("seed", [0, 1])
def test_any_direction_is_calibrated_to_any_small_budget(
    tiny_llama: Any, tiny_gauge: VolatilityGauge, random_direction: Any, budget: float, seed: int
) -> None:
    direction, blocks = random_direction(tiny_llama, seed), (0, 2)
    found = calibrate(direction, blocks, tiny_gauge, budget)
    cost = {dose: mean for dose, mean, _ in found.costs}
    dearer = max(cost[found.budget_dose], cost[-found.budget_dose])
    assert 0.9 * budget <= dearer <= budget
    assert list(cost) == sorted(cost) and cost[0.0] == 0 and all(-dose in cost for dose in cost)


def test_half_the_state_asks_for_half_the_dose(toy_axis: Axis) -> None:
    assert toy_axis.dose(1.0).coefficient == toy_axis.calibration.budget_dose > 0
    assert toy_axis.dose(-0.5, "turn").coefficient == -0.5 * toy_axis.calibration.budget_dose
    assert toy_axis.dose(-0.5, "turn").span == "turn"


# --- random directions ---------------------------------------------------------------------------


def related(layers: int = 5, width: int = 32) -> Direction:
    """A direction that turns slowly from block to block, as those of real axes do."""
    draw = np.random.default_rng(3)
    vectors = np.cumsum(draw.standard_normal((layers, width)), axis=0).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Direction("like", vectors, np.linspace(1, 3, layers).astype(np.float32))


@pytest.mark.parametrize("blocks", [(1, 2, 3), (0, 4), (2,), (0, 1, 2, 3, 4)])
@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_a_random_direction_agrees_with_itself_from_block_to_block_as_the_original_does(
    blocks: tuple[int, ...], seed: int
) -> None:
    like = related()
    drawn = random_direction(like, blocks, seed)
    chosen = list(blocks)
    expected = like.vectors[chosen] @ like.vectors[chosen].T
    np.testing.assert_allclose(drawn.vectors[chosen] @ drawn.vectors[chosen].T, expected, atol=1e-4)
    np.testing.assert_array_equal(drawn.norms, like.norms)
    assert not np.delete(drawn.vectors, chosen, axis=0).any()


def test_a_random_direction_is_a_function_of_its_seed_and_points_nowhere_special() -> None:
    like = related()
    assert random_direction(like, (1, 2), 7) == random_direction(like, (1, 2), 7)
    drawn = [random_direction(like, (1, 2), seed) for seed in range(40)]
    assert len({direction.digest for direction in drawn}) == 40
    cosines = np.array([direction.vectors[1] @ like.vectors[1] for direction in drawn])
    # Cosines of random directions in 32 dimensions have a deviation of 1/√32 ≈ .18.
    assert abs(cosines.mean()) < 0.1 and 0.1 < cosines.std() < 0.3
