"""State: one accumulator per axis, a leaky integrator that is bounded by its cap."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel, model_validator

from overlay.documents import Document, Location, MistakeAt, read_document
from overlay.errors import ArgumentError, DocumentError
from overlay.inner.drift import DriftSettings
from overlay.inner.effects import FadeIn, NoteFocus, ReplyTemperature, Waking
from overlay.inner.emergence_settings import EmergenceSettings
from overlay.inner.half_life import HalfLife, WrittenHalfLife, spell_passed

Source = Literal["read", "said", "inner speech", "recalled", "frames"]
"""Where an observation came from: what the user wrote, the agent's own reply, its inner dialogue, a note that it
recalled, or a frame that is active."""

Origin = Source | Literal["time", "damping", "reset"]
"""What can move an accumulator: an observation, time that passed, an inner dialogue that holds a resonance down, or
a person who puts it back to rest."""

Gain = Annotated[float, Field(ge=0, le=2)]

_SOURCE_WEIGHTS: Mapping[Source, float] = {"read": 1.0, "said": 0.5, "inner speech": 0.5, "frames": 0.5}
"""Recalled notes move nothing unless a person says so: who writes a note that is to be found has no mood in mind."""

FULL = 0.999
"""The strongest push of a frame: a reading z moves an accumulator by tanh(z / 2), which never reaches 1."""


class Accumulator(Document):
    """How one axis accumulates.

    Attributes:
        half_life: turns, or a time such as "6 hours", after which half of the distance to `rest` is left.
        gain: how much one observation of full strength adds.
        rest: where the state goes when nothing happens.
        cap: the state never leaves [-cap, cap]; 1 asks for the axis's whole budget dose.
        refractory: an observation with |z| below it adds nothing. Neutral texts themselves read up to a deviation or
            two off 0, and an integrator adds up such noise as readily as meaning: this keeps many weak readings from
            walking it anywhere. The analogue is the rheobase, the current below which no stimulus, however long,
            excites a nerve (Lapicque 1909).
        sources: gains by source that hold for this axis instead of those of all.
    """

    half_life: WrittenHalfLife = HalfLife(8.0)
    gain: Gain = 0.3
    rest: Annotated[float, Field(ge=-1, le=1)] = 0.0
    cap: Annotated[float, Field(gt=0, le=3)] = 1.5
    refractory: Annotated[float, Field(ge=0, le=6)] = 0.0
    sources: dict[Source, Gain] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rests_within_its_cap(self) -> Accumulator:
        if abs(self.rest) > self.cap:
            raise ValueError(f"rest {self.rest} lies outside the cap {self.cap}")
        return self


class StateSettings(Document):
    """Accumulators by axis, couplings between them, the gain of each source, and what the state does beside dosing.

    Attributes:
        couplings: `{a: {b: 0.5}}` adds half of what moves axis b to axis a as well.
        sources: gains by source; one that is not listed moves nothing.
        pushes: `{frame: {axis: z}}`, what an active frame reads on axes, weighed by its energy.
        fades_in: adapters that act as an axis rises.
        wakes: frames that are easier to wake as an axis rises.
        temperature: at which replies are sampled, as a function of an axis; None leaves it to the reply's settings.
        focus: attention on recalled notes that fit the state; None pays none.
        emergent: whether and when axes may emerge from the agent's own inner speech; None never looks.
        newborn: how such an axis accumulates.
    """

    axes: dict[str, Accumulator] = Field(default_factory=dict)
    couplings: dict[str, dict[str, Annotated[float, Field(ge=-1, le=1)]]] = Field(default_factory=dict)
    sources: dict[Source, Gain] = Field(default_factory=lambda: dict(_SOURCE_WEIGHTS))
    pushes: dict[str, dict[str, Annotated[float, Field(ge=-6, le=6)]]] = Field(default_factory=dict)
    fades_in: tuple[FadeIn, ...] = ()
    wakes: tuple[Waking, ...] = ()
    temperature: ReplyTemperature | None = None
    focus: NoteFocus | None = None
    drift: DriftSettings = DriftSettings()
    emergent: EmergenceSettings | None = None
    newborn: Accumulator = Accumulator()

    @model_validator(mode="after")
    def _speaks_of_known_axes(self) -> StateSettings:
        places: list[tuple[tuple[str | int, ...], str]] = []
        for target, shares in self.couplings.items():
            places += [(("couplings", target), target), *((("couplings", target, axis), axis) for axis in shares)]
        for frame, readings in self.pushes.items():
            places += [(("pushes", frame, axis), axis) for axis in readings]
        places += [(("fades_in", place, "axis"), one.axis) for place, one in enumerate(self.fades_in)]
        places += [(("wakes", place, "axis"), one.axis) for place, one in enumerate(self.wakes)]
        if self.temperature is not None:
            places.append((("temperature", "axis"), self.temperature.axis))
        for where, axis in places:
            if axis not in self.axes:
                raise MistakeAt(where, f"the axis '{axis}' is not under axes")
        return self

    @model_validator(mode="after")
    def _fades_each_adapter_once(self) -> StateSettings:
        names = [one.adapter for one in self.fades_in]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise MistakeAt(("fades_in", place, "adapter"), f"the adapter '{name}' fades in along an axis already")
        return self

    def require_known(
        self, path: Path, *, frames: Collection[str], adapters: Collection[str], worn: Collection[str]
    ) -> None:
        """Raise DocumentError unless what these settings name is there to be used.

        Args:
            path: the agent.yaml that they stand in under `state`; the error says its line.
            frames, adapters: the names that there are.
            worn: adapters that are worn always, and so can't fade in.
        """
        named = [(("pushes", frame), frame) for frame in self.pushes]
        waking = [(("wakes", place, "frame"), one.frame) for place, one in enumerate(self.wakes)]
        for where, frame in (*named, *waking):
            if frame not in frames:
                raise mistake_in(
                    path,
                    ("state", *where),
                    f"state speaks of the frame '{frame}', and there is none",
                    f"use one of {', '.join(sorted(frames)) or 'none'}",
                )
        for place, one in enumerate(self.fades_in):
            where = ("state", "fades_in", place, "adapter")
            if one.adapter in worn:
                raise mistake_in(
                    path,
                    where,
                    f"the adapter '{one.adapter}' is worn always and can't fade in",
                    "take it out of `adapter`, or out of `state.fades_in`",
                )
            if one.adapter not in adapters:
                raise mistake_in(
                    path,
                    where,
                    f"state fades in the adapter '{one.adapter}', and there is none",
                    f"use one of {', '.join(sorted(adapters)) or 'none'}, or write a recipe for it",
                )

    def weight(self, axis: str, source: Source) -> float:
        """How much an observation from this source counts on this axis."""
        own = self.axes[axis].sources.get(source)
        return self.sources.get(source, 0.0) if own is None else own

    def heeds(self, source: Source) -> bool:
        """Whether an observation from this source moves any axis."""
        return any(accumulator.gain and self.weight(name, source) for name, accumulator in self.axes.items())

    def with_emergent(self, names: Iterable[str]) -> StateSettings:
        """The same with an accumulator for each of these axes, which agent.yaml doesn't know."""
        return self.model_copy(update={"axes": self.axes | {name: self.newborn for name in names}})

    def with_pushes(self, written: Mapping[str, Mapping[str, float]]) -> StateSettings:
        """The same with what frames say themselves that they push, where `pushes` doesn't say it of them.

        Args:
            written: `{frame: {axis: share}}`, a share in [-1, 1] of the strongest reading there is; axes that have no
                accumulator are left out.
        """
        found = {
            frame: {axis: 2 * math.atanh(max(-FULL, min(FULL, share))) for axis, share in shares.items()}
            for frame, shares in written.items()
        }
        known = {
            frame: {axis: z for axis, z in readings.items() if axis in self.axes} for frame, readings in found.items()
        }
        pushes = {frame: readings for frame, readings in known.items() if readings}
        return self.model_copy(update={"pushes": {**pushes, **self.pushes}})

    def for_axes(self, names: Iterable[str]) -> StateSettings:
        """Settings for these axes, with the defaults for those that have none, and with steering doses alone."""
        chosen = {name: self.axes.get(name, Accumulator()) for name in names}
        couplings = {
            target: {axis: share for axis, share in shares.items() if axis in chosen}
            for target, shares in self.couplings.items()
            if target in chosen
        }
        pushes = {
            frame: {axis: z for axis, z in readings.items() if axis in chosen}
            for frame, readings in self.pushes.items()
        }
        return StateSettings(axes=chosen, couplings=couplings, sources=self.sources, pushes=pushes, drift=self.drift)


