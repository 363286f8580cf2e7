"""What the statistics promise: published values and properties; their error rates have a file of their own."""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from overlay.errors import ArgumentError
from overlay.statistics import (
    Difference,
    Interval,
    PowerPlan,
    SequentialEvidence,
    Validation,
    benjamini_hochberg,
    boschloo,
    cluster_bootstrap,
    dose_trend,
    equivalence_of_means,
    equivalence_of_rates,
    estimate_power,
    holm,
    mcnemar_exact,
    paired_difference,
    rank_among,
    rogan_gladen,
    sequential_evidence,
    sign_flip,
    smallest_plan,
    wilson,
)

# Tenths, so that exact ties are common: that is where rounding would show.
tenths = st.integers(-30, 30).map(lambda number: number / 10)
paired = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40)
p_values = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 1))


@pytest.fixture(scope="module", autouse=True)
def nothing_to_collect() -> Iterator[None]:
    """statsmodels collects garbage on every call, which takes long after a session's worth of imports."""
    holm({"first": 0.1, "second": 0.2})  # imports what it needs
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def arms(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Two arms' paired outcomes with these four counts."""
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return first, second


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


@pytest.mark.parametrize("values", [[], [0.1, float("inf")]])
def test_sign_flip_refuses_what_was_not_measured(values: list[float]) -> None:
    with pytest.raises(ArgumentError):
        sign_flip(values)


def test_holm_of_a_textbook_family() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {}
    assert holm({"only": 0.2}) == {"only": pytest.approx(0.2)}


@given(p_values)
@settings(max_examples=40, deadline=None)
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


# --- rates behind a detector -----------------------------------------------------------------------

GOOD = Validation(45, 50, 48, 50)


def test_rogan_gladen_is_the_published_correction() -> None:
    # 23 of 150 cows positive, sensitivity .96, specificity .89: 5.1% truly, the estimate that epiR documents.
    corrected = rogan_gladen(23, 150, Validation(96, 100, 89, 100))
    assert corrected.apparent == pytest.approx(23 / 150)
    assert corrected.rate == pytest.approx(0.051, abs=5e-4)
    assert corrected.fits


def test_rogan_gladen_of_a_faultless_detector_is_the_plain_rate_with_agrestis_interval() -> None:
    from statsmodels.stats.proportion import proportion_confint

    sure = 10**9
    corrected = rogan_gladen(12, 40, Validation(sure, sure, sure, sure))
    assert corrected.rate == pytest.approx(0.3)
    low, high = proportion_confint(12, 40, method="agresti_coull")
    assert (corrected.interval.low, corrected.interval.high) == (pytest.approx(low), pytest.approx(high))


@given(st.integers(0, 40), st.integers(30, 50), st.integers(30, 50))
def test_rogan_gladen_contains_its_rate_and_mirrors(fired: int, hits: int, silences: int) -> None:
    corrected = rogan_gladen(fired, 40, Validation(hits, 50, silences, 50))
    assert 0 <= corrected.interval.low <= corrected.rate <= corrected.interval.high <= 1
    # A detector of the opposite behaviour has the two error rates exchanged.
    opposite = rogan_gladen(40 - fired, 40, Validation(silences, 50, hits, 50))
    assert corrected.rate == pytest.approx(1 - opposite.rate)
    assert corrected.interval.low == pytest.approx(1 - opposite.interval.high)


def test_rogan_gladen_is_wider_after_a_smaller_validation() -> None:
    much, little = (rogan_gladen(12, 40, Validation(9 * k, 10 * k, 9 * k, 10 * k)).interval for k in (20, 2))
    assert little.high - little.low > much.high - much.low


def test_rogan_gladen_says_when_the_detector_fires_less_than_its_own_errors_would() -> None:
    assert not rogan_gladen(1, 40, Validation(45, 50, 40, 50)).fits
    assert rogan_gladen(3, 40, Validation(45, 50, 40, 50)).fits


def test_rogan_gladen_refuses_a_detector_that_guesses() -> None:
    with pytest.raises(ArgumentError, match="beat chance"):
        rogan_gladen(5, 20, Validation(10, 20, 10, 20))
    with pytest.raises(ArgumentError, match="beat chance"):
        rogan_gladen(5, 20, Validation(1, 1, 1, 20))  # one text proves nothing
    with pytest.raises(ArgumentError):
        rogan_gladen(21, 20, GOOD)
    with pytest.raises(ArgumentError):
        Validation(3, 2, 1, 1)
    with pytest.raises(ArgumentError):
        Validation(0, 0, 1, 1)


# --- pairs and groups ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "estimate", "low", "high"),
    [
        # Airway reactivity (Bentur et al. 2009) and response to therapy (Cavo et al. 2012), as worked by Fagerland,
        # Lydersen and Laake, Statistical Analysis of Contingency Tables (2017), chapter 8, with the arms exchanged.
        ((1, 7, 1, 12), -0.2857, -0.517, -0.026),
        ((59, 16, 6, 80), -0.0621, -0.1240, -0.0054),
    ],
)
def test_paired_difference_is_the_published_score_interval(
    counts: tuple[int, int, int, int], estimate: float, low: float, high: float
) -> None:
    difference = paired_difference(*arms(*counts))
    assert difference.estimate == pytest.approx(estimate, abs=1e-4)
    assert (difference.interval.low, difference.interval.high) == (
        pytest.approx(low, abs=5e-4),
        pytest.approx(high, abs=5e-4),
    )


