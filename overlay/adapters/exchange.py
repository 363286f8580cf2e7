"""Exchange: ordinary PEFT adapters come in, checked and measured, and go out so that PEFT alone loads them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overlay.adapters.adapter import Adapter
from overlay.adapters.lora_files import (
    CONFIG,
    KNOWN_SETTINGS,
    LARGEST_CONFIG,
    LARGEST_WEIGHTS,
    NO_LAYERS,
    TOKEN_ROWS,
    WEIGHTS,
    base_shapes,
    check_config,
    check_weights,
)
from overlay.errors import AdapterError, ArgumentError, ModelUnavailable, WrongBaseModel
from overlay.records import storage_errors, write_record

if TYPE_CHECKING:
    from overlay.adapters.library import AdapterLibrary
    from overlay.model import LanguageModel

NOT_PROVEN = "imported, base not proven"
"""The remark on an adapter whose base model is known by the shapes of its layers only."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_ELSEWHERE = "get the adapter from whoever made it as PEFT's plain LoRA in safetensors"

# Which layers were trained is read from the weights: these only say it once more, often as regular expressions.
_SELECTIONS = frozenset({"exclude_modules", "layers_pattern", "layers_to_transform", "target_modules"})

# Starts that draw random numbers and leave the base alone. They mean nothing once there are weights.
_PLAIN_STARTS = ("gaussian", "orthogonal")


def import_adapter(
    source: str, library: AdapterLibrary, model: LanguageModel, *, name: str | None = None, force: bool = False
) -> Adapter:
    """Take an ordinary PEFT adapter into the library: a folder, or a hub id, of which two files are downloaded.

    Its configuration is written anew with nothing in it but what is known; the source stays as it is. What it
    costs is measured on the neutral texts. Without `name` it is called as its source. `force` takes an adapter
    that says it was made for another base model, if its shapes fit this one.

    Raises:
        AdapterError: it is not there, no plain LoRA in safetensors, doesn't fit this model, or its name is taken.
        ArgumentError: no name can be made of its source, or the name given can't be one.
        WrongBaseModel: it says that it was made for another base model.
        ModelUnavailable: it can't be downloaded.
    """
    chosen = name if name is not None else _name_of(source)
    library.require_free(chosen)
    folder = locate(source)
    config = _settings(_content(folder / CONFIG, LARGEST_CONFIG), folder / CONFIG)
    weights = _content(folder / WEIGHTS, LARGEST_WEIGHTS)
    found = check_weights(weights, config, folder / WEIGHTS, _ELSEWHERE, base_shapes(model.module))
    layers = {factor.module for factor in found.values() if factor.part != TOKEN_ROWS}
    claimed = config.get("base_model_name_or_path") or ""
    known = {model.name, str(getattr(model.module.config, "_name_or_path", ""))} - {""}
    if claimed and claimed not in known and not force:
        raise WrongBaseModel(
            f"the adapter in {folder} says that it was made for '{claimed}', and this is '{model.name}'",
            "load that model; or, if both are the same, import it with --force",
        )
    return library.add(
        model,
        chosen,
        {
            **config,
            "target_modules": sorted(layers) or NO_LAYERS,
            "base_model_name_or_path": model.name,
            "inference_mode": True,
        },
        weights,
        aim=f"Imported from {source}.",
        origin="imported",
        made_at=time.time(),
        remark="" if claimed in known else NOT_PROVEN,
    )


def locate(source: str) -> Path:
    """The folder that a source means; the two files of a hub id are downloaded, unless they are here already.

    Raises:
        AdapterError: it is no folder and no hub id. ModelUnavailable: it can't be downloaded.
    """
    try:
        folder = Path(source).expanduser()
    except RuntimeError as error:
        raise AdapterError(f"'{source}' means no folder: {error}", "name a folder, or OWNER/NAME of a hub") from None
    if folder.is_dir():
        return folder
    if folder.exists() or not _HUB_ID.fullmatch(source):
        raise AdapterError(f"'{source}' is no folder and no hub id", "name a folder, or OWNER/NAME of a model hub")
    return _downloaded(source)


def export_adapter(adapter: Adapter, folder: Path) -> None:
    """Write an adapter as an ordinary PEFT folder, which `peft.PeftModel.from_pretrained` loads on the same base.

    `adapter` is one that the library loaded, and so checked.

    Raises:
        AdapterError: there is something at `folder` already, or no folder can be made there.
    """
    from peft import LoraConfig

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AdapterError(f"{folder} is not empty", "name a folder that doesn't exist yet")
    config = json.loads((adapter.folder / CONFIG).read_bytes())
    settings = {key: value for key, value in config.items() if key not in ("peft_type", "peft_version")}
    written = LoraConfig(**{**settings, "base_model_name_or_path": adapter.base_model, "inference_mode": True})
    with storage_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (NotADirectoryError, FileExistsError) as error:
            raise AdapterError(f"{folder} can't be made: {error.strerror}", "name another folder") from None
        written.save_pretrained(str(folder))
        write_record(folder / WEIGHTS, (adapter.folder / WEIGHTS).read_bytes())


def _settings(content: bytes, where: Path) -> dict[str, Any]:
    """A stranger's configuration as check_config passes it: without what it leaves unset or what the weights say."""
    try:
        given = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{where} is not JSON: {error}", _ELSEWHERE) from error
    if isinstance(given, dict):
        # Newer versions of PEFT write settings that are not known here; unset they mean nothing.
        given = {
            key: value
            for key, value in given.items()
            if key not in _SELECTIONS and (key in KNOWN_SETTINGS or value not in (None, False, {}, []))
        }
        given["target_modules"] = []
        if given.get("init_lora_weights") in _PLAIN_STARTS:
            given["init_lora_weights"] = True
    return check_config(json.dumps(given).encode(), where, _ELSEWHERE)


def _content(path: Path, limit: int) -> bytes:
    if not path.is_file():
        pickled = [entry.name for entry in sorted(path.parent.iterdir()) if entry.suffix.lower() in _PICKLED]
        if path.name == WEIGHTS and pickled:
            raise AdapterError(
                f"{path.parent / pickled[0]} is a pickle file, which can run code when it is read; only {WEIGHTS} is",
                "convert it where you trust it: load it with PEFT and save it again",
            )
        raise AdapterError(f"{path.parent} holds no {path.name}", _ELSEWHERE)
    if path.stat().st_size > limit:
        raise AdapterError(f"{path} has {path.stat().st_size} bytes, and {limit} is the limit", _ELSEWHERE)
    return path.read_bytes()


def _downloaded(hub_id: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[CONFIG, WEIGHTS]))
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            raise ModelUnavailable(
                f"'{hub_id}' is not in the local hub cache, and HF_HUB_OFFLINE forbids the download",
                "unset HF_HUB_OFFLINE, or name a local folder",
            ) from error
        raise ModelUnavailable(
            f"'{hub_id}' can't be downloaded: the hub can't be reached", "try again later, or name a local folder"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = " ".join(str(error).split())[:240]
        raise ModelUnavailable(
            f"'{hub_id}' can't be downloaded: {reason}", "check the id and who may read it"
        ) from error


def _name_of(source: str) -> str:
    made = re.sub(r"[^a-z0-9]+", "_", Path(source).name.lower()).strip("_")
    if not made or not made[0].isalpha():
        raise ArgumentError(f"no name for an adapter can be made of '{source}'", "give one with --name")
    return made
