"""A dose-response is nothing at dose 0, what scoring says elsewhere, and is set beside matched random directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toy_axis import BUDGET, LETTERS, toy_texts

from overlay.axes import Axis, even_doses
from overlay.axes.layer_sweep import sweep_layers, windows_of
from overlay.axes.random_comparison import RandomComparison, choose_texts, compare_with_random
from overlay.axes.response import (
    DoseResponse,
    Likelihoods,
    Values,
    mean_effect,
    measure_response,
    specific_effect,
    specific_mean,
)
from overlay.axes.text import likelihood_row
from overlay.errors import ArgumentError
from overlay.model import Direction, Dose, Intervention, Message, Row, VolatilityGauge

GROUPS = {group: tuple(toy_texts(LETTERS[group], 6, seed=3)) for group in ("positive", "negative", "foil")}
DOSES = even_doses(0.6, 7)


@pytest.fixture(scope="module")
def measured(
    toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> tuple[DoseResponse, list[dict[str, Values]]]:
    likelihoods = Likelihoods(GROUPS, tiny_llama)
    return measure_response(toy_axis.writing, toy_axis.blocks, DOSES, likelihoods, tiny_gauge, fresh=True)


# --- doses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [7, 9, 21])
def test_doses_lie_evenly_between_the_limits_and_hold_exactly_zero(count: int) -> None:
    doses = even_doses(0.037, count)
    assert len(doses) == count and doses[0] == -0.037 and doses[-1] == 0.037 and 0.0 in doses
    np.testing.assert_allclose(np.diff(doses), 2 * 0.037 / (count - 1))
    assert all(-dose in doses for dose in doses)


@pytest.mark.parametrize("count", [0, 5, 6, 8, 10])
def test_too_few_doses_or_doses_without_zero_are_refused(count: int) -> None:
    with pytest.raises(ArgumentError, match="odd number of at least 7"):
        even_doses(0.05, count)


# --- the curve -----------------------------------------------------------------------------------


def test_the_curve_is_exactly_nothing_at_dose_zero(measured: tuple[DoseResponse, Any]) -> None:
    zero = next(point for point in measured[0].points if point.dose == 0)
    assert zero.volatility_mean == zero.volatility_p95 == 0
    for effect in (*zero.groups.values(), zero.specific):
        assert (effect.mean, effect.low, effect.high) == (0, 0, 0)


def test_each_point_is_what_scoring_the_texts_says(
    measured: tuple[DoseResponse, Any], toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    response, _ = measured
    point = response.points[-1]
    dose = Intervention((Dose(toy_axis.writing, point.dose, toy_axis.blocks),))
    means = {}
    for group, texts in GROUPS.items():
        changes = []
        for text in texts:
            words = text.split()
            opening, rest = " ".join(words[:3]), " " + " ".join(words[3:])
            base, steered = tiny_llama.score(
                [Row(text=opening, options=(rest,)), Row(text=opening, options=(rest,), intervention=dose)]
            )
            changes.append(steered.per_token[0] - base.per_token[0])
        means[group] = float(np.mean(changes))
        assert point.groups[group].mean == pytest.approx(means[group], abs=1e-5)
    assert point.specific.mean == pytest.approx(means["positive"] - (means["negative"] + means["foil"]) / 2, abs=1e-5)
    assert point.volatility_mean == pytest.approx(tiny_gauge.measure(dose).mean)
    assert response.fresh and response.texts == {"positive": 6, "negative": 6, "foil": 6}


def test_intervals_hold_their_means_and_shrink_with_more_texts(measured: tuple[DoseResponse, Any]) -> None:
    for point in measured[0].points:
        for effect in (*point.groups.values(), point.specific):
            assert effect.low <= effect.mean <= effect.high
    draw = np.random.default_rng(0).normal(0.3, 1.0, 400)
    few, many = mean_effect(draw[:25]), mean_effect(draw)
    assert many.high - many.low < 0.5 * (few.high - few.low)
    # The textbook interval of 400 draws of deviation 1 is 0.196 wide.
    assert many.high - many.low == pytest.approx(0.196, rel=0.15)


def test_the_specific_effect_is_blind_to_what_all_groups_share() -> None:
    draw = np.random.default_rng(1)
    change = {group: draw.normal(0, 0.01, 12) for group in ("positive", "negative", "foil")}
    shared = {group: values + 5.0 for group, values in change.items()}
    assert specific_mean(shared) == pytest.approx(specific_mean(change))
    only_own = change | {"positive": change["positive"] + 0.5}
    effect = specific_effect(only_own)
    assert effect.low > 0.4 and effect.high < 0.6
    uneven = {"positive": np.zeros(4), "big": np.ones(100), "small": np.zeros(2)}
    assert specific_mean(uneven) == pytest.approx(-0.5)


def test_chats_and_plain_texts_are_scored_alike(toy_axis: Axis, tiny_llama: Any) -> None:
    chat = (Message("user", "hjklm hjk"), Message("assistant", "aeiou aeo iou"))
    groups = {"positive": (chat, GROUPS["positive"][0]), "negative": GROUPS["negative"][:2]}
    dose = Dose(toy_axis.writing, 0.3, toy_axis.blocks)
    (change,) = Likelihoods(groups, tiny_llama).changes([dose], "measuring")
    base, steered = tiny_llama.score(
        [
            likelihood_row(chat),
            Row(messages=chat[:1], options=(chat[1].text,), intervention=Intervention((dose,))),
        ]
    )
    assert change["positive"][0] == pytest.approx(steered.per_token[0] - base.per_token[0], abs=1e-5)


@pytest.mark.parametrize("groups", [{}, {"negative": ("a b c d",)}, {"positive": ("a b c d",)}, {"positive": ()}])
def test_texts_without_an_own_and_another_group_are_refused(groups: Any, tiny_llama: Any) -> None:
    with pytest.raises(ArgumentError, match="'positive' and at least one other"):
        Likelihoods(groups, tiny_llama)


# --- random directions ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparisons(
    measured: tuple[DoseResponse, list[dict[str, Values]]],
    toy_axis: Axis,
    tiny_llama: Any,
    tiny_gauge: VolatilityGauge,
) -> tuple[RandomComparison, RandomComparison]:
    return compare_with_random(
        toy_axis.writing,
        toy_axis.blocks,
        DOSES,
        measured[1],
        Likelihoods(choose_texts(GROUPS, 8), tiny_llama),
        tiny_gauge,
        cost=toy_axis.calibration.cost,
        budget_dose=toy_axis.calibration.budget_dose,
        directions=3,
    )


def test_random_directions_are_matched_both_ways(
    comparisons: tuple[RandomComparison, RandomComparison], toy_axis: Axis
) -> None:
    norm, volatility = comparisons
    assert (norm.matching, volatility.matching) == ("norm", "volatility")
    assert norm.scales == (1.0, 1.0, 1.0) and len(set(volatility.scales)) == 3
    cost = toy_axis.calibration.cost
    assert all(0.9 * cost <= one <= cost for one in volatility.costs)
    assert any(not 0.9 * cost <= one <= cost for one in norm.costs)
    for comparison in comparisons:
        assert comparison.doses == DOSES and len(comparison.own) == len(comparison.specific) == 3
        zero = DOSES.index(0.0)
        assert comparison.spread(zero) == comparison.spread(zero, "own") == (0, 0, 0)
        assert comparison.axis_specific[zero] == comparison.axis_own[zero] == 0


def test_the_axis_is_compared_on_the_very_texts_of_the_random_directions(
    comparisons: tuple[RandomComparison, RandomComparison], toy_axis: Axis, tiny_llama: Any
) -> None:
    chosen = choose_texts(GROUPS, 8)
    assert comparisons[0].texts == {group: len(texts) for group, texts in chosen.items()} != {}
    (change,) = Likelihoods(chosen, tiny_llama).changes([Dose(toy_axis.writing, DOSES[0], toy_axis.blocks)], "")
    for comparison in comparisons:
        assert comparison.axis_own[0] == pytest.approx(change["positive"].mean(), abs=1e-5)
        assert comparison.axis_specific[0] == pytest.approx(specific_mean(change), abs=1e-5)


def test_how_many_went_as_far_counts_the_way_of_the_dose_only() -> None:
    comparison = RandomComparison(
        "norm", {}, (-1.0, 1.0), (1.0,) * 4, (0.1,) * 4,
        own=((0.0, 0.0),) * 4,
        specific=((-0.5, 0.3), (-0.2, 0.2), (0.9, -0.9), (-0.3, 0.1)),
        axis_own=(0.0, 0.0),
        axis_specific=(-0.3, 0.2),
    )  # fmt: skip
    assert [comparison.as_far(0), comparison.as_far(1)] == [2, 2]
    assert comparison.as_far(0, "own") == 4
    backwards = replace(comparison, axis_specific=(0.3, -0.2))
    assert [backwards.as_far(0), backwards.as_far(1)] == [3, 3]
    assert comparison.spread(1) == pytest.approx((-0.075, -0.9, 0.3))


@pytest.mark.parametrize("rows", [8, 16, 32, 64])
@pytest.mark.parametrize("others", [1, 2, 7])
def test_a_choice_of_texts_takes_the_first_of_each_group_and_fits(rows: int, others: int) -> None:
    groups = {"positive": tuple("abcdefghijklmnopqrstuvwxyz" * 3)} | {
        f"foil{place}": tuple("0123456789" * 8) for place in range(others)
    }
    chosen = choose_texts(groups, rows)
    assert list(chosen) == list(groups)
    assert all(chosen[group] == groups[group][: len(chosen[group])] and chosen[group] for group in groups)
    assert sum(map(len, chosen.values())) <= rows + others


# --- windows of blocks ---------------------------------------------------------------------------


def test_windows_cover_the_depth_and_hold_the_one_where_the_axis_acts() -> None:
    windows = windows_of(30, tuple(range(12, 20)), 2)
    assert all(len(window) == 8 for window in windows) and tuple(range(12, 20)) in windows
    assert windows[0][0] == 0 and windows[-1][-1] == 29 and len(windows) == len(set(windows)) == 12
    assert {block for window in windows for block in window} == set(range(30))
    assert tuple(range(13, 21)) in windows_of(30, tuple(range(13, 21)), 2)
    assert windows_of(3, (0, 1, 2), 2) == [(0, 1, 2)]


def test_all_windows_cost_the_same_and_the_gain_is_against_where_it_acts_now(
    toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    cost = toy_axis.calibration.cost
    sweep = sweep_layers(
        toy_axis.writing,
        toy_axis.blocks,
        Likelihoods(GROUPS, tiny_llama),
        tiny_gauge,
        cost=cost,
        budget_dose=toy_axis.calibration.budget_dose,
        step=1,
    )
    assert [window.blocks for window in sweep.windows] == [(0,), (1,), (2,)] and not sweep.left_out
    assert sweep.own_window.blocks == toy_axis.blocks
    assert sweep.own_window.dose == toy_axis.calibration.budget_dose
    assert sweep.best.specific.mean == max(window.specific.mean for window in sweep.windows)
    for window in sweep.windows:
        signs = [
            tiny_gauge.measure(Intervention((Dose(toy_axis.writing, sign * window.dose, window.blocks),)))
            for sign in (1, -1)
        ]
        assert 0.9 * cost <= max(one.mean for one in signs) <= cost * 1.001
        assert window.gain.mean == pytest.approx(window.specific.mean - sweep.own_window.specific.mean)
    assert (sweep.own_window.gain.mean, sweep.own_window.gain.low) == (0, 0)


def test_windows_without_a_direction_are_left_out_and_named(
    toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    vectors = toy_axis.writing.vectors.copy()
    vectors[0] = 0
    holed = Direction("holed", vectors, toy_axis.writing.norms)
    sweep = sweep_layers(
        holed, toy_axis.blocks, Likelihoods(GROUPS, tiny_llama), tiny_gauge,
        cost=BUDGET, budget_dose=toy_axis.calibration.budget_dose, step=1,
    )  # fmt: skip
    assert sweep.left_out == (0,) and [window.blocks for window in sweep.windows] == [(1,), (2,)]