def test_paired_difference_without_a_discordant_pair_still_has_a_width() -> None:
    z_squared = 1.959964**2
    reach = z_squared / (16 + z_squared)
    assert paired_difference(*arms(10, 0, 0, 6)) == Difference(
        0.0, Interval(pytest.approx(-reach, abs=1e-6), pytest.approx(reach, abs=1e-6))
    )
    assert paired_difference(*arms(0, 0, 5, 0)).interval.high == 1


@given(paired.filter(len), st.floats(0.5, 0.99))
@settings(deadline=None)
def test_paired_difference_contains_its_estimate_and_mirrors(pairs: list[tuple[bool, bool]], confidence: float) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    there, back = paired_difference(first, second, confidence), paired_difference(second, first, confidence)
    assert there.estimate == pytest.approx(sum(second) / len(pairs) - sum(first) / len(pairs))
    assert -1 <= there.interval.low <= there.estimate <= there.interval.high <= 1
    assert there.interval.low == pytest.approx(-back.interval.high, abs=1e-6)
    wider = paired_difference(first, second, (1 + confidence) / 2)
    assert wider.interval.low <= there.interval.low + 1e-9 and there.interval.high <= wider.interval.high + 1e-9


def test_paired_difference_refuses_what_is_no_comparison() -> None:
    with pytest.raises(ArgumentError):
        paired_difference([], [])
    with pytest.raises(ArgumentError):
        paired_difference([True], [True, False])
    with pytest.raises(ArgumentError):
        paired_difference([True], [False], confidence=1.0)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_a_fair_coins_binomial_test(only_first: int, only_second: int) -> None:
    from scipy.stats import binomtest

    p = mcnemar_exact(*arms(1, only_first, only_second, 1)).p
    discordant = only_first + only_second
    assert p == pytest.approx(binomtest(only_first, discordant, 0.5).pvalue if discordant else 1.0)


def test_boschloo_is_the_published_value() -> None:
    # The survey that scipy documents: one-sided .0355 where Fisher's test says .0483.
    result = boschloo(74, 117, 31, 63)
    assert result.p == pytest.approx(2 * 0.0355, abs=2e-4)
    assert (result.first_rate, result.second_rate) == (pytest.approx(74 / 117), pytest.approx(31 / 63))


def test_boschloo_sees_more_than_fisher_and_nothing_in_nothing() -> None:
    from scipy.stats import fisher_exact

    one_sided = fisher_exact([[3, 11], [37, 29]], alternative="less").pvalue
    assert boschloo(3, 40, 11, 40).p < 2 * one_sided
    assert boschloo(3, 40, 11, 40).p == pytest.approx(boschloo(11, 40, 3, 40).p, rel=1e-3)
    assert boschloo(0, 12, 0, 9).p == 1
    assert boschloo(12, 12, 9, 9).p == 1
    with pytest.raises(ArgumentError):
        boschloo(0, 0, 3, 9)


# --- families --------------------------------------------------------------------------------------


def test_benjamini_hochberg_finds_what_the_paper_finds() -> None:
    # The 15 comparisons of Benjamini and Hochberg (1995), section 3.3: four at 5%, where Bonferroni keeps three.
    paper = (0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719)
    family = {str(place): p for place, p in enumerate((*paper, 0.6528, 0.7590, 1.0))}
    adjusted = benjamini_hochberg(family)
    assert list(adjusted) == list(family)
    assert [name for name, p in adjusted.items() if p <= 0.05] == ["0", "1", "2", "3"]
    assert benjamini_hochberg({}) == {}


@given(p_values)
@settings(max_examples=25, deadline=None)
def test_benjamini_hochberg_lies_between_the_plain_p_and_holms(family: dict[str, float]) -> None:
    adjusted, stricter = benjamini_hochberg(family), holm(family)
    for name, p in family.items():
        assert p - 1e-12 <= adjusted[name] <= stricter[name] + 1e-12


