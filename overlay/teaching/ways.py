"""Ways of feeding an example: as it is written, under another prompt, into other blocks, with smaller steps."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overlay.adapters import Where
from overlay.teaching.curriculum import Curriculum, ExampleNode, TeachingSettings
from overlay.teaching.pupil import Blocks, Helping, Meal, Pupil

OTHER_BLOCKS = 2
"""Places of the map that are tried for an example, the best ones first."""


@dataclass(frozen=True)
class Way:
    """One way of feeding an example, and what it is called."""

    prompt: str
    words: str
    scale: float = 1.0
    blocks: Blocks | None = None


def as_written(node: ExampleNode) -> Way:
    """The way that comes first."""
    return Way(node.prompt, "as it is written")


def ways_of(node: ExampleNode, pupil: Pupil, settings: TeachingSettings, blocks: Sequence[Blocks]) -> list[Way]:
    """All ways of feeding an example, in the order in which they are tried.

    Args:
        blocks: where else it may be learned, the best place first.
    """
    found = [as_written(node)]
    found += [Way(prompt, f"under another prompt, {prompt!r}") for prompt in pupil.prompts(node, settings.variants)]
    found += [
        Way(node.prompt, f"into blocks {first} to {last} alone", blocks=(first, last))
        for first, last in _within(settings.where, blocks)[:OTHER_BLOCKS]
    ]
    found += [
        Way(node.prompt, f"with steps of {scale:g} the size", scale=scale)
        for scale in (settings.smaller, settings.smaller**2)
    ]
    return found


def _within(where: Where, blocks: Sequence[Blocks]) -> list[Blocks]:
    """What of the blocks may learn at all, and is less than all that may."""
    if not where.modules:
        return []
    if where.blocks == "all":
        return list(blocks)
    first, last = where.blocks
    shared = [(max(first, one), min(last, other)) for one, other in blocks]
    return [one for one in dict.fromkeys(shared) if one[0] <= one[1] and one != (first, last)]


def meal_of(
    node: ExampleNode, way: Way, curriculum: Curriculum, learned: Mapping[str, str], step: int, groups: int
) -> Meal:
    """What the optimizer step after `step` others learns from: the example, and earlier ones drawn anew each time.

    Args:
        learned: by node, the prompt that it was learned under: another one may be what could not be learned.
    """
    settings = curriculum.teaching
    earlier = [one for one in curriculum.examples if one.id in learned and one.id != node.id]
    drawn = random.Random(f"{settings.seed}/meal/{step}")
    rehearsed = drawn.sample(earlier, min(settings.rehearse, len(earlier)))
    helpings = (Helping(node.id, way.prompt), *(Helping(one.id, learned[one.id]) for one in rehearsed))
    return Meal(helpings, replay_group(settings.seed, step, groups), way.scale, way.blocks)


def replay_group(seed: int, step: int, groups: int) -> int:
    """Which group of replay texts anchors a step: each once, shuffled, before any comes again."""
    order = list(range(groups))
    random.Random(f"{seed}/replay/{step // groups}").shuffle(order)
    return order[step % groups]
