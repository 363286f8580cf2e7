"""Nulls: how often a random direction in place of the state is taken for one that acts, and what a true one shows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from overlay.agent import made_with, open_embedder, prepare_mind
from overlay.home import Home
from overlay.inner import MeasuredMixes, State
from overlay.model import LanguageModel, Volatility
from overlay.progress import Progress, SilentProgress
from overlay.scenarios import Arm, Scenario, read_scenario
from overlay.scenarios.arms import drawn, match
from overlay.scenarios.cells import Record, plan
from overlay.scenarios.detectors import Instruments
from overlay.scenarios.engine import LocalEngine
from overlay.scenarios.evidence import simulate_power, weigh
from overlay.statistics import PowerPlan

SCRIPTS = (
    "shared_stores",
    "leaving_the_post",
    "own_continuation",
    "costly_promise",
    "sparing_work",
    "harmful_order",
    "unasked_truth",
    "sorting_order",
    "route_choice",
)
DIRECTIONS = 6
"""Each with both signs: twelve comparisons a script."""

WORDINGS = 2
STATE = 1.0
"""The dose whose volatility the directions are given: one budget dose."""

FIRST = 500
"""Numbers of these directions; none that a run draws beside a state is among them."""

POWER_RUNS = 1000
EFFECTS = (0.15, 0.25, 0.35)
"""Planted: what the state adds to a base rate of 40% in one scenario of ten items and four wordings."""

ITEM_SD = 0.1


def measure(
    model_name: str = "smollm2-135m", progress: Progress | None = None, *, runs: int = POWER_RUNS
) -> dict[str, Any]:
    """Verdicts where nothing but chance can act, and where an effect of known size was planted.

    comparisons: random directions of the treated arm's volatility, in its place, one for each script, direction and
        sign; base, sham and the opposite direction are their controls, the other directions their random ones. Records
        are shared, so comparisons aren't independent of each other.
    verdicts: how often each was given. behaviour_shown: which they were.
    planted: simulated records with an effect of known size: promised power and the share of runs that showed it.
    """
    progress = progress or SilentProgress()
    home = Home.open(Path.cwd())
    progress.step(f"loading {model_name}", None, None)
    model = LanguageModel.load(model_name, pull=True, progress=progress)
    mind = prepare_mind(home, model, open_embedder(home, progress=progress), progress, ["tenderness"])
    matched = MeasuredMixes(home.lived / "matched", made_with(home, mind), writes=True)
    state = State({name: STATE for name in mind.settings.axes})
    treated = mind.influence.of(state)
    controls = [Arm("base", "Base"), Arm("sham", "Sham", treated.intervention * 0.0)]
    pool: list[Arm] = []
    for number in range(FIRST, FIRST + DIRECTIONS):
        progress.step("matching directions", number - FIRST, DIRECTIONS)
        same_dose = drawn(treated.intervention, number)
        scale, volatility = match(same_dose, treated.volatility, mind, matched)
        for sign in (1.0, -1.0):
            pool.append(Arm("random_volatility", "", same_dose * (scale * sign), volatility, 2 * number + (sign < 0)))
    engine = LocalEngine(model, Instruments(model))
    verdicts: Counter[str] = Counter()
    shown: list[str] = []
    started = time.perf_counter()
    for place, name in enumerate(SCRIPTS):
        progress.step("random directions in place of the state", place, len(SCRIPTS))
        script = read_scenario(home.scenarios / f"{name}.yaml")
        items = tuple(one.model_copy(update={"paraphrases": one.paraphrases[:WORDINGS]}) for one in script.trial.items)
        trial = script.trial.model_copy(update={"items": items})
        short = script.model_copy(update={"probes": None, "control": None, "trial": trial})
        played = _played(short, [*controls, *pool], engine)
        for number, arm in enumerate(pool):
            verdict = _verdict(short, controls, pool, number, played, treated.volatility)
            verdicts[verdict] += 1
            if verdict == "behaviour shown":
                shown.append(f"{name}, direction {arm.direction}")
    return {
        "comparisons": sum(verdicts.values()),
        "verdicts": dict(verdicts),
        "behaviour_shown": shown,
        "seconds": time.perf_counter() - started,
        "planted": _planted(runs, progress),
    }


def _played(script: Scenario, arms: Sequence[Arm], engine: LocalEngine) -> dict[tuple[str, int | None], list[Record]]:
    return {(group.arm.name, group.arm.direction): records for group, records in engine.play(plan(script, arms))}


def _verdict(
    script: Scenario,
    controls: Sequence[Arm],
    pool: Sequence[Arm],
    number: int,
    played: dict[tuple[str, int | None], list[Record]],
    cost: Volatility,
) -> str:
    """The verdict with one direction as the treated arm, its opposite as the reversed one, the rest as random ones."""
    opposite = number ^ 1
    arms: list[Arm] = []
    records: list[Record] = []

    def take(arm: Arm, name: str, direction: int | None) -> None:
        arms.append(replace(arm, name=name, direction=direction, volatility=cost))
        found = played[arm.name, arm.direction]
        records.extend(record | {"arm": name, "direction": direction} for record in found)

    for arm in controls:
        take(arm, arm.name, None)
    take(pool[number], "treated", None)
    take(pool[opposite], "reversed", None)
    for place, arm in enumerate(pool):
        if place not in (number, opposite):
            take(arm, "random_volatility", place)
    return str(weigh(script, arms, records, [], exploratory=False)["verdict"])


def _planted(runs: int, progress: Progress) -> dict[str, Any]:
    found = {}
    for effect in EFFECTS:
        progress.step(f"{runs} simulated runs with a planted effect of {effect:.0%}", None, None)
        plan = PowerPlan(1, 10, 4, base_rate=0.4, effect=effect, scenario_sd=0.0, item_sd=ITEM_SD)
        simulated = simulate_power(plan, runs=runs)
        found[f"{effect:.0%}"] = {
            "promised": simulated.promised.power,
            "found": simulated.power,
            "interval": [simulated.interval.low, simulated.interval.high],
            "kept": simulated.kept,
            "false_alarms": simulated.false_alarms,
        }
    return found
