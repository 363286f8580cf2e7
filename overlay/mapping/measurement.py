"""Measurement: one training in one place, scaled to the common volatility, and what it did to held-out choices."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from overlay.adapters import BatchOrder, Example, Fitting, HeldOut, encode, zone_share
from overlay.errors import AdapterError
from overlay.mapping.intervention_map import Cell, MapSettings
from overlay.mapping.random_labels import random_labels
from overlay.mapping.scaling import scale_to
from overlay.model import UNTREATED, Treatment, VolatilityGauge
from overlay.probes import margins

if TYPE_CHECKING:
    from overlay.mapping.aim import Aim
    from overlay.mapping.place import Place
    from overlay.model import Intervention, LanguageModel

REPLAYED = 8
"""Texts of the recipe's replay that anchor a training: two groups of four, for a step to be quick."""

LARGEST_SCALE = 16.0
"""What has learned so little that this costs less than is wanted is measured so."""


class Measurement:
    """What all cells of a map share: the model, the gauge with its base, the choices, and what the base makes of them.

    No other thread may use the model meanwhile; after each cell it is bit for bit what it was.
    """

    def __init__(self, model: LanguageModel, aim: Aim, settings: MapSettings) -> None:
        self.model = model
        self.aim = aim
        self.settings = settings
        self.gauge = VolatilityGauge(model)
        self._examples = lru_cache(maxsize=None)(self._read_examples)

    @property
    def choices(self) -> tuple[HeldOut, ...]:
        """The held-out choices of the aim."""
        return self.aim.recipe.held_out

    @cached_property
    def base(self) -> NDArray[np.float64]:
        """Margins of all choices under the unchanged model, (choices,)."""
        return margins(self.model, self.choices, UNTREATED)

    def cell(self, place: Place, seed: int, *, is_null: bool = False) -> Cell:
        """Train there with a seed, scale what came of it, and measure the choices.

        Raises:
            AdapterError: the training diverged, or the model has no such place.
        """
        begun, recipe, settings = time.monotonic(), self.aim.recipe, self.settings
        examples: Sequence[Example]
        if is_null:
            examples, items = random_labels(self.choices, seed)
        else:
            examples, items = self._examples(seed), tuple(range(len(self.choices)))
        whole = is_null or recipe.exempt == "targets"
        tokens = [encode(self.model, example, whole=whole) for example in examples]
        with Fitting(
            self.model,
            place.where,
            rank=place.rank,
            # A rank is no strength: what it is multiplied by stays that of the recipe.
            alpha=place.rank * recipe.alpha / recipe.rank,
            learning_rate=recipe.learning_rate,
            seed=seed,
            replay=recipe.replay[:REPLAYED],
            name="mapping",
        ) as fitting:
            start = fitting.weights()
            order, groups = BatchOrder(len(tokens), settings.batch, seed), BatchOrder(fitting.groups, 1, seed + 1)
            losses: list[float] = []
            for step in range(1, settings.steps + 1):
                share = zone_share(recipe.safe_zone, step, settings.steps) if recipe.safe_zone else None
                try:
                    found = fitting.step(
                        [tokens[index] for index in order.next()],
                        replay=groups.next(),
                        anchor=recipe.anchor,
                        share=share,
                    )
                except AdapterError as error:
                    raise AdapterError(f"{place.name}, seed {seed}: {error.problem}", error.next_step) from error
                losses.append(found.loss)
            worn = _strengths(fitting, start)
            scaled = scale_to(
                lambda scale: self.gauge.measure(worn(scale)), settings.p95, first=1.0, largest=LARGEST_SCALE
            )
            treatment = Treatment(place.name, worn(scaled.scale))
            found_margins = margins(self.model, [self.choices[index] for index in items], treatment)
        return Cell(
            place=place.name,
            seed=seed,
            is_null=is_null,
            scale=scaled.scale,
            mean=scaled.volatility.mean,
            p95=scaled.volatility.p95,
            reached=scaled.reached,
            items=items,
            margins=tuple(found_margins.tolist()),
            first_loss=losses[0],
            last_loss=losses[-1],
            seconds=time.monotonic() - begun,
        )

    def _read_examples(self, seed: int) -> tuple[Example, ...]:
        return self.aim.recipe.overridden({"seed": seed}).examples


def _strengths(fitting: Fitting, start: Mapping[str, Any]) -> Callable[[float], Intervention]:
    """What rows wear to be treated by what was learned, at any strength.

    Token rows replace those of the base and act wholly or not at all: they are moved between what they were and what
    they became.
    """
    learned = fitting.weights()
    if all("lora_" in name for name in learned):
        return fitting.intervention

    def worn(scale: float) -> Intervention:
        fitting.load({name: start[name] + scale * (learned[name] - start[name]) for name in learned})
        return fitting.intervention()

    return worn
