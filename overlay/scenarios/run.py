"""Running a scenario: the exposure is lived through once, then every arm meets the same trial."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import overlay
from overlay.agent import open_embedder, prepare_mind
from overlay.axes import find_words, random_direction
from overlay.errors import ArgumentError, RecordDamaged
from overlay.home import Home
from overlay.inner import Context, Leak, Mind, Segment, SourcedMessage, State, audit
from overlay.model import NOTHING, Intervention, LanguageModel, Row, Scored, Volatility
from overlay.progress import Progress, SilentProgress
from overlay.records import append_record, read_journal, write_record
from overlay.scenarios.script import Item, Scenario
from overlay.scenarios.statistics import cluster_bootstrap, mcnemar_exact, sign_flip, wilson
from overlay.scenarios.verdict import LEAST_ITEMS, LEAST_UNITS, Check, Effect, judge

RANDOM_DIRECTIONS = 8
RANDOM_PARAPHRASES = 1
"""Random directions run on the first wording of each item only: on all of them sixteen arms would triple the time,
and wordings of one item hardly differ."""

MATCHING_TOLERANCE = 0.05
"""How closely a volatility-matched direction's cost equals the treated arm's."""

BUDGET_TOLERANCE = 1.05
"""Treated volatility may exceed the budget by measurement noise, not by more."""

_LABELS = {
    "base": "Base: no intervention",
    "treated": "Treated: the state that built up",
    "sham": "Sham: hooks on, dose 0",
    "reversed": "Reversed: the opposite dose",
    "random_norm": "Random directions, same dose",
    "random_volatility": "Random directions, same volatility",
}


@dataclass(frozen=True)
class Arm:
    """One condition: an intervention and its cost. `seed` is the random direction's, where there is one."""

    name: str
    intervention: Intervention
    volatility: Volatility
    seed: int | None = None
    paraphrases: int | None = None
    """How many paraphrases of each item it runs on; None is all."""


@dataclass(frozen=True)
class Exposure:
    """What living through the exposure did."""

    state: State
    path: tuple[dict[str, Any], ...]
    inner_leaks: int
    utterances: int


