"""Adapters with random weights: plain LoRA for any model, written without training, and the other kinds PEFT has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def write_lora(folder: Path, module: Any, seed: int, strength: float = 0.3, **settings: Any) -> Path:
    """Random LoRA weights of rank 2 on every linear layer of every block; `settings` go into the configuration."""
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    targets = set()
    for place, part in module.named_modules():
        transposed = type(part).__name__ == "Conv1D"
        in_a_block = any(piece.isdigit() for piece in place.split("."))
        if not (in_a_block and (transposed or isinstance(part, torch.nn.Linear))):
            continue
        outer, inner = part.weight.shape[::-1] if transposed else part.weight.shape
        key = f"base_model.model.{place}"
        weights[f"{key}.lora_A.weight"] = torch.randn(2, inner, generator=generator) / inner**0.5
        weights[f"{key}.lora_B.weight"] = torch.randn(outer, 2, generator=generator) * strength
        targets.add(place.split(".")[-1])
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 2,
        "lora_alpha": 2,
        "target_modules": sorted(targets),
        "fan_in_fan_out": any(type(part).__name__ == "Conv1D" for part in module.modules()),
    }
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    return folder


def write_peft(folder: Path, module: Any, seed: int, config: Any) -> Path:
    """An adapter of any kind that PEFT has, with random weights, made on `module` (which it leaves changed)."""
    from peft import get_peft_model

    generator = torch.Generator().manual_seed(seed)
    wrapped = get_peft_model(module, config)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    wrapped.save_pretrained(str(folder))
    return folder