def test_benjamini_hochberg_refuses_what_is_no_probability() -> None:
    with pytest.raises(ArgumentError, match="'second'"):
        benjamini_hochberg({"first": 0.5, "second": 1.5})


# --- equivalence -----------------------------------------------------------------------------------


@given(st.lists(tenths, min_size=3, max_size=20), st.sampled_from([0.05, 0.2, 0.5, 1.0]))
@settings(max_examples=50, deadline=None)
def test_means_are_equivalent_exactly_when_the_interval_lies_inside_the_margin(
    values: list[float], margin: float
) -> None:
    from scipy.stats import ttest_1samp

    if len(set(values)) == 1:
        return
    result = equivalence_of_means(values, margin)
    assert result.equivalent == (-margin < result.interval.low and result.interval.high < margin)
    above = ttest_1samp(values, -margin, alternative="greater").pvalue
    below = ttest_1samp(values, margin, alternative="less").pvalue
    assert result.p == pytest.approx(max(above, below))
    assert equivalence_of_means([-value for value in values], margin).p == pytest.approx(result.p)


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.1, 0.1], [0.0] * 12, [0.1, float("nan")]])
def test_equivalence_of_means_refuses_what_shows_no_variation(values: list[float]) -> None:
    with pytest.raises(ArgumentError):
        equivalence_of_means(values, 0.1)


@given(paired.filter(len), st.sampled_from([0.05, 0.1, 0.3]))
@settings(max_examples=50, deadline=None)
def test_equivalence_of_rates_knows_no_direction_and_a_wider_margin_is_easier(
    pairs: list[tuple[bool, bool]], margin: float
) -> None:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    result = equivalence_of_rates(first, second, margin)
    assert 0 < result.p <= 1
    assert (result.difference, result.interval) == (
        paired_difference(first, second).estimate,
        paired_difference(first, second, 0.9).interval,
    )
    assert equivalence_of_rates(second, first, margin).p == pytest.approx(result.p)
    assert equivalence_of_rates(first, second, margin + 0.2).p <= result.p + 1e-9


def test_equivalence_of_rates_counts_every_outcome() -> None:
    """Three pairs without a difference: by hand, the most likely way to see that at a true difference of .5.

    A pair fails to show it with a chance of at most 1/2 (nothing the first way, one half the other), three with 1/8.
    """
    assert equivalence_of_rates(*arms(1, 0, 0, 2), margin=0.5).p == pytest.approx(1 / 8)
    assert equivalence_of_rates(*arms(0, 3, 0, 0), margin=0.5).p == pytest.approx(1)


def test_equivalence_of_rates_needs_29_identical_pairs_for_a_tenth() -> None:
    assert not equivalence_of_rates([False] * 28, [False] * 28, 0.1).equivalent
    assert equivalence_of_rates([False] * 29, [False] * 29, 0.1).equivalent
    assert not equivalence_of_rates([False] * 60, [False] * 48 + [True] * 12, 0.1).equivalent


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.0, float("nan"), float("inf")])
def test_equivalence_of_rates_refuses_a_margin_that_means_nothing(margin: float) -> None:
    with pytest.raises(ArgumentError):
        equivalence_of_rates([True, False], [True, True], margin)
    with pytest.raises(ArgumentError):
        equivalence_of_rates([], [], 0.1)


# --- doses -----------------------------------------------------------------------------------------


def test_dose_trend_without_ties_is_pages_exact_test() -> None:
    from scipy.stats import page_trend_test

    generator = np.random.default_rng(0)
    for items, doses in ((6, 4), (16, 5), (3, 8)):
        values = generator.normal(size=(items, doses)) + 0.2 * np.arange(doses)
        ours, theirs = dose_trend(list(range(doses)), values.tolist()), page_trend_test(values, method="exact")
        assert ours.statistic == theirs.statistic
        assert ours.p == pytest.approx(theirs.pvalue)
        assert ours.means == pytest.approx(values.mean(axis=0))


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=2))
@settings(max_examples=40, deadline=None)
def test_dose_trend_with_ties_counts_every_order(rows: list[list[int]]) -> None:
    weights = range(1, 5)
    orders = [[sum(w * v for w, v in zip(weights, order, strict=True)) for order in _ranked(row)] for row in rows]
    totals = [sum(scores) for scores in itertools.product(*orders)]
    observed = sum(scores[0] for scores in orders)  # the first permutation is the row itself
    result = dose_trend([0, 1, 2, 3], rows)
    assert result.statistic == pytest.approx(observed)
    assert result.p == pytest.approx(sum(total >= observed - 1e-9 for total in totals) / len(totals))


