"""The room of adapters: LoRA weights that people ordered by a recipe, and swaps that restore.

In go recipes (examples, held-out choices, replay texts); out come adapters with a manifest that says
what they were measured to do, and interventions that wear them. Nothing is loaded but safetensors
with known keys, made on the model at hand, and nothing is ever merged into the base.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.adapters.adapter import Adapter, check_adapter, stale
from overlay.adapters.example import Example, HeldOut
from overlay.adapters.library import AdapterLibrary, AdapterStatus, StaleAdapterWarning
from overlay.adapters.lora_files import base_shapes
from overlay.adapters.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from overlay.adapters.drift import DriftMap, adapter_drift, measure_drift
    from overlay.adapters.exchange import export_adapter, import_adapter
    from overlay.adapters.mixture import mix, mixture
    from overlay.adapters.training import train

__all__ = [
    "Adapter",
    "AdapterLibrary",
    "AdapterStatus",
    "DriftMap",
    "Example",
    "HeldOut",
    "Recipe",
    "StaleAdapterWarning",
    "adapter_drift",
    "base_shapes",
    "check_adapter",
    "export_adapter",
    "import_adapter",
    "measure_drift",
    "mix",
    "mixture",
    "read_recipe",
    "stale",
    "train",
]

_NEED_TORCH = {
    "DriftMap": "drift",
    "adapter_drift": "drift",
    "measure_drift": "drift",
    "export_adapter": "exchange",
    "import_adapter": "exchange",
    "mix": "mixture",
    "mixture": "mixture",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    # Training and measuring need torch; reading recipes and manifests does not.
    if name in _NEED_TORCH:
        return getattr(importlib.import_module(f"overlay.adapters.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module 'overlay.adapters' has no attribute '{name}'")
