"""The room of adapters: LoRA weights that people ordered by a recipe, and swaps that restore.

In go recipes (examples, held-out choices, replay texts); out come adapters with a manifest that says
what they were measured to do, and interventions that wear them. Nothing is loaded but safetensors
with known keys, made on the model at hand, and nothing is ever merged into the base.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.adapters.adapter import Adapter, check_adapter, example_digest, stale
from overlay.adapters.example import Example, HeldOut
from overlay.adapters.library import AdapterLibrary, AdapterStatus, StaleAdapterWarning
from overlay.adapters.lora_files import base_shapes
from overlay.adapters.recipe import Recipe, SafeZone, Where, read_recipe
from overlay.adapters.safe_zone import zone_share

if TYPE_CHECKING:
    from overlay.adapters.batch_order import BatchOrder
    from overlay.adapters.drift import DriftMap, adapter_drift, measure_drift, variant_drift
    from overlay.adapters.exchange import export_adapter, import_adapter
    from overlay.adapters.fitting import Fitting, StepLosses
    from overlay.adapters.mixture import mix, mixture
    from overlay.adapters.sequences import Sequence, encode
    from overlay.adapters.targets import target_layers, token_ids
    from overlay.adapters.training import train

__all__ = [
    "Adapter",
    "AdapterLibrary",
    "AdapterStatus",
    "BatchOrder",
    "DriftMap",
    "Example",
    "Fitting",
    "HeldOut",
    "Recipe",
    "SafeZone",
    "Sequence",
    "StaleAdapterWarning",
    "StepLosses",
    "Where",
    "adapter_drift",
    "base_shapes",
    "check_adapter",
    "encode",
    "example_digest",
    "export_adapter",
    "import_adapter",
    "measure_drift",
    "mix",
    "mixture",
    "read_recipe",
    "stale",
    "target_layers",
    "token_ids",
    "train",
    "variant_drift",
    "zone_share",
]

_NEED_TORCH = {
    "BatchOrder": "batch_order",
    "DriftMap": "drift",
    "adapter_drift": "drift",
    "measure_drift": "drift",
    "variant_drift": "drift",
    "Fitting": "fitting",
    "StepLosses": "fitting",
    "Sequence": "sequences",
    "encode": "sequences",
    "target_layers": "targets",
    "token_ids": "targets",
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
