"""Checkpoints: everything that a training needs to go on as if it had never stopped.

Two files: tensors in safetensors, and a record in JSON that names them with their sha256. The record is replaced
atomically and after the tensors, so whatever is interrupted, it points to whole ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from overlay.errors import AdapterError
from overlay.records import write_record

if TYPE_CHECKING:
    from torch import Tensor

RECORD = "checkpoint.json"

FORMAT = 2
"""The layout of a checkpoint; one of another format can't be gone on from."""


@dataclass(frozen=True)
class Identity:
    """What a checkpoint goes with: digest of the recipe as it was trained, hash and number format of the model."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    recipe: str
    model: str
    dtype: str


@dataclass(frozen=True)
class Progressed:
    """How far a training is, without its tensors.

    Attributes:
        overrides: what was set beside the recipe.
        step: optimizer steps done; replay_kl: nats per token on the replay texts then.
        seconds: that they took; made_at: when the examples were read, epoch seconds.
        waiting: indexes that each batch order has not given out yet, by the order's name.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    identity: Identity
    overrides: dict[str, Any]
    step: int
    replay_kl: float
    seconds: float
    made_at: float
    waiting: dict[str, list[int]]


def checkpoint_folder(built: Path, name: str) -> Path:
    """Where the checkpoint of an adapter in training lies; the name begins with a dot, as no adapter's does."""
    return built / f".{name}.training"


def write_checkpoint(folder: Path, progressed: Progressed, tensors: Mapping[str, Tensor]) -> None:
    """Replace the checkpoint in `folder`. Raises StorageFull, and then the one before is still there."""
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    name = f"step-{progressed.step}.safetensors"
    write_record(folder / name, content)
    record = {
        "format": FORMAT,
        "file": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "progressed": asdict(progressed),
    }
    write_record(folder / RECORD, json.dumps(record))
    for other in folder.glob("step-*.safetensors"):
        if other.name != name:
            other.unlink(missing_ok=True)


def read_checkpoint(folder: Path, identity: Identity) -> tuple[Progressed, dict[str, Tensor]]:
    """The checkpoint in `folder`, if it is that of this recipe and model.

    Raises:
        AdapterError: there is none, it is damaged, or it belongs to another recipe or model.
    """
    from safetensors.torch import load

    anew = "train it from the start, without --resume"
    progressed = find_checkpoint(folder)
    if progressed is None:
        raise AdapterError(f"there is no training to resume: {folder / RECORD} does not exist", anew)
    found = progressed.identity
    if found.model != identity.model:
        raise AdapterError(
            f"the training in {folder} was begun on another model ({found.model[:12]}, this one is "
            f"{identity.model[:12]})",
            f"load that model, or {anew}",
        )
    if found.dtype != identity.dtype:
        raise AdapterError(
            f"the training in {folder} was begun in {found.dtype}, and this is {identity.dtype}",
            f"use --dtype {found.dtype}, or {anew}",
        )
    if found.recipe != identity.recipe:
        options = " ".join(f"--{name} {_written(value)}" for name, value in progressed.overrides.items())
        begun = f"it was begun with {options}" if options else "it was begun with no options beside the recipe"
        raise AdapterError(
            f"the training in {folder} was begun by another recipe, or with other options ({begun})",
            f"give the same recipe and options, or {anew}",
        )
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    path = folder / Path(str(record.get("file"))).name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != record.get("sha256"):
        raise AdapterError(f"{path} is not what was written: its sha256 differs from the record's", anew)
    return progressed, load(content)


def find_checkpoint(folder: Path) -> Progressed | None:
    """How far the training in `folder` is; None where there is none. Raises AdapterError where it can't be read."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"it has format {record['format']}, and this program reads format {FORMAT}")
        return TypeAdapter(Progressed).validate_json(json.dumps(record["progressed"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise AdapterError(
            f"{path} can't be read as a checkpoint: {reason}", "train it from the start, without --resume"
        ) from error


def drop_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, its record first: what is left after an interruption is none any more."""
    with contextlib.suppress(FileNotFoundError):
        (folder / RECORD).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _written(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
