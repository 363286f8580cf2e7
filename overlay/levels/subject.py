"""Subjects: what the four levels of one axis are made of, as the scripts of a home say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from overlay.errors import ScenarioError
from overlay.home import Home
from overlay.scenarios import Exposure, Scenario, read_scenario
from overlay.scenarios.detectors import MECHANICAL


@dataclass(frozen=True)
class Subject:
    """One state and everything that brings it about or shows it.

    Attributes:
        topic: level 1: a text on this is asked for, and written, before every question.
        instruction: level 2: stands before the system message.
        adapter: level 3: an adapter of the home, trained on texts of the state.
        exposure: level 4: what the state builds up from.
        scripts: whose choices are scored; those of a negative control have nothing to do with the state.
        left_out: scripts about the axis that were left out, each with the reason.
    """

    axis: str
    topic: str
    instruction: str
    adapter: str
    exposure: Exposure
    scripts: tuple[Scenario, ...]
    left_out: tuple[tuple[str, str], ...] = ()


def read_subject(home: Home, axis: str, *, scripts: Sequence[Path] = (), adapter: str | None = None) -> Subject:
    """What the levels of an axis are made of.

    Without `scripts`, all of the home's that are about this axis alone, score a choice and agree on levels and exposure
    with most of the others: the same state has to meet all of them. The levels are those of their `levels:` entry,
    except that `adapter` replaces the adapter named there.

    Raises:
        AxisMissing: the home has no such axis, or no texts for it. AdapterError: it has no such adapter.
        ScenarioError: no script says what the levels of this axis are, or one that was named doesn't fit.
        DocumentError: a script is wrong.
    """
    home.axes.contrast(axis)
    if scripts:
        chosen = [read_scenario(path) for path in scripts]
        for script in chosen:
            if problem := _problem(script, axis, adapter):
                raise ScenarioError(f"the script '{script.name}' {problem}", "name another one, or change it")
        if apart := [script.name for script in chosen if script not in _largest(chosen)]:
            raise ScenarioError(
                f"{', '.join(apart)} has other levels, or another exposure, than the other scripts",
                "name scripts that agree on both",
            )
        left_out: tuple[tuple[str, str], ...] = ()
    else:
        found = [read_scenario(path) for path in sorted(home.scenarios.glob("*.yaml"))]
        about = [script for script in found if axis in script.axes]
        problems = {script.name: _problem(script, axis, adapter) for script in about}
        chosen = _largest([script for script in about if not problems[script.name]])
        names = {script.name for script in chosen}
        left_out = tuple(
            (script.name, problems[script.name] or "has other levels, or another exposure")
            for script in about
            if script.name not in names
        )
    if not any(script.control is None for script in chosen):
        told = "; ".join(f"{name} {why}" for name, why in left_out)
        raise ScenarioError(
            f"no script of {home.scenarios} says what the levels of '{axis}' are" + (f" ({told})" if told else ""),
            f"write one with `axes: [{axis}]`, a `levels:` entry with topic, prompted and adapter, and a choice",
        )
    first = chosen[0]
    topic, instruction, worn = first.levels.topic, first.levels.prompted, adapter or first.levels.adapter
    assert topic is not None and instruction is not None and worn is not None
    home.adapters.require(worn)
    return Subject(axis, topic, instruction, worn, first.exposure, tuple(chosen), left_out)


def _problem(script: Scenario, axis: str, adapter: str | None) -> str:
    """Why a script can't take part; empty if it can."""
    if script.axes != (axis,):
        return f"is about {', '.join(script.axes)}"
    given = {"topic": script.levels.topic, "prompted": script.levels.prompted}
    given["adapter"] = adapter or script.levels.adapter
    if missing := [name for name, value in given.items() if value is None]:
        return f"has no levels.{missing[0]}"
    kinds = [step.kind for step in script.trial.steps if step.kind != "say"]
    if kinds != ["choose"] or not isinstance(script.primary_detector, MECHANICAL):
        return "scores no single choice"
    return ""


def _largest(scripts: Sequence[Scenario]) -> list[Scenario]:
    """The most scripts that share levels and exposure, negative controls not counted; of as many, the first."""
    groups: dict[str, list[Scenario]] = {}
    for script in scripts:
        levels = script.levels
        groups.setdefault(repr((levels.topic, levels.prompted, levels.adapter, script.exposure)), []).append(script)
    return max(groups.values(), key=lambda group: sum(script.control is None for script in group), default=[])
