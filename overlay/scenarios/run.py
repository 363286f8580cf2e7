"""Running scenarios: exposures are lived through once, then every arm meets the same trial."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import overlay
from overlay.agent import made_with, open_embedder, prepare_mind
from overlay.axes import find_words
from overlay.errors import ArgumentError, RecordDamaged
from overlay.home import Home
from overlay.inner import Context, Leak, MeasuredMixes, Mind, Segment, SourcedMessage, State, audit
from overlay.memory import SentenceEmbedder
from overlay.model import LanguageModel
from overlay.progress import Progress, SilentProgress
from overlay.records import write_record
from overlay.scenarios.arms import MATCHING_TOLERANCE, States, build_arms
from overlay.scenarios.cells import Arm, Cells, Engine, Group, Record, plan
from overlay.scenarios.detectors import Instruments, check_detector
from overlay.scenarios.engine import LocalEngine
from overlay.scenarios.evidence import weigh
from overlay.scenarios.exposure import Lived, LivedBefore, live_through, shuffled
from overlay.scenarios.limits import RANDOM_DIRECTIONS, ArmSet
from overlay.scenarios.overall import overall
from overlay.scenarios.script import Exposure, Scenario
from overlay.scenarios.verdict import LEAST_ITEMS, LEAST_UNITS, Check

EngineName = Literal["local", "ray"]

BUDGET_TOLERANCE = 1.05
"""Treated volatility may exceed the budget by measurement noise, not by more."""


@dataclass(frozen=True)
class RunSettings:
    """How scenarios are run.

    Attributes:
        arms: "core" is base, treated, sham, reversed and random directions; "all" is every arm that the script allows.
        directions: random directions of each matching; what the script registered, or RANDOM_DIRECTIONS, when None.
        exploratory: go on in a folder whose script or preregistration was another; the result says so for good.
        engine: "ray" plays the cells on Ray; `actors` models stay loaded there, at `address` or on this machine.
        command: what the result says it was made with.
    """

    arms: ArmSet = "core"
    directions: int | None = None
    exploratory: bool = False
    engine: EngineName = "local"
    actors: int = 2
    address: str | None = None
    command: str = ""

    def __post_init__(self) -> None:
        if self.directions is not None and self.directions < 1:
            raise ArgumentError(f"{self.directions} random directions", "an effect without its control is no evidence")

    def directions_for(self, scenario: Scenario) -> int:
        """How many random directions of each matching stand beside the treated arm."""
        return self.directions or scenario.preregistration.random_directions or RANDOM_DIRECTIONS[self.arms]

    def departs_from(self, scenario: Scenario) -> bool:
        """Whether another number of random directions was registered."""
        return self.directions is not None and scenario.preregistration.random_directions not in (None, self.directions)


def run_scenario(
    scenario: Scenario,
    home: Home,
    *,
    out: Path,
    settings: RunSettings | None = None,
    model: LanguageModel | None = None,
    dtype: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run one scenario and write its cells, records.jsonl and result.json into `out`. Raises as `Laboratory`."""
    return Laboratory(home, settings, model=model, dtype=dtype, progress=progress).run(scenario, out)


