"""The coherent limit is found where text falls apart, from every start, and what is measured is what was written."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_models import byte_tokenizer, tiny_module

from overlay.axes import calibrate
from overlay.axes.budget import LARGEST_DOSE
from overlay.axes.coherence import (
    DIVERSITY_SHARE,
    FULL_SEARCH,
    QUICK_SEARCH,
    REPETITION_MARGIN,
    SURPRISE_FACTOR,
    CoherenceGauge,
    LimitSearch,
    Reading,
    distinct,
    find_limit,
    is_coherent,
    repeated,
)
from overlay.errors import ArgumentError
from overlay.model import Direction, LanguageModel, VolatilityGauge, neutral_texts

# --- the search ----------------------------------------------------------------------------------


@given(st.floats(0.002, 0.99), st.floats(0.01, 0.2), st.sampled_from([FULL_SEARCH, QUICK_SEARCH]))
@example(0.05, 0.05, FULL_SEARCH)
@example(0.002, 0.2, QUICK_SEARCH)
@example(0.99, 0.01, FULL_SEARCH)
def test_a_planted_breaking_point_is_found_from_below_within_the_tolerance(
    planted: float, start: float, search: LimitSearch
) -> None:
    asked: list[float] = []

    def coherent(doses: Sequence[float]) -> list[bool]:
        asked.extend(doses)
        return [dose <= planted for dose in doses]

    limit, falls_apart = find_limit(coherent, start, search)
    assert falls_apart and planted / search.tolerance <= limit * (1 + 1e-12) and limit <= planted
    assert limit in asked and len(asked) == len(set(asked)) <= 30


@given(st.floats(0.001, 1.5))
def test_where_nothing_breaks_the_largest_dose_is_the_limit_and_it_is_said(start: float) -> None:
    assert find_limit(lambda doses: [True] * len(doses), start) == (LARGEST_DOSE, False)


def test_where_everything_breaks_no_limit_is_made_up() -> None:
    with pytest.raises(ArgumentError, match="falls apart even at a dose of"):
        find_limit(lambda doses: [False] * len(doses), 0.03)


def test_coherence_beyond_a_dose_that_broke_does_not_count() -> None:
    limit, _ = find_limit(lambda doses: [not 0.05 < dose < 0.07 for dose in doses], 0.03)
    assert 0.05 / FULL_SEARCH.tolerance <= limit <= 0.05


# --- the bounds ----------------------------------------------------------------------------------

UNSTEERED = Reading(surprise=2.0, repetition=0.02, diversity=0.8)


@pytest.mark.parametrize(
    ("read", "coherent"),
    [
        (UNSTEERED, True),
        (Reading(2.0 * SURPRISE_FACTOR, 0.02, 0.8), True),
        (Reading(2.0 * SURPRISE_FACTOR + 0.01, 0.02, 0.8), False),
        (Reading(0.5, 0.02, 0.8), True),
        (Reading(2.0, 0.02 + REPETITION_MARGIN + 0.01, 0.8), False),
        (Reading(0.1, 0.6, 0.8), False),
        (Reading(2.0, 0.02, 0.8 * DIVERSITY_SHARE - 0.01), False),
        (Reading(None, 0.0, 1.0), False),
    ],
)
def test_text_is_coherent_only_within_all_three_bounds(read: Reading, coherent: bool) -> None:
    assert is_coherent(read, UNSTEERED) is coherent


def test_repetition_and_diversity_count_n_grams() -> None:
    assert repeated([1, 2, 3, 4, 5], 3) == 0 and repeated([1, 2], 3) == 0 and repeated([], 3) == 0
    assert repeated([1, 2, 3, 1, 2, 3], 3) == pytest.approx(1 / 4)
    assert repeated([7] * 10, 3) == pytest.approx(7 / 8)
    assert distinct([[1, 2, 3], [1, 2, 4]], 2) == pytest.approx(3 / 4)
    assert distinct([[7] * 9, [7] * 9], 2) == pytest.approx(1 / 16) and distinct([[1], []], 2) == 0


# --- the gauge, on a model whose text a direction turns into one repeated byte -------------------

LAST = (2,)


@pytest.fixture(scope="module")
def peaked() -> LanguageModel:
    """A tiny model that is sure of its next byte, as trained models are."""
    import torch

    module = tiny_module("llama")
    with torch.no_grad():
        module.get_output_embeddings().weight.mul_(8)
    return LanguageModel(module, byte_tokenizer(), "peaked")


@pytest.fixture(scope="module")
def one_byte(peaked: LanguageModel) -> Direction:
    """At the last block, towards one byte alone."""
    head = peaked.module.get_output_embeddings().weight.detach().numpy()
    vectors = np.zeros((peaked.layers, peaked.width), np.float32)
    vectors[LAST] = head[100] / np.linalg.norm(head[100])
    return Direction("one byte", vectors, peaked.residual_norms(neutral_texts()))


def test_a_dose_that_makes_the_model_stammer_is_incoherent_and_a_tiny_one_is_not(
    peaked: LanguageModel, one_byte: Direction
) -> None:
    gauge = CoherenceGauge(one_byte, LAST, peaked, QUICK_SEARCH)
    assert gauge.both_signs([0.001, 1.0, 2.0]) == [True, False, False]
    points = {point.dose: point for point in gauge.points}
    assert sorted(points) == list(points) == [-2.0, -1.0, -0.001, 0.0, 0.001, 1.0, 2.0]
    assert points[0.0].coherent and points[2.0].repetition > 0.9 and points[2.0].diversity < 0.05


def test_measuring_again_or_alone_or_together_gives_the_same(peaked: LanguageModel, one_byte: Direction) -> None:
    together, apart = (CoherenceGauge(one_byte, LAST, peaked, QUICK_SEARCH) for _ in range(2))
    together.both_signs([0.1, 0.3])
    for dose in (0.3, 0.1, 0.1):
        apart.both_signs([dose])
    for one, other in zip(together.points, apart.points, strict=True):
        assert (one.dose, one.repetition, one.diversity) == (other.dose, other.repetition, other.diversity)
        assert one.surprise == pytest.approx(other.surprise, abs=1e-4)


def test_a_budget_beyond_the_limit_makes_the_limit_the_budget_dose_and_it_is_said(
    peaked: LanguageModel, one_byte: Direction
) -> None:
    gauge = VolatilityGauge(peaked)
    cheap, dear = (calibrate(one_byte, LAST, gauge, budget) for budget in (0.004, 3.0))
    assert cheap.spends_budget and cheap.budget_dose <= cheap.limit and 0.0036 <= cheap.cost <= 0.004
    assert not dear.spends_budget and dear.budget_dose == dear.limit and dear.cost < 3.0
    assert dear.falls_apart and math.isfinite(dear.limit)
    for found in (cheap, dear):
        by_dose = {point.dose: point for point in found.coherence}
        assert by_dose[found.limit].coherent and by_dose[-found.limit].coherent
        beyond = min(dose for dose in by_dose if dose > found.limit)
        assert not (by_dose[beyond].coherent and by_dose[-beyond].coherent)
        assert beyond / found.limit <= QUICK_SEARCH.tolerance
