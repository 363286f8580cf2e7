"""Microvariants on the embedded model: how many of a text's variants stay within the budget, kind by kind.

`measure` finds fifty variants for each of twenty short texts (microvariants.yaml) and puts them into an order of
feeding; `remeasure` then computes every divergence again from the texts alone, by another implementation: one row at
a time, no padding, no batches, no code of the package but the probe. A minute a text on one core.

Variants that were kept are measured again in a process of their own by `python benchmarks/microvariants.py FILE`.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import yaml

from overlay.adapters.microvariants import BUDGET, COUNT, KINDS, Collection, Proposer, arrange, collect, probe_for
from overlay.model import LanguageModel
from overlay.progress import Progress, SilentProgress

MODEL = "smollm2-135m"
TEXTS: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def measure(
    texts: int = 20,
    start: int = 0,
    model_name: str = MODEL,
    count: int = COUNT,
    budget: float = BUDGET,
    ordered: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Collect, order and measure again the variants of `texts` texts from `start` on, English ones and Russian ones
    in turn. Divergences are in nats per token, in float32.

    accepted: variants of each text, up to `count`. complete: texts that reached `count`.
    yields: by language and kind: edits looked at, accepted, and why others were refused.
    schedule: of the first `ordered` texts (all when None): the largest jump of all chains, variants that no allowed
        jump leads to, and how often something was fed again to reach another.
    remeasured: variants measured again; the largest mean found; how many were above the budget; the largest
        difference from what was measured first.

    With `out`, the variants are written there as JSON lines, for `remeasure` in a process of its own.
    """
    progress = progress or SilentProgress()
    progress.step(f"loading {model_name}", None, None)
    model = LanguageModel.load(model_name, dtype="float32", pull=True, progress=progress)
    proposer = Proposer(model)
    chosen = [pair for both in zip(*TEXTS.values(), strict=True) for pair in zip(TEXTS, both, strict=True)]
    chosen = chosen[start : start + texts]
    accepted: dict[str, list[int]] = {language: [] for language in TEXTS}
    yields: dict[str, dict[str, Any]] = {language: _empty() for language in TEXTS}
    jumps, left_out, returns = [0.0], 0, 0
    again: list[dict[str, Any]] = []
    for place, (language, text) in enumerate(chosen):
        progress.step("varying texts", place, len(chosen), language)
        collection = collect(model, text, budget=budget, count=count, proposer=proposer)
        accepted[language].append(len(collection.variants))
        _add(yields[language], collection)
        if ordered is None or place < ordered:
            order = arrange(model, collection)
            jumps.append(order.largest_jump)
            left_out += len(order.left_out)
            returns += len(order.steps) - 1 - len(collection.variants) + len(order.left_out)
        lines = [
            {"text": text, "variant": one.edit.text, "aligned": one.divergence.aligned, "probe": one.divergence.probe}
            for one in collection.variants
        ]
        if out:
            with out.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        again.append(remeasure(model, lines, budget))
    return {
        "model": model.name,
        "budget": budget,
        "texts": len(chosen),
        "complete": sum(found >= count for counts in accepted.values() for found in counts),
        "accepted": accepted,
        "yields": yields,
        "schedule": {"largest_jump": round(max(jumps), 4), "left_out": left_out, "fed_again": returns},
        "remeasured": {
            "variants": sum(one["variants"] for one in again),
            "largest": max(one["largest"] for one in again),
            "above_budget": sum(one["above_budget"] for one in again),
            "largest_difference": max(one["largest_difference"] for one in again),
        },
    }


def remeasure(model: LanguageModel, lines: Sequence[dict[str, Any]], budget: float = BUDGET) -> dict[str, Any]:
    """Measure variants again, each in plain forward passes of one row: {text, variant, aligned, probe} each.

    Raises:
        AssertionError: one of them isn't within the budget.
    """
    import torch

    def likely(text: str, probe: str) -> tuple[list[int], Any]:
        ids = model.tokenizer(text)["input_ids"]
        ending = model.tokenizer(probe, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model.module(input_ids=torch.tensor([ids + ending], device=model.device)).logits[0]
        return ids, torch.log_softmax(logits.double(), -1)

    originals: dict[str, tuple[list[int], Any]] = {}
    largest = difference = 0.0
    above = 0
    for line in lines:
        text, variant = line["text"], line["variant"]
        probe = probe_for(text)
        if text not in originals:
            originals[text] = likely(text, probe)
        (old, base), (new, other) = originals[text], likely(variant, probe)
        first = next((place for place, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), None)
        first = min(len(old), len(new)) if first is None else first
        pairs = _shared_behind(old, new, first)
        ending = range(len(base) - len(old))
        costs = {
            "aligned": _mean(base, other, pairs),
            "probe": _mean(base, other, [(len(old) + place, len(new) + place) for place in ending]),
        }
        largest = max(largest, *costs.values())
        above += any(cost > budget for cost in costs.values())
        difference = max(difference, *(abs(costs[name] - line[name]) for name in costs))
    assert not above, f"{above} of {len(lines)} variants are above {budget} nats per token"
    return {
        "variants": len(lines),
        "largest": round(largest, 4),
        "above_budget": above,
        "largest_difference": round(difference, 6),
    }


def _mean(base: Any, other: Any, pairs: Sequence[tuple[int, int]]) -> float:
    """Mean KL over pairs of positions, in float64; 0 without any."""
    costs = [float((base[a].exp() * (base[a] - other[b])).sum()) for a, b in pairs]
    return math.fsum(costs) / len(costs) if costs else 0.0


def _shared_behind(old: list[int], new: list[int], first: int) -> list[tuple[int, int]]:
    """Positions of the tokens that both rows hold behind the first difference: the common end, then what is between."""
    ends: list[tuple[int, int]] = []
    a, b = len(old) - 1, len(new) - 1
    while a >= first and b >= first and old[a] == new[b]:
        ends.append((a, b))
        a, b = a - 1, b - 1
    between = SequenceMatcher(a=old[first : a + 1], b=new[first : b + 1], autojunk=False).get_matching_blocks()
    return ends + [(first + one.a + step, first + one.b + step) for one in between for step in range(one.size)]


def _empty() -> dict[str, Any]:
    return {kind.name: {"proposed": 0, "accepted": 0, "refused": Counter()} for kind in KINDS}


def _add(totals: dict[str, Any], collection: Collection) -> None:
    for kind, found in collection.yields.items():
        totals[kind]["proposed"] += found.proposed
        totals[kind]["accepted"] += found.accepted
        totals[kind]["refused"].update(found.refused)


if __name__ == "__main__":
    kept = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    print(json.dumps(remeasure(LanguageModel.load(MODEL, dtype="float32", pull=True), kept)))
