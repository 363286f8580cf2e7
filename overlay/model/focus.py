"""Focus: how much attention later positions pay to chosen ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

from overlay.errors import InterventionError
from overlay.model.span import Positions, Stretch, require_stretch

LARGEST_WEIGHT = 20.0
"""Nats; e**20 is half a billion: beyond it nothing else would be seen at all."""


@dataclass(frozen=True)
class Focus:
    """Raise or lower the attention that chosen key positions receive, by an additive mask on the attention logits.

    Attributes:
        keys: positions of the prompt, or a piece of its text (every occurrence of it).
        weight: nats added before the softmax; above 0 raises, below 0 lowers. e**weight multiplies a key's share
            before renormalisation.
        blocks: which decoder blocks; None is all of them.
        heads: which attention heads of these blocks; None is all of them.
        span: which querying positions look differently.

    Source: post-hoc attention steering (Zhang et al. 2023, arXiv 2311.02262), here as a logit bias.
    """

    keys: str | Positions
    weight: float
    blocks: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    span: Stretch = "all"

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight) or abs(self.weight) > LARGEST_WEIGHT:
            raise InterventionError(
                f"a focus of {self.weight} nats", f"give a weight from -{LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}"
            )
        if isinstance(self.keys, str) and not self.keys.strip():
            raise InterventionError("a focus on no text", "give a piece of the prompt's text")
        for name, chosen in (("blocks", self.blocks), ("heads", self.heads)):
            if chosen is not None and (not chosen or min(chosen) < 0):
                raise InterventionError(f"{name} {chosen} of a focus", f"name at least one, from 0; None is all {name}")
            if chosen is not None and len(set(chosen)) < len(chosen):
                raise InterventionError(f"{name} {chosen} of a focus name one twice", "name each once")
        require_stretch(self.span)
