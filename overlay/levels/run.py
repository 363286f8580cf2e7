"""Runs: every measure under every level, kept as it is done, and what they show together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import overlay
from overlay.agent import made_with, open_embedder, prepare_mind
from overlay.errors import ArgumentError
from overlay.home import Home
from overlay.inner import MeasuredMixes, Mind, ordinary_subjects
from overlay.levels.abilities import Abilities
from overlay.levels.chat_cost import ChatGauge
from overlay.levels.choices import Choices
from overlay.levels.evidence import compare, difference
from overlay.levels.foils import FoilReader
from overlay.levels.level import CLEARED, LEVELS, LIVED, Level
from overlay.levels.likelihoods import Likelihoods
from overlay.levels.matching import make_levels
from overlay.levels.measure import Measure
from overlay.levels.quantity import Quantity, quantities
from overlay.levels.questions import causality, minimal_pairs
from overlay.levels.subject import Subject, read_subject
from overlay.levels.summary import summarise
from overlay.levels.texts import Texts
from overlay.model import LanguageModel, Volatility, environment
from overlay.progress import Progress, SilentProgress
from overlay.records import digest_of, write_record
from overlay.scenarios import Cells, LivedBefore, Record, live_through

KEPT = ("reads", "choice")
"""Quantities that are asked again in a new context."""


@dataclass(frozen=True)
class LevelSettings:
    """How much is asked under every level.

    Attributes:
        seeds: replies to each everyday remark.
        directions: random directions beside the state.
        prompts, tokens: everyday remarks, and the most tokens of a reply.
        wordings: how many wordings of each item of a script are met.
        questions: at most so many about causes, and so many about grammar.
    """

    seeds: int = 3
    directions: int = 3
    prompts: int = 20
    tokens: int = 48
    wordings: int = 2
    questions: int = 200

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value < 1:
                raise ArgumentError(f"{name} {value}", "give at least 1: what isn't measured can't be compared")
        if self.prompts > len(ordinary_subjects()):
            raise ArgumentError(f"prompts {self.prompts}", f"there are {len(ordinary_subjects())} everyday remarks")


def compare_levels(
    home: Home,
    axis: str,
    *,
    settings: LevelSettings | None = None,
    scripts: Sequence[Path] = (),
    adapter: str | None = None,
    model: LanguageModel | None = None,
    dtype: str = "auto",
    command: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare the four levels of an axis; JSON throughout, and kept as result.json below the home's levels.

    An adapter that isn't trained yet is trained first. What is done is kept level by level and measure by measure: a
    stopped comparison goes on where it was.

    Raises:
        AxisMissing, AxisUnproven, AdapterError, DocumentError, ScenarioError, RecordDamaged, StorageFull
    """
    settings, progress = settings or LevelSettings(), progress or SilentProgress()
    subject = read_subject(home, axis, scripts=scripts, adapter=adapter)
    with _prepared(home, subject, model, dtype, progress) as (mind, rests_on):
        known = LivedBefore(home.lived / "exposures", rests_on)
        lived = live_through(subject.exposure, mind, home, known, progress, "living through the exposure")
        worn = home.adapters.load(subject.adapter, mind.model.digest)
        weights = worn.weights_sha256
        folder = home.levels / axis
        matched = MeasuredMixes(folder / "matched", {**rests_on, "adapter": weights}, writes=True)
        levels = make_levels(subject, mind, lived.state, settings.directions, matched, progress)
        progress.step("measuring what each level costs in a chat", None, None)
        gauge = ChatGauge(mind.model, levels[0].treatment(mind.system))
        costs = {level.name: gauge.measure(level.treatment(mind.system)) for level in levels}
        fresh = home.axes.confirmation(axis)
        groups = fresh or home.axes.contrast(axis).groups()
        foils = FoilReader(mind.influence.axes[axis], home.axes.contrast(axis), mind.model)
        measures = _measures(subject, mind, foils, groups, settings)
        # Another machine rounds in another way: what must equal base would not.
        made = digest_of([mind.model.digest, mind.model.dtype, str(mind.model.device), environment(), weights])
        records = _asked(levels, measures, Cells(folder / "cells"), made, axis, progress)
        separation = foils.separation(fresh)
    named = quantities(axis, foils.names, groups)
    comparisons, random = compare(records, named)
    result: dict[str, Any] = {
        "axis": axis,
        "model": {"name": mind.model.name, "digest": mind.model.digest, "dtype": mind.model.dtype},
        "overlay_version": overlay.__version__,
        "command": command or f"overlay levels {axis}",
        "settings": asdict(settings),
        "subject": {
            "topic": subject.topic,
            "instruction": subject.instruction,
            "adapter": subject.adapter,
            "adapter_aim": worn.aim,
            "exposure": list(subject.exposure.texts),
            "scripts": [script.name for script in subject.scripts],
            "controls": [script.name for script in subject.scripts if script.control == "negative"],
            "left_out": dict(subject.left_out),
        },
        "budget": mind.influence.budget,
        "state": dict(lived.state.values),
        "half_life": str(mind.settings.axes[axis].half_life),
        "is_proven": mind.influence.axes[axis].proven,
        "is_fresh": bool(fresh),
        "foil_separation": separation,
        "levels": [_described(level, costs[level.name]) for level in levels],
        "quantities": [asdict(quantity) for quantity in named],
        "comparisons": [asdict(one) for one in comparisons],
        "random": random,
        "sham_is_base": all(one.is_identical for one in comparisons if one.level == "sham"),
        "clearing": _clearing(records, named),
        "examples": _examples(records),
    }
    result["summary"] = list(summarise(result))
    write_record(folder / "result.json", json.dumps(result, indent=1, ensure_ascii=False))
    return result


