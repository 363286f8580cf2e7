"""Probes: whether a semantic map finds what was planted in one cell, and how often it speaks where nothing was.

One adapter learns a whole cell, its prompts and right continuations: the map must show that there, and its neighbours
show what else moved. Whether anything carries over to probes that were never seen is another question: a second adapter
learns half of the cell and is measured on all the others, a third one the other half. So every probe of the cell is
measured by an adapter that never saw it, and those of the other cells by the second one. The null does the same with
half of the labels swapped: there is nothing to be learned but that some of these words come.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from overlay.adapters.example import Example
from overlay.adapters.fitting import Fitting
from overlay.adapters.recipe import Where
from overlay.adapters.sequences import encode
from overlay.home import stock_folder
from overlay.model import UNTREATED, LanguageModel, Treatment, neutral_texts
from overlay.probes import Cell, Probe, ProbeMargin, Shift, cells_of, margins, read_bank, weigh
from overlay.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from overlay.probes import ProbeBank

SEEDS = 20
STEPS = 16
RANK = 8
LEARNING_RATE = 1e-3
ANCHOR = 1.0
REPLAY = 8
"""Neutral texts on which an adapter is held to the base model; one group of them takes part in each step."""

PLANTED = Cell("definition", "lexical", "en")


def measure(
    model_name: str = "smollm2-135m",
    *,
    cell: Cell = PLANTED,
    seeds: int = SEEDS,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Map what was planted, and `seeds` random-label adapters, by the stock banks.

    planted: what became of the cell that an adapter learned; neighbours_changed: the other cells that were called
        changed, with their shifts.
    unseen: what became of the cell where each probe is measured by an adapter that learned the other half.
    random_label: of all cells of all seeds, how many were called changed, with the largest share of any one seed.
    """
    progress = progress or SilentProgress()
    progress.step(f"loading {model_name}", None, None)
    model = LanguageModel.load(model_name, pull=True, progress=progress)
    bank = read_bank(stock_folder() / "adapters" / "probes")
    return {"model": model.name, "dtype": model.dtype, **planted_and_null(model, bank, cell, seeds, steps, progress)}


def planted_and_null(
    model: LanguageModel, bank: ProbeBank, cell: Cell, seeds: int, steps: int, progress: Progress | None = None
) -> dict[str, Any]:
    """The figures of `measure` for a loaded model and any bank."""
    progress = progress or SilentProgress()
    before = margins(model, bank.probes, UNTREATED)
    progress.step("an adapter that learns one cell", None, None)
    planted, kept = _map(model, bank.probes, before, cell, 0, steps, is_seen=True)
    progress.step("adapters that learn half of it", None, None)
    unseen, kept_unseen = _map(model, bank.probes, before, cell, 0, steps)
    false, worst, drift = 0, 0.0, []
    for seed in range(seeds):
        progress.step("adapters that learn random labels", seed, seeds)
        null, replay_kl = _map(model, bank.probes, before, cell, seed, steps, swapped=True)
        changed = sum(shift.verdict != "unchanged" for shift in null.values())
        false, worst = false + changed, max(worst, changed / len(null))
        drift.append(replay_kl)
    return {
        "bank": {"digest": bank.digest, "probes": len(bank.probes), "cells": len(planted)},
        "steps": steps,
        "cell": str(cell),
        "planted": _facts(planted[cell]) | {"replay_kl": round(kept, 4)},
        "neighbours_changed": {
            str(other): f"{shift.verdict} {shift.shift:+.3f}"
            for other, shift in planted.items()
            if other != cell and shift.verdict != "unchanged"
        },
        "unseen": _facts(unseen[cell]) | {"replay_kl": round(kept_unseen, 4)},
        "random_label": {
            "adapters": 2 * seeds,
            "maps": seeds,
            "cells": seeds * len(planted),
            "false_cells": false,
            "false_share": round(false / max(1, seeds * len(planted)), 4),
            "worst_map_share": round(worst, 4),
            "replay_kl": round(float(np.mean(drift)), 4) if drift else None,
        },
    }


def _map(
    model: LanguageModel,
    probes: Sequence[Probe],
    before: NDArray[np.float64],
    cell: Cell,
    seed: int,
    steps: int,
    *,
    swapped: bool = False,
    is_seen: bool = False,
) -> tuple[dict[Cell, Shift], float]:
    """The map of adapters that learned one cell, and their mean KL on replay texts.

    Each probe is measured by an adapter that didn't see it, or (`is_seen`) all of them by one that saw the whole cell.
    """
    own = cells_of(probes)[cell]
    order = random.Random(f"{cell}-{seed}").sample(own, len(own))
    measured, costs = [], []
    for half in (order,) if is_seen else (order[::2], order[1::2]):
        wrong = {probe.id for probe in half[: len(half) // 2]} if swapped else set()
        after, cost = _learned(model, probes, half, wrong, seed, steps)
        hidden = [probe in half and not is_seen for probe in probes]
        measured.append(np.where(hidden, np.nan, after))
        costs.append(cost)
    first = measured[0]
    found = np.where(np.isnan(first), measured[-1], first)
    shifts = {
        probe.id: ProbeMargin(probe.id, float(one), float(other))
        for probe, one, other in zip(probes, before, found, strict=True)
    }
    cells = {held: [shifts[probe.id] for probe in some] for held, some in cells_of(probes).items()}
    return weigh(cells), float(np.mean(costs))


def _facts(shift: Shift) -> dict[str, Any]:
    return {
        "verdict": shift.verdict,
        "shift": round(shift.shift, 3),
        "low": round(shift.interval.low, 3),
        "high": round(shift.interval.high, 3),
        "q": round(shift.q, 4),
        "right_before": shift.right_before / shift.n,
        "right_after": shift.right_after / shift.n,
    }


def _learned(
    model: LanguageModel, probes: Sequence[Probe], half: Sequence[Probe], wrong: set[str], seed: int, steps: int
) -> tuple[NDArray[np.float64], float]:
    """All margins under an adapter that learned these probes, and its KL on replay texts."""
    examples = [
        encode(model, Example(prompt=probe.prompt, target=probe.bad if probe.id in wrong else probe.good))
        for probe in half
    ]
    with Fitting(
        model, Where(), rank=RANK, learning_rate=LEARNING_RATE, seed=seed, replay=neutral_texts()[:REPLAY]
    ) as fitting:
        for step in range(steps):
            fitting.step(examples, replay=[step % fitting.groups], anchor=ANCHOR)
        learned = Treatment("learned", fitting.intervention())
        return margins(model, probes, learned), fitting.replay_kl()