def _ranked(row: list[int]) -> list[tuple[float, ...]]:
    ranks = [sum(other < value for other in row) + (sum(other == value for other in row) + 1) / 2 for value in row]
    return list(itertools.permutations(ranks))


def test_dose_trend_looks_at_order_within_items_only() -> None:
    rows = [[0.1, 0.2, 0.4, 0.5], [1.0, 1.1, 1.3, 1.2], [-3.0, -2.0, -2.5, 0.0]]
    result = dose_trend([0, 0.01, 0.02, 0.03], rows)
    moved = dose_trend([0, 0.01, 0.02, 0.03], [[100 * place + 3 * v for v in row] for place, row in enumerate(rows)])
    assert (moved.p, moved.statistic, moved.agreement) == (result.p, result.statistic, result.agreement)
    assert result.falls == 1  # from the second dose to the third
    rising = dose_trend([1, 2, 3, 4], [[1, 2, 3, 4]] * 3)
    assert (rising.agreement, rising.falls) == (pytest.approx(1), 0)
    falling = dose_trend([1, 2, 3, 4], [[4, 3, 2, 1]] * 3)
    assert (falling.agreement, falling.p, falling.falls) == (pytest.approx(-1), pytest.approx(1), 3)
    flat = dose_trend([1, 2, 3, 4], [[True] * 4] * 3)
    assert (flat.agreement, flat.p) == (0, 1)


@pytest.mark.parametrize(
    ("doses", "rows"),
    [
        ([1, 2, 3], [[1, 2, 3]]),
        (list(range(9)), [list(range(9))]),
        ([1, 2, 2, 3], [[1, 2, 3, 4]]),
        ([1, 2, 3, 4], []),
        ([1, 2, 3, 4], [[1, 2, 3]]),
        ([1, 2, 3, 4], [[1, 2, 3, float("nan")]]),
    ],
)
def test_dose_trend_refuses_what_is_no_series(doses: list[float], rows: list[list[float]]) -> None:
    with pytest.raises(ArgumentError):
        dose_trend(doses, rows)


# --- stopping early --------------------------------------------------------------------------------


def test_sequential_evidence_is_the_mixture_over_all_coins() -> None:
    from scipy.integrate import quad
    from scipy.stats import beta

    first, second = arms(2, 3, 9, 4)

    def wealth(bias: float) -> float:
        return float((2 * bias) ** 9 * (2 * (1 - bias)) ** 3 * beta.pdf(bias, 0.5, 0.5))

    assert sequential_evidence(first, second).e == pytest.approx(quad(wealth, 0, 1)[0], rel=1e-6)


def test_sequential_evidence_after_seven_one_way_pairs_is_strong() -> None:
    seven = sequential_evidence([False] * 7, [True] * 7)
    assert seven.e > 20 and seven.crossed_after == 7
    # What came later takes nothing away from what was shown when the run could have been stopped.
    later = sequential_evidence([False] * 7 + [True] * 7, [True] * 7 + [False] * 7)
    assert later.e < 1 < later.largest == seven.largest
    assert (later.p, later.crossed_after) == (1 / seven.largest, 7)
    assert sequential_evidence([], []) == SequentialEvidence(1.0, 1.0, 1.0, None)
    assert math.isfinite(sequential_evidence([False] * 3000, [True] * 3000).e)


def test_sequential_evidence_grows_by_no_more_than_a_fair_bet() -> None:
    """Whatever was seen, the mean of the two next values is the present one: that is what makes stopping safe."""
    for only_first, only_second in ((0, 0), (3, 1), (0, 6), (5, 5)):
        first, second = arms(1, only_first, only_second, 1)
        now = sequential_evidence(first, second).e
        up = sequential_evidence([*first, False], [*second, True]).e
        down = sequential_evidence([*first, True], [*second, False]).e
        assert (up + down) / 2 == pytest.approx(now)
        assert sequential_evidence([*first, True], [*second, True]).e == now


# --- power -----------------------------------------------------------------------------------------