def run_scenario(
    scenario: Scenario,
    home: Home,
    *,
    model: LanguageModel | None = None,
    out: Path,
    random_directions: int = RANDOM_DIRECTIONS,
    dtype: str = "auto",
    command: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run all arms of a scenario and write records.jsonl and result.json into `out`.

    Cells that `out` already holds for the same script, model and intervention aren't run again, so a
    stopped run goes on where it was.

    Raises:
        AxisMissing, AxisUnproven, RecordDamaged, StorageFull
    """
    started = time.perf_counter()
    progress = progress or SilentProgress()
    for name in scenario.axes:
        home.axes.source(name)
    if random_directions < 1:
        raise ArgumentError(f"{random_directions} random directions", "an effect without its control is no evidence")
    _claim(out, scenario)
    if model is None:
        progress.step(f"loading {home.settings.model}", None, None)
        model = LanguageModel.load(home.settings.model, dtype=dtype, pull=True, progress=progress)
    mind = prepare_mind(home, model, open_embedder(home, progress=progress), progress, scenario.axes)
    exposure = live_through(scenario, mind, home.settings.seed, progress)
    arms = build_arms(mind, exposure.state, random_directions, progress)
    cells = _run_cells(scenario, model, arms, out, progress)
    result = _evaluate(scenario, mind, exposure, arms, cells)
    result |= {
        "model": {"name": model.name, "digest": model.digest, "dtype": model.dtype},
        "overlay_version": overlay.__version__,
        "command": command or f"overlay run {scenario.name}",
        "records": str(out / "records.jsonl"),
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_record(out / "result.json", json.dumps(result, indent=1, ensure_ascii=False))
    return result


def live_through(scenario: Scenario, mind: Mind, seed: int, progress: Progress) -> Exposure:
    """Read the exposure text by text, thinking about each, from a resting state."""
    state, energies = State.resting(mind.settings), dict[str, float]()
    path: list[dict[str, Any]] = []
    contexts: list[Context] = []
    inner: list[str] = []
    for number, text in enumerate(scenario.exposure):
        progress.step("living through the exposure", number, len(scenario.exposure))
        lived = mind.experience(text, state, energies, seed * 1_000_003 + number)
        state, energies = lived.state, lived.energies
        if lived.dialogue:
            contexts += lived.dialogue.contexts
            inner += [utterance.text for utterance in lived.dialogue.utterances]
        by_cause: dict[str, dict[str, Any]] = {}
        for change in lived.changes:
            entry = by_cause.setdefault(
                change.cause, {"step": 0, "source": change.source, "cause": change.cause, "z": {}, "state": {}}
            )
            entry["z"][change.axis] = round(change.z, 4)
            entry["state"][change.axis] = round(change.after, 6)
        for entry in by_cause.values():
            path.append(entry | {"step": len(path) + 1})
    progress.step("living through the exposure", len(scenario.exposure), len(scenario.exposure))
    words = find_words(_lexicon(mind, scenario))
    return Exposure(state, tuple(path), sum(bool(words(text)) for text in inner), len(inner))


def build_arms(mind: Mind, state: State, random_directions: int, progress: Progress) -> list[Arm]:
    """Base, treated, sham, reversed, and each random direction at the same dose and at the same volatility."""
    influence, gauge = mind.influence, mind.influence.gauge
    treated = influence.of(state)
    arms = [
        Arm("base", NOTHING, gauge.measure(NOTHING)),
        Arm("treated", treated.intervention, treated.volatility),
        Arm("sham", treated.intervention * 0.0, gauge.measure(treated.intervention * 0.0)),
        Arm("reversed", treated.intervention * -1.0, gauge.measure(treated.intervention * -1.0)),
    ]
    for seed in range(random_directions if treated.intervention.doses else 0):
        progress.step("matching random directions", seed, random_directions)
        same_dose = Intervention(
            tuple(
                replace(dose, direction=random_direction(dose.direction, dose.blocks, 1000 * seed + place))
                for place, dose in enumerate(treated.intervention.doses)
            )
        )
        arms.append(Arm("random_norm", same_dose, gauge.measure(same_dose), seed, RANDOM_PARAPHRASES))
        scale = 1.0
        for _ in range(8):
            cost = gauge.measure(same_dose * scale)
            if abs(cost.mean / treated.volatility.mean - 1) < MATCHING_TOLERANCE:
                break
            scale *= math.sqrt(treated.volatility.mean / cost.mean)
        matched = same_dose * scale
        arms.append(Arm("random_volatility", matched, gauge.measure(matched), seed, RANDOM_PARAPHRASES))
    return arms


def trial_contexts(scenario: Scenario) -> dict[tuple[str, int, int], Context]:
    """Every trial prompt by (item, paraphrase, order of options), with the source of each part."""
    found: dict[tuple[str, int, int], Context] = {}
    for item in scenario.trial.items:
        options = scenario.options_in_order(item)
        for paraphrase, text in enumerate(item.paraphrases):
            for order, shown in enumerate((options, options[::-1])):
                listed = "".join(f"\n- {option.text}" for option in shown)
                user = f"{text}\n\nYou can:{listed}\n\n{scenario.trial.question}"
                found[item.id, paraphrase, order] = Context(
                    "trial",
                    (
                        SourcedMessage("system", (Segment("script:setting", scenario.trial.setting),)),
                        SourcedMessage("user", (Segment(f"script:{item.id}", user),)),
                    ),
                )
    return found


def _claim(out: Path, scenario: Scenario) -> None:
    """Make the run's folder this script's own; another script's records are never mixed in."""
    marker = out / "scenario.json"
    if marker.exists():
        try:
            digest = json.loads(marker.read_text(encoding="utf-8"))["digest"]
        except (ValueError, KeyError) as error:
            raise RecordDamaged(f"{marker} can't be read", "choose another folder with --out") from error
        if digest != scenario.digest:
            raise ArgumentError(
                f"{out} holds records of another version of a script", "choose another folder with --out"
            )
    else:
        write_record(
            marker,
            json.dumps({"digest": scenario.digest, "scenario": json.loads(scenario.model_dump_json())}, indent=1),
        )


def _run_cells(
    scenario: Scenario, model: LanguageModel, arms: Sequence[Arm], out: Path, progress: Progress
) -> list[dict[str, Any]]:
    """One record per (arm, direction, item, paraphrase). Each paraphrase is one batch layout in every arm."""
    journal = out / "records.jsonl"
    known = {record["cell"]: record for record in read_journal(journal)}
    contexts = trial_contexts(scenario)
    paraphrases = max(len(item.paraphrases) for item in scenario.trial.items)
    planned = [
        (arm, paraphrase) for arm in arms for paraphrase in range(min(paraphrases, arm.paraphrases or paraphrases))
    ]
    cells: list[dict[str, Any]] = []
    for done, (arm, paraphrase) in enumerate(planned):
        progress.step("running the arms", done, len(planned))
        items = [item for item in scenario.trial.items if paraphrase < len(item.paraphrases)]
        keys = {item.id: _cell_key(scenario, model, arm, item, paraphrase) for item in items}
        missing = [item for item in items if keys[item.id] not in known]
        if missing:
            # The whole batch is run again: its layout must be that of every other arm, bit for bit.
            for record in _score(scenario, model, arm, items, paraphrase, contexts):
                record["cell"] = keys[record["item"]]
                if record["cell"] not in known:
                    append_record(journal, record)
                    known[record["cell"]] = record
        cells += [known[keys[item.id]] for item in items]
    progress.step("running the arms", len(planned), len(planned))
    return cells


def _cell_key(scenario: Scenario, model: LanguageModel, arm: Arm, item: Item, paraphrase: int) -> str:
    parts = (
        scenario.digest,
        model.digest,
        model.dtype,
        arm.name,
        arm.seed,
        arm.intervention.digest,
        item.id,
        paraphrase,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _score(
    scenario: Scenario,
    model: LanguageModel,
    arm: Arm,
    items: Sequence[Item],
    paraphrase: int,
    contexts: Mapping[tuple[str, int, int], Context],
) -> list[dict[str, Any]]:
    rows: list[Row] = []
    for item in items:
        options = tuple(option.text for option in scenario.options_in_order(item))
        for order in (0, 1):
            chat = contexts[item.id, paraphrase, order].chat
            rows.append(Row(chat, intervention=arm.intervention, options=options))
    scored = model.score(rows)
    return [
        _record(scenario, arm, item, paraphrase, scored[2 * place : 2 * place + 2]) for place, item in enumerate(items)
    ]


def _record(scenario: Scenario, arm: Arm, item: Item, paraphrase: int, orders: Sequence[Scored]) -> dict[str, Any]:
    """One unit: both orders of the options count alike; scores are mean log-probabilities per token."""
    behaviour, other = scenario.options_in_order(item)
    scores = np.mean([one.per_token for one in orders], axis=0)
    chosen = behaviour if scores[0] > scores[1] else other
    prompts = hashlib.sha256(repr([one.prompt_tokens for one in orders]).encode()).hexdigest()[:24]
    return {
        "scenario": scenario.name,
        "arm": arm.name,
        "direction": arm.seed,
        "item": item.id,
        "paraphrase": paraphrase,
        "margin": float(scores[0] - scores[1]),
        "scores_by_order": [list(one.per_token) for one in orders],
        "chosen": chosen.id,
        "stock": {name: amount + chosen.effects.get(name, 0) for name, amount in item.resources.items()},
        "detectors": {detector.name: detector.fires(item, chosen) for detector in scenario.detectors},
        "prompts": prompts,
    }


# --- what the records say ------------------------------------------------------------------------


def _evaluate(
    scenario: Scenario, mind: Mind, exposure: Exposure, arms: Sequence[Arm], cells: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    by_arm: dict[tuple[str, int | None], dict[tuple[str, int], dict[str, Any]]] = {}
    for cell in cells:
        by_arm.setdefault((cell["arm"], cell["direction"]), {})[cell["item"], cell["paraphrase"]] = cell
    base = by_arm["base", None]
    leaks = _find_leaks(scenario, mind)
    summaries: dict[str, dict[str, Any]] = {}
    for name in _LABELS:
        members = [arm for arm in arms if arm.name == name]
        if members:
            summaries[name] = _summarise(scenario, name, members, by_arm, base, len(leaks))
    prompts_identical = all(
        cell["prompts"] == base[unit]["prompts"] for found in by_arm.values() for unit, cell in found.items()
    )
    sham_identical = all(
        cell["scores_by_order"] == base[unit]["scores_by_order"] for unit, cell in by_arm["sham", None].items()
    )
    checks = _checks(scenario, mind, exposure, arms, base, leaks)
    effect = _effect(scenario, by_arm, summaries)
    gates = [
        Check("prompts identical", prompts_identical, "the trial's token hashes agree across all arms"),
        Check("sham equals base", sham_identical, "with hooks on and dose 0, every score is bit-identical to base"),
        *checks,
    ]
    verdict = judge(gates, effect)
    planned = sum(len(item.paraphrases) for item in scenario.trial.items)
    return {
        "scenario": scenario.name,
        "description": " ".join(scenario.description.split()),
        "verdict": verdict.kind,
        "headline": verdict.headline,
        "reasons": [*verdict.reasons, *_unproven(mind)],
        "unproven_axes": list(mind.influence.unproven),
        "script_digest": scenario.digest,
        "budget": mind.influence.budget,
        "state": {name: round(value, 6) for name, value in exposure.state.values.items()},
        "state_path": list(exposure.path),
        "inner_speech": {"utterances": exposure.utterances, "naming_the_state": exposure.inner_leaks},
        "primary": scenario.primary,
        "units": {
            "items": len(scenario.trial.items),
            "paraphrases": max(len(item.paraphrases) for item in scenario.trial.items),
            "planned": planned,
            "run": len(base),
            "excluded": planned - len(base),
        },
        "arms": summaries,
        "prompts_identical": prompts_identical,
        "sham_identical": sham_identical,
        "leaks": [{"arm": "all", "item": leak.source, "word": leak.word, "where": leak.excerpt} for leak in leaks],
        "checks": [asdict(check) for check in checks],
        "examples": _examples(scenario, by_arm),
    }


def _unproven(mind: Mind) -> list[str]:
    """What stands beside every verdict that rests on an axis which did not pass its checks."""
    return [
        f"axis '{name}' is unproven and was forced: {'; '.join(mind.influence.axes[name].evidence.failures)}"
        for name in mind.influence.unproven
    ]


def _lexicon(mind: Mind, scenario: Scenario) -> tuple[str, ...]:
    words = [word for axis in mind.influence.axes.values() for word in axis.lexicon]
    return tuple(dict.fromkeys([*words, *scenario.forbidden]))


def _find_leaks(scenario: Scenario, mind: Mind) -> list[Leak]:
    """State words in any trial prompt, option or exposure text."""
    lexicon = _lexicon(mind, scenario)
    scripted = Context(
        "script",
        tuple(SourcedMessage("user", (Segment(f"script:{place}", text),)) for place, text in scenario.texts()),
    )
    return audit([*trial_contexts(scenario).values(), scripted], lexicon)


def _checks(
    scenario: Scenario,
    mind: Mind,
    exposure: Exposure,
    arms: Sequence[Arm],
    base: Mapping[tuple[str, int], dict[str, Any]],
    leaks: Sequence[Leak],
) -> list[Check]:
    items = len(scenario.trial.items)
    budget = mind.influence.budget
    treated = next(arm for arm in arms if arm.name == "treated")
    matched = [arm.volatility.mean for arm in arms if arm.name == "random_volatility"]
    off = max((abs(cost / treated.volatility.mean - 1) for cost in matched), default=0.0)
    size = max((abs(value) for value in exposure.state.values.values()), default=0.0)
    return [
        Check("no leak", not leaks, f"{len(leaks)} state words in prompts, options and exposure"),
        Check(
            "within budget",
            treated.volatility.mean <= budget * BUDGET_TOLERANCE,
            f"treated costs {treated.volatility.mean:.3f} of {budget:.3f} nats per token",
        ),
        Check(
            "random directions matched",
            off < MATCHING_TOLERANCE,
            f"the volatility of the matched random directions is within {off:.1%} of the treated arm's",
        ),
        Check("a state built up", size > 0.05, f"largest accumulator after the exposure: {size:.2f}"),
        Check(
            "enough units",
            items >= LEAST_ITEMS and len(base) >= LEAST_UNITS,
            f"{items} items and {len(base)} units; {LEAST_ITEMS} items and {LEAST_UNITS} units are the least",
        ),
    ]


def _summarise(
    scenario: Scenario,
    name: str,
    members: Sequence[Arm],
    by_arm: Mapping[tuple[str, int | None], Mapping[tuple[str, int], dict[str, Any]]],
    base: Mapping[tuple[str, int], dict[str, Any]],
    leaks: int,
) -> dict[str, Any]:
    units = [(unit, cell) for arm in members for unit, cell in by_arm[name, arm.seed].items()]
    fired = [bool(cell["detectors"][scenario.primary]) for _, cell in units]
    margins = [cell["margin"] for _, cell in units]
    clusters = [unit[0] for unit, _ in units]
    shifts = [cell["margin"] - base[unit]["margin"] for unit, cell in units]
    several = len(set(clusters)) > 1
    rate = wilson(sum(fired), len(fired))
    summary: dict[str, Any] = {
        "label": _LABELS[name],
        "n": len(units),
        "rate": sum(fired) / len(fired),
        "rate_interval": [rate.low, rate.high],
        "mean_score": float(np.mean(margins)),
        "score_interval": _bounds(margins, clusters) if several else None,
        "shift": None if name == "base" else float(np.mean(shifts)),
        "shift_interval": None if name == "base" or not several else _bounds(shifts, clusters),
        "p": None,
        "volatility_mean": float(np.mean([arm.volatility.mean for arm in members])),
        "volatility_p95": float(np.mean([arm.volatility.p95 for arm in members])),
        "leaks": leaks,
    }
    if name in ("treated", "sham", "reversed"):
        pairs = [bool(base[unit]["detectors"][scenario.primary]) for unit, _ in units]
        summary["p"] = mcnemar_exact(pairs, fired).p
        summary["item_p"] = sign_flip(_by_item(units, base))
    if members[0].seed is not None:
        summary["directions"] = [_direction(scenario, arm, by_arm[name, arm.seed], base) for arm in members]
    return summary


def _direction(
    scenario: Scenario,
    arm: Arm,
    found: Mapping[tuple[str, int], dict[str, Any]],
    base: Mapping[tuple[str, int], dict[str, Any]],
) -> dict[str, Any]:
    return {
        "seed": arm.seed,
        "shift": float(np.mean([cell["margin"] - base[unit]["margin"] for unit, cell in found.items()])),
        "rate": float(np.mean([bool(cell["detectors"][scenario.primary]) for cell in found.values()])),
        "volatility_mean": arm.volatility.mean,
    }


def _bounds(values: Sequence[float], clusters: Sequence[str]) -> list[float]:
    interval = cluster_bootstrap(values, clusters)
    return [interval.low, interval.high]


def _by_item(
    units: Sequence[tuple[tuple[str, int], dict[str, Any]]], base: Mapping[tuple[str, int], dict[str, Any]]
) -> list[float]:
    """Mean shift of each item: paraphrases of one item aren't independent of each other."""
    found: dict[str, list[float]] = {}
    for unit, cell in units:
        found.setdefault(unit[0], []).append(cell["margin"] - base[unit]["margin"])
    return [float(np.mean(shifts)) for shifts in found.values()]


def _effect(
    scenario: Scenario,
    by_arm: Mapping[tuple[str, int | None], Mapping[tuple[str, int], dict[str, Any]]],
    summaries: Mapping[str, dict[str, Any]],
) -> Effect | None:
    base, treated = by_arm["base", None], by_arm["treated", None]
    directions = [
        entry
        for name in ("random_norm", "random_volatility")
        if name in summaries
        for entry in summaries[name]["directions"]
    ]
    if not directions:
        return None
    shared = next(found for (name, _), found in by_arm.items() if name == "random_norm")
    return Effect(
        rate_before=summaries["base"]["rate"],
        rate_after=summaries["treated"]["rate"],
        choice_p=summaries["treated"]["p"],
        item_p=summaries["treated"]["item_p"],
        shift=summaries["treated"]["shift"],
        random_units_shift=float(np.mean([treated[unit]["margin"] - base[unit]["margin"] for unit in shared])),
        random_shifts=tuple(entry["shift"] for entry in directions),
        reversed_shift=summaries["reversed"]["shift"],
    )


def _examples(
    scenario: Scenario, by_arm: Mapping[tuple[str, int | None], Mapping[tuple[str, int], dict[str, Any]]]
) -> list[dict[str, Any]]:
    """The first wording of up to six items, those that moved most first."""
    base, treated, back = by_arm["base", None], by_arm["treated", None], by_arm["reversed", None]
    ranked = sorted(
        (unit for unit in base if unit[1] == 0), key=lambda unit: -abs(treated[unit]["margin"] - base[unit]["margin"])
    )
    items = {item.id: item for item in scenario.trial.items}
    found = []
    for unit in ranked[:6]:
        item = items[unit[0]]
        found.append(
            {
                "item": item.id,
                "paraphrase": 1,
                "prompt": item.paraphrases[0],
                "options": {option.id: option.text for option in scenario.options_in_order(item)},
                "margins": {
                    "base": base[unit]["margin"],
                    "treated": treated[unit]["margin"],
                    "reversed": back[unit]["margin"],
                },
            }
        )
    return found
