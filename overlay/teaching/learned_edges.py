"""Learned edges: by how much learning one example lowers the loss on another, measured from the base each time.

What was learned for a few steps on one example alone says which others it prepares for and which it disturbs. A walk
uses it where edges with the same predicate lead to several examples.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ConfigDict

from overlay.model import Row, Treatment
from overlay.progress import Progress, SilentProgress
from overlay.records import digest_of, read_record, write_record

if TYPE_CHECKING:
    from overlay.model import LanguageModel
    from overlay.teaching.curriculum import Curriculum, ExampleNode

FILE = "learned_edges.json"

STEPS = 4
"""Optimizer steps on one example before the others are looked at."""

SAMPLE = 24
"""Examples that are measured at the most: the cost is that of a step for each, and of a score for each pair."""


@dataclass(frozen=True)
class LearnedEdges:
    """What examples do for each other.

    Attributes:
        taught: digest of the examples and of how they were learned; model: the model hash.
        steps: optimizer steps on each example.
        loss: of the base on each example's target, nats per token.
        lowered: for each example that was learned, by how much the loss on each other fell, nats per token.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    taught: str
    model: str
    steps: int
    loss: dict[str, float]
    lowered: dict[str, dict[str, float]]

    def fits(self, curriculum: Curriculum, model_digest: str) -> bool:
        """Whether this was measured on these examples, learned in this way, and on this model."""
        return (self.taught, self.model) == (_taught(curriculum), model_digest)

    def help(self, example: str, others: Sequence[str]) -> float:
        """By how much learning `example` lowers the loss on `others`, nats per token on average; 0 where unknown."""
        known = self.lowered.get(example, {})
        found = [known[name] for name in others if name in known and name != example]
        return sum(found) / len(found) if found else 0.0


def learn_edges(
    model: LanguageModel,
    curriculum: Curriculum,
    file: Path,
    *,
    sample: int = SAMPLE,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> LearnedEdges:
    """Measure what examples do for each other, and keep it in `file`, row by row: a kill loses one row.

    Raises:
        AdapterError: the model has no such blocks or modules. RecordDamaged: what was kept can't be read.
        StorageFull
    """
    from overlay.adapters import Fitting, encode

    progress = progress or SilentProgress()
    settings = curriculum.teaching
    examples = list(curriculum.examples)
    if len(examples) > sample:
        drawn = set(random.Random(f"{settings.seed}/edges").sample(range(len(examples)), sample))
        examples = [one for place, one in enumerate(examples) if place in drawn]
    found = read_learned_edges(file)
    asked = (steps, [one.id for one in examples])
    if found is None or not found.fits(curriculum, model.digest) or (found.steps, list(found.loss)) != asked:
        model.prefixes.clear()
        found = LearnedEdges(_taught(curriculum), model.digest, steps, _losses(model, examples, Treatment("base")), {})
    for place, example in enumerate(examples):
        progress.step("learning edges", place, len(examples), example.id)
        if example.id in found.lowered:
            continue
        with Fitting(
            model,
            settings.where,
            rank=settings.rank,
            alpha=settings.alpha,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            replay=curriculum.replay,
        ) as fitting:
            learned = encode(model, example.example(), whole=settings.exempt == "targets")
            for step in range(steps):
                fitting.step([learned], replay=[step % fitting.groups], anchor=settings.anchor)
            model.prefixes.clear()
            after = _losses(model, examples, Treatment("learned", fitting.intervention()))
        found.lowered[example.id] = {name: found.loss[name] - loss for name, loss in after.items()}
        write_record(file, json.dumps(asdict(found), ensure_ascii=False))
    return found


def read_learned_edges(file: Path) -> LearnedEdges | None:
    """What was measured; None where nothing was. Raises RecordDamaged."""
    return read_record(file, LearnedEdges, "learned edges", "remove it, and measure again")


def _taught(curriculum: Curriculum) -> str:
    """sha256 of what the measurement depends on: how long a walk may be, say, changes nothing of it."""
    how = {"where", "rank", "alpha", "learning_rate", "anchor", "exempt", "seed"}
    content = [
        [one.model_dump(mode="json") for one in curriculum.examples],
        curriculum.replay,
        curriculum.teaching.model_dump(mode="json", include=how),
    ]
    return digest_of(content)


def _losses(model: LanguageModel, examples: Sequence[ExampleNode], treatment: Treatment) -> dict[str, float]:
    """Cross-entropy on each example's target, nats per token."""
    rows = [
        Row(text=_opening(one)[0], options=(_opening(one)[1],), intervention=treatment.intervention) for one in examples
    ]
    return {one.id: -scored.per_token[0] for one, scored in zip(examples, model.score(rows), strict=True)}


def _opening(example: ExampleNode) -> tuple[str, str]:
    """What is read and what is scored: of an example without a prompt, its first word and the rest."""
    if example.prompt:
        return example.prompt, example.target
    first, blank, rest = example.target.partition(" ")
    return (first, blank + rest) if rest else (" ", example.target)
