"""Power: what a planned run could show, found by running its tests on simulated runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError
from overlay.statistics.arguments import check_significance
from overlay.statistics.clusters import sign_flips
from overlay.statistics.interval import Interval
from overlay.statistics.pairs import mcnemar_p
from overlay.statistics.rates import wilson

Test = Literal["pairs", "items", "scenarios"]
"""Exact McNemar over all pairs; sign flip over items' mean differences; sign flip over scenarios' mean differences."""

ONE_SCENARIO: tuple[Test, ...] = ("pairs", "items")
"""One scenario is judged over its pairs and over its items, and both must agree."""

SEVERAL_SCENARIOS: tuple[Test, ...] = ("scenarios",)

MOST_ITEMS = 512
MOST_SCENARIOS = 128
"""Where the search for the smallest plan gives up: nobody runs more."""

# Simulated answers held in memory at once: 2^20, in a handful of arrays of 8 MiB.
_ANSWERS_AT_ONCE = 2**20
# Rates are kept this far from 0 and 1 before they become means of a Beta distribution, which must lie between.
_EDGE = 1e-9

Rates = NDArray[np.float64]
Outcomes = NDArray[np.bool_]


@dataclass(frozen=True)
class PowerPlan:
    """A run as it is planned, and the world that it is planned for.

    Attributes:
        scenarios, items, paraphrases: how many scenarios, items in each, paraphrases of each item.
        base_rate: share of units with the behaviour in the base arm, 0 to 1.
        effect: what the state adds to that rate on average, above 0.
        scenario_sd: spread of the treated rate over scenarios, as a share; without meaning for one scenario, whose
            verdict is about that scenario alone.
        item_sd: spread of the treated rate over the items of a scenario, as a share.
        likeness: how alike all answers to one item are, 0 (unrelated) to 1 (only the treatment makes a difference):
            the correlation of the normal scores that lie behind them, over paraphrases and arms alike.

    Raises:
        ArgumentError: a count below 1, a share outside its range, or a spread that no rate around
            `base_rate` + `effect` can have.
    """

    scenarios: int
    items: int
    paraphrases: int
    base_rate: float
    effect: float
    scenario_sd: float
    item_sd: float = 0.0
    likeness: float = 0.5

    def __post_init__(self) -> None:
        for name in ("scenarios", "items", "paraphrases"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"a plan of {getattr(self, name)} {name}", f"plan at least 1 of {name}")
        if not 0 <= self.base_rate < 1:
            raise ArgumentError(f"a base rate of {self.base_rate} leaves no room to rise", "give a share from 0 to 1")
        if not 0 < self.effect <= 1 - self.base_rate:
            raise ArgumentError(
                f"an effect of {self.effect} on a base rate of {self.base_rate}",
                f"give what is added to the rate: above 0, at most {1 - self.base_rate:g}",
            )
        if not 0 <= self.likeness <= 1:
            raise ArgumentError(f"a likeness of {self.likeness} is no correlation", "give a share from 0 to 1")
        rate = self.base_rate + self.effect
        largest = float(np.sqrt(max(0.0, rate * (1 - rate))))
        for name in ("scenario_sd", "item_sd"):
            spread = getattr(self, name)
            if not 0 <= spread < max(largest, _EDGE):
                raise ArgumentError(
                    f"{name} {spread}: rates around {rate:g} can't spread like that",
                    f"give a share from 0 to below {largest:.3f}",
                )

    @property
    def tests(self) -> tuple[Test, ...]:
        """The tests that decide such a run, all of which must be significant."""
        return ONE_SCENARIO if self.scenarios == 1 else SEVERAL_SCENARIOS


@dataclass(frozen=True)
class Power:
    """What a plan achieves.

    Attributes:
        power: share of simulated runs in which every test was significant in favour of the effect.
        interval: its Monte-Carlo interval (Wilson, 95%).
        false_alarms: the same share when the state adds nothing on average while scenarios and items still vary;
            a valid plan stays at or below half of the significance level, because only a rise counts.
        false_alarms_interval: its Monte-Carlo interval.
        runs: simulated runs behind each of the two.
        tests: the tests that decided.
    """

    power: float
    interval: Interval
    false_alarms: float
    false_alarms_interval: Interval
    runs: int
    tests: tuple[Test, ...]


@dataclass(frozen=True)
class SmallestPlan:
    """The smallest plan found and its power; `plan` is None where even the largest one tried stays below target."""

    plan: PowerPlan | None
    power: Power


def estimate_power(
    plan: PowerPlan,
    *,
    tests: tuple[Test, ...] | None = None,
    significance: float = 0.05,
    runs: int = 2000,
    seed: int = 0,
) -> Power:
    """Simulate a plan `runs` times through the tests that its run would use (`plan.tests` unless given).

    Each answer is yes when a normal score lies below the quantile of its rate; scores within an item correlate by
    `likeness`; treated rates of scenarios, and of items within them, follow Beta distributions. Without an effect
    the spreads shrink with the rate's own, as sqrt(rate (1 - rate)). The same seed gives the same answer.

    Raises:
        ArgumentError: no run, no test, or `significance` isn't between 0 and .5.
    """
    check_significance(significance)
    if runs < 1:
        raise ArgumentError(f"{runs} simulated runs show nothing", "ask for at least 500")
    chosen = plan.tests if tests is None else tests
    if not chosen:
        raise ArgumentError("a plan without a test can't show anything", "name at least one test")
    found = _detections(plan, plan.base_rate + plan.effect, chosen, significance, runs, seed)
    alarms = _detections(plan, plan.base_rate, chosen, significance, runs, seed + 1)
    return Power(found / runs, wilson(found, runs), alarms / runs, wilson(alarms, runs), runs, chosen)


def smallest_plan(
    plan: PowerPlan,
    *,
    target: float = 0.8,
    vary: Literal["items", "scenarios"] | None = None,
    tests: tuple[Test, ...] | None = None,
    significance: float = 0.05,
    runs: int = 1000,
    seed: int = 0,
) -> SmallestPlan:
    """The fewest items (one scenario) or scenarios (several) that reach a power of `target`, all else as planned.

    Found by doubling and halving, so it is as sharp as the power's Monte-Carlo interval, which comes with it.

    Raises:
        ArgumentError: `target` isn't between 0 and 1, `vary` would turn one scenario into several, or what
            `estimate_power` raises.
    """
    if not 0 < target < 1:
        raise ArgumentError(f"a target of {target} is no power", "give a share such as 0.8")
    what = vary or ("items" if plan.scenarios == 1 else "scenarios")
    if what == "scenarios" and plan.scenarios == 1:
        raise ArgumentError(
            "a plan of one scenario is judged by other tests than one of several",
            "plan at least two scenarios, or vary the items",
        )
    least, most = (2, MOST_SCENARIOS) if what == "scenarios" else (1, MOST_ITEMS)

    def at(size: int) -> tuple[PowerPlan, Power]:
        sized = replace(plan, scenarios=size) if what == "scenarios" else replace(plan, items=size)
        return sized, estimate_power(sized, tests=tests, significance=significance, runs=runs, seed=seed)

    below, size = least - 1, min(8, most)
    sized, found = at(size)
    while found.power < target and size < most:
        below, size = size, min(2 * size, most)
        sized, found = at(size)
    if found.power < target:
        return SmallestPlan(None, found)
    best = sized, found
    while size - below > 1:
        middle = (below + size) // 2
        sized, found = at(middle)
        if found.power >= target:
            size, best = middle, (sized, found)
        else:
            below = middle
    return SmallestPlan(*best)


def _detections(
    plan: PowerPlan, treated_rate: float, tests: tuple[Test, ...], significance: float, runs: int, seed: int
) -> int:
    """How many of `runs` simulated runs pass every test, in favour of the treated arm."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _ANSWERS_AT_ONCE // (plan.scenarios * plan.items * plan.paraphrases))
    found = 0
    for start in range(0, runs, at_once):
        base, treated = _simulate(plan, treated_rate, min(at_once, runs - start), generator)
        more = treated.sum(axis=(1, 2, 3)) > base.sum(axis=(1, 2, 3))
        base, treated = base[more], treated[more]
        for test in tests:
            passed = _p_values(test, base, treated) < significance
            base, treated = base[passed], treated[passed]
        found += len(base)
    return found


