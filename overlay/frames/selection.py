"""Selection: which notes and frames are worth their place in a context, for the goal of the moment.

Each is weighed by meaning: how near it is to the goal, how strongly it came up, and how much of it has been said by
what is chosen already (maximal marginal relevance, Carbonell and Goldstein, 1998). The weights of what is chosen sum
to 1, and each says why it is what it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError

STRENGTH = 0.25
"""What a full strength (an energy of 1, the best score) is worth, in cosines with the goal."""

REPEATING = 0.5
"""What is taken away from something that says word for word what is chosen already, in cosines with the goal."""

SHARPNESS = 0.1
"""Values that differ by this, in cosines, differ in weight by the factor e."""


@dataclass(frozen=True)
class Offer:
    """A note or a frame that could stand in a context.

    Attributes:
        words: how many it would take there.
        vector: its meaning, of unit length, shape (dimension,).
        strength: a frame's energy, or a note's score as a share of the best one's; in [0, 1].
    """

    kind: Literal["note", "frame"]
    name: str
    words: int
    vector: NDArray[np.float32]
    strength: float


@dataclass(frozen=True)
class Weighed:
    """One offer and what became of it.

    Attributes:
        weight: its share among what is chosen, in [0, 1]; 0 when it isn't.
        similarity: cosine with the goal. repeats: cosine with the nearest of what was chosen before it, at least 0;
            `repeated` is the name of that one.
        reason: why it was left out; empty when it is chosen.
    """

    offer: Offer
    weight: float
    similarity: float
    repeats: float
    repeated: str
    reason: str = ""

    @property
    def value(self) -> float:
        """What it is worth, in cosines with the goal."""
        return self.similarity + STRENGTH * self.offer.strength - REPEATING * self.repeats

    def __str__(self) -> str:
        parts = [f"near the goal {self.similarity:+.2f}", f"strength {STRENGTH * self.offer.strength:+.2f}"]
        if self.repeats:
            parts.append(f"repeats {self.repeated} {-REPEATING * self.repeats:+.2f}")
        outcome = f"left out: {self.reason}" if self.reason else f"weight {self.weight:.2f}"
        return f"{outcome} ({', '.join(parts)})"


@dataclass(frozen=True)
class Selection:
    """What is chosen, best first, and what is left out; each with its terms and reason."""

    chosen: tuple[Weighed, ...]
    left_out: tuple[Weighed, ...]


def select(goal: NDArray[np.float32], offered: Sequence[Offer], *, items: int, words: int) -> Selection:
    """Choose at most so many items and words for a goal (a unit vector), one after the other, the worthiest first.

    Something too long for what is left of the words is passed over, and something shorter may take its place. What is
    worth nothing (a value of 0 or less) is never chosen.

    Raises:
        ArgumentError: the vectors don't fit together, or a strength isn't in [0, 1].
    """
    for offer in offered:
        if offer.vector.shape != goal.shape:
            raise ArgumentError(
                f"the vector of '{offer.name}' has the shape {offer.vector.shape}, the goal's {goal.shape}",
                "embed both with the same embedder",
            )
        if not 0 <= offer.strength <= 1:
            raise ArgumentError(f"the strength of '{offer.name}' is {offer.strength}", "give one from 0 to 1")
    left = [Weighed(offer, 0.0, float(offer.vector @ goal), 0.0, "") for offer in offered]
    chosen: list[Weighed] = []
    passed: list[Weighed] = []
    free = words
    while left:
        best = max(left, key=lambda one: (one.value, one.offer.name))
        left.remove(best)
        if best.value <= 0:
            passed.append(_left_out(best, f"it repeats {best.repeated}" if best.repeats > 0 else "far from the goal"))
        elif len(chosen) == items:
            passed.append(_left_out(best, f"{items} are chosen already"))
        elif best.offer.words > free:
            passed.append(_left_out(best, f"its {best.offer.words} words exceed the {free} that are left"))
        else:
            chosen.append(best)
            free -= best.offer.words
            left = [_beside(one, best) for one in left]
    shares = [math.exp((one.value - chosen[0].value) / SHARPNESS) for one in chosen]
    return Selection(
        tuple(_weighing(one, share / math.fsum(shares)) for one, share in zip(chosen, shares, strict=True)),
        tuple(passed),
    )


def _beside(one: Weighed, chosen: Weighed) -> Weighed:
    """The same offer, now that something else is chosen."""
    repeats = min(1.0, float(one.offer.vector @ chosen.offer.vector))
    if repeats <= one.repeats:
        return one
    return Weighed(one.offer, 0.0, one.similarity, repeats, chosen.offer.name)


def _left_out(one: Weighed, reason: str) -> Weighed:
    return Weighed(one.offer, 0.0, one.similarity, one.repeats, one.repeated, reason)


def _weighing(one: Weighed, weight: float) -> Weighed:
    return Weighed(one.offer, weight, one.similarity, one.repeats, one.repeated)
