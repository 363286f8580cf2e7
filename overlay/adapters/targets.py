"""Targets: what a recipe's `where` means in a model, as names of layers and rows of the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from overlay.adapters.lora_files import NO_LAYERS
from overlay.errors import AdapterError

if TYPE_CHECKING:
    from overlay.adapters.recipe import Where
    from overlay.model import LanguageModel


def target_layers(model: LanguageModel, blocks: str | tuple[int, int], modules: Sequence[str]) -> list[str]:
    """Full names of the linear layers that a recipe's `blocks` and `modules` mean in this model.

    Raises:
        AdapterError: the model has no such block or layer.
    """
    from transformers.pytorch_utils import Conv1D

    first, last = (0, model.layers - 1) if isinstance(blocks, str) else blocks
    if last >= model.layers:
        raise AdapterError(
            f"blocks: [{first}, {last}] reaches beyond this model's {model.layers} blocks",
            f"give blocks from 0 to {model.layers - 1}, or all",
        )
    names = {id(module): name for name, module in model.module.named_modules()}
    found: list[str] = []
    seen: set[str] = set()
    for block in model.blocks.modules[first : last + 1]:
        for inside, layer in block.named_modules():
            parts = inside.removesuffix(".base_layer").split(".")
            # What other adapters laid beside the block's own layers is no part of the model.
            if not isinstance(layer, nn.Linear | Conv1D) or any(part.startswith("lora_") for part in parts):
                continue
            own = parts[-1]
            kind = "attention" if "attn" in parts[0] or "attention" in parts[0] else "mlp"
            seen.update((own, kind))
            if own in modules or kind in modules:
                found.append(names[id(layer)].removesuffix(".base_layer"))
    unknown = [name for name in modules if name not in seen]
    if unknown:
        raise AdapterError(
            f"modules: '{unknown[0]}' is no linear layer in the blocks of '{model.name}'",
            f"use one of {', '.join(sorted(seen))}",
        )
    return found


def token_ids(model: LanguageModel, words: Sequence[str]) -> list[int]:
    """The rows of the embedding that a recipe's `tokens` mean: of each word as written, and after a space.

    Raises:
        AdapterError: neither is one token of this model.
    """
    found: list[int] = []
    for word in words:
        forms = [list(model.tokenize(form)) for form in (word, f" {word}")]
        rows = [tokens[0] for tokens in forms if len(tokens) == 1]
        if not rows:
            pieces = [model.tokenizer.decode([token]) for token in forms[0]]
            raise AdapterError(
                f"tokens: '{word}' is no single token of '{model.name}', but {len(pieces)}: {pieces}",
                "name words that are one token, or let modules learn it",
            )
        found += rows
    return list(dict.fromkeys(found))


def lora_settings(model: LanguageModel, where: Where, rank: int, alpha: float) -> dict[str, Any]:
    """The PEFT configuration that a recipe's `where`, `rank` and `alpha` mean in this model.

    Raises:
        AdapterError: the model has no such part, or its parts can't learn side by side.
    """
    from transformers.pytorch_utils import Conv1D

    layers = target_layers(model, where.blocks, where.modules) if where.modules else []
    if where.head:
        head, embedding = model.module.get_output_embeddings(), model.module.get_input_embeddings()
        if where.tokens and head.weight is embedding.weight:
            raise AdapterError(
                f"the head of '{model.name}' shares its weights with the embedding, so rows of `tokens` learn in both",
                "leave out either head or tokens",
            )
        layers.append(next(name for name, part in model.module.named_modules() if part is head))
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": bool(layers) and isinstance(_plain(model.module.get_submodule(layers[0])), Conv1D),
        "target_modules": layers or NO_LAYERS,
    }
    if where.tokens:
        settings["trainable_token_indices"] = token_ids(model, where.tokens)
    return settings


def _plain(layer: nn.Module) -> nn.Module:
    """The model's own layer, also where an adapter wraps it."""
    inner = getattr(layer, "base_layer", layer)
    return inner if isinstance(inner, nn.Module) else layer
