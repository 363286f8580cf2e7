"""Teaching: a planted bad branch against its shuffled twin, and the same with kills at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from overlay.adapters import AdapterLibrary, example_digest
from overlay.model import LanguageModel, Row, neutral_texts
from overlay.progress import Progress, SilentProgress
from overlay.teaching import Curriculum, Questions, Taught, Teaching, read_curriculum

HERE = Path(__file__).parent.parent / "adapters"
PLANTED = "planted_bad_branch"

KILLS = 10

READ_NEUTRAL = 4
"""Neutral texts on which the base's logits are compared bit for bit, before and after everything."""


def measure(
    kills: int = KILLS,
    model_name: str = "smollm2-135m",
    progress: Progress | None = None,
    *,
    model: LanguageModel | None = None,
    planted: Path = HERE / "curricula" / f"{PLANTED}.yaml",
    banks: Path = HERE / "probes",
    seed: int = 0,
) -> dict[str, Any]:
    """Teach the planted curriculum, and once more in processes that are killed at random moments.

    planted: nodes; seconds; steps fed and kept; tokens; how often each thing was done; given_up; the verdict in words
        with its difference, interval and p; replay KL and volatility of both pupils, nats per token;
        bad_examples_learned: examples of the bad branch that the kept weights have learned: none, if it was seen;
        base_identical: whether the base's logits are bit for bit what they were before; steps_back_restored: how many
        of the steps back led to the weights that had last passed a check.
    kills: how many; killed_in: how many in each phase; finished_first: children that were done before their kill;
        same_bits: whether adapter, journal and result are those of the uninterrupted teaching; seconds_lost: what was
        walked twice.

    Args:
        kills: processes killed with SIGKILL, one after the other, each at a uniform moment.
    """
    progress = progress or SilentProgress()
    threads = torch.get_num_threads()
    model = model or LanguageModel.load(model_name, pull=True, progress=progress)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        found: dict[str, Any] = {
            "planted": _whole(model, planted, banks, place / "planted", progress),
        }
        # Threads of a pool don't live on in a fork, and whoever waits for them waits for ever.
        torch.set_num_threads(1)
        try:
            found["kills"] = _killed(model, planted, banks, place, kills, random.Random(seed), progress)
        finally:
            torch.set_num_threads(threads)
    return found


def _teaching(
    model: LanguageModel, curriculum: Curriculum, asked: Questions, place: Path, progress: Progress
) -> Teaching:
    library = AdapterLibrary(place / "lora", place / "adapters")
    return Teaching(curriculum, asked, model, place / "teaching", library, made_at=0.0, progress=progress)


def _whole(model: LanguageModel, file: Path, banks: Path, place: Path, progress: Progress) -> dict[str, Any]:
    curriculum, asked = read_curriculum(file, banks)
    place.mkdir()
    before, begun = _base(model), time.monotonic()
    taught = _teaching(model, curriculum, asked, place, progress).run()
    result = taught.result
    comparison = result["comparison"]
    return {
        "nodes": len(curriculum.nodes),
        "seconds": time.monotonic() - begun,
        "actions": dict(Counter(line["action"] for line in taught.journal)),
        "given_up": result["given_up"],
        "bad_examples_learned": _bad_examples_learned(curriculum, taught),
        "words": result["words"],
        "difference": comparison["difference"],
        "interval": comparison["interval"],
        "p": comparison["p"],
        "taught": result["taught"],
        "twin": result["twin"],
        "cells": {
            name: dict(Counter(cell["verdict"] for cell in result[name]["cells"]))
            for name in ("map", "twin_map")
            if result[name]
        },
        "base_identical": _base(model) == before,
        "steps_back_restored": _steps_back_restored(taught),
    }


def _bad_examples_learned(curriculum: Curriculum, taught: Taught) -> list[str]:
    """Examples of the planted branch, named bad_…, among those that the adapter learned."""
    bad = {example_digest(one.example()): one.id for one in curriculum.examples if one.id.startswith("bad_")}
    return [bad[digest] for digest in taught.adapter.examples if digest in bad]


def _steps_back_restored(taught: Taught) -> int:
    """Steps back behind which the weights were those of the last check that was passed, or of the beginning."""
    good, found = "", 0
    for line in taught.journal:
        if line["action"] == "began" or (line["action"] == "checked" and not line["sagging"]):
            good = line["weights"]
        found += line["action"] == "stepped back" and line["restored"] == good
    return found


def _base(model: LanguageModel) -> list[bytes]:
    rows = [Row(text=text) for text in neutral_texts()[:READ_NEUTRAL]]
    logits = dict(model.logits([model.encode(row).tokens for row in rows], rows))
    return [logits[index].cpu().numpy().tobytes() for index in range(len(rows))]


# --- kills ---------------------------------------------------------------------------------------


def _killed(
    model: LanguageModel, file: Path, banks: Path, place: Path, kills: int, drawn: random.Random, progress: Progress
) -> dict[str, Any]:
    curriculum, asked = read_curriculum(file, banks)
    whole, cut = place / "uninterrupted", place / "killed"
    whole.mkdir()
    begun = time.monotonic()
    # In a process of its own as well, so that both have one thread and no cache.
    _forked(lambda: _teaching(model, curriculum, asked, whole, SilentProgress()).run(), None)
    length = time.monotonic() - begun
    phases: Counter[str] = Counter()
    finished, spent = 0, 0.0
    cut.mkdir()
    for kill in range(kills):
        progress.step("killing", kill, kills)
        begun = time.monotonic()
        # On average all kills together take as long as one teaching.
        done = _forked(
            lambda: _teaching(model, curriculum, asked, cut, SilentProgress()).run(),
            drawn.uniform(0, 2 * length / kills),
        )
        spent += time.monotonic() - begun
        phases[_phase(cut)] += 1
        finished += done
    begun = time.monotonic()
    _forked(lambda: _teaching(model, curriculum, asked, cut, SilentProgress()).run(), None)
    spent += time.monotonic() - begun
    return {
        "kills": kills,
        "killed_in": dict(phases),
        "finished_first": finished,
        "same_bits": _outcome(whole, curriculum.name) == _outcome(cut, curriculum.name),
        "seconds_uninterrupted": length,
        "seconds_lost": spent - length,
    }


def _forked(work: Callable[[], object], seconds: float | None) -> bool:
    """Do work in a process of its own, and kill it after so many seconds; whether it was done before."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    begun = time.monotonic()
    while seconds is None or time.monotonic() - begun < seconds:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            if os.waitstatus_to_exitcode(status):
                raise RuntimeError("a teaching failed in its own process; see above")
            return True
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return False


def _phase(place: Path) -> str:
    record = place / "teaching" / "standing.json"
    if not record.is_file():
        return "done" if (place / "teaching" / "result.json").is_file() else "beginning"
    return str(json.loads(record.read_text())["standing"]["phase"])


def _outcome(place: Path, name: str) -> tuple[bytes, bytes, Mapping[str, Any]]:
    return (
        (place / "adapters" / name / "adapter_model.safetensors").read_bytes(),
        (place / "teaching" / "journal.jsonl").read_bytes(),
        json.loads((place / "teaching" / "result.json").read_text()),
    )
