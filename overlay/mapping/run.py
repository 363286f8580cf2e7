"""The run of a map: cell after cell, each written when it is done, so that what was stopped goes on from there."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import RootModel

from overlay.mapping.activations import read_activations
from overlay.mapping.intervention_map import (
    FORMAT,
    BlockReading,
    Cell,
    InterventionMap,
    MapSettings,
    PlaceFacts,
    map_path,
)
from overlay.mapping.measurement import Measurement
from overlay.mapping.place import places_of
from overlay.progress import Progress, SilentProgress
from overlay.records import digest_of, read_record, write_record

if TYPE_CHECKING:
    from overlay.mapping.aim import Aim
    from overlay.mapping.place import Place
    from overlay.model import LanguageModel

READINGS = "activations.json"

_PART = ("a part of a map", "remove it; it is measured again")


def map_aim(
    model: LanguageModel,
    aim: Aim,
    maps: Path,
    settings: MapSettings | None = None,
    progress: Progress | None = None,
) -> InterventionMap:
    """Draw the map of an aim on a model, and write it to `map_path(maps, …)`.

    What was measured before by the same settings is read and not measured again; more seeds go on from fewer. No other
    thread may use the model meanwhile; it is afterwards bit for bit what it was.

    Raises:
        AdapterError: a training diverged, or doesn't fit the model.
        ArgumentError: the model is too shallow.
        RecordDamaged: a cell that was stored can't be read.
        StorageFull
    """
    settings, progress = settings or MapSettings(), progress or SilentProgress()
    recipe = aim.recipe
    texts = [example.target for example in recipe.examples] + [example.prompt for example in recipe.examples]
    places = places_of(model, texts)
    path = map_path(maps, model.digest, aim.name)
    folder = path.with_suffix("") / _identity(model, aim, settings)
    measurement = Measurement(model, aim, settings)
    wanted = [
        (place, seed, is_null)
        for seed in range(settings.seeds)
        for is_null in ((False, True) if seed < settings.null_seeds else (False,))
        for place in places
    ]
    cells: list[Cell] = []
    spent, measured = 0.0, 0
    for done, (place, seed, is_null) in enumerate(wanted):
        file = _file(folder, place, seed, is_null)
        cell = read_record(file, Cell, *_PART)
        if cell is None:
            left = sum(not _file(folder, *one).exists() for one in wanted[done:])
            rest = f", about {_minutes(spent / measured * left)} left" if measured else ""
            what = f"{place.name}, {'random labels, ' if is_null else ''}seed {seed}"
            progress.step(f"mapping {aim.name}", done, len(wanted), what + rest)
            begun = time.monotonic()
            cell = measurement.cell(place, seed, is_null=is_null)
            write_record(file, json.dumps(asdict(cell)))
            spent, measured = spent + time.monotonic() - begun, measured + 1
        cells.append(cell)
    readings = read_record(folder / READINGS, _Readings, *_PART)
    if readings is None:
        readings = _Readings(read_activations(measurement, progress))
        write_record(folder / READINGS, readings.model_dump_json())
    found = InterventionMap(
        aim=aim.name,
        recipe=recipe.name,
        recipe_digest=recipe.digest,
        claim=aim.claim.claim if aim.claim else "",
        claimed=aim.claim.place if aim.claim else "",
        model=model.name,
        model_digest=model.digest,
        dtype=model.dtype,
        settings=settings,
        base=tuple(measurement.base.tolist()),
        places=tuple(
            PlaceFacts(place.name, place.where.model_dump(mode="json"), place.rank, place.parameters)
            for place in places
        ),
        cells=tuple(cells),
        readings=readings.root,
    )
    write_record(path, found.to_json())
    return found


class _Readings(RootModel[tuple[BlockReading, ...]]):
    """The file of what activations say."""


def _identity(model: LanguageModel, aim: Aim, settings: MapSettings) -> str:
    """What a cell depends on beside its place and its seed."""
    same: dict[str, Any] = {key: value for key, value in asdict(settings).items() if key not in ("seeds", "null_seeds")}
    facts = [FORMAT, aim.recipe.digest, model.digest, model.dtype, same]
    return digest_of(facts)[:12]


def _file(folder: Path, place: Place, seed: int, is_null: bool) -> Path:
    return folder / f"{place.name.replace(' ', '-')}-{seed}{'-null' if is_null else ''}.json"


def _minutes(seconds: float) -> str:
    return f"{max(1, round(seconds / 60))} min"
