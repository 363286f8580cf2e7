"""The settings of self-reprogramming: what a person allows an agent to write into itself, and when."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from overlay.documents import Document, MistakeAt

Writes = Literal["axis", "adapter"]

LEAST_FOR_ADAPTER = 15
"""A third of the texts is held out, and with fewer than five of them no paired comparison reaches p < .05."""


class ReprogrammingSettings(Document):
    """When a state that stays may become a part of the agent, and what part.

    Attributes:
        axis: the accumulator that is watched.
        threshold: how far from 0 it must have stayed, at the least.
        turns: for how many turns on end.
        writes: an update of the axis from the agent's own texts, or an adapter trained on them.
        cooldown: turns from one decision to the next proposal.
        texts: with fewer own texts, each with a twin of calm turns, a proposal is dropped.
        tolerance: how much an AUROC on the confirmation texts may fall.
        share: what an adapter may cost on neutral text, as a share of the budget.
        steps: of training, at the most.
    """

    axis: Annotated[str, Field(min_length=1)]
    threshold: Annotated[float, Field(gt=0, le=3)] = 0.8
    turns: Annotated[int, Field(ge=2, le=10_000)] = 12
    writes: Writes = "axis"
    cooldown: Annotated[int, Field(ge=1, le=100_000)] = 48
    texts: Annotated[int, Field(ge=4, le=200)] = 16
    tolerance: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    steps: Annotated[int, Field(ge=1, le=1000)] = 24

    @model_validator(mode="after")
    def _can_be_compared(self) -> ReprogrammingSettings:
        if self.writes == "adapter" and self.texts < LEAST_FOR_ADAPTER:
            raise MistakeAt(("texts",), f"an adapter is checked on a third of its texts: ask for {LEAST_FOR_ADAPTER}")
        return self
