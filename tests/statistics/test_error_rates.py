"""How often the statistics err, found by simulation at the sizes of real runs: 16, 40 and 60 units.

Every tolerance is three Monte-Carlo standard errors of the rate that is claimed, so that a method which holds its
level fails about once in a thousand checks, and the seeds are fixed.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from overlay.statistics import (
    Interval,
    PowerPlan,
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
    rogan_gladen,
    sequential_evidence,
    sign_flip,
    wilson,
)
from overlay.statistics.clusters import sign_flips

SIZES = (16, 40, 60)
DRAWS = 20_000


@pytest.fixture(scope="module", autouse=True)
def nothing_to_collect() -> Iterator[None]:
    """statsmodels collects garbage on every call, which takes long after a session's worth of imports."""
    holm({"first": 0.1, "second": 0.2})  # imports what it needs
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def noise(rate: float, runs: int) -> float:
    """Three Monte-Carlo standard errors of a rate found in `runs` simulations."""
    return 3 * (rate * (1 - rate) / runs) ** 0.5


def share(outcomes: NDArray[np.int64], holds: Callable[..., bool]) -> float:
    """Share of the simulated outcomes (runs, counts) for which `holds`, each different outcome computed once."""
    different, times = np.unique(outcomes, axis=0, return_counts=True)
    return float(sum(count for row, count in zip(different.tolist(), times, strict=True) if holds(*row)) / times.sum())


def arms(only_first: int, only_second: int, same: int) -> tuple[list[bool], list[bool]]:
    """Paired outcomes with these counts."""
    first = [True] * only_first + [False] * (only_second + same)
    return first, [False] * only_first + [True] * only_second + [False] * same


def pairs(n: int, down: float, up: float, draws: int = DRAWS) -> NDArray[np.int64]:
    """Simulated counts (draws, 3): yes in the first arm only, in the second only, the same in both."""
    return np.random.default_rng([n, round(1000 * down), round(1000 * up)]).multinomial(
        n, [down, up, max(0.0, 1 - down - up)], size=draws
    )


def inside(interval: Interval, value: float) -> bool:
    return interval.low - 1e-9 <= value <= interval.high + 1e-9


# --- intervals cover --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
def test_wilson_covers_rare_and_common_behaviours(n: int) -> None:
    found = []
    for rate in np.linspace(0.05, 0.95, 19):
        counts = np.random.default_rng(3).binomial(n, rate, size=(DRAWS, 1))
        found.append(share(counts, lambda k, rate=rate: inside(wilson(k, n), rate)))
    # Counts are whole, so coverage swings around what is promised; it must not swing low, nor low on average.
    assert min(found) >= 0.92 - noise(0.92, DRAWS)
    assert np.mean(found) >= 0.945


def test_a_t_interval_would_cover_a_rare_behaviour_half_of_the_time() -> None:
    """Why rates have Wilson: at n=16 and 5%, outcomes without the behaviour have no variance at all."""
    outcomes = np.random.default_rng(3).random((DRAWS, 16)) < 0.05
    reach = 2.131 * outcomes.std(axis=1, ddof=1) / 4
    assert np.mean(np.abs(outcomes.mean(axis=1) - 0.05) <= reach) == pytest.approx(0.56, abs=0.01)


@pytest.mark.parametrize("n", SIZES)
def test_paired_difference_covers_with_and_without_an_effect(n: int) -> None:
    found = []
    for down, up in ((0.0, 0.0625), (0.05, 0.05), (0.2, 0.2), (0.0, 0.2), (0.04, 0.24), (0.1, 0.5)):
        found.append(
            share(
                pairs(n, down, up),
                lambda a, b, c, true=up - down: inside(paired_difference(*arms(a, b, c)).interval, true),
            )
        )
    assert min(found) >= 0.92 - noise(0.92, DRAWS)
    assert np.mean(found) >= 0.945


@pytest.mark.parametrize("n", SIZES)
def test_rogan_gladen_covers_the_true_rate_behind_a_detector_validated_on_few_texts(n: int) -> None:
    draws, generator = 3_000, np.random.default_rng(n)
    for sensitivity, specificity, checked in ((0.95, 0.95, 20), (0.8, 0.9, 40), (1.0, 1.0, 20), (0.75, 0.85, 60)):
        for rate in (0.0, 0.05, 0.25, 0.9):
            fires = rate * sensitivity + (1 - rate) * (1 - specificity)
            counts = np.stack(
                [
                    generator.binomial(n, fires, draws),
                    generator.binomial(checked, sensitivity, draws),
                    generator.binomial(checked, specificity, draws),
                ],
                axis=1,
            )
            covers = share(
                counts,
                lambda k, hits, silences, rate=rate, checked=checked: inside(
                    rogan_gladen(k, n, Validation(hits, checked, silences, checked)).interval, rate
                ),
            )
            assert covers >= 0.94 - noise(0.94, draws)