@contextmanager
def _prepared(
    home: Home, subject: Subject, model: LanguageModel | None, dtype: str, progress: Progress
) -> Iterator[tuple[Mind, dict[str, Any]]]:
    """The mind of the subject's axis with its adapter resident, and hashes of all that it rests on."""
    status = {one.name: one for one in home.adapters.status()}[subject.adapter]
    if status.adapter is None:
        # Before the model is loaded: training loads one of its own.
        home.adapters.train(subject.adapter, home.settings.model, dtype=dtype, progress=progress)
    if model is None:
        progress.step(f"loading {home.settings.model}", None, None)
        model = LanguageModel.load(home.settings.model, dtype=dtype, pull=True, progress=progress)
    mind = prepare_mind(home, model, open_embedder(home, progress=progress), progress, (subject.axis,))
    # As scenarios know it: what they lived through needn't be lived through again.
    rests_on = made_with(home, mind) | {
        "settings": mind.settings.model_dump(mode="json"),
        "budget": mind.influence.budget,
        "neutral": mind.influence.gauge.digest,
    }
    with ExitStack() as stack:
        stack.enter_context(home.adapters.worn(model, subject.adapter))
        yield mind, rests_on


def _measures(
    subject: Subject, mind: Mind, foils: FoilReader, groups: Mapping[str, Any], settings: LevelSettings
) -> list[Measure]:
    words = mind.influence.axes[subject.axis].lexicon
    asked = {"causality": causality()[: settings.questions], "grammar": minimal_pairs()[: settings.questions]}
    texts = Texts(
        mind.model,
        mind.influence,
        foils,
        subject.axis,
        mind.system,
        words,
        prompts=settings.prompts,
        seeds=settings.seeds,
        tokens=settings.tokens,
    )
    choices = [Choices(mind.model, script, settings.wordings) for script in subject.scripts]
    return [
        texts,
        Likelihoods(mind.model, mind.system, groups),
        *choices,
        Abilities(mind.model, mind.system, asked),
    ]


def _asked(
    levels: Sequence[Level], measures: Sequence[Measure], cells: Cells, made: str, axis: str, progress: Progress
) -> dict[str, list[Record]]:
    """The units of every level; what was asked before isn't asked again."""
    plan = [
        (level, measure)
        for level in levels
        for measure in measures
        if level.measures is None or measure.kind in level.measures
    ]
    total, done = sum(_weight(level, measure) for level, measure in plan), 0
    found: dict[str, list[Record]] = {level.name: [] for level in levels}
    for level, measure in plan:
        told = f"{level.name.replace('_', ' ')}: {measure.name}"
        progress.step(f"comparing the levels of {axis}", done, total, told)
        key = digest_of([made, level.digest, measure.kind, measure.name, measure.digest])
        cell = cells.get(key)
        if cell is None:
            about = {"level": level.name, "measure": measure.name}
            cell = cells.put(key, about | {"units": measure.ask(level)})
        found[level.name] += cell["units"]
        done += _weight(level, measure)
    progress.step(f"comparing the levels of {axis}", total, total)
    return found


def _weight(level: Level, measure: Measure) -> int:
    """About how much work it is: questions about itself take as long as the choices before them."""
    return measure.weight * (2 if measure.kind == "choices" and level.is_probed else 1)


def _described(level: Level, chat: Volatility) -> dict[str, Any]:
    return {
        "name": level.name,
        "scale": level.scale,
        "volatility": asdict(level.cost) if level.cost else None,
        "chat_volatility": asdict(chat),
        "history": [asdict(message) for message in level.history],
    }


def _clearing(records: Mapping[str, Sequence[Record]], named: Sequence[Quantity]) -> list[dict[str, Any]]:
    """By level: what it changes in its context and in a new one, and whether the new one is base exactly.

    An adapter has no place in a context, so its own row stands for both; a state's context is its exposure.
    """
    chosen = [quantity for quantity in named if quantity.name in KEPT]
    rows = []
    for level, inside, cleared in (
        *((level, level, cleared) for level, cleared in CLEARED.items()),
        ("adapter", None, "adapter"),
        ("state", LIVED, "state"),
    ):
        changes = {
            place: {one.name: difference(records, one, "base", name) for one in chosen} if name in records else None
            for place, name in (("inside", inside or ""), ("cleared", cleared))
        }
        compared = [one for one in (changes["cleared"] or {}).values() if one is not None]
        is_base = bool(compared) and all(one["is_identical"] for one in compared)
        rows.append({"level": level, **changes, "is_base": is_base})
    return rows


def _examples(records: Mapping[str, Sequence[Record]]) -> list[dict[str, str]]:
    """The first replies to one remark, under base and all levels, of which none is empty."""
    texts = {
        level: {one["unit"]: one for one in records[level] if one.get("text", "").strip()}
        for level in ("base", *LEVELS)
    }
    shared = next((unit for unit in texts["base"] if all(unit in own for own in texts.values())), None)
    if shared is None:
        return []
    return [{"level": level, "said": own[shared]["said"], "text": own[shared]["text"]} for level, own in texts.items()]
