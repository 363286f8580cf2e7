"""The settings of emergence: when an agent looks at its own drift, and what it takes to become an axis."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from overlay.documents import Document

FEWEST_TURNS = 4
"""Of drift: fewer show no direction."""


LEAST_STRENGTH = 0.02
"""Residual norms. A dose that spends the whole budget adds about as much to a block (0.016 on the embedded model): a
drift smaller than that moves the agent less than the axis that was made of it would, however surely it is none of
chance. Long lives make ever smaller drifts sure."""


class EmergenceSettings(Document):
    """When to look for emergent axes, and what it takes to be one.

    Attributes:
        components: axes that may live at once.
        after: turns of drift before the first look. every: turns between looks.
        p: the largest chance at which a component counts.
        strength: how far drift has to lie along a component for an axis to be born, recent turns weighing more: mean
            over the blocks, in fractions of the residual norm. A weaker one waits until it is.
        shuffles: that p is computed from.
        patience: looks in a row without its direction after which an axis retires.
    """

    components: Annotated[int, Field(ge=2, le=8)] = 2
    after: Annotated[int, Field(ge=FEWEST_TURNS, le=4096)] = 12
    every: Annotated[int, Field(ge=1, le=4096)] = 4
    p: Annotated[float, Field(gt=0, le=0.05)] = 0.01
    strength: Annotated[float, Field(ge=0, le=1)] = LEAST_STRENGTH
    shuffles: Annotated[int, Field(ge=99, le=9999)] = 499
    patience: Annotated[int, Field(ge=1, le=64)] = 2
