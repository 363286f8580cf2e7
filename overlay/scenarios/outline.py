"""Outlines: how large a scenario is before it is run, counted from its script alone."""

from __future__ import annotations

from dataclasses import dataclass

from overlay.scenarios.detectors import MECHANICAL
from overlay.scenarios.limits import (
    NORM_DIRECTIONS,
    PROBED_PARAPHRASES,
    RANDOM_DIRECTIONS,
    RANDOM_PARAPHRASES,
    SECOND_PARAPHRASES,
)
from overlay.scenarios.script import Item, Scenario
from overlay.scenarios.verdict import LEAST_ITEMS

CORE_ARMS = ("base", "treated", "sham", "reversed", "random_norm", "random_volatility")

_ORDERS = 2
_ANSWERS = 2
_PROBED = {"base", "treated", "prompted"}


@dataclass(frozen=True)
class RunSize:
    """What a run asks of the model.

    Attributes:
        arms: names of the arms, core ones first.
        directions: random directions.
        cells: units that are played, over all arms.
        rows: options, actions and answers that are scored, at most: branches may leave some out.
        texts: texts that are written, at most.
    """

    arms: tuple[str, ...]
    directions: int
    cells: int
    rows: int
    texts: int


@dataclass(frozen=True)
class Outline:
    """The size of a scenario.

    Attributes:
        paraphrases: the fewest and the most wordings that an item has.
        units: (item, wording, seed).
        core, whole: a run with --arms core, and one with --arms all.
        notes: what the evidence will lack, in words.
    """

    scenario: str
    items: int
    paraphrases: tuple[int, int]
    units: int
    core: RunSize
    whole: RunSize
    detectors: tuple[str, ...]
    primary: str
    notes: tuple[str, ...]


def outline(scenario: Scenario) -> Outline:
    """Count what a script asks for."""
    wordings = [len(item.paraphrases) for item in scenario.trial.items]
    return Outline(
        scenario=scenario.name,
        items=len(wordings),
        paraphrases=(min(wordings), max(wordings)),
        units=len(scenario.trial.seeds) * sum(wordings),
        core=_size(scenario, CORE_ARMS, RANDOM_DIRECTIONS["core"], probed=False),
        whole=_size(scenario, (*CORE_ARMS, *_further_arms(scenario)), RANDOM_DIRECTIONS["all"], probed=True),
        detectors=tuple(f"{detector.name} ({detector.kind})" for detector in scenario.detectors),
        primary=scenario.primary,
        notes=tuple(_notes(scenario)),
    )


def _further_arms(scenario: Scenario) -> tuple[str, ...]:
    """Those that --arms all adds."""
    levels = scenario.levels
    optional = {
        "neutral": scenario.neutral,
        "shuffled": scenario.exposure.texts,
        "topic": levels.topic,
        "prompted": levels.prompted,
        "adapter": levels.adapter,
        "positive_control": scenario.positive_control,
    }
    given = (name for name, written in optional.items() if written)
    return ("dose_0.5", "dose_1.5", "zeroed", *given, *(arm.name for arm in scenario.arms))


def _size(scenario: Scenario, arms: tuple[str, ...], usual: int, *, probed: bool) -> RunSize:
    directions = scenario.preregistration.random_directions or usual
    whole = {*CORE_ARMS, *scenario.preregistration.comparisons}
    written = sum(step.free is not None for step in scenario.trial.steps)
    cells = rows = texts = 0
    for item in scenario.trial.items:
        wordings = len(item.paraphrases)
        scored = _scored(scenario, item)
        for arm in arms:
            times = {"random_norm": min(directions, NORM_DIRECTIONS), "random_volatility": directions}.get(arm, 0)
            limit = RANDOM_PARAPHRASES if times else wordings if arm in whole else SECOND_PARAPHRASES
            played = len(scenario.trial.seeds) * (times or 1) * min(wordings, limit)
            cells += played
            rows += played * scored
            texts += played * written
            if probed and arm in _PROBED and scenario.probes is not None:
                asked = len(scenario.trial.seeds) * min(wordings, PROBED_PARAPHRASES)
                rows += asked * len(scenario.probes.forced) * _ANSWERS * _ORDERS
                texts += asked * len(scenario.probes.free)
    return RunSize(arms, directions, cells, rows, texts)


def _scored(scenario: Scenario, item: Item) -> int:
    """Rows that one episode of an item scores at most, both orders of each choice counted."""
    world, rows = scenario.world, 0
    ways = max((len(exits) for exits in world.places.values()), default=0)
    for step in scenario.trial.steps:
        if step.choose is not None:
            rows += _ORDERS * len(step.choose.options or item.options)
        elif step.act is not None:
            rows += _ORDERS * step.act.times * (len(world.actions) + len(item.actions) + ways)
    return rows


def _notes(scenario: Scenario) -> list[str]:
    found = []
    if len(scenario.trial.items) < LEAST_ITEMS:
        found.append(f"with fewer than {LEAST_ITEMS} items nothing can be shown: no p over items gets below .05")
    if scenario.neutral is None:
        found.append("no neutral exposure: what any reading does can't be told apart")
    for detector in scenario.detectors:
        if not isinstance(detector, MECHANICAL) and not detector.examples:
            found.append(f"detector '{detector.name}' has no labelled examples: how often it errs stays unknown")
    return found
