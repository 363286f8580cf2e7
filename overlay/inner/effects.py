"""Effects: what a state does beside its steering doses, each as a ramp along one axis."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from overlay.documents import Document
from overlay.model import AdapterUse

Level = Annotated[float, Field(ge=-3, le=3)]
"""A value of an accumulator: caps go up to 3."""


class Ramp(Document):
    """A share that grows along an axis: 0 up to `from`, 1 beyond `to`, linear between them.

    With `to` below `from` it grows as the axis falls.
    """

    model_config = ConfigDict(populate_by_name=True)

    axis: str
    start: Annotated[Level, Field(alias="from")] = 0.0
    end: Annotated[Level, Field(alias="to")] = 1.0

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Ramp:
        if self.start == self.end:
            raise ValueError(f"it goes from {self.start:g} to {self.end:g}: give two different values")
        return self

    def share(self, values: Mapping[str, float]) -> float:
        """Where a state stands on the ramp, from 0 to 1; an axis that it doesn't hold counts as 0."""
        return min(1.0, max(0.0, (values.get(self.axis, 0.0) - self.start) / (self.end - self.start)))


class FadeIn(Ramp):
    """A LoRA adapter that fades in along an axis, up to `scale` (1 is as trained)."""

    adapter: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    scale: Annotated[float, Field(ge=-2, le=2)] = 1.0

    def use(self, values: Mapping[str, float]) -> AdapterUse:
        """The adapter at the scale that a state gives it."""
        return AdapterUse(self.adapter, self.scale * self.share(values))


class Waking(Ramp):
    """A frame that is easier to wake along an axis (harder, if `energy` is below 0)."""

    frame: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    energy: Annotated[float, Field(ge=-1, le=1)] = 0.2


class ReplyTemperature(Ramp):
    """The temperature that replies are sampled at: `low` where the ramp begins, `high` where it ends."""

    start: Annotated[Level, Field(alias="from")] = -1.0
    low: Annotated[float, Field(ge=0, le=2)]
    high: Annotated[float, Field(ge=0, le=2)]

    @model_validator(mode="after")
    def _is_in_order(self) -> ReplyTemperature:
        if self.low > self.high:
            raise ValueError(
                f"low {self.low:g} is above high {self.high:g}: to cool down, swap `from` and `to` instead"
            )
        return self

    def at(self, values: Mapping[str, float]) -> float:
        """The temperature in a state, from `low` to `high`."""
        share = self.share(values)
        # Weighed from both ends: each end is met exactly, and rounding carries nothing past it.
        return min(self.high, max(self.low, self.low * (1 - share) + self.high * share))


class NoteFocus(Document):
    """How many nats a recalled note of full congruence gains in attention: e**weight times its share."""

    weight: Annotated[float, Field(ge=0, le=4)]


def congruence(values: Mapping[str, float], readings: Mapping[str, float]) -> float:
    """How well a text fits a state, from -1 to 1; 0 for a state at 0 and for a text that reads neutral.

    sum(s · tanh(z / 2)) / max(1, sum(|s|)) over the axes: weak states agree weakly with anything. Notes that fit
    the mood come to mind more easily and are dwelt on longer (Bower 1981, "Mood and memory").
    """
    total = math.fsum(value * math.tanh(readings.get(name, 0.0) / 2) for name, value in values.items())
    return total / max(1.0, math.fsum(map(abs, values.values())))
