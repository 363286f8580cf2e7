"""Sweep: how fast scenario cells are played, against the loop that people write, raw generation, and two actors."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from overlay.errors import ScenarioError
from overlay.home import Home
from overlay.model import LanguageModel, Row, Sampling
from overlay.progress import Progress, SilentProgress
from overlay.scenarios import Arm, Scenario, first_prompts, read_scenario
from overlay.scenarios.cells import Group, plan
from overlay.scenarios.detectors import Instruments
from overlay.scenarios.engine import LocalEngine

SCRIPT = "shared_stores"
WRITES = 60
"""Tokens that each unit writes before it chooses."""

PLAIN = 4
"""Units that the plain loop plays; it is far too slow for all of them."""

REPEATS = 3
ACTORS = 2
GROUPS_FOR_ACTORS = 4


def measure(model_name: str = "smollm2-135m", progress: Progress | None = None) -> dict[str, Any]:
    """Seconds for units that write 60 tokens, choose between two options, or do both, and ratios of them.

    sweep_speedup: a writing unit's time in the plain loop (one row at a time, float32, each prompt encoded each time)
        over its time in the engine, in a group of 40 units, detectors and records included. `choosing` and `both` give
        the same for units that choose, each option scored with its whole prompt in the plain loop, and for both.
    efficiency: tokens per second of writing in the engine, with detectors, quality measures and records, over those of
        the library's own batched generation of the same prompts, same number format and batch.
    ray: seconds of the local engine with all cores over those of two resident actors that share them, same groups;
        None where Ray isn't installed.
    """
    progress = progress or SilentProgress()
    home = Home.open(Path.cwd())
    script = read_scenario(home.scenarios / f"{SCRIPT}.yaml")
    kinds = {"both": _with_steps(script, True, True), "choosing": script, "writing": _with_steps(script, True, False)}
    progress.step(f"loading {model_name}", None, None)
    model = LanguageModel.load(model_name, pull=True, progress=progress)
    engine = LocalEngine(model, Instruments(model))
    ours: dict[str, float] = {}
    tokens = 0
    for name, one in kinds.items():
        (group,) = plan(one, [Arm("base", "Base")])
        progress.step(f"the engine: {name}", None, None)
        list(engine.play([group]))
        ours[name] = _median(functools.partial(_played, engine, group), REPEATS) / len(group.units)
        if name == "writing":
            ((_, records),) = engine.play([group])
            tokens = sum(record["quality"]["tokens"] for record in records)
    (writing,) = plan(kinds["writing"], [Arm("base", "Base")])
    progress.step("raw batched generation", None, None)
    raw_seconds, raw_tokens = _raw(model, writing)
    ray = _ray(model_name, model, kinds["both"], progress)
    progress.step("the plain loop", None, None)
    slow = LanguageModel.load(model_name, dtype="float32", pull=True, progress=progress)
    plain = {name: _plain(slow, one) for name, one in kinds.items()}
    units = len(writing.units)
    return {
        "units": units,
        "tokens_a_unit": WRITES,
        "dtype": model.dtype,
        "threads": torch.get_num_threads(),
        "seconds_a_unit": {"engine": ours, "plain loop": plain},
        "sweep_speedup": plain["writing"] / ours["writing"],
        "choosing": plain["choosing"] / ours["choosing"],
        "both": plain["both"] / ours["both"],
        "tokens_per_second": {"engine": tokens / (ours["writing"] * units), "raw": raw_tokens / raw_seconds},
        "efficiency": (tokens / (ours["writing"] * units)) / (raw_tokens / raw_seconds),
        "ray": ray,
    }


def _with_steps(script: Scenario, writes: bool, chooses: bool) -> Scenario:
    """The script with other steps; all write at full length, as their own ends would cut some short."""
    steps: list[dict[str, Any]] = []
    if writes:
        steps.append({"free": {"asks": "First write your log entry for today.", "max_tokens": WRITES}})
    if chooses:
        steps.append({"choose": {}})
    content = script.model_dump(mode="json")
    content["trial"]["steps"] = steps
    content["exposure"] = content["exposure"]["texts"]
    content["neutral"] = None
    content["probes"] = None
    return Scenario.model_validate(content)


def _played(engine: Any, group: Any) -> list[Any]:
    return list(engine.play([group]))


def _median(play: Callable[[], Any], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        play()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _raw(model: LanguageModel, group: Group) -> tuple[float, int]:
    """Seconds and tokens of the library's own generation, left-padded, greedy, nothing of ours around it."""
    prompts = [first_prompts(group.scenario, unit)[0].messages for unit in group.units]
    texts = [
        model.tokenizer.apply_chat_template(
            [{"role": one.role, "content": one.text} for one in chat], tokenize=False, add_generation_prompt=True
        )
        for chat in prompts
    ]
    tokenizer = model.tokenizer
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    given = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    found: list[Any] = []

    def generate() -> None:
        with torch.inference_mode():
            found[:] = [model.module.generate(**given, do_sample=False, max_new_tokens=WRITES)]

    generate()
    seconds = _median(generate, REPEATS)
    written = found[0][:, given["input_ids"].shape[1] :]
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    return seconds, sum(sum(int(token) not in ends for token in row) for row in written)


def _plain(model: LanguageModel, script: Scenario) -> float:
    """Seconds a unit: prompt by prompt, option by option."""
    (group,) = plan(script, [Arm("base", "Base")])
    model.prefixes.limit = 0
    chosen = group.units[:: len(group.units) // PLAIN][:PLAIN]
    started = time.perf_counter()
    for unit in chosen:
        item = next(item for item in script.trial.items if item.id == unit.item)
        for row in first_prompts(script, unit):
            if not row.options:
                model.generate([Row(row.messages, sampling=Sampling(max_tokens=WRITES))])
        if any(step.choose for step in script.trial.steps):
            asked = next(iter(first_prompts(script, unit)))
            for _order in (0, 1):
                for option in item.options:
                    model.score([Row(asked.messages, options=(option.text,))])
    return (time.perf_counter() - started) / len(chosen)


def _ray(name: str, model: LanguageModel, script: Scenario, progress: Progress) -> dict[str, float] | None:
    try:
        from overlay.scenarios.ray_engine import RayEngine

        progress.step("two actors", None, None)
        with RayEngine(name, model.dtype, actors=ACTORS, expects=model.digest) as engine:
            (group,) = plan(script, [Arm("base", "Base")])
            groups = [group] * GROUPS_FOR_ACTORS
            list(engine.play(groups[:ACTORS]))
            actors = _median(lambda: list(engine.play(groups)), 1)
    except ScenarioError:
        return None
    local = LocalEngine(model, Instruments(model))
    alone = _median(lambda: list(local.play(groups)), 1)
    return {"local_seconds": alone, "actors_seconds": actors, "speed_of_actors": alone / actors}