def run_scenarios(
    scenarios: Sequence[Scenario],
    home: Home,
    *,
    out: Path,
    settings: RunSettings | None = None,
    model: LanguageModel | None = None,
    dtype: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run several scenarios, each in a folder of its own below `out`, and say what they show together.

    Raises:
        ArgumentError: two of them have one name. And as `Laboratory`.
    """
    names = [scenario.name for scenario in scenarios]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ArgumentError(f"two scripts are named '{repeated[0]}'", "give each scenario a name of its own")
    laboratory = Laboratory(home, settings, model=model, dtype=dtype, progress=progress)
    laboratory.require(scenarios)
    results = [laboratory.run(scenario, out / scenario.name) for scenario in scenarios]
    document = {"runs": results, "overall": overall(results)}
    write_record(out / "overall.json", json.dumps(document["overall"], indent=1, ensure_ascii=False))
    return document


class Laboratory:
    """A home made ready for scenarios. What scripts share is lived through and measured once.

    Cells that a folder already holds aren't played again, so a stopped run goes on where it was.

    Raises:
        AxisMissing, AxisUnproven, AdapterError, RecordDamaged, StorageFull
        ArgumentError: a folder holds records of another script or preregistration.
    """

    def __init__(
        self,
        home: Home,
        settings: RunSettings | None = None,
        *,
        model: LanguageModel | None = None,
        dtype: str = "auto",
        progress: Progress | None = None,
    ) -> None:
        self._home = home
        self._settings = settings or RunSettings()
        self._model = model
        self._dtype = dtype
        self._progress = progress or SilentProgress()
        self._embedder: SentenceEmbedder | None = None
        self._minds: dict[tuple[tuple[str, ...], float], Mind] = {}

    def require(self, scenarios: Sequence[Scenario]) -> None:
        """See that axes and adapters that scripts name are written. Raises AxisMissing, AdapterError."""
        for scenario in scenarios:
            for name in scenario.axes:
                self._home.axes.source(name)
            for name in self._adapters(scenario):
                self._home.adapters.recipe(name)

    def run(self, scenario: Scenario, out: Path) -> dict[str, Any]:
        """Run one scenario into a folder."""
        started = time.perf_counter()
        self.require([scenario])
        exploratory = _claim(out, scenario, self._settings.exploratory or self._settings.departs_from(scenario))
        mind = self._mind(scenario)
        model, rests_on = mind.model, self._rests_on(mind)
        with self._attached(scenario):
            lived, states = self._live(scenario, mind, rests_on)
            matched = MeasuredMixes(self._home.lived / "matched", rests_on, writes=True)
            directions = self._settings.directions_for(scenario)
            arms = build_arms(scenario, mind, states, self._settings.arms, directions, matched, self._progress)
            instruments = Instruments(model, self._embedder, _lexicon(mind, scenario))
            groups = plan(scenario, arms)
            with self._engine(scenario, model, instruments) as engine:
                records = self._play(groups, engine, Cells(out / "cells"), f"{model.digest} {model.dtype}", scenario)
            detector_checks = {detector.name: check_detector(detector, instruments) for detector in scenario.detectors}
        leaks = _find_leaks(scenario, mind)
        checks = _checks(mind, lived, arms, leaks, scenario, records)
        described = _described(scenario, mind, lived, leaks) | {"exploratory": exploratory}
        result = described | weigh(
            scenario,
            arms,
            records,
            checks,
            exploratory=exploratory,
            detector_checks=detector_checks,
            leaks={arm.name: len(leaks) for arm in arms if arm.same_tokens},
        )
        result["reasons"] = [*result["reasons"], *_not_raised(scenario, mind, states), *_unproven(mind)]
        command = self._settings.command or f"overlay run {scenario.name}"
        result |= {
            "model": {"name": model.name, "digest": model.digest, "dtype": model.dtype},
            "overlay_version": overlay.__version__,
            "command": command,
            "again": {
                "command": command,
                "files": [str(out / "scenario.json"), str(self._home.folder / "agent.yaml")],
                "seeds": list(scenario.trial.seeds),
                "directions": directions,
                "environment": rests_on,
            },
            "records": str(out / "records.jsonl"),
            "seconds": round(time.perf_counter() - started, 1),
        }
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        write_record(out / "records.jsonl", lines)
        write_record(out / "result.json", json.dumps(result, indent=1, ensure_ascii=False))
        return result

    def _mind(self, scenario: Scenario) -> Mind:
        budget = scenario.preregistration.budget or self._home.settings.budget
        key = (scenario.axes, budget)
        if key not in self._minds:
            home = replace(self._home, settings=self._home.settings.model_copy(update={"budget": budget}))
            if self._model is None:
                self._progress.step(f"loading {home.settings.model}", None, None)
                self._model = LanguageModel.load(
                    home.settings.model, dtype=self._dtype, pull=True, progress=self._progress
                )
            if self._embedder is None:
                self._embedder = open_embedder(home, progress=self._progress)
            self._minds[key] = prepare_mind(home, self._model, self._embedder, self._progress, scenario.axes)
        return self._minds[key]

    def _live(self, scenario: Scenario, mind: Mind, rests_on: Mapping[str, Any]) -> tuple[Lived, States]:
        """The exposure and, where all arms are run, its controls."""
        known = LivedBefore(self._home.lived / "exposures", rests_on)

        def state_after(exposure: Exposure, what: str) -> Lived:
            return live_through(exposure, mind, self._home, known, self._progress, what)

        lived = state_after(scenario.exposure, "living through the exposure")
        if self._settings.arms == "core":
            return lived, States(lived.state)
        mixed = shuffled(scenario.exposure)
        return lived, States(
            lived.state,
            state_after(scenario.neutral, "living through neutral texts").state if scenario.neutral else None,
            state_after(mixed, "living through the same words out of order").state if mixed else None,
        )

    def _rests_on(self, mind: Mind) -> dict[str, Any]:
        return made_with(self._home, mind) | {
            "settings": mind.settings.model_dump(mode="json"),
            "budget": mind.influence.budget,
            "neutral": mind.influence.gauge.digest,
        }

    def _adapters(self, scenario: Scenario) -> tuple[str, ...]:
        if self._settings.arms == "core":
            return ()
        named = [scenario.levels.adapter] if scenario.levels.adapter else []
        return tuple(dict.fromkeys([*named, *(name for arm in scenario.arms for name in arm.adapters)]))

    @contextlib.contextmanager
    def _attached(self, scenario: Scenario) -> Iterator[None]:
        """With the adapters that arms wear made resident, trained first where they aren't yet."""
        model = self._model
        assert model is not None
        names = self._adapters(scenario)
        with contextlib.ExitStack() as stack:
            for name, folder in self._trained(names, model).items():
                model.attach(name, folder)
                stack.callback(model.detach, name)
            yield

    def _trained(self, names: Sequence[str], model: LanguageModel) -> dict[str, Path]:
        library = self._home.adapters
        states = {one.name: one for one in library.status()}
        for name in names:
            if states[name].adapter is None:
                library.train(name, self._home.settings.model, dtype=self._dtype, progress=self._progress)
        return {name: library.load(name, model.digest).folder for name in names}

    @contextlib.contextmanager
    def _engine(self, scenario: Scenario, model: LanguageModel, instruments: Instruments) -> Iterator[Engine]:
        if self._settings.engine == "local":
            yield LocalEngine(model, instruments)
            return
        from overlay.scenarios.ray_engine import RayEngine

        with RayEngine(
            self._home.settings.model,
            model.dtype,
            embedder=self._home.settings.embedder,
            adapters=self._trained(self._adapters(scenario), model),
            forbidden=instruments.forbidden,
            actors=self._settings.actors,
            address=self._settings.address,
            expects=model.digest,
        ) as engine:
            yield engine

    def _play(
        self, groups: Sequence[Group], engine: Engine, cells: Cells, model: str, scenario: Scenario
    ) -> list[Record]:
        """All records, in the order of the plan; those that are there already aren't played again."""
        what = f"{scenario.name}: running the arms"
        keys = [[group.key(unit, model) for unit in group.units] for group in groups]
        known = {key: cells.get(key) for found in keys for key in found}
        # The whole group is played again: who stands beside whom changes roundings.
        missing = [group for group, found in zip(groups, keys, strict=True) if any(known[key] is None for key in found)]
        there = len(groups) - len(missing)
        self._progress.step(what, there, len(groups))
        for done, (group, records) in enumerate(engine.play(missing), start=there + 1):
            for unit, record in zip(group.units, records, strict=True):
                if known[key := group.key(unit, model)] is None:
                    known[key] = cells.put(key, record)
            self._progress.step(what, done, len(groups))
        return [record for record in known.values() if record is not None]


def _claim(out: Path, scenario: Scenario, exploratory: bool) -> bool:
    """Make the run's folder this script's own, and say whether what comes of it is exploratory."""
    marker = out / "scenario.json"
    if marker.exists():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
            digest, promise, was = found["digest"], found["promise"], bool(found["exploratory"])
        except (ValueError, KeyError, TypeError) as error:
            raise RecordDamaged(f"{marker} can't be read", "choose another folder with --out") from error
        if digest == scenario.digest:
            return was or exploratory
        if not exploratory:
            what = "the preregistration" if promise != scenario.promise else "the script"
            raise ArgumentError(
                f"{out} holds records from before {what} was changed",
                "choose another folder with --out, or go on there with --exploratory, which the result will say",
            )
    content = json.loads(scenario.model_dump_json())
    claim = {"digest": scenario.digest, "promise": scenario.promise, "exploratory": exploratory, "scenario": content}
    write_record(marker, json.dumps(claim, indent=1, ensure_ascii=False))
    return exploratory


def _described(scenario: Scenario, mind: Mind, lived: Lived, leaks: Sequence[Leak]) -> dict[str, Any]:
    words = find_words(_lexicon(mind, scenario))
    return {
        "scenario": scenario.name,
        "description": " ".join(scenario.description.split()),
        "control": scenario.control,
        "unproven_axes": list(mind.influence.unproven),
        "script_digest": scenario.digest,
        "promise": scenario.promise,
        "budget": mind.influence.budget,
        "state": {name: round(value, 6) for name, value in lived.state.values.items()},
        "state_path": [dict(step) for step in lived.path],
        "inner_speech": {
            "utterances": len(lived.spoken),
            "naming_the_state": sum(bool(words(text)) for text in lived.spoken),
        },
        "primary": scenario.primary,
        "leaks": [{"arm": "all", "item": leak.source, "word": leak.word, "where": leak.excerpt} for leak in leaks],
    }


def _not_raised(scenario: Scenario, mind: Mind, states: States) -> list[str]:
    """Axes that the exposure left no higher than nothing or neutral texts do: what acted wasn't the state asked about.

    A script may mean that. An axis that doesn't read the exposure's language does it as well.
    """
    beside = {"rest": State.resting(mind.settings)} | ({"neutral texts": states.neutral} if states.neutral else {})
    found = []
    for axis in scenario.axes:
        left = states.treated.values[axis]
        above = [f"{value:+.2f} ({name})" for name, one in beside.items() if (value := one.values[axis]) >= left]
        if above:
            found.append(f"noted: exposure: it left '{axis}' at {left:+.2f}, no higher than {' and '.join(above)}")
    return found


def _unproven(mind: Mind) -> list[str]:
    """What stands beside every verdict that rests on an axis which did not pass its checks."""
    return [
        f"axis '{name}' is unproven and was forced: {'; '.join(mind.influence.axes[name].evidence.failures)}"
        for name in mind.influence.unproven
    ]


def _lexicon(mind: Mind, scenario: Scenario) -> tuple[str, ...]:
    words = [word for axis in mind.influence.axes.values() for word in axis.lexicon]
    return tuple(dict.fromkeys([*words, *scenario.forbidden]))


def script_context(scenario: Scenario) -> Context:
    """Every text of a script that may enter a context of an arm that names nothing, with its place."""
    return Context(
        "trial",
        tuple(SourcedMessage("user", (Segment(f"script:{place}", text),)) for place, text in scenario.texts()),
    )


def _find_leaks(scenario: Scenario, mind: Mind) -> list[Leak]:
    """State words in any trial prompt, option or exposure text."""
    return audit([script_context(scenario)], _lexicon(mind, scenario))


def _checks(
    mind: Mind, lived: Lived, arms: Sequence[Arm], leaks: Sequence[Leak], scenario: Scenario, records: Sequence[Record]
) -> list[Check]:
    """Whether the run could have shown anything, before any record is looked at for an effect."""
    budget = mind.influence.budget
    cost = next(arm.volatility.mean for arm in arms if arm.name == "treated" and arm.volatility is not None)
    matched = [arm.volatility.mean for arm in arms if arm.name == "random_volatility" and arm.volatility is not None]
    off = max((abs(one / cost - 1) for one in matched), default=0.0)
    size = max((abs(value) for value in lived.state.values.values()), default=0.0)
    items = len(scenario.trial.items)
    units = sum(record["arm"] == "base" and not record["excluded"] for record in records)
    least = max(LEAST_UNITS, scenario.preregistration.units or 0)
    return [
        Check("no leak", not leaks, f"{len(leaks)} state words in prompts, options and exposure"),
        Check(
            "within budget",
            cost <= budget * BUDGET_TOLERANCE,
            f"treated costs {cost:.3f} of {budget:.3f} nats per token",
        ),
        Check(
            "random directions matched",
            off < MATCHING_TOLERANCE,
            f"the volatility of the matched random directions is within {off:.1%} of the treated arm's",
        ),
        Check("a state built up", size > 0.05, f"largest accumulator after the exposure: {size:.2f}"),
        Check(
            "enough units",
            items >= LEAST_ITEMS and units >= least,
            f"{items} items and {units} units; {LEAST_ITEMS} items and {least} units are the least",
        ),
    ]
