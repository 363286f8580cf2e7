"""Random labels: what teaching brings when there is nothing to be learned."""

from __future__ import annotations

import random
from collections.abc import Sequence

from overlay.adapters import Example, HeldOut


def random_labels(choices: Sequence[HeldOut], seed: int) -> tuple[tuple[Example, ...], tuple[int, ...]]:
    """Examples made of one half of the choices, and the indexes of the other half, which measures.

    Of the first half, as many are taught with their good as with their bad option, drawn at random: so they show the
    model the same kind of text, and no rule.
    """
    chance = random.Random(seed)
    order = list(range(len(choices)))
    chance.shuffle(order)
    taught, measured = order[: len(order) // 2], sorted(order[len(order) // 2 :])
    labels = [place % 2 == 0 for place in range(len(taught))]
    chance.shuffle(labels)
    examples = [
        Example(prompt=choices[index].prompt, target=choices[index].good if good else choices[index].bad)
        for index, good in zip(taught, labels, strict=True)
    ]
    return tuple(examples), tuple(measured)
