"""The schedule: in which order a text's variants are fed, so that no step is larger than the budget."""

from __future__ import annotations

from dataclasses import dataclass

from overlay.adapters.microvariants.collection import Collection, Variant
from overlay.adapters.microvariants.divergence import Reading, compare, read
from overlay.model import LanguageModel

NEAR = 2
"""Edited tokens of the variants that come first."""


@dataclass(frozen=True)
class Step:
    """One feeding: a variant, or the text itself (None), and the jump to it from the step before, nats per token."""

    variant: Variant | None
    jump: float


@dataclass(frozen=True)
class Schedule:
    """Steps from the text itself to its farthest variants, and the variants that no allowed step leads to."""

    text: str
    budget: float
    steps: tuple[Step, ...]
    left_out: tuple[Variant, ...]

    @property
    def largest_jump(self) -> float:
        """Nats per token."""
        return max(step.jump for step in self.steps)


def arrange(model: LanguageModel, collection: Collection) -> Schedule:
    """Order a collection's variants: the text, then what is one or two tokens away, then what is further.

    A jump is measured between neighbours themselves, never added up from their distances to the text (KL knows no
    triangle inequality): the larger mean of KL(earlier ‖ later) on the tokens that both share behind their first
    difference, and on the probe. Within either part milder variants come first; where none can be reached from the
    last one, the text itself is fed again, or else one that was fed before, if that brings one within reach.
    """
    texts = [collection.text, *(variant.edit.text for variant in collection.variants)]
    readings = dict(read(model, texts, collection.probe))
    jumps = _Jumps(readings)
    waiting = sorted(
        range(1, len(texts)),
        key=lambda place: (
            collection.variants[place - 1].divergence.edited_tokens > NEAR,
            collection.variants[place - 1].divergence.volatility,
        ),
    )
    fed = [0]
    steps = [Step(None, 0.0)]

    def feed(place: int) -> None:
        variant = collection.variants[place - 1] if place else None
        steps.append(Step(variant, jumps.between(fed[-1], place)))
        fed.append(place)

    while waiting:
        group = [place for place in waiting if jumps.near(collection, place) == jumps.near(collection, waiting[0])]
        path = next(([place] for place in group if jumps.between(fed[-1], place) <= collection.budget), None)
        path = path or _detour(jumps, fed, group, collection.budget)
        if path is None:
            waiting = [place for place in waiting if place not in group]
            continue
        for place in path:
            feed(place)
        waiting.remove(path[-1])
    missing = sorted(set(range(1, len(texts))) - set(fed))
    return Schedule(
        collection.text, collection.budget, tuple(steps), tuple(collection.variants[place - 1] for place in missing)
    )


class _Jumps:
    """Divergences between readings, each measured when it is first asked for."""

    def __init__(self, readings: dict[int, Reading]) -> None:
        self._readings = readings
        self._known: dict[tuple[int, int], float] = {}

    def between(self, earlier: int, later: int) -> float:
        pair = (earlier, later)
        if pair not in self._known:
            self._known[pair] = compare(self._readings[earlier], self._readings[later]).volatility
        return self._known[pair]

    @staticmethod
    def near(collection: Collection, place: int) -> bool:
        return collection.variants[place - 1].divergence.edited_tokens <= NEAR


def _detour(jumps: _Jumps, fed: list[int], group: list[int], budget: float) -> list[int] | None:
    """Over one that was fed before, the text itself first, to the first that can be reached from it."""
    for over in dict.fromkeys(fed):
        if over != fed[-1] and jumps.between(fed[-1], over) <= budget:
            for place in group:
                if jumps.between(over, place) <= budget:
                    return [over, place]
    return None