def test_the_uncorrected_rate_of_a_weak_detector_covers_nothing() -> None:
    """What the correction is for: 5% with the behaviour, but a fifth of the others set the detector off."""
    counts = np.random.default_rng(1).binomial(60, 0.05 * 0.8 + 0.95 * 0.2, size=(DRAWS, 1))
    assert share(counts, lambda k: inside(wilson(k, 60), 0.05)) < 0.1


@pytest.mark.parametrize(("clusters", "covers"), [(8, 0.89), (40, 0.94)])
def test_cluster_bootstrap_covers_what_its_docstring_says(clusters: int, covers: float) -> None:
    runs, generator = 1_000, np.random.default_rng(clusters)
    effects = generator.normal(0.2, 0.3, size=(runs, clusters, 1))
    values = (effects + generator.normal(0, 0.5, size=(runs, clusters, 4))).reshape(runs, -1)
    names = np.repeat(np.arange(clusters), 4).tolist()
    found = np.mean([inside(cluster_bootstrap(row, names, draws=1000), 0.2) for row in values.tolist()])
    assert found == pytest.approx(covers, abs=noise(covers, runs))


# --- tests hold their level -------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("discordant", [0.1, 0.3, 0.8])
def test_mcnemar_holds_five_percent(n: int, discordant: float) -> None:
    counts = pairs(n, discordant / 2, discordant / 2)
    assert share(counts, lambda a, b, c: mcnemar_exact(*arms(a, b, c)).p < 0.05) <= 0.05 + noise(0.05, DRAWS)


@pytest.mark.parametrize(("n", "rate"), [(16, 0.1), (16, 0.5), (40, 0.1), (60, 0.05)])
def test_boschloo_holds_five_percent(n: int, rate: float) -> None:
    draws = 2_000
    counts = np.sort(np.random.default_rng(n).binomial(n, rate, size=(draws, 2)), axis=1)  # two-sided: order is free
    assert share(counts, lambda a, b: boschloo(a, n, b, n).p < 0.05) <= 0.05 + noise(0.05, draws)


