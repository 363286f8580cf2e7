"""The engine: what steering and batching cost and bring, as ratios within one run on this machine."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from overlay.model import Direction, Dose, Intervention, LanguageModel, Row, Sampling, neutral_texts

REPEATS = 5
TOKENS = 24
ROWS = 32
FAULTS = 100


def measure(model_name: str = "smollm2-135m") -> dict[str, Any]:
    """Ratios of medians over interleaved repeats; memory of the whole process in MB.

    steering_overhead_*: generation with a dose over the same generation without one.
    row_mix_efficiency: tokens/s of rows that all differ in their intervention, over plain rows.
    batch_speedup: rows in one batch over the same rows one at a time.
    faults_survived: planted exceptions in a hook after which no plan was left and logits were unchanged.
    """
    model = LanguageModel.load(model_name, pull=True)
    norms = model.residual_norms(neutral_texts())
    middle = tuple(range(round(0.4 * model.layers), round(0.67 * model.layers)))

    def row(seed: int, blocks: tuple[int, ...] = ()) -> Row:
        doses = (Dose(_direction(model, norms, seed), 0.01, blocks),) if blocks else ()
        text = neutral_texts()[seed % len(neutral_texts())]
        return Row(text=text, intervention=Intervention(doses), sampling=Sampling(TOKENS, 0.8), seed=seed)

    single = [row(1)], [row(1, middle[:1])], [row(1, tuple(range(model.layers)))]
    plain, one_block, all_blocks = _times([lambda rows=rows: model.generate(rows) for rows in single])
    rows = [row(seed) for seed in range(ROWS)]
    mixed = [row(seed, middle[seed % 3 :]) for seed in range(ROWS)]
    batch, mix = _times([lambda: model.generate(rows), lambda: model.generate(mixed)])
    (alone,) = _times([lambda: [model.generate([one]) for one in rows[:4]]], repeats=2)
    scale = 1 / 1024 if sys.platform != "darwin" else 1 / 1024**2
    return {
        "model": model.name,
        "dtype": model.dtype,
        "steering_overhead_1_block": round(one_block / plain, 3),
        "steering_overhead_all_blocks": round(all_blocks / plain, 3),
        "row_mix_efficiency": round(batch / mix, 3),
        "batch_speedup": round(alone / 4 * ROWS / batch, 2),
        "tokens_per_second_1_row": round(TOKENS / plain, 1),
        f"tokens_per_second_{ROWS}_rows": round(ROWS * TOKENS / batch, 1),
        "faults_survived": _survive(model, row(3, middle)),
        "faults_planted": FAULTS,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale),
    }


def _direction(model: LanguageModel, norms: Any, seed: int) -> Direction:
    vectors = np.random.default_rng(seed).standard_normal((model.layers, model.width)).astype(np.float32)
    return Direction(f"random-{seed}", vectors / np.linalg.norm(vectors, axis=1, keepdims=True), norms)


def _times(works: list[Callable[[], Any]], repeats: int = REPEATS) -> list[float]:
    """Median seconds of each; they take turns, so that a slow moment of the machine hits all of them."""
    for work in works:
        work()
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for index, work in enumerate(works):
            start = time.perf_counter()
            work()
            taken[index].append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def _survive(model: LanguageModel, row: Row) -> int:
    """How many planted faults left neither a plan nor a changed logit behind."""
    tokens = [model.encode(row).tokens]
    clean = dict(model.logits(tokens, [Row(text="clean")]))[0]
    survived = 0
    for fault in range(FAULTS):

        def fail(*_: Any) -> None:
            raise RuntimeError("planted")

        handle = model.blocks.modules[fault % model.layers].register_forward_hook(fail)
        try:
            model.observe([row])
        except RuntimeError:
            pass
        finally:
            handle.remove()
        again = dict(model.logits(tokens, [Row(text="clean")]))[0]
        survived += int(not model.steering.has_plan and bool((again == clean).all()))
    return survived
