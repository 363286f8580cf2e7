"""Arms: the conditions that meet the same trial, each with its intervention and what that costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from overlay.axes import random_direction
from overlay.errors import ArgumentError
from overlay.inner import MeasuredMixes, Mind, State
from overlay.model import AdapterUse, Ban, Intervention, Message, Row, Sampling, Volatility
from overlay.progress import Progress, SilentProgress
from overlay.scenarios.cells import Arm
from overlay.scenarios.limits import (
    NORM_DIRECTIONS,
    PROBED_PARAPHRASES,
    RANDOM_PARAPHRASES,
    SECOND_PARAPHRASES,
    ArmSet,
)
from overlay.scenarios.script import CustomArm, Scenario

MATCHING_TOLERANCE = 0.05
"""How closely a volatility-matched direction's cost equals the treated arm's."""

FACTORS = (0.5, 1.5)
"""Doses besides 1 (treated), 0 (sham) and -1 (reversed), as shares of the treated one."""

TOPIC_TOKENS = 80
"""How long the text on a topic may become."""


@dataclass(frozen=True)
class States:
    """The states that arms stand for: after the exposure, after neutral texts, after the same words out of order."""

    treated: State
    neutral: State | None = None
    shuffled: State | None = None


def build_arms(
    scenario: Scenario,
    mind: Mind,
    states: States,
    which: ArmSet,
    directions: int,
    matched: MeasuredMixes | None,
    progress: Progress,
) -> list[Arm]:
    """The arms of a scenario, base first; "all" adds every arm that the script allows to those of `core_arms`.

    Args:
        matched: what random directions were measured to cost before.

    Raises:
        ArgumentError: a custom arm doses an axis that the scenario doesn't have.
    """
    probed = PROBED_PARAPHRASES if which == "all" and scenario.probes is not None else 0
    core = core_arms(mind, states.treated, directions, matched, progress, probed)
    if which == "core":
        return core
    arms = list(core)
    acting, influence = mind.influence.of(states.treated).intervention, mind.influence
    arms += [_acting(f"dose_{one:g}", f"{one:g} times the treated dose", acting * one, mind) for one in FACTORS]
    resting = influence.of(State.resting(mind.settings)).intervention
    arms.append(_acting("zeroed", "Zeroed: the state back at rest", resting, mind))
    for name, state, label in (
        ("neutral", states.neutral, "Neutral: a state built up on neutral texts"),
        ("shuffled", states.shuffled, "Shuffled: the same words out of order"),
    ):
        if state is not None:
            arms.append(_acting(name, label, influence.of(state).intervention, mind))
    arms += [*_levels(scenario, mind, probed), *(_custom(one, mind) for one in scenario.arms)]
    whole = {arm.name for arm in core} | {*scenario.preregistration.comparisons}
    return [arm if arm.name in whole else replace(arm, paraphrases=SECOND_PARAPHRASES) for arm in arms]


def core_arms(
    mind: Mind,
    state: State,
    directions: int,
    matched: MeasuredMixes | None = None,
    progress: Progress | None = None,
    probed: int = 0,
) -> list[Arm]:
    """Base, treated, sham, reversed, and each random direction at the same dose and at the same volatility."""
    treated = mind.influence.of(state)
    acting, cost = treated.intervention, treated.volatility
    return [
        _acting("base", "Base: no intervention", Intervention(), mind, probed),
        Arm("treated", "Treated: the state that built up", acting, cost, probes=probed),
        _acting("sham", "Sham: hooks on, dose 0", acting * 0.0, mind),
        _acting("reversed", "Reversed: the opposite dose", acting * -1.0, mind),
        *_random(acting, cost, mind, directions, matched, progress or SilentProgress()),
    ]


def _acting(name: str, label: str, intervention: Intervention, mind: Mind, probed: int = 0) -> Arm:
    return Arm(name, label, intervention, mind.influence.gauge.measure(intervention), probes=probed)


def _levels(scenario: Scenario, mind: Mind, asked: int) -> Iterator[Arm]:
    """Topic, prompt, adapter and positive control: the ways that name what they want, or train it."""
    levels = scenario.levels
    if levels.topic is not None:
        told = (Message("user", levels.topic),)
        mind.model.prefixes.clear()
        (written,) = mind.model.generate([Row(told, sampling=Sampling(max_tokens=TOPIC_TOKENS))])
        history = (*told, Message("assistant", written.text))
        yield Arm("topic", "Level 1: wrote about it before", history=history, same_tokens=False)
    if levels.prompted is not None:
        yield Arm("prompted", "Level 2: told to feel it", instruction=levels.prompted, same_tokens=False, probes=asked)
    if levels.adapter is not None:
        worn = Intervention(adapters=(AdapterUse(levels.adapter, 1.0),))
        cost = mind.influence.gauge.measure(worn)
        yield Arm("adapter", f"Level 3: wears the adapter {levels.adapter}", worn, cost)
    if scenario.positive_control is not None:
        said = scenario.positive_control
        yield Arm("positive_control", "Positive control: told to do it", reminder=said, same_tokens=False)


def _custom(written: CustomArm, mind: Mind) -> Arm:
    axes = mind.influence.axes
    for dose in written.doses:
        if dose.axis not in axes:
            raise ArgumentError(
                f"the arm '{written.name}' doses '{dose.axis}'", f"the scenario's axes are {', '.join(axes)}"
            )
    intervention = Intervention(
        tuple(axes[dose.axis].dose(dose.dose, "turn") for dose in written.doses),
        tuple(AdapterUse(name, scale) for name, scale in written.adapters.items()),
        bans=tuple(Ban(text) for text in written.bans),
    )
    return Arm(
        written.name,
        written.name.replace("_", " ").replace("-", " ").capitalize(),
        intervention,
        mind.influence.gauge.measure(intervention),
        instruction=written.instruction or "",
        same_tokens=written.instruction is None,
    )


def _random(
    acting: Intervention,
    cost: Volatility,
    mind: Mind,
    directions: int,
    matched: MeasuredMixes | None,
    progress: Progress,
) -> Iterator[Arm]:
    """Each random direction at the same dose, and at the same volatility."""
    for number in range(directions if acting.doses else 0):
        progress.step("matching random directions", number, directions)
        same_dose = drawn(acting, number)
        if number < NORM_DIRECTIONS:
            spent = _cost(same_dose, mind, matched)
            yield Arm("random_norm", "Random directions, same dose", same_dose, spent, number, RANDOM_PARAPHRASES)
        scale, volatility = match(same_dose, cost, mind, matched)
        label = "Random directions, same volatility"
        yield Arm("random_volatility", label, same_dose * scale, volatility, number, RANDOM_PARAPHRASES)


def drawn(acting: Intervention, number: int) -> Intervention:
    """The same doses in random directions; which ones, `number` decides."""
    return Intervention(
        tuple(
            replace(dose, direction=random_direction(dose.direction, dose.blocks, 1000 * number + place))
            for place, dose in enumerate(acting.doses)
        )
    )


def match(
    same_dose: Intervention, cost: Volatility, mind: Mind, matched: MeasuredMixes | None
) -> tuple[float, Volatility]:
    """By how much a direction must be scaled to cost as much as the treated arm, within MATCHING_TOLERANCE."""
    key = f"{same_dose.digest} costs {cost.mean:.6f}"
    if matched is not None and (known := matched.find(key)) is not None:
        return known
    scale = 1.0
    for _ in range(8):
        found = mind.influence.gauge.measure(same_dose * scale)
        if abs(found.mean / cost.mean - 1) < MATCHING_TOLERANCE:
            break
        scale *= math.sqrt(cost.mean / found.mean)
    volatility = mind.influence.gauge.measure(same_dose * scale)
    return (scale, volatility) if matched is None else matched.keep(key, scale, volatility)


def _cost(intervention: Intervention, mind: Mind, matched: MeasuredMixes | None) -> Volatility:
    if matched is not None and (known := matched.find(intervention.digest)) is not None:
        return known[1]
    volatility = mind.influence.gauge.measure(intervention)
    return volatility if matched is None else matched.keep(intervention.digest, 1.0, volatility)[1]