def _p_values(test: Test, base: Outcomes, treated: Outcomes) -> NDArray[np.float64]:
    """The p (runs,) of one test for outcomes (runs, scenarios, items, paraphrases) of both arms."""
    units = (1, 2, 3)
    if test == "pairs":
        return mcnemar_p((base & ~treated).sum(axis=units), (treated & ~base).sum(axis=units))
    differences = treated.astype(np.float64) - base
    by_item = differences.mean(axis=3)
    if test == "items":
        return sign_flips(by_item.reshape(len(base), base.shape[1] * base.shape[2]))
    return sign_flips(by_item.mean(axis=2))


def _simulate(
    plan: PowerPlan, treated_rate: float, runs: int, generator: np.random.Generator
) -> tuple[Outcomes, Outcomes]:
    """Base and treated outcomes, each (runs, scenarios, items, paraphrases)."""
    from scipy.special import ndtri

    shape = (runs, plan.scenarios, plan.items, plan.paraphrases)
    planned = plan.base_rate + plan.effect
    scenario_sd = plan.scenario_sd if plan.scenarios > 1 else 0.0
    rates = _vary(np.full((runs, plan.scenarios, 1), treated_rate), scenario_sd, planned, generator)
    rates = _vary(np.repeat(rates, plan.items, axis=2), plan.item_sd, planned, generator)
    item = np.sqrt(plan.likeness) * generator.standard_normal((*shape[:3], 1))
    own = np.sqrt(1 - plan.likeness)
    base = item + own * generator.standard_normal(shape) < ndtri(plan.base_rate)
    treated = item + own * generator.standard_normal(shape) < ndtri(rates)[..., None]
    return base, treated


def _vary(means: Rates, spread: float, planned: float, generator: np.random.Generator) -> Rates:
    """Rates drawn from Beta distributions with these means, and with this standard deviation at the planned rate."""
    if spread == 0:
        return means
    concentration = planned * (1 - planned) / spread**2 - 1
    inside = np.clip(means, _EDGE, 1 - _EDGE)
    return generator.beta(inside * concentration, (1 - inside) * concentration)
