"""Mixtures: several adapters at weights of their own, row by row or written as one adapter.

Both are exact: what LoRA adds to a layer is a sum of products B·A, and products whose factors stand side by
side are that sum. (PEFT calls this `cat`; its default, `svd`, cuts the sum back to one adapter's rank.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overlay.adapters.adapter import Adapter
from overlay.adapters.lora_files import (
    CONFIG,
    HIGHEST_RANK,
    WEIGHTS,
    base_shapes,
    check_config,
    check_weights,
    scaling,
)
from overlay.errors import AdapterError, ArgumentError
from overlay.model import AdapterUse, Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from overlay.adapters.library import AdapterLibrary
    from overlay.model import LanguageModel

_PAIRS = {"lora_A.weight": "lora_B.weight", "lora_embedding_A": "lora_embedding_B"}
"""The factor that is stacked row by row, and the one that is stacked column by column."""


LARGEST_WEIGHT = 100
"""Of a part in a mixture, either way; beyond it numbers run over."""


def mixture(parts: Mapping[str, float]) -> Intervention:
    """What a row wears to be under several attached adapters at once, each at its weight."""
    return Intervention(adapters=tuple(AdapterUse(name, weight) for name, weight in parts.items()))


def mix(library: AdapterLibrary, model: LanguageModel, parts: Mapping[str, float], name: str) -> Adapter:
    """Write a mixture as one adapter of its own, whose rank is the sum of the ranks, and measure what it costs.

    It knows the notes and examples of all its parts, and is stale when one of them is.

    Raises:
        AdapterError: an adapter isn't there or can't be mixed, the ranks add up to too much, or the name is taken.
        ArgumentError: fewer than two adapters, or a weight that is 0 or not finite.
        WrongBaseModel
    """
    from safetensors.torch import save

    if len(parts) < 2:
        raise ArgumentError("a mixture of fewer than two adapters", "name two or more, such as one=0.5 other=0.5")
    for part, weight in parts.items():
        if not 0 < abs(weight) <= LARGEST_WEIGHT:
            raise ArgumentError(
                f"the weight of '{part}' is {weight:g}",
                f"give a number from -{LARGEST_WEIGHT} to {LARGEST_WEIGHT} other than 0",
            )
    library.require_free(name)
    shapes = base_shapes(model.module)
    adapters = {part: library.load(part, model.digest, shapes) for part in parts}
    factors: dict[str, list[Tensor]] = {}
    is_turned = False
    for part, adapter in adapters.items():
        config = _add(factors, adapter, parts[part])
        is_turned = is_turned or bool(config.get("fan_in_fan_out", False))
    weights = {key: _joined(key, found) for key, found in factors.items()}
    ranks = {_layer(key): int(tensor.shape[0]) for key, tensor in weights.items() if _part(key) in _PAIRS}
    highest = max(ranks.values())
    if highest > HIGHEST_RANK:
        raise AdapterError(
            f"together {', '.join(parts)} have rank {highest}, and {HIGHEST_RANK} is the limit", "mix fewer of them"
        )
    smaller = {layer: rank for layer, rank in ranks.items() if rank != highest}
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.name,
        "r": highest,
        # The weights and scalings are in the factors already: alpha / r is 1 in every layer.
        "lora_alpha": highest,
        "rank_pattern": smaller,
        "alpha_pattern": smaller,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": is_turned,
        "target_modules": sorted(ranks),
    }
    return library.add(
        model,
        name,
        settings,
        save(weights, metadata={"format": "pt"}),
        aim="A mixture: " + ", ".join(f"{weight:g} of {part}" for part, weight in parts.items()) + ".",
        origin="mixed",
        made_at=min(adapter.made_at for adapter in adapters.values()),
        notes=tuple(dict.fromkeys(note for adapter in adapters.values() for note in adapter.notes)),
        examples=tuple(dict.fromkeys(digest for adapter in adapters.values() for digest in adapter.examples)),
        parts=parts,
        remark="; ".join(f"{part}: {adapter.remark}" for part, adapter in adapters.items() if adapter.remark),
    )


def _add(factors: dict[str, list[Tensor]], adapter: Adapter, weight: float) -> dict[str, Any]:
    """Put an adapter's factors behind those that are there, its weight and scaling in the upper one; its settings."""
    from safetensors.torch import load

    again = f"load '{adapter.name}' anew"
    config = check_config((adapter.folder / CONFIG).read_bytes(), adapter.folder / CONFIG, again)
    content = (adapter.folder / WEIGHTS).read_bytes()
    tensors = load(content)
    for key, factor in check_weights(content, config, adapter.folder / WEIGHTS, again).items():
        if factor.part not in _PAIRS and factor.part not in _PAIRS.values():
            raise AdapterError(
                f"adapter '{adapter.name}' replaces token rows of '{factor.module}', which have no half",
                "leave it out of the mixture, and let rows wear it beside the others",
            )
        scale = 1.0 if factor.part in _PAIRS else weight * scaling(config, factor.module)
        factors.setdefault(key, []).append(tensors[key].float() * scale)
    return config


def _joined(key: str, found: list[Tensor]) -> Tensor:
    import torch

    return torch.cat(found, dim=0 if _part(key) in _PAIRS else 1).contiguous()


def _part(key: str) -> str:
    return key[key.index(".lora_") + 1 :]


def _layer(key: str) -> str:
    return key[: key.index(".lora_")].removeprefix("base_model.model.")
