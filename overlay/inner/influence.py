"""Influence: from a state to an intervention that stays inside the volatility budget."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from overlay.axes import Axis
from overlay.errors import ArgumentError
from overlay.inner.effects import congruence
from overlay.inner.measured import MeasuredMixes
from overlay.inner.state import State, StateSettings
from overlay.model import AdapterUse, Focus, Intervention, Observation, Pool, Row, Span

if TYPE_CHECKING:
    from overlay.model import LanguageModel, Volatility, VolatilityGauge

GRID = 20
"""States act in steps of 1/20 of a budget dose, so that what was measured once acts again as it was measured."""

TOLERANCE = 0.02
"""How far below the budget the scaling may land; it never lands above."""

KEPT = 4096
"""So many measured states are remembered; those of one axis are at most 121."""


@dataclass(frozen=True)
class Influenced:
    """What a state does: what skews the model, what that costs, and what else it changes.

    Attributes:
        intervention: steering doses and faded-in adapters.
        temperature: at which replies are sampled; None leaves it to the reply's settings.
        volatility: of the intervention and what is worn always, together, on neutral text.
        scale: by how much the intervention was scaled down, from 1 (not at all) to 0 (there was no budget left).
    """

    intervention: Intervention
    temperature: float | None
    volatility: Volatility
    scale: float


@dataclass(frozen=True)
class NoteCongruence:
    """How well a recalled note fits the state, from -1 to 1, and the attention it gets for that, if any."""

    text: str
    congruence: float
    focus: Focus | None


class Influence:
    """Turns states into interventions on one model, with its axes and one budget in nats per token.

    A state is rounded to a grid before it acts. So whatever acts has been measured, jointly and as it is: what was
    measured is kept, adapters included, which therefore must stay attached as they are.

    Two effects are bounded by their settings and stand outside the budget, because neutral text can't show what they
    cost: the temperature acts on sampling and not on the model, and a focus on a note needs the note.

    Args:
        settings: what a state does beside steering; when not given, nothing.
        worn: adapters that are worn whatever the state is. They count: when they leave nothing of the budget, or
            overspend it, the state gets nothing (`scale` 0) and the volatility says what they cost.
        measured: what was measured before of the same axes and adapters on the same machine.

    Raises:
        AxisUnproven: an axis did not pass its checks, and nobody forced it.

    Attributes:
        unproven: names of the axes that were forced; whatever rests on them must say so.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        gauge: VolatilityGauge,
        budget: float,
        settings: StateSettings | None = None,
        worn: Sequence[AdapterUse] = (),
        measured: MeasuredMixes | None = None,
    ) -> None:
        if budget <= 0:
            raise ArgumentError(f"a budget of {budget} nats per token", "give a number above 0")
        for axis in axes:
            axis.require_proof()
        self.axes = {axis.name: axis for axis in axes}
        self.unproven = tuple(axis.name for axis in axes if not axis.proven)
        self.gauge = gauge
        self.budget = budget
        self.settings = settings or StateSettings()
        self.worn = Intervention(adapters=tuple(worn))
        self.measured = measured
        self._known: dict[tuple[tuple[tuple[str, int], ...], Span, tuple[AdapterUse, ...]], Influenced] = {}
        self._lock = threading.Lock()

    def of(self, state: State, span: Span = "turn", also: Sequence[AdapterUse] = ()) -> Influenced:
        """What the state does; everything that skews the model shrinks together while a dose is beyond its axis's
        coherent limit, or while the joint cost exceeds the budget.

        Args:
            also: adapters that are worn for another reason than the state, such as an active frame; they share the
                budget with it. One that is worn already isn't worn twice.
        """
        steps = tuple(sorted((name, round(value * GRID)) for name, value in state.values.items()))
        key = (steps, span, tuple(also))
        with self._lock:
            found = self._known.get(key)
            if found is None:
                while len(self._known) >= KEPT:
                    del self._known[next(iter(self._known))]
                found = self._known[key] = self._measured({name: step / GRID for name, step in steps}, span, also)
            return found

    def _measured(self, values: Mapping[str, float], span: Span, also: Sequence[AdapterUse]) -> Influenced:
        temperature = self.settings.temperature
        intervention, volatility, scale = self._within_budget(values, span, also)
        return Influenced(intervention, None if temperature is None else temperature.at(values), volatility, scale)

    def leanings(self, state: State) -> Mapping[str, float]:
        """By frame, how much nearer to its cues a text seems in this state, from -1 to 1."""
        found: dict[str, float] = {}
        for waking in self.settings.wakes:
            if given := waking.energy * waking.share(state.values):
                found[waking.frame] = min(1.0, max(-1.0, found.get(waking.frame, 0.0) + given))
        return found

    def _within_budget(
        self, values: Mapping[str, float], span: Span, also: Sequence[AdapterUse]
    ) -> tuple[Intervention, Volatility, float]:
        doses = {name: value for name, value in values.items() if name in self.axes}
        uses = [use for fade in self.settings.fades_in if (use := fade.use(values)).scale]
        worn_already = {use.name for use in (*self.worn.adapters, *uses)}
        uses += [use for use in also if use.scale and use.name not in worn_already]
        worn = self._worn_cost
        if not any(doses.values()) and not uses:
            return Intervention(), worn, 1.0
        # Within the limits first: a dose beyond them can't even be asked for.
        scale = min([1.0, *(self.axes[name].reach / abs(value) for name, value in doses.items() if value)])
        within = Intervention(
            tuple(self.axes[name].dose(value * scale, span) for name, value in doses.items()),
            tuple(AdapterUse(use.name, use.scale * scale) for use in uses),
        )
        if self.measured is None:
            share, volatility = self._largest_share(within)
        else:
            state = f"{sorted(values.items())} {span}" + "".join(f" {use.name} {use.scale}" for use in also)
            share, volatility = self.measured.find(state) or self.measured.keep(state, *self._largest_share(within))
        return (within * share if share else Intervention()), volatility, scale * share

    def _largest_share(self, within: Intervention) -> tuple[float, Volatility]:
        """How much of a mix the budget allows, and what that costs; 0 where it allows nothing."""
        worn, share = self._worn_cost, 1.0
        for _ in range(12 if worn.mean < self.budget else 0):
            volatility = self.gauge.measure(self.worn + within * share)
            if volatility.mean <= self.budget:
                return share, volatility
            # KL grows with the square of a small dose.
            free = (self.budget - worn.mean) * (1 - TOLERANCE)
            share *= math.sqrt(free / (volatility.mean - worn.mean))
        return 0.0, worn

    @cached_property
    def _worn_cost(self) -> Volatility:
        return self.gauge.measure(self.worn)

    def focus(self, state: State, notes: Mapping[str, Mapping[str, float]]) -> tuple[NoteCongruence, ...]:
        """How well recalled notes fit the state, and the attention that those which do are paid from this turn on.

        Args:
            notes: what each note reads on the axes, by its text as it stands in the prompt.
        """
        values = {name: round(value * GRID) / GRID for name, value in state.values.items()}
        weight = self.settings.focus.weight if self.settings.focus else 0.0
        found = []
        for text, readings in notes.items():
            fit = congruence(values, readings)
            focus = Focus(text, weight * fit, span="turn") if weight * fit > 0 else None
            found.append(NoteCongruence(text, fit, focus))
        return tuple(found)

    def read(self, model: LanguageModel, texts: Sequence[str]) -> list[Mapping[str, float]]:
        """What each text reads on each axis: z, in deviations of neutral text. Texts are read unsteered.

        Every axis sees the positions that it was made from: texts pass once for each pool that axes have.
        """
        rows = [Row(text=text) for text in texts]
        pools = dict.fromkeys(axis.pool for axis in self.axes.values())
        seen: dict[Pool, list[Observation]] = {pool: model.observe(rows, pool=pool) for pool in pools}
        return [
            {name: axis.project(seen[axis.pool][place].activations) for name, axis in self.axes.items()}
            for place in range(len(rows))
        ]
