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

from pydantic import ConfigDict

from overlay.errors import AdapterError
from overlay.records import read_record, write_record

if TYPE_CHECKING:
    from torch import Tensor

RECORD = "checkpoint.json"

FORMAT = 2
"""The layout of a checkpoint; one of another format can't be gone on from."""


ANEW = "train it from the start, without --resume"


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


@dataclass(frozen=True)
class _Kept:
    """The record of a checkpoint: the file of its tensors and that one's sha256."""

    file: str
    sha256: str
    progressed: Progressed


def _kept(folder: Path) -> _Kept | None:
    return read_record(folder / RECORD, _Kept, "a checkpoint", ANEW, format=FORMAT)


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
        AdapterError: there is none, its tensors are damaged, or it belongs to another recipe or model.
        RecordDamaged: it can't be read.
    """
    from safetensors.torch import load

    anew, kept = ANEW, _kept(folder)
    if kept is None:
        raise AdapterError(f"there is no training to resume: {folder / RECORD} does not exist", anew)
    progressed = kept.progressed
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
    path = folder / Path(kept.file).name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != kept.sha256:
        raise AdapterError(f"{path} is not what was written: its sha256 differs from the record's", anew)
    return progressed, load(content)


def find_checkpoint(folder: Path) -> Progressed | None:
    """How far the training in `folder` is; None where there is none. Raises RecordDamaged where it can't be read."""
    kept = _kept(folder)
    return kept.progressed if kept is not None else None


def drop_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, its record first: what is left after an interruption is none any more."""
    with contextlib.suppress(FileNotFoundError):
        (folder / RECORD).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _written(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
