"""State: one accumulator per axis, a leaky integrator that is bounded by its cap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, model_validator

from overlay.documents import Document, MistakeAt
from overlay.errors import ArgumentError

Source = Literal["read", "said", "inner speech"]
"""Where an observation came from: text the agent read, its own reply, or its inner dialogue."""


_SOURCE_WEIGHTS: Mapping[Source, float] = {"read": 1.0, "said": 0.5, "inner speech": 0.5}


class Accumulator(Document):
    """How one axis accumulates.

    Attributes:
        half_life: turns after which half of the distance to `rest` is left.
        gain: how much one observation of full strength adds.
        rest: where the state goes when nothing happens.
        cap: the state never leaves [-cap, cap]; 1 asks for the axis's whole budget dose.
    """

    half_life: Annotated[float, Field(gt=0, le=10_000)] = 8.0
    gain: Annotated[float, Field(ge=0, le=2)] = 0.3
    rest: Annotated[float, Field(ge=-1, le=1)] = 0.0
    cap: Annotated[float, Field(gt=0, le=3)] = 1.5

    @model_validator(mode="after")
    def _rests_within_its_cap(self) -> Accumulator:
        if abs(self.rest) > self.cap:
            raise ValueError(f"rest {self.rest} lies outside the cap {self.cap}")
        return self


class StateSettings(Document):
    """Accumulators by axis, couplings between them, and the weight of each source.

    `couplings: {a: {b: 0.5}}` adds half of what moves axis b to axis a as well.
    """

    axes: dict[str, Accumulator] = Field(default_factory=dict)
    couplings: dict[str, dict[str, Annotated[float, Field(ge=-1, le=1)]]] = Field(default_factory=dict)
    sources: dict[Source, Annotated[float, Field(ge=0, le=2)]] = Field(default_factory=lambda: dict(_SOURCE_WEIGHTS))

    @model_validator(mode="after")
    def _couples_known_axes(self) -> StateSettings:
        for target, sources in self.couplings.items():
            for place in ((target,), *((target, source) for source in sources)):
                if place[-1] not in self.axes:
                    raise MistakeAt(("couplings", *place), f"the axis '{place[-1]}' is not under axes")
        return self


@dataclass(frozen=True)
class StateChange:
    """Why one accumulator moved: the reading z (deviations of neutral text) of one observation."""

    axis: str
    source: Source
    cause: str
    z: float
    before: float
    after: float


@dataclass(frozen=True)
class State:
    """The accumulators' values by axis. A state is a value: `observe` returns the next one."""

    values: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def resting(cls, settings: StateSettings) -> State:
        """Every accumulator at its rest."""
        return cls({name: accumulator.rest for name, accumulator in settings.axes.items()})

    def observe(
        self, readings: Mapping[str, float], settings: StateSettings, *, source: Source, cause: str, turns: float = 0.0
    ) -> tuple[State, tuple[StateChange, ...]]:
        """The state after one observation, `turns` turns after the last one, and why it moved.

        s <- rest + (s - rest) * 2^(-turns / half_life) + weight * gain * tanh(z / 2), plus couplings, capped.

        Raises:
            ArgumentError: a reading is no number.
        """
        # Comparisons with NaN are false, so min and max would let it through as the cap.
        if broken := [name for name in settings.axes if math.isnan(readings[name])]:
            raise ArgumentError(
                f"the reading of axis '{broken[0]}' is no number ({cause})", "the model's activations have overflowed"
            )
        weight = settings.sources.get(source, 0.0)
        pushes = {
            name: weight * accumulator.gain * math.tanh(readings[name] / 2)
            for name, accumulator in settings.axes.items()
        }
        values: dict[str, float] = {}
        changes: list[StateChange] = []
        for name, accumulator in settings.axes.items():
            before = self.values.get(name, accumulator.rest)
            kept = accumulator.rest + (before - accumulator.rest) * 2 ** (-turns / accumulator.half_life)
            coupled = sum(share * pushes[other] for other, share in settings.couplings.get(name, {}).items())
            after = max(-accumulator.cap, min(accumulator.cap, kept + pushes[name] + coupled))
            values[name] = after
            changes.append(StateChange(name, source, cause, readings[name], before, after))
        return State(values), tuple(changes)

    def distance(self, other: State) -> float:
        """Largest difference of any accumulator."""
        return max((abs(value - other.values.get(name, 0.0)) for name, value in self.values.items()), default=0.0)
