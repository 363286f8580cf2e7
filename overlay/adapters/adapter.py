"""Adapters: trained LoRA weights with a manifest, and the checks before anything of them is loaded."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from overlay.errors import AdapterError, WrongBaseModel

FORMAT = 1
"""The layout of an adapter's folder; one of another format is trained again."""

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MANIFEST = "manifest.json"

_HARMLESS = {".json", ".safetensors", ".md", ".txt"}
_LORA_KEY = re.compile(r"base_model\.model\.[\w.]+\.lora_(?:[AB]\.weight|embedding_[AB])", re.ASCII)

# Everything else in a PEFT configuration either loads code or other files (auto_mapping,
# megatron_config, loftq_config), or changes weights that belong to the base model.
_PLAIN_SETTINGS = {
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "peft_type",
    "peft_version",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "task_type",
    "use_rslora",
}

Ended = Literal["steps", "budget", "interrupted"]


@dataclass(frozen=True)
class Adapter:
    """A trained adapter: what made it, and what it was measured to do.

    Attributes:
        recipe_digest: sha256 of the recipe that it was trained by.
        base_model: name of the model that it was trained on; `base_digest` is its model hash.
        accuracy_before: share of the `held_out` choices that the base model gets right; `accuracy_after` with it.
        volatility_mean: KL(base ‖ adapted) on the neutral texts, nats per token; `volatility_p95` its 95th percentile.
        replay_kl: the same on the recipe's own replay texts, which the budget limits.
        steps: optimizer steps in the kept state; `ended` says why there are no more.
        seconds: what training and measuring took.
    """

    name: str
    folder: Path
    aim: str
    recipe_digest: str
    base_model: str
    base_digest: str
    dtype: str
    weights_sha256: str
    config_sha256: str
    held_out: int
    accuracy_before: float
    accuracy_after: float
    volatility_mean: float
    volatility_p95: float
    replay_kl: float
    steps: int
    ended: Ended
    seconds: float
    seed: int

    def manifest(self) -> str:
        """What stands in manifest.json: everything but the folder."""
        facts = {"format": FORMAT, **asdict(self)}
        del facts["folder"]
        return json.dumps(facts, indent=2, ensure_ascii=False) + "\n"


def check_adapter(folder: Path, model_digest: str | None = None) -> Adapter:
    """Check an adapter's folder without loading its weights; with `model_digest`, also that it fits this base model.

    Raises:
        AdapterError: it isn't trained, is damaged or changed, or holds anything that isn't plain LoRA weights.
        WrongBaseModel: it was trained on another model.
    """
    again = f"train it anew: `overlay adapters train {folder.name}`"
    if not (folder / MANIFEST).is_file():
        raise AdapterError(f"adapter '{folder.name}' isn't trained yet: {folder / MANIFEST} does not exist", again)
    for entry in sorted(folder.rglob("*")):
        if entry.is_symlink() or (entry.is_file() and entry.suffix.lower() not in _HARMLESS):
            raise AdapterError(
                f"{entry} does not belong to an adapter: only safetensors weights are loaded, and files of other kinds "
                "may hold code",
                f"remove this file if you know where it came from; otherwise {again}",
            )
    adapter = _read_manifest(folder, again)
    if model_digest is not None and adapter.base_digest != model_digest:
        raise WrongBaseModel(
            f"adapter '{adapter.name}' was trained on {adapter.base_model} ({adapter.base_digest[:12]}), and this is "
            f"another model ({model_digest[:12]})",
            f"load that model, or {again}",
        )
    for file, expected in ((WEIGHTS, adapter.weights_sha256), (CONFIG, adapter.config_sha256)):
        if not (folder / file).is_file():
            raise AdapterError(f"{folder / file} is missing", again)
        if file_digest(folder / file) != expected:
            raise AdapterError(
                f"{folder / file} is not what was trained: its sha256 differs from the manifest's", again
            )
    _check_config(folder / CONFIG, again)
    _check_weights(folder / WEIGHTS, again)
    return adapter


def file_digest(path: Path) -> str:
    """sha256 over a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path, again: str) -> Adapter:
    path = folder / MANIFEST
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        written = facts.pop("format")
        adapter = Adapter(folder=folder, **facts)
        for field in fields(Adapter):
            value, wanted = getattr(adapter, field.name), _PYTHON_TYPES[str(field.type)]
            if not isinstance(value, wanted):
                raise TypeError(f"{field.name} is {value!r}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AdapterError(f"{path} can't be read as an adapter's manifest: {error}", again) from error
    if written != FORMAT:
        raise AdapterError(f"{path} has format {written}, and this program reads format {FORMAT}", again)
    if adapter.name != folder.name:
        raise AdapterError(f"{path} belongs to adapter '{adapter.name}', not '{folder.name}'", again)
    return adapter


_PYTHON_TYPES: dict[str, Any] = {"str": str, "Path": Path, "int": int, "float": (int, float), "Ended": str}


def _check_config(path: Path, again: str) -> None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AdapterError(f"{path} is not JSON: {error}", again) from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise AdapterError(f"{path} describes an adapter of type {kind!r}, and only LORA is loaded", again)
    for key, value in config.items():
        if key not in _PLAIN_SETTINGS and value not in (None, False, {}, []):
            raise AdapterError(f"{path} sets '{key}', which goes beyond plain LoRA weights", again)
    # Initialisations with a name (pissa, olora, eva) rewrite the base weights when they are loaded.
    if not isinstance(config.get("init_lora_weights", True), bool):
        raise AdapterError(f"{path} sets init_lora_weights to {config['init_lora_weights']!r}", again)
    if config.get("bias", "none") != "none":
        raise AdapterError(f"{path} trains biases, which belong to the base model", again)


def _check_weights(path: Path, again: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            keys = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} can't be read as safetensors: {error}", again) from error
    strange = [key for key in keys if not _LORA_KEY.fullmatch(key)]
    if strange or not keys:
        found = f"'{strange[0]}', which is not a LoRA weight" if strange else "no weights"
        raise AdapterError(f"{path} holds {found}", again)