@pytest.mark.parametrize("clusters", [8, *SIZES])
def test_sign_flip_holds_five_percent_with_light_and_heavy_tails(clusters: int) -> None:
    runs, generator = 4_000, np.random.default_rng(11)
    # Half of the runs with heavy tails, where a t test would be off.
    rows = np.vstack(
        [generator.normal(size=(runs // 2, clusters)), generator.standard_t(2, size=(runs // 2, clusters))]
    )
    alarms = float(np.mean(sign_flips(rows) < 0.05))
    # At eight clusters, 12 of the 256 patterns are as extreme as p < .05 allows.
    assert alarms == pytest.approx(12 / 256 if clusters == 8 else 0.05, abs=noise(0.05, runs))
    assert [sign_flip(row) for row in rows[:3].tolist()] == pytest.approx(sign_flips(rows)[:3])


def test_pooling_pairs_over_scenarios_raises_false_alarms_and_the_sign_flip_does_not() -> None:
    """Scenario effects vary around zero: their pooled pairs alarm far too often, one value per scenario does not."""
    runs, generator = 2_000, np.random.default_rng(2)
    rates = np.clip(0.5 + generator.normal(0, 0.25, size=(runs, 8, 1)), 0.02, 0.98)
    treated, base = generator.random((runs, 8, 12)) < rates, generator.random((runs, 8, 12)) < 0.5
    split = np.stack([(base & ~treated).sum(axis=(1, 2)), (treated & ~base).sum(axis=(1, 2))], axis=1)
    pooled = share(split, lambda a, b: mcnemar_exact(*arms(a, b, 0)).p < 0.05)
    flipped = float(np.mean(sign_flips(treated.mean(axis=2) - base.mean(axis=2)) < 0.05))
    assert flipped <= 0.05 + noise(0.05, runs)
    assert pooled > 0.10 + noise(0.10, runs)


def test_power_shows_the_false_alarms_of_pooled_pairs_before_the_run() -> None:
    plan = PowerPlan(8, 12, 2, 0.4, 0.2, scenario_sd=0.2, item_sd=0.1)
    pooled, proper = estimate_power(plan, tests=("pairs",)), estimate_power(plan)
    # Only a rise counts, so half of five percent is what a valid test may do.
    assert pooled.false_alarms > 0.05 + noise(0.05, pooled.runs)
    assert proper.false_alarms <= 0.025 + noise(0.025, proper.runs)


@pytest.mark.parametrize("n", SIZES)
def test_one_scenario_whose_items_vary_holds_its_level_over_items(n: int) -> None:
    """Paraphrases of an item move together: over pairs alone the alarm rises, with the items' test it does not."""
    plan = PowerPlan(1, n, 4, 0.4, 0.2, 0.0, item_sd=0.3, likeness=0.6)
    assert estimate_power(plan, tests=("pairs",)).false_alarms > 0.04
    assert estimate_power(plan).false_alarms <= 0.025 + noise(0.025, 2_000)


def test_holm_bounds_the_chance_of_any_false_alarm() -> None:
    runs, generator = 3_000, np.random.default_rng(4)
    from scipy.stats import norm

    # Six planned comparisons against one base arm depend on each other; two of them have a true effect.
    shared = generator.normal(size=(runs, 1))
    scores = (generator.normal(size=(runs, 6)) + shared) / 2**0.5 + np.array([0, 0, 0, 0, 3, 3])
    families = [dict(zip("abcdef", row, strict=True)) for row in (2 * norm.sf(np.abs(scores))).tolist()]
    adjusted = [holm(family) for family in families]
    assert np.mean([min(family[name] for name in "abcd") < 0.05 for family in adjusted]) <= 0.05 + noise(0.05, runs)
    # Without the adjustment it would be three times that.
    assert np.mean([min(family[name] for name in "abcd") < 0.05 for family in families]) > 0.12


def test_benjamini_hochberg_bounds_the_share_of_false_discoveries() -> None:
    runs, generator = 2_000, np.random.default_rng(5)
    from scipy.stats import norm

    names = [str(place) for place in range(20)]
    effects = np.where(np.arange(20) < 10, 0.0, 3.0)
    p = 2 * norm.sf(np.abs(generator.normal(size=(runs, 20)) + effects))
    false_shares = []
    for row in p.tolist():
        found = [int(name) for name, q in benjamini_hochberg(dict(zip(names, row, strict=True))).items() if q <= 0.05]
        false_shares.append(sum(place < 10 for place in found) / max(1, len(found)))
    # Half of the comparisons are true nulls, so the bound is .05 / 2.
    standard_error = float(np.std(false_shares)) / runs**0.5
    assert np.mean(false_shares) == pytest.approx(0.025, abs=3 * standard_error)


@pytest.mark.parametrize("n", [8, 16, 40])
def test_equivalence_of_means_claims_a_difference_at_the_margin_in_five_percent(n: int) -> None:
    runs = 2_000
    differences = np.random.default_rng(n).normal(0.1, 0.08, size=(runs, n))
    claims = np.mean([equivalence_of_means(row, 0.1).equivalent for row in differences.tolist()])
    assert claims == pytest.approx(0.05, abs=noise(0.05, runs))


@pytest.mark.parametrize(
    ("n", "margin", "down"),
    # At the last, where every pair is discordant, Tango's normal approximation claims it in 6.2%; the exact p must not.
    [(16, 0.3, 0.0), (16, 0.3, 0.2), (40, 0.2, 0.05), (60, 0.2, 0.1), (60, 0.1, 0.0), (60, 0.1, 0.1), (40, 0.3, 0.35)],
)
def test_equivalence_of_rates_claims_a_difference_at_the_margin_in_five_percent_at_most(
    n: int, margin: float, down: float
) -> None:
    counts = pairs(n, down, down + margin)
    for order in (counts, counts[:, [1, 0, 2]]):
        claims = share(order, lambda a, b, c: equivalence_of_rates(*arms(a, b, c), margin).equivalent)
        assert claims <= 0.05 + noise(0.05, DRAWS)


def test_equivalence_of_rates_finds_arms_that_are_the_same() -> None:
    counts = pairs(60, 0.02, 0.02)
    assert share(counts, lambda a, b, c: equivalence_of_rates(*arms(a, b, c), 0.2).equivalent) > 0.95
    assert share(counts, lambda a, b, c: equivalence_of_rates(*arms(a, b, c), 0.1).equivalent) > 0.6


@pytest.mark.parametrize("items", [6, 16, 40])
def test_dose_trend_holds_five_percent_for_measures_and_for_yes_or_no(items: int) -> None:
    runs, generator = 1_000, np.random.default_rng(items)
    doses = list(range(5))
    # Items differ a lot from each other, which must not matter.
    level = generator.normal(0, 2, size=(runs, items, 1))
    measures = level + generator.normal(size=(runs, items, 5))
    for values in (measures, measures > 0):
        alarms = np.mean([dose_trend(doses, rows).p < 0.05 for rows in values.tolist()])
        assert alarms <= 0.05 + noise(0.05, runs)
        assert alarms >= 0.03 - noise(0.03, runs)  # nor does it sleep, ties or not


def test_dose_trend_sees_a_rise_that_the_ends_alone_miss() -> None:
    generator = np.random.default_rng(8)
    rates = np.linspace(0.2, 0.5, 6)
    rows = generator.random((300, 24, 6)) < rates
    trend = np.mean([dose_trend(list(range(6)), run).p < 0.05 for run in rows.tolist()])
    ends = np.mean([mcnemar_exact(run[:, 0].tolist(), run[:, -1].tolist()).p < 0.05 for run in rows])
    assert trend > ends + 0.1


# --- stopping early ---------------------------------------------------------------------------------


def test_looking_after_every_pair_costs_mcnemar_its_level_and_the_e_value_nothing() -> None:
    runs, length, generator = 3_000, 200, np.random.default_rng(6)
    first, second = generator.random((runs, length)) < 0.4, generator.random((runs, length)) < 0.4
    crossed = np.mean([sequential_evidence(a, b).crossed_after is not None for a, b in zip(first, second, strict=True)])
    assert crossed <= 0.05 + noise(0.05, runs)
    assert crossed > 0.005  # an e-value that never moved would hold its level too
    down, up = np.cumsum(first & ~second, axis=1), np.cumsum(second & ~first, axis=1)
    table = {
        (a, b): mcnemar_exact(*arms(a, b, 0)).p < 0.05
        for a, b in np.unique(np.stack([down.ravel(), up.ravel()], axis=1), axis=0).tolist()
    }
    looked = [any(table[pair] for pair in set(zip(*row, strict=True))) for row in np.stack([down, up], axis=1).tolist()]
    assert np.mean(looked) > 0.10 + noise(0.10, runs)


def test_the_mean_of_an_e_value_is_one_under_the_null_wherever_the_run_stops() -> None:
    runs, generator = 20_000, np.random.default_rng(7)
    # The rule stops at the first lead of two, or after ten pairs.
    steps = np.where(generator.random((runs, 10)) < 0.5, 1, -1)
    lead = np.cumsum(steps, axis=1)
    stop = np.where((lead >= 2).any(axis=1), (lead >= 2).argmax(axis=1), 9)
    ups = np.array([int((row[: end + 1] > 0).sum()) for row, end in zip(steps, stop, strict=True)])
    counts = np.stack([stop + 1 - ups, ups], axis=1)
    different, times = np.unique(counts, axis=0, return_counts=True)
    values = np.array([sequential_evidence(*arms(a, b, 0)).e for a, b in different.tolist()])
    mean = float(np.average(values, weights=times))
    spread = float(np.average((values - mean) ** 2, weights=times)) ** 0.5
    assert mean == pytest.approx(1, abs=3 * spread / runs**0.5)


def test_one_pair_per_scenario_keeps_the_e_value_honest_where_all_pairs_would_not() -> None:
    runs, generator = 1_500, np.random.default_rng(9)
    rates = np.clip(0.5 + generator.normal(0, 0.25, size=(runs, 30, 1)), 0.02, 0.98)
    treated, base = generator.random((runs, 30, 12)) < rates, generator.random((runs, 30, 12)) < 0.5
    more, fewer = treated.sum(axis=2) > base.sum(axis=2), treated.sum(axis=2) < base.sum(axis=2)
    by_scenario = np.mean(
        [sequential_evidence(a, b).crossed_after is not None for a, b in zip(fewer, more, strict=True)]
    )
    flat = base.reshape(runs, -1), treated.reshape(runs, -1)
    by_pair = np.mean([sequential_evidence(a, b).crossed_after is not None for a, b in zip(*flat, strict=True)])
    assert by_scenario <= 0.05 + noise(0.05, runs)
    assert by_pair > 0.10 + noise(0.10, runs)
