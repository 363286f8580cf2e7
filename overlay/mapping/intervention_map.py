"""Maps: what teaching an aim in each part of a model came to, and what that says about its place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from overlay.adapters import Where
from overlay.errors import ArgumentError
from overlay.mapping.spread import Spread, crossed
from overlay.records import read_record

FORMAT = 1

_KIND = ("a map", "draw it again")


@dataclass(frozen=True)
class MapSettings:
    """How a map is measured.

    Attributes:
        seeds: trainings in each place. null_seeds: of these, how many also on random labels.
        steps, batch: of each training.
        p95: the volatility to which every training is scaled, nats per token, 95th percentile on neutral texts.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    seeds: int = 3
    null_seeds: int = 1
    steps: int = 16
    batch: int = 4
    p95: float = 0.5

    def __post_init__(self) -> None:
        if min(self.seeds, self.steps, self.batch) < 1 or not 0 <= self.null_seeds <= self.seeds or not self.p95 > 0:
            raise ArgumentError(
                f"a map can't be measured by {self}",
                "give 1 or more seeds, steps and items a batch, no more nulls than seeds, and a p95 above 0",
            )


@dataclass(frozen=True)
class PlaceFacts:
    """A place as a map keeps it: see `place.Place`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    where: dict[str, Any]
    rank: int
    parameters: int

    @property
    def region(self) -> str:
        """The depth of blocks, or "head" or "tokens"."""
        return self.name.split()[0]


@dataclass(frozen=True)
class Cell:
    """One training in one place, scaled to the common volatility.

    Attributes:
        is_null: whether its labels were random.
        scale: by which its effect on the weights was multiplied; 1 is as trained.
        mean, p95: its volatility then, nats per token. reached: whether p95 is what it should be; where no scale was
            found that costs that, the one that came nearest.
        items: indexes of the held-out choices that are measured; margins: of each, ln p(good) - ln p(bad) per token.
        first_loss, last_loss: cross-entropy of the first and the last step, nats per token.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    place: str
    seed: int
    is_null: bool
    scale: float
    mean: float
    p95: float
    reached: bool
    items: tuple[int, ...]
    margins: tuple[float, ...]
    first_loss: float
    last_loss: float
    seconds: float


@dataclass(frozen=True)
class BlockReading:
    """What the activations behind one block say of the aim, with nothing trained but a probe.

    Attributes:
        accuracy: share of held-out choices of which a linear probe, fitted to the others, finds the good one; `low`
            and `high` its 95% Wilson interval.
        gain: what steering along the difference of means at this block adds to the margin of choices that it was not
            taken from, nats per token, at a volatility of `p95`; with its 95% interval. None where no dose was found.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    block: int
    accuracy: float
    low: float
    high: float
    dose: float | None = None
    p95: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


@dataclass(frozen=True)
class InterventionMap:
    """The map of one aim on one model.

    Attributes:
        aim, recipe: names; recipe_digest: of what was taught. claim, claimed: what is said of its place; empty if
            nothing is.
        base: margins of all held-out choices under the unchanged model, nats per token.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    aim: str
    recipe: str
    recipe_digest: str
    claim: str
    claimed: str
    model: str
    model_digest: str
    dtype: str
    settings: MapSettings
    base: tuple[float, ...]
    places: tuple[PlaceFacts, ...]
    cells: tuple[Cell, ...]
    readings: tuple[BlockReading, ...]

    def gains(self, place: str) -> NDArray[np.float64]:
        """What teaching there added to each choice's margin, nats per token, (seeds, choices)."""
        base = np.array(self.base)
        return np.array([np.array(cell.margins) - base for cell in self._cells(place, is_null=False)])

    def null_gain(self, place: str) -> float | None:
        """The same on random labels, mean over seeds and choices; None where it was not measured."""
        base = np.array(self.base)
        found = [np.array(cell.margins) - base[list(cell.items)] for cell in self._cells(place, is_null=True)]
        return float(np.mean(np.concatenate(found))) if found else None

    @cached_property
    def spreads(self) -> Mapping[str, Spread]:
        """By place: the mean gain over seeds and choices, with its 95% interval."""
        return {place.name: crossed(self.gains(place.name)) for place in self.places}

    @property
    def null_reach(self) -> float | None:
        """The largest mean gain that random labels brought in any place, nats per token; None without nulls."""
        found = [gain for place in self.places if (gain := self.null_gain(place.name)) is not None]
        return max(0.0, *found) if found else None

    def is_beyond_null(self, place: str) -> bool:
        """Whether the whole interval of a place's gain lies above 0 and above all that random labels brought."""
        return self.spreads[place].low > (self.null_reach or 0.0)

    def is_reached(self, place: str) -> bool:
        """Whether every training there could be scaled to the common volatility."""
        return all(cell.reached for cell in self._cells(place, is_null=False))

    def accuracy(self, place: str) -> float:
        """Share of held-out choices that come out right there, mean over seeds."""
        return float(np.mean([np.array(cell.margins) > 0 for cell in self._cells(place, is_null=False)]))

    @property
    def base_accuracy(self) -> float:
        """The same under the unchanged model."""
        return float(np.mean(np.array(self.base) > 0))

    def to_json(self) -> str:
        """The whole map as one JSON document."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, allow_nan=False) + "\n"

    def _cells(self, place: str, *, is_null: bool) -> Sequence[Cell]:
        return [cell for cell in self.cells if cell.place == place and cell.is_null == is_null]


def places_by_gain(found: InterventionMap) -> tuple[PlaceFacts, ...]:
    """The places at the common volatility whose gain is beyond the null, the largest gain first."""
    beyond = [place for place in found.places if found.is_reached(place.name) and found.is_beyond_null(place.name)]
    return tuple(sorted(beyond, key=lambda place: -found.spreads[place.name].value))


def best_place(found: InterventionMap) -> Where:
    """Where the aim was taught best. As the best of many it flatters; its rank is `places_by_gain(found)[0].rank`.

    Raises:
        ArgumentError: in no place it was taught beyond what random labels do.
    """
    ordered = places_by_gain(found)
    if not ordered:
        raise ArgumentError(
            f"the map of '{found.aim}' has no place where teaching went beyond the null",
            "map it with more steps or seeds, or write `where` by hand",
        )
    return Where.model_validate_json(json.dumps(ordered[0].where))


def map_path(maps: Path, model_digest: str, aim: str) -> Path:
    """Where the map of an aim on a model lies below the folder of all maps."""
    return maps / model_digest[:16] / f"{aim}.json"


def read_map(path: Path) -> InterventionMap:
    """A stored map. Raises ArgumentError where there is none, and RecordDamaged."""
    found = read_record(path, InterventionMap, *_KIND, format=FORMAT)
    if found is None:
        raise ArgumentError(f"there is no map of '{path.stem}' for this model", f"draw it: `overlay map {path.stem}`")
    return found
