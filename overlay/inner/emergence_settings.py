"""The settings of emergence: when an agent looks at its own drift, and what it takes to become an axis."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from overlay.documents import Document

FEWEST_TURNS = 4
"""Of drift: fewer show no direction."""


class EmergenceSettings(Document):
    """When to look for emergent axes, and what it takes to be one.

    Attributes:
        components: axes that may live at once.
        after: turns of drift before the first look. every: turns between looks.
        p: the largest chance at which a component counts.
        shuffles: that p is computed from.
        patience: looks in a row without its direction after which an axis retires.
    """

    components: Annotated[int, Field(ge=2, le=8)] = 2
    after: Annotated[int, Field(ge=FEWEST_TURNS, le=4096)] = 12
    every: Annotated[int, Field(ge=1, le=4096)] = 4
    p: Annotated[float, Field(gt=0, le=0.05)] = 0.01
    shuffles: Annotated[int, Field(ge=99, le=9999)] = 499
    patience: Annotated[int, Field(ge=1, le=64)] = 2