@dataclass(frozen=True)
class StateChange:
    """Why one accumulator moved: the reading z (deviations of neutral text) of one observation, or time alone.

    Attributes:
        turns, seconds: what had passed since the last observation.
        share: how much of the source's gain it had, from 0 to 1.
    """

    axis: str
    source: Origin
    cause: str
    z: float
    before: float
    after: float
    turns: float = 0.0
    seconds: float = 0.0
    share: float = 1.0


Step = tuple["State", tuple[StateChange, ...]]
"""The next state, and why it moved."""


@dataclass(frozen=True)
class State:
    """The accumulators' values by axis. A state is a value: every step returns the next one, and nothing is read from
    a clock or a generator, so the same steps give the same bits.

    It is bounded. Every step ends by clipping each value to [-cap, cap], and what it clips is a number, because NaN
    is refused and tanh maps every other reading, infinities included, into [-1, 1]: so no sequence of observations
    passes a cap. One observation pushes an axis by at most p = weight · gain + sum over its couplings of |share| ·
    weight · gain of the other axis, and the leak multiplies the distance to rest by 2^(-passed / half_life) <= 1: so
    without any cap, one observation a turn would leave it within p / (1 - 2^(-1 / half_life)) of its rest.
    A reading that itself depends on the state enters through the same tanh, so p holds for a closed loop of any gain,
    and the loop can't diverge: it settles, or moves inside these bounds for ever.
    """

    values: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def resting(cls, settings: StateSettings) -> State:
        """Every accumulator at its rest."""
        return cls({name: accumulator.rest for name, accumulator in settings.axes.items()})

    def observe(
        self,
        readings: Mapping[str, float],
        settings: StateSettings,
        *,
        source: Source,
        cause: str,
        turns: float = 0.0,
        seconds: float = 0.0,
        share: float = 1.0,
    ) -> Step:
        """The state after one observation, and why it moved.

        s <- rest + (s - rest) · 2^(-passed / half_life) + share · weight · gain · tanh(z / 2), plus couplings, capped.

        Args:
            readings: z by axis, in deviations of neutral text.
            turns, seconds: what has passed since the last observation; each axis counts one of them.
            share: how much of the source's gain this observation has, such as one of three notes recalled together.

        Raises:
            ArgumentError: a reading is missing or no number, time runs backwards, or the share isn't from 0 to 1.
        """
        _require_passed(turns, seconds)
        if not 0 <= share <= 1:
            raise ArgumentError(f"a share of {share} of an observation ({cause})", "give a share from 0 to 1")
        pushes: dict[str, float] = {}
        for name, accumulator in settings.axes.items():
            z = readings.get(name)
            # Comparisons with NaN are false, so min and max would let it through as the cap.
            if z is None or math.isnan(z):
                raise ArgumentError(
                    f"the reading of axis '{name}' is {'missing' if z is None else 'no number'} ({cause})",
                    "give a number for every axis; without one the model's activations have overflowed",
                )
            push = share * settings.weight(name, source) * accumulator.gain * math.tanh(z / 2)
            pushes[name] = push if abs(z) >= accumulator.refractory else 0.0
        values: dict[str, float] = {}
        changes: list[StateChange] = []
        for name, accumulator in settings.axes.items():
            before = self.values.get(name, accumulator.rest)
            kept = accumulator.rest + (before - accumulator.rest) * accumulator.half_life.kept(turns, seconds)
            coupled = sum(part * pushes[other] for other, part in settings.couplings.get(name, {}).items())
            after = max(-accumulator.cap, min(accumulator.cap, kept + pushes[name] + coupled))
            values[name] = after
            changes.append(StateChange(name, source, cause, readings[name], before, after, turns, seconds, share))
        return State(values), tuple(changes)

    def passed(self, settings: StateSettings, *, turns: float = 0.0, seconds: float = 0.0) -> Step:
        """The state after time in which nothing was observed, and what faded. Raises ArgumentError as `observe`."""
        _require_passed(turns, seconds)
        values: dict[str, float] = {}
        changes: list[StateChange] = []
        cause = f"{spell_passed(turns, seconds)} passed"
        for name, accumulator in settings.axes.items():
            before = self.values.get(name, accumulator.rest)
            kept = accumulator.rest + (before - accumulator.rest) * accumulator.half_life.kept(turns, seconds)
            values[name] = max(-accumulator.cap, min(accumulator.cap, kept))
            if values[name] != before:
                changes.append(StateChange(name, "time", cause, 0.0, before, values[name], turns, seconds))
        return State(values), tuple(changes)

    def pushed(self, energies: Mapping[str, float], settings: StateSettings) -> Step:
        """The state after active frames, by name and energy in [0, 1], have pushed it as `settings.pushes` says."""
        state, changes = self, tuple[StateChange, ...]()
        for frame, energy in energies.items():
            if readings := settings.pushes.get(frame):
                readings = dict.fromkeys(settings.axes, 0.0) | readings
                state, moved = state.observe(
                    readings, settings, source="frames", cause=f"frame {frame}", share=min(1.0, max(0.0, energy))
                )
                changes += moved
        return state, changes

    def reset(self, settings: StateSettings, cause: str) -> Step:
        """Every accumulator back at its rest."""
        after = State.resting(settings)
        return after, tuple(
            StateChange(name, "reset", cause, 0.0, self.values.get(name, rest), rest)
            for name, rest in after.values.items()
        )

    def retraced(self, changes: Iterable[StateChange], settings: StateSettings) -> State:
        """The state that journalled changes lead to, computed again from their readings: the same bits as then.

        Raises:
            ArgumentError: they aren't whole steps of these settings.
        """
        state = self
        for step in _steps(changes):
            first = step[0]
            if first.source == "time":
                state, _ = state.passed(settings, turns=first.turns, seconds=first.seconds)
            elif first.source == "reset":
                state, _ = state.reset(settings, first.cause)
            elif first.source == "damping":
                # How far a round may move an axis isn't the state's to know: what was decided is taken over.
                state = State({**state.values, **{change.axis: change.after for change in step}})
            else:
                state, _ = state.observe(
                    {change.axis: change.z for change in step},
                    settings,
                    source=first.source,
                    cause=first.cause,
                    turns=first.turns,
                    seconds=first.seconds,
                    share=first.share,
                )
        return state

    def distance(self, other: State) -> float:
        """Largest difference of any accumulator."""
        return max((abs(value - other.values.get(name, 0.0)) for name, value in self.values.items()), default=0.0)


def mistake_in(path: Path, place: Location, problem: str, next_step: str) -> DocumentError:
    """What to raise for a mistake that only the rest of the home shows, in a file that was read: with its line."""

    class Mistaken(RootModel[Any]):
        @model_validator(mode="before")
        @classmethod
        def _stands_there(cls, content: Any) -> Any:
            raise MistakeAt(place, problem)

    line = None
    try:
        read_document(path, Mistaken)
    except DocumentError as error:
        line = error.line
    return DocumentError(path, line, problem, next_step)


def _steps(changes: Iterable[StateChange]) -> Iterator[list[StateChange]]:
    """Changes of one observation each: a step moves every axis once, and all for one cause."""
    step: list[StateChange] = []
    for change in changes:
        if step and (
            (change.source, change.cause) != (step[0].source, step[0].cause)
            or change.axis in {earlier.axis for earlier in step}
        ):
            yield step
            step = []
        step.append(change)
    if step:
        yield step


def _require_passed(turns: float, seconds: float) -> None:
    if not (turns >= 0 and seconds >= 0):
        raise ArgumentError(f"{turns} turns and {seconds} seconds have passed", "give 0 or more")
