"""Adapters: what anchored training learns and costs beside plain LoRA, and what swaps and mixed batches cost."""

from __future__ import annotations

import runpy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from overlay.adapters import AdapterLibrary, read_recipe, train
from overlay.model import NOTHING, AdapterUse, Intervention, LanguageModel, Row, Sampling, neutral_texts
from overlay.progress import Progress, SilentProgress

HERE = Path(__file__).parent
RECIPES = HERE.parent / "adapters" / "lora"
NAMES = ("british_spelling", "old_orthography")

SWAPS = 50
ROWS, TOKENS, REPEATS = 32, 24, 5


def measure(
    seeds: int = 3,
    progress: Progress | None = None,
    *,
    model_name: str = "smollm2-135m",
    names: Sequence[str] = NAMES,
    steps: int | None = None,
) -> dict[str, Any]:
    """Two stock adapters, anchored by their recipes and as plain LoRA, from several seeds; then swaps and batches.

    heldout_accuracy, replay_kl: the worst of all anchored runs: the lowest share of held-out choices that come out
        right, and the highest KL(base ‖ tuned) on replay texts, nats per token. minutes: of the slowest anchored run.
    training: by adapter and loss, accuracy, KL on replay and on neutral texts, steps, why training ended and minutes,
        one value a seed, and their means. A seed moves the first weights, the order of the examples, and what a
        generator draws. Plain LoRA has no anchor, no safe zone and no budget.
    swap_ms: to switch from one resident adapter to another, median. swap_from_disk_ms: to check an adapter's files,
        attach it and take it off again.
    mixed_batch_efficiency: tokens/s of a batch whose rows wear four different adapters at scales of their own, over
        the same rows without any.
    """
    progress = progress or SilentProgress()
    forgetting = runpy.run_path(str(HERE / "forgetting.py"))
    training: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            recipe = forgetting["shortened"](read_recipe(RECIPES / name / "recipe.yaml"), steps)
            for loss, given in (("anchored", recipe), ("plain", forgetting["plain"](recipe))):
                made = []
                for seed in range(seeds):
                    progress.step(f"{name}, {loss}, seed {seed + 1} of {seeds}", None, None)
                    made.append(
                        train(
                            given.overridden({"seed": seed}),
                            model_name,
                            Path(place) / f"{loss}-{seed}",
                            progress=progress,
                        )
                    )
                training.setdefault(name, {"accuracy_before": made[0].accuracy_before, "held_out": made[0].held_out})
                training[name][loss] = _runs(made)
        progress.step("measuring swaps and batches", None, None)
        model = LanguageModel.load(model_name, pull=True)
        costs = _costs(model, Path(place))
    anchored = [training[name]["anchored"] for name in names]
    return {
        "model": model.name,
        "dtype": model.dtype,
        "heldout_accuracy": min(min(runs["heldout_accuracy"]) for runs in anchored),
        "replay_kl": max(max(runs["replay_kl"]) for runs in anchored),
        "minutes": max(max(runs["minutes"]) for runs in anchored),
        **costs,
        "training": training,
    }


def _runs(adapters: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "heldout_accuracy": [round(adapter.accuracy_after, 4) for adapter in adapters],
        "replay_kl": [round(adapter.replay_kl, 4) for adapter in adapters],
        "volatility": [round(adapter.volatility_mean, 4) for adapter in adapters],
        "minutes": [round(adapter.seconds / 60, 2) for adapter in adapters],
    }
    means = {f"mean_{name}": round(statistics.fmean(values), 4) for name, values in found.items()}
    return {
        **found,
        **means,
        "steps": [adapter.steps for adapter in adapters],
        "ended": [adapter.ended for adapter in adapters],
    }


def _costs(model: LanguageModel, place: Path) -> dict[str, Any]:
    """Swaps and mixed batches with two libraries' worth of random adapters, whose values change no time."""
    random_library = runpy.run_path(str(HERE / "swaps.py"))["random_library"]
    library: AdapterLibrary = random_library(model, place / "random")
    taken = []
    for number in range(SWAPS // 5):
        start = time.perf_counter()
        with library.worn(model, ("one", "two")[number % 2]):
            pass
        taken.append((time.perf_counter() - start) * 1000)
    from_disk = statistics.median(taken)
    resident = [(f"{name}_{copy}", library.built / name) for copy in range(2) for name in ("one", "two")]
    try:
        for name, folder in resident:
            model.attach(name, folder)
        uses = [
            Intervention(adapters=(AdapterUse(name, 0.4 + place / 10),)) for place, (name, _) in enumerate(resident)
        ]
        swap = _swap_ms(model, uses)
        texts = neutral_texts()
        rows = [
            [
                Row(text=texts[place % len(texts)], intervention=one, sampling=Sampling(TOKENS, 0.8), seed=place)
                for place, one in enumerate(worn)
            ]
            for worn in ([NOTHING] * ROWS, [uses[place % len(uses)] for place in range(ROWS)])
        ]
        base, mixed = _times([partial(model.generate, given) for given in rows])
    finally:
        for name, _ in resident:
            if name in model.adapters:
                model.detach(name)
    return {
        "swap_ms": round(swap, 3),
        "swap_from_disk_ms": round(from_disk, 1),
        "mixed_batch_efficiency": round(base / mixed, 3),
    }


def _swap_ms(model: LanguageModel, uses: Sequence[Intervention]) -> float:
    """The median time to take one resident adapter off and put the next one on, without running the model."""
    rows = [Row(text="a", intervention=one) for one in uses]
    prompts = [model.encode(row) for row in rows]
    taken = []
    for number in range(SWAPS):
        row, prompt = rows[number % len(rows)], prompts[number % len(rows)]
        start = time.perf_counter()
        with model._influence([row], [prompt]):
            pass
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def _times(works: Sequence[Callable[[], Any]]) -> list[float]:
    """Median seconds of each; they take turns, so that a slow moment of the machine hits all of them."""
    for work in works:
        work()
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS):
        for index, work in enumerate(works):
            start = time.perf_counter()
            work()
            taken[index].append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]
