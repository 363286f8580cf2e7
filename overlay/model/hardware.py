"""Hardware: which device and number format a model is loaded in."""

from __future__ import annotations

import platform
from typing import Any, Literal, get_args

from overlay.errors import ArgumentError

DType = Literal["auto", "float32", "bfloat16", "float16"]


def best_device() -> str:
    """The accelerator if there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_dtype(device: str) -> str:
    """bfloat16 on a GPU or on a CPU with AVX512-BF16 or AMX instructions, else float32."""
    import torch

    if device != "cpu":
        return "bfloat16"
    features = torch.cpu.get_capabilities()
    return "bfloat16" if features.get("avx512_bf16") or features.get("amx_bf16") else "float32"


def environment() -> dict[str, str]:
    """What decides roundings beside the model: libraries, instructions, threads."""
    import torch
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


def torch_dtype(name: str, device: str) -> Any:
    """The torch dtype called `name`; "auto" chooses by hardware."""
    import torch

    if name not in get_args(DType):
        raise ArgumentError(f"'{name}' is not a number format", f"use one of {', '.join(get_args(DType))}")
    return getattr(torch, best_dtype(device) if name == "auto" else name)
