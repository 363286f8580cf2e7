"""The room of maps: where in a model to intervene for an aim.

In go an aim (a recipe with held-out choices) and a model; out comes a map: the same training in each part of the
model, with as many parameters everywhere and scaled to the same volatility, what it did to the held-out choices
beside a training on random labels, what activations alone say, and which claims about the place stand. A map says
where something was best taught to this model by these steps, never where the model keeps it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.mapping.aim import Aim, Claim, known_aims, read_aim
from overlay.mapping.intervention_map import (
    Cell,
    InterventionMap,
    MapSettings,
    best_place,
    map_path,
    places_by_gain,
    read_map,
)
from overlay.mapping.recipe_start import placed_recipe

if TYPE_CHECKING:
    from overlay.mapping.heatmap import draw_map
    from overlay.mapping.page import map_page, map_table
    from overlay.mapping.run import map_aim

__all__ = [
    "Aim",
    "Cell",
    "Claim",
    "InterventionMap",
    "MapSettings",
    "best_place",
    "draw_map",
    "known_aims",
    "map_aim",
    "map_page",
    "map_path",
    "map_table",
    "placed_recipe",
    "places_by_gain",
    "read_aim",
    "read_map",
]

_HEAVY = {"draw_map": "heatmap", "map_aim": "run", "map_page": "page", "map_table": "page"}


def __getattr__(name: str) -> Any:
    # Measuring needs torch, and drawing matplotlib; reading a map needs neither.
    if name in _HEAVY:
        return getattr(importlib.import_module(f"overlay.mapping.{_HEAVY[name]}"), name)
    raise AttributeError(f"module 'overlay.mapping' has no attribute '{name}'")