def test_power_of_independent_pairs_is_mcnemars_own() -> None:
    """5% against 25%: 60 pairs have 80% power, and the simulation finds what summing over all outcomes gives."""
    from scipy.stats import multinomial

    pairs, down, up = 60, 0.05 * 0.75, 0.25 * 0.95
    exact = 0.0
    for only_first in range(25):
        for only_second in range(only_first + 1, 45):
            if mcnemar_exact(*arms(0, only_first, only_second, 0)).p < 0.05:
                counts = [only_first, only_second, pairs - only_first - only_second]
                exact += float(multinomial.pmf(counts, pairs, [down, up, 1 - down - up]))
    plan = PowerPlan(1, pairs, 1, 0.05, 0.2, 0.0, likeness=0)
    found = estimate_power(plan, tests=("pairs",), runs=10_000)
    assert found.power == pytest.approx(exact, abs=3 * (exact * (1 - exact) / 10_000) ** 0.5)
    assert 0.8 <= exact <= 0.87
    assert found.interval.low <= found.power <= found.interval.high


def test_power_falls_as_scenarios_differ_more_and_is_nothing_below_six() -> None:
    powers = [estimate_power(PowerPlan(8, 10, 2, 0.2, 0.2, spread), runs=500).power for spread in (0.0, 0.2, 0.4)]
    assert powers == sorted(powers, reverse=True)
    assert powers[0] > 0.9 > 0.6 > powers[2]
    assert estimate_power(PowerPlan(5, 50, 2, 0.1, 0.6, 0.1), runs=300).power == 0


def test_paraphrases_that_answer_alike_add_no_power() -> None:
    alike = [estimate_power(PowerPlan(1, 24, k, 0.1, 0.25, 0.0, likeness=1.0), runs=500) for k in (1, 6)]
    # Their pairs look like six times the evidence; over items it is the same.
    items = [
        estimate_power(PowerPlan(1, 24, k, 0.1, 0.25, 0.0, likeness=1.0), tests=("items",), runs=500) for k in (1, 6)
    ]
    assert alike[1].tests == ("pairs", "items")
    assert items[0].power == pytest.approx(items[1].power, abs=0.1)
    different = [
        estimate_power(PowerPlan(1, 24, k, 0.1, 0.25, 0.0, likeness=0.0), tests=("items",), runs=500) for k in (1, 6)
    ]
    assert different[1].power > different[0].power + 0.2


def test_the_same_seed_gives_the_same_power() -> None:
    plan = PowerPlan(6, 8, 2, 0.1, 0.3, 0.1, 0.1)
    assert estimate_power(plan, runs=300) == estimate_power(plan, runs=300)
    assert estimate_power(plan, runs=300) != estimate_power(plan, runs=300, seed=1)


def test_smallest_plan_reaches_the_target_and_one_item_less_hardly_does() -> None:
    plan = PowerPlan(1, 10, 1, 0.05, 0.2, 0.0, likeness=0)
    found = smallest_plan(plan, tests=("pairs",))
    assert found.plan is not None and found.power.power >= 0.8
    assert 50 <= found.plan.items <= 62
    smaller = PowerPlan(1, found.plan.items - 6, 1, 0.05, 0.2, 0.0, likeness=0)
    assert estimate_power(smaller, tests=("pairs",)).power < 0.8


def test_smallest_plan_says_when_nothing_is_enough() -> None:
    # Items can't make up for scenarios: five of them never reach p < .05.
    found = smallest_plan(PowerPlan(5, 10, 1, 0.1, 0.3, 0.1), vary="items", runs=50)
    assert found.plan is None and found.power.power == 0
    several = smallest_plan(PowerPlan(2, 10, 1, 0.1, 0.3, 0.1), runs=300)
    assert several.plan is not None and several.plan.scenarios >= 6


@pytest.mark.parametrize(
    "change",
    [
        {"scenarios": 0},
        {"paraphrases": 0},
        {"base_rate": 1.0},
        {"base_rate": -0.1},
        {"effect": 0.0},
        {"effect": 0.95},
        {"scenario_sd": 0.6},
        {"item_sd": -0.1},
        {"likeness": 1.1},
    ],
)
def test_a_plan_refuses_a_world_that_cant_be(change: dict[str, float]) -> None:
    possible = {
        "scenarios": 6,
        "items": 5,
        "paraphrases": 2,
        "base_rate": 0.1,
        "effect": 0.2,
        "scenario_sd": 0.1,
    }
    PowerPlan(**possible)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError):
        PowerPlan(**(possible | change))  # type: ignore[arg-type]


def test_power_refuses_what_simulates_nothing() -> None:
    plan = PowerPlan(1, 10, 1, 0.1, 0.2, 0.0)
    for wrong in ({"runs": 0}, {"significance": 0.7}, {"tests": ()}):
        with pytest.raises(ArgumentError):
            estimate_power(plan, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError):
        smallest_plan(plan, vary="scenarios")
    with pytest.raises(ArgumentError):
        smallest_plan(plan, target=1.0)
