"""Spans: which positions of a row a dose or a focus acts on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from overlay.errors import InterventionError

Stretch = Literal["all", "turn", "generated"]
"""Every position, those from the current turn on, or generated ones only."""


@dataclass(frozen=True)
class Positions:
    """Chosen positions of a row, counted from 0; negative ones count from the end of the prompt (-1 is its last)."""

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.indices:
            raise InterventionError("a span of no positions", "name at least one position")

    def within(self, prompt_length: int) -> tuple[int, ...]:
        """The same positions counted from 0. Raises InterventionError for one before the prompt's first token."""
        found = tuple(index if index >= 0 else prompt_length + index for index in self.indices)
        if min(found) < 0:
            raise InterventionError(
                f"position {min(self.indices)} lies before a prompt of {prompt_length} tokens",
                f"give positions from -{prompt_length} on",
            )
        return found


@dataclass(frozen=True)
class When:
    """Positions at which the running projection lies between two bounds.

    The running projection is the block's output at that position, before any dose, along the dose's own
    direction, as a fraction of the block's median residual norm (conditional steering after Lee et al.
    2024, arXiv 2409.05907). Both bounds are exclusive.
    """

    above: float = -math.inf
    below: float = math.inf
    within: Stretch = "all"

    def __post_init__(self) -> None:
        if math.isnan(self.above) or math.isnan(self.below) or self.above >= self.below:
            raise InterventionError(
                f"no projection lies above {self.above} and below {self.below}", "give above < below"
            )
        require_stretch(self.within)


Span = Stretch | Positions | When
"""Where something acts."""


def require_stretch(span: object) -> None:
    """Raise InterventionError unless `span` is one of the named stretches."""
    if span not in get_args(Stretch):
        raise InterventionError(f"'{span}' is not a span", f"use one of {', '.join(get_args(Stretch))}")


def start_of(stretch: Stretch, turn_start: int, generated_start: int) -> int:
    """The first position of a stretch."""
    return {"all": 0, "turn": turn_start, "generated": generated_start}[stretch]
