"""What the statistics promise: known values, properties, and error rates found by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overlay.errors import ArgumentError
from overlay.scenarios.statistics import (
    Interval,
    cluster_bootstrap,
    holm,
    mcnemar_exact,
    rank_among,
    sign_flip,
    wilson,
)

# Tenths, so that exact ties are common: that is where rounding would show.
tenths = st.integers(-30, 30).map(lambda number: number / 10)
paired = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40)
p_values = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 1))


def test_wilson_of_sixteen_trials_is_the_published_interval() -> None:
    assert wilson(0, 16).low == 0
    assert wilson(0, 16).high == pytest.approx(0.1936, abs=5e-4)
    assert wilson(1, 16).low == pytest.approx(0.0111, abs=5e-4)
    assert wilson(1, 16).high == pytest.approx(0.2833, abs=5e-4)
    assert wilson(8, 16).low == pytest.approx(0.2800, abs=5e-4)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_contains_the_rate_and_mirrors(counts: tuple[int, int], confidence: float) -> None:
    successes, n = counts
    interval, mirrored = wilson(successes, n, confidence), wilson(n - successes, n, confidence)
    assert 0 <= interval.low <= successes / n <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-9)
    wider = wilson(successes, n, (1 + confidence) / 2)
    assert wider.low <= interval.low + 1e-12 and interval.high <= wider.high + 1e-12


@pytest.mark.parametrize(("successes", "n", "confidence"), [(0, 0, 0.95), (3, 2, 0.95), (-1, 4, 0.95), (1, 4, 95)])
def test_wilson_refuses_what_is_no_rate(successes: int, n: int, confidence: float) -> None:
    with pytest.raises(ArgumentError):
        wilson(successes, n, confidence)


def test_wilson_covers_a_rare_behaviour_at_sixteen_trials() -> None:
    counts = np.random.default_rng(3).binomial(16, 0.05, size=20_000)
    holds = {k: wilson(k, 16).low <= 0.05 <= wilson(k, 16).high for k in range(17)}
    assert np.mean([holds[int(k)] for k in counts]) >= 0.93


def test_mcnemar_needs_six_one_way_pairs() -> None:
    concordant = [True, False] * 5
    six = mcnemar_exact([True] * 6 + concordant, [False] * 6 + concordant)
    assert (six.only_first, six.only_second, six.p) == (6, 0, pytest.approx(0.03125))
    assert mcnemar_exact([False] * 5 + concordant, [True] * 5 + concordant).p == pytest.approx(0.0625)


def test_mcnemar_without_discordant_pairs_sees_nothing() -> None:
    assert mcnemar_exact([True, False, True], [True, False, True]).p == 1
    assert mcnemar_exact([], []).p == 1


@given(paired)
def test_mcnemar_is_the_same_both_ways(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    there, back = mcnemar_exact(first, second), mcnemar_exact(second, first)
    assert 0 < there.p <= 1
    assert there.p == pytest.approx(back.p)
    assert (there.only_first, there.only_second) == (back.only_second, back.only_first)


def test_mcnemar_counts_numpy_outcomes_like_any_other() -> None:
    first: NDArray[np.bool_] = np.array([True] * 6)
    assert mcnemar_exact(list(first), list(~first)).p == pytest.approx(0.03125)


def test_mcnemar_refuses_unequal_lengths() -> None:
    with pytest.raises(ArgumentError, match="2 in the first arm, 1 in the second"):
        mcnemar_exact([True, False], [True])


def test_bootstrap_draws_whole_clusters() -> None:
    generator = np.random.default_rng(0)
    effects = generator.normal(0.2, 0.3, size=10)
    values = np.repeat(effects, 8)
    together = cluster_bootstrap(values.tolist(), np.repeat(np.arange(10), 8).tolist())
    as_if_independent = cluster_bootstrap(values.tolist(), list(range(80)))
    assert together.high - together.low > 2 * (as_if_independent.high - as_if_independent.low)
    # Eight copies of one number carry no more than the number itself.
    once = cluster_bootstrap(effects.tolist(), list(range(10)))
    assert (together.low, together.high) == (pytest.approx(once.low), pytest.approx(once.high))


units_of_clusters = st.lists(st.tuples(tenths, st.sampled_from("abc")), min_size=1, max_size=20)


@given(units_of_clusters.flatmap(lambda units: st.permutations([*units, (0.1, "d"), (0.4, "e")])))
@settings(max_examples=40, deadline=None)
def test_bootstrap_lies_between_the_extreme_clusters_in_any_order(units: list[tuple[float, str]]) -> None:
    interval, again = (
        cluster_bootstrap([value for value, _ in order], [name for _, name in order], draws=200)
        for order in (units, sorted(units))
    )
    means = [np.mean([value for value, own in units if own == name]) for name in {name for _, name in units}]
    assert min(means) - 1e-9 <= interval.low <= interval.high <= max(means) + 1e-9
    assert (interval.low, interval.high) == (pytest.approx(again.low), pytest.approx(again.high))


def test_bootstrap_weighs_units_not_clusters() -> None:
    # Half of the draws hold each cluster once: nine ones and a zero, whose mean is .9 and not .5.
    middle = cluster_bootstrap([1.0] * 9 + [0.0], ["large"] * 9 + ["small"], confidence=0.3)
    assert (middle.low, middle.high) == (pytest.approx(0.9), pytest.approx(0.9))


def test_bootstrap_of_equal_values_is_a_point_and_seeds_repeat() -> None:
    assert cluster_bootstrap([0.5] * 6, list("aabbcc")) == Interval(0.5, 0.5)
    values, names = [0.1, 0.4, -0.2, 0.3, 0.0, 0.9], list("abcdef")
    assert cluster_bootstrap(values, names, seed=1) == cluster_bootstrap(values, names, seed=1)
    assert cluster_bootstrap(values, names, seed=1, draws=500) != cluster_bootstrap(values, names, seed=2, draws=500)


@pytest.mark.parametrize(
    ("values", "names"),
    [([0.1, 0.2], ["a"]), ([0.1, 0.2], ["a", "a"]), ([], []), ([0.1, float("nan")], ["a", "b"])],
)
def test_bootstrap_refuses_what_shows_no_variation(values: list[float], names: list[str]) -> None:
    with pytest.raises(ArgumentError):
        cluster_bootstrap(values, names)


def test_sign_flip_of_one_way_values_is_the_smallest_p() -> None:
    assert sign_flip([0.3, 0.1, 0.2, 0.5, 0.4, 0.6]) == pytest.approx(2 / 64)
    assert sign_flip([0.3, 0.1, 0.2, 0.5, 0.4]) == pytest.approx(2 / 32)
    assert sign_flip([1.0]) == 1
    assert sign_flip([0.0] * 8) == 1
    # No draw out of 20,000 comes near 40 equal signs, and yet p isn't 0.
    assert sign_flip([1.0] * 40) == pytest.approx(1 / 20_001)


@given(st.lists(st.integers(-30, 30), min_size=1, max_size=9))
@settings(deadline=None)
def test_sign_flip_counts_ties_like_whole_numbers(whole: list[int]) -> None:
    signs = [[1 if pattern >> bit & 1 else -1 for bit in range(len(whole))] for pattern in range(2 ** len(whole))]
    extreme = sum(abs(sum(s * w for s, w in zip(row, whole, strict=True))) >= abs(sum(whole)) for row in signs)
    assert sign_flip([number / 10 for number in whole]) == pytest.approx(extreme / len(signs))


@given(st.lists(tenths, min_size=1, max_size=18))
@settings(max_examples=40, deadline=None)
def test_sign_flip_knows_neither_order_nor_direction(values: list[float]) -> None:
    p = sign_flip(values)
    assert 0 < p <= 1
    assert sign_flip([-value for value in values]) == p
    assert sign_flip(values[::-1]) == p


def test_sign_flip_draws_agree_with_the_exact_answer() -> None:
    values = np.random.default_rng(5).normal(0.4, 1.0, size=14)
    # A fifteenth value of zero changes no sum, but takes the test past its exact limit.
    assert sign_flip([*values, 0.0]) == pytest.approx(sign_flip(values.tolist()), abs=0.01)


def test_sign_flip_holds_five_percent_at_eight_clusters() -> None:
    runs = 4_000
    generator = np.random.default_rng(11)
    # Half of the runs with heavy tails, where a t test would be off.
    normal, heavy = generator.normal(size=(runs // 2, 8)), generator.standard_t(2, size=(runs // 2, 8))
    alarms = np.mean([sign_flip(row) < 0.05 for row in np.vstack([normal, heavy]).tolist()])
    # 12 of the 256 patterns are as extreme as p < .05 allows; three standard errors on either side.
    assert alarms == pytest.approx(12 / 256, abs=3 * (0.05 * 0.95 / runs) ** 0.5)
    assert alarms <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_sign_flip_over_scenarios_does_not_raise_the_alarm_that_pooled_pairs_raise() -> None:
    """Scenario effects vary around zero: pooling their pairs alarms far too often, one value each does not."""
    runs, generator = 600, np.random.default_rng(2)
    pooled = flipped = 0
    for _ in range(runs):
        rates = np.clip(0.5 + generator.normal(0, 0.25, size=(8, 1)), 0.02, 0.98)
        treated, base = generator.random((8, 12)) < rates, generator.random((8, 12)) < 0.5
        pooled += mcnemar_exact(treated.ravel().tolist(), base.ravel().tolist()).p < 0.05
        flipped += sign_flip((treated.mean(axis=1) - base.mean(axis=1)).tolist()) < 0.05
    assert flipped / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    assert pooled / runs > 0.10


@pytest.mark.parametrize("values", [[], [0.1, float("inf")]])
def test_sign_flip_refuses_what_was_not_measured(values: list[float]) -> None:
    with pytest.raises(ArgumentError):
        sign_flip(values)


def test_holm_of_a_textbook_family() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {}
    assert holm({"only": 0.2}) == {"only": pytest.approx(0.2)}


@given(p_values)
@settings(max_examples=40, deadline=None)  # statsmodels collects garbage on every call
def test_holm_never_helps_and_keeps_the_order(family: dict[str, float]) -> None:
    adjusted = holm(family)
    assert list(adjusted) == list(family)
    ranked = sorted(family, key=lambda name: family[name])
    for name in family:
        assert family[name] - 1e-12 <= adjusted[name] <= 1
    for smaller, larger in itertools.pairwise(ranked):
        assert adjusted[smaller] <= adjusted[larger] + 1e-12


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ArgumentError, match="'second'"):
        holm({"first": 0.5, "second": p})


def test_rank_among_39_controls_goes_down_to_one_in_forty() -> None:
    controls = [index / 100 for index in range(39)]
    assert rank_among(1.0, controls) == pytest.approx(0.025)
    assert rank_among(0.38, controls) == pytest.approx(0.05)  # a tie counts against the claim
    assert rank_among(-1.0, controls) == 1
    assert rank_among(1.0, []) == 1


@given(tenths, tenths, st.lists(tenths, max_size=40))
def test_rank_among_falls_as_the_value_rises(value: float, other: float, controls: list[float]) -> None:
    low, high = sorted((value, other))
    assert 0 < rank_among(high, controls) <= rank_among(low, controls) <= 1


def test_rank_among_refuses_a_control_that_was_not_measured() -> None:
    with pytest.raises(ArgumentError):
        rank_among(0.2, [0.1, float("nan")])
