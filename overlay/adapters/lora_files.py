"""The two files of a LoRA adapter, as PEFT writes them, and everything that may stand in them.

They may come from anyone: each setting is known by name and each tensor by its place, kind, shape and
values before any library that acts on them sees the files.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overlay.errors import AdapterError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

LARGEST_CONFIG = 2**20
"""Bytes. A configuration that names every layer of a large model takes a tenth of it."""

LARGEST_WEIGHTS = 2**32
"""Bytes: more than the models here weigh themselves; what is larger would only fill the memory."""

HIGHEST_RANK = 1024
"""Beyond it LoRA is no smaller than what it adds to, and a forged rank makes PEFT allocate before it compares."""

TOKEN_ROWS = "token_adapter.trainable_tokens_delta"

NO_LAYERS = "dummy-target-modules"
"""What PEFT wants to read as `target_modules` where nothing but rows of the embedding learns."""

_KEY = re.compile(
    rf"base_model\.model\.(?P<module>\w+(?:\.\w+)*)\.(?P<part>lora_[AB]\.weight|lora_embedding_[AB]|{TOKEN_ROWS})",
    re.ASCII,
)
_MODULE = re.compile(r"\w+(?:\.\w+)*", re.ASCII)
_LARGEST_SCALE = 1e4

# Settings of PEFT that are harmless only as long as they say this. The others load code or further files
# (auto_mapping, megatron_config, loftq_config), change weights that belong to the base, or are no plain LoRA.
_IDLE: dict[str, tuple[Any, ...]] = {
    "alora_invocation_tokens": (None,),
    "arrow_config": (None,),
    "auto_mapping": (None,),
    "bias": ("none",),
    "corda_config": (None,),
    "ensure_weight_tying": (False,),
    "eva_config": (None,),
    "exclude_modules": (None,),
    "kasa_config": (None,),
    "layer_replication": (None,),
    "layers_pattern": (None,),
    "layers_to_transform": (None,),
    "loftq_config": (None, {}),
    "lora_bias": (False,),
    "lora_ga_config": (None,),
    "megatron_config": (None,),
    "megatron_core": (None, "megatron.core"),
    "modules_to_save": (None,),
    "monteclora_config": (None,),
    "peft_type": ("LORA",),
    "qalora_group_size": (None, 16),
    "target_parameters": (None,),
    "use_bdlora": (None, False),
    "use_dora": (False,),
    "use_qalora": (False,),
    "velora_config": (None,),
}


def _is_name_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and _MODULE.fullmatch(name) for name in value)


def _are_layers(value: Any) -> bool:
    return value == NO_LAYERS or _is_name_list(value)


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= HIGHEST_RANK


def _is_alpha(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST_SCALE


def _is_short_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= 500)


def _by_module(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and all(_MODULE.fullmatch(name) and check(item) for name, item in value.items())
    )


def _are_tokens(value: Any) -> bool:
    if isinstance(value, dict):
        return all(
            _MODULE.fullmatch(name) and isinstance(item, list) and _are_tokens(item) for name, item in value.items()
        )
    return value is None or (
        isinstance(value, list)
        and all(type(index) is int and index >= 0 for index in value)
        and len(set(value)) == len(value)
    )


# A named start (pissa, olora, corda) rewrites the base's weights when it is loaded; PEFT takes a text for
# `target_modules` and the names of patterns for regular expressions, and a stranger's may never come to an end.
_SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "alpha_pattern": (_by_module(_is_alpha), "numbers above 0 by the names of layers"),
    "base_model_name_or_path": (_is_short_text, "a name"),
    "fan_in_fan_out": (lambda value: isinstance(value, bool), "true or false"),
    "inference_mode": (lambda value: isinstance(value, bool), "true or false"),
    "init_lora_weights": (lambda value: isinstance(value, bool), "true or false"),
    "lora_alpha": (_is_alpha, f"a number above 0, at most {_LARGEST_SCALE:g}"),
    "lora_dropout": (lambda value: isinstance(value, int | float) and 0 <= value < 1, "a number from 0 to 1"),
    "peft_version": (_is_short_text, "a version"),
    "r": (_is_rank, f"a whole number from 1 to {HIGHEST_RANK}"),
    "rank_pattern": (_by_module(_is_rank), f"whole numbers from 1 to {HIGHEST_RANK} by the names of layers"),
    "revision": (_is_short_text, "a name"),
    "target_modules": (_are_layers, "a list of names of layers"),
    "task_type": (lambda value: value in (None, "CAUSAL_LM"), "CAUSAL_LM"),
    "trainable_token_indices": (_are_tokens, "token ids, each once, or such lists by the names of layers"),
    "use_rslora": (lambda value: isinstance(value, bool), "true or false"),
}


KNOWN_SETTINGS = frozenset(_IDLE) | frozenset(_SETTINGS)
"""Every setting that a configuration may name."""


@dataclass(frozen=True)
class Factor:
    """One tensor of an adapter: what it belongs to, which part of it it is, and its shape."""

    module: str
    part: str
    shape: tuple[int, ...]


def check_config(content: bytes, where: Path | str, next_step: str) -> dict[str, Any]:
    """The settings in an adapter's configuration, if they are those of plain LoRA and nothing else.

    Raises:
        AdapterError: it is no JSON mapping, too large, or has a setting that isn't known or isn't harmless.
    """
    if len(content) > LARGEST_CONFIG:
        raise AdapterError(f"{where} has {len(content)} bytes, and {LARGEST_CONFIG} is the limit", next_step)
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{where} is not JSON: {error}", next_step) from error
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise AdapterError(f"{where} describes an adapter of type {kind!r}, and only LORA is loaded", next_step)
    for key, value in config.items():
        if key in _IDLE:
            if not any(type(value) is type(idle) and value == idle for idle in _IDLE[key]):
                raise AdapterError(
                    f"{where} sets '{key}' to {value!r}, which goes beyond plain LoRA weights", next_step
                )
        elif key not in _SETTINGS:
            raise AdapterError(f"{where} sets '{key}', which is no setting that is known here", next_step)
        elif not _SETTINGS[key][0](value):
            raise AdapterError(
                f"{where} sets '{key}' to {str(value)[:80]!r}; it must be {_SETTINGS[key][1]}", next_step
            )
    for key in ("r", "lora_alpha", "target_modules"):
        if key not in config:
            raise AdapterError(f"{where} does not say '{key}'", next_step)
    return dict(config)


def check_weights(
    content: bytes,
    config: Mapping[str, Any],
    where: Path | str,
    next_step: str,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, Factor]:
    """The tensors in an adapter's weights by key, if they are whole, finite, of the configured ranks and paired.

    Args:
        content: bytes of the safetensors file.
        shapes: the base model's weights by the names of their modules, from `base_shapes`; the adapter must fit them.

    Raises:
        AdapterError: anything else is in it, or it does not fit.
    """
    from safetensors import SafetensorError, deserialize

    if len(content) > LARGEST_WEIGHTS:
        raise AdapterError(f"{where} has {len(content)} bytes, and {LARGEST_WEIGHTS} is the limit", next_step)
    try:
        tensors = deserialize(content)  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError) as error:
        raise AdapterError(f"{where} can't be read as safetensors: {error}", next_step) from error
    if not tensors:
        raise AdapterError(f"{where} holds no weights", next_step)
    found: dict[str, Factor] = {}
    for key, tensor in tensors:
        match = _KEY.fullmatch(key)
        if match is None:
            raise AdapterError(f"{where} holds '{key}', which is not a LoRA weight", next_step)
        problem = _values_problem(tensor)
        if problem:
            raise AdapterError(f"{where}: '{key}' {problem}", next_step)
        found[key] = Factor(match["module"], match["part"], tuple(tensor["shape"]))
    for problem in _shape_problems(found, config, shapes):
        raise AdapterError(f"{where}: {problem}", next_step)
    return found


def base_shapes(module: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's two-dimensional weights by the names of their modules, whatever adapters are attached."""
    found = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        place, _, kind = name.rpartition(".")
        for wrapper in (".token_adapter.base_layer", ".base_layer", ".original_module"):
            place = place.removesuffix(wrapper)
        if kind == "weight" and parameter.dim() == 2 and not _is_added(name):
            found[place] = tuple(parameter.shape)
    return found


