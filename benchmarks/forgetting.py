"""Forgetting: what a model still knows under an adapter, of English grammar and of causes and effects."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overlay.adapters import Recipe, read_recipe, train
from overlay.levels import Question, causality, minimal_pairs
from overlay.model import NOTHING, AdapterUse, Intervention, LanguageModel, Row
from overlay.progress import Progress, SilentProgress
from overlay.statistics import mcnemar_exact, paired_difference, wilson

HERE = Path(__file__).parent
RECIPES = HERE.parent / "adapters" / "lora"
STOCK = ("british_spelling", "old_orthography", "misspelling", "terse_style", "causes", "tender_texts")

LARGEST_BUDGET = 1e6
"""Nats a token: more than any adapter costs, so that nothing stops its training."""


def measure(
    model_name: str = "smollm2-135m",
    *,
    names: Sequence[str] = STOCK,
    steps: int | None = None,
    questions: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Accuracy on both sets of questions under the base model and under each stock adapter, anchored and plain.

    Every adapter is trained here twice by its recipe (`steps` shortens both, `questions` the sets): as it stands
    (`anchored`), and as plain LoRA (`plain`): no anchor, no safe zone, no budget.

    base: accuracy with Wilson's 95% interval, and `by_kind`.
    adapters: by adapter and loss, and by set of questions: accuracy, `change` in points (hundredths) against the base
        with Tango's 95% interval for paired outcomes, how many answers were `lost` and `won`, and McNemar's exact p;
        `replay_kl` in nats per token, and the accuracy on the recipe's own held-out choices.
    worst_change: the most negative change in points of any anchored adapter, and of any plain one.
    """
    progress = progress or SilentProgress()
    sets = {"minimal_pairs": minimal_pairs()[:questions], "causality": causality()[:questions]}
    found: dict[str, Any] = {"questions": {name: len(questions) for name, questions in sets.items()}, "adapters": {}}
    with tempfile.TemporaryDirectory() as place:
        made = {}
        for name in names:
            recipe = shortened(read_recipe(RECIPES / name / "recipe.yaml"), steps)
            for loss, given in (("anchored", recipe), ("plain", plain(recipe))):
                made[name, loss] = train(given, model_name, Path(place) / loss, progress=progress)
        progress.step(f"loading {model_name}", None, None)
        model = LanguageModel.load(model_name, pull=True)
        base = {name: answers(model, questions) for name, questions in sets.items()}
        found["base"] = {name: _accuracy(sets[name], base[name]) for name in sets}
        for (name, loss), adapter in made.items():
            progress.step(f"asking {name}, {loss}", None, None)
            model.attach(name, adapter.folder)
            try:
                worn = Intervention(adapters=(AdapterUse(name),))
                changed = {each: _change(base[each], answers(model, sets[each], worn)) for each in sets}
            finally:
                model.detach(name)
            facts = {"replay_kl": adapter.replay_kl, "heldout_accuracy": adapter.accuracy_after, "steps": adapter.steps}
            found["adapters"].setdefault(name, {})[loss] = {**facts, **changed}
    found["worst_change"] = {
        loss: min(found["adapters"][name][loss][each]["change"] for name in names for each in sets)
        for loss in ("anchored", "plain")
    }
    return {"model": model.name, "dtype": model.dtype, **found}


def shortened(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe with at most so many steps."""
    return recipe if steps is None else recipe.overridden({"steps": min(steps, recipe.steps)})


def plain(recipe: Recipe) -> Recipe:
    """The same lesson by plain cross-entropy: nothing holds the model where it was, and nothing stops it."""
    return recipe.model_copy(update={"anchor": 0.0, "safe_zone": None, "budget": LARGEST_BUDGET})


def answers(model: LanguageModel, questions: Sequence[Question], worn: Intervention = NOTHING) -> list[bool]:
    """Whether each question is answered rightly: the right option is likelier than the other."""
    rows = [Row(text=question.prompt, options=question.options, intervention=worn) for question in questions]
    right = []
    for question, scored in zip(questions, model.score(rows), strict=True):
        likely = scored.per_token if question.by_token else scored.total
        right.append(likely[question.right] > likely[1 - question.right])
    return right


def _accuracy(questions: Sequence[Question], right: Sequence[bool]) -> dict[str, Any]:
    interval = wilson(sum(right), len(right))
    kinds: dict[str, list[bool]] = {}
    for question, one in zip(questions, right, strict=True):
        kinds.setdefault(question.kind, []).append(one)
    return {
        "accuracy": round(sum(right) / len(right), 4),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
        "by_kind": {kind: round(sum(ones) / len(ones), 3) for kind, ones in kinds.items()},
    }


def _change(before: Sequence[bool], after: Sequence[bool]) -> dict[str, Any]:
    difference, test = paired_difference(before, after), mcnemar_exact(before, after)
    return {
        "accuracy": round(sum(after) / len(after), 4),
        "change": round(100 * difference.estimate, 2),
        "interval": [round(100 * difference.interval.low, 2), round(100 * difference.interval.high, 2)],
        "lost": test.only_first,
        "won": test.only_second,
        "p": round(test.p, 4),
    }
