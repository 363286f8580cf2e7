"""The room of adapters: LoRA weights that people ordered by a recipe, and swaps that restore.

In go recipes (examples, held-out choices, replay texts); out come adapters with a manifest that says
what they were measured to do, and interventions that wear them. Nothing is loaded but safetensors
with known keys, made on the model at hand, and nothing is ever merged into the base.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.adapters.adapter import Adapter, check_adapter
from overlay.adapters.library import AdapterLibrary, AdapterStatus
from overlay.adapters.recipe import Example, HeldOut, Recipe, read_recipe

if TYPE_CHECKING:
    from overlay.adapters.training import train

__all__ = [
    "Adapter",
    "AdapterLibrary",
    "AdapterStatus",
    "Example",
    "HeldOut",
    "Recipe",
    "check_adapter",
    "read_recipe",
    "train",
]


def __getattr__(name: str) -> Any:
    # Training needs torch; reading recipes and manifests does not.
    if name == "train":
        return getattr(importlib.import_module("overlay.adapters.training"), name)
    raise AttributeError(f"module 'overlay.adapters' has no attribute '{name}'")