def pattern_value(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """What a rank or alpha pattern says of a layer, as PEFT reads it: the first name that the layer's name ends in."""
    return next((value for name, value in patterns.items() if f".{module}".endswith(f".{name}")), default)


def scaling(config: Mapping[str, Any], module: str) -> float:
    """What a layer's product B·A is multiplied by: alpha / r, or alpha / √r where the configuration says so."""
    rank = pattern_value(config.get("rank_pattern", {}), module, config["r"])
    alpha = pattern_value(config.get("alpha_pattern", {}), module, config["lora_alpha"])
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def token_rows(config: Mapping[str, Any], module: str) -> list[int] | None:
    """The token ids whose rows of an embedding the adapter replaces; None where it replaces none."""
    chosen = config.get("trainable_token_indices")
    if isinstance(chosen, dict):
        value = pattern_value(chosen, module, None)
        return None if value is None else list(value)
    # Without a name PEFT takes the input embedding, whatever it is called.
    return list(chosen) if chosen else None


def _is_added(name: str) -> bool:
    return any(part.startswith("lora_") or part == "modules_to_save" for part in name.split("."))


def _values_problem(tensor: Mapping[str, Any]) -> str:
    import numpy as np

    if 0 in tensor["shape"]:
        return f"has the shape {tensor['shape']}"
    # Bits of a float: all ones in the exponent mean infinity or no number. NumPy has no bfloat16.
    known = {"F32": ("<u4", 0x7F80_0000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
    if tensor["dtype"] not in known:
        return f"has the type {tensor['dtype']}; only {', '.join(known)} are loaded"
    kind, exponent = known[tensor["dtype"]]
    bits = np.frombuffer(tensor["data"], kind)
    if ((bits & exponent) == exponent).any():
        return "holds values that are infinite or no numbers"
    return ""


def _shape_problems(
    found: Mapping[str, Factor], config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]] | None
) -> list[str]:
    by_module: dict[str, dict[str, tuple[int, ...]]] = {}
    for factor in found.values():
        by_module.setdefault(factor.module, {})[factor.part] = factor.shape
    problems = []
    for module, parts in by_module.items():
        base = None if shapes is None else shapes.get(module)
        if shapes is not None and base is None:
            problems.append(f"the base model has no layer '{module}'")
            continue
        rows = parts.pop(TOKEN_ROWS, None)
        if rows is not None:
            problems += _rows_problems(module, rows, config, base)
        if parts:
            problems += _pair_problems(module, parts, config, base)
    return problems


def _rows_problems(
    module: str, rows: tuple[int, ...], config: Mapping[str, Any], base: tuple[int, ...] | None
) -> list[str]:
    tokens = token_rows(config, module)
    if tokens is None:
        return [f"'{module}' has rows for tokens, and trainable_token_indices names none"]
    if len(rows) != 2 or rows[0] != len(tokens):
        return [f"'{module}' has token rows of shape {list(rows)} for {len(tokens)} tokens"]
    if base is not None and (rows[1] != base[1] or max(tokens) >= base[0]):
        return [f"'{module}' has token rows of shape {list(rows)} up to token {max(tokens)}; the base has {list(base)}"]
    return []


def _pair_problems(
    module: str, parts: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], base: tuple[int, ...] | None
) -> list[str]:
    is_embedding = any("embedding" in part for part in parts)
    names = ("lora_embedding_A", "lora_embedding_B") if is_embedding else ("lora_A.weight", "lora_B.weight")
    if set(parts) != set(names):
        return [f"'{module}' has {' and '.join(sorted(parts))} only; LoRA is a pair"]
    down, up = parts[names[0]], parts[names[1]]
    rank = pattern_value(config.get("rank_pattern", {}), module, config["r"])
    if len(down) != 2 or len(up) != 2 or down[0] != rank or up[1] != rank:
        return [f"'{module}' has factors of shapes {list(down)} and {list(up)}, not of rank {rank}"]
    made_for = (down[1], up[0]) if is_embedding else (up[0], down[1])
    # A layer of GPT-2's kind keeps its weight the other way round.
    fitting = {base, base[::-1]} if base is not None and config.get("fan_in_fan_out") else {base}
    if base is not None and made_for not in fitting:
        return [f"'{module}' is made for a layer of shape {list(made_for)}, and the base has {list(base)}"]
    return []
