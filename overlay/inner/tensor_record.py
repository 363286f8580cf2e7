"""Tensor records: arrays with the facts that go with them, in one safetensors file that knows its own checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlay.records import write_record

Tensors = Mapping[str, NDArray[np.float32]]


def write_tensors(path: Path, layout: str, kind: str, tensors: Tensors, facts: Mapping[str, Any]) -> None:
    """Write tensors and facts, whole or not at all.

    Args:
        layout: the name of the layout, which reading asks for again.
        kind: under this name the facts stand in the file.

    Raises:
        StorageFull
    """
    from safetensors.numpy import save

    told = json.dumps(facts)
    metadata = {"format": layout, kind: told, "sha256": checksum(tensors, told)}
    # Copies: the library refuses arrays that are read-only.
    write_record(path, save({name: np.array(values) for name, values in tensors.items()}, metadata=metadata))


def read_tensors(
    path: Path, layout: str, kind: str, names: Sequence[str]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """The tensors of these names, read-only, and the facts, as `write_tensors` wrote them.

    Raises:
        OSError: there is no such file. KeyError, ValueError: it isn't what was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != layout:
                raise ValueError(f"its format is {metadata.get('format', 'unknown')}, not {layout}")
            tensors = {name: read_only(file.get_tensor(name)) for name in names}
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if checksum(tensors, metadata[kind]) != metadata["sha256"]:
        raise ValueError("its checksum differs from what was stored")
    facts: dict[str, Any] = json.loads(metadata[kind])
    return tensors, facts


def checksum(tensors: Tensors, told: str) -> str:
    """sha256 over facts as text, and over names, types, shapes and numbers of all tensors."""
    state = hashlib.sha256(told.encode())
    for name, values in sorted(tensors.items()):
        state.update(f"{name}{values.dtype}{values.shape}".encode())
        state.update(np.ascontiguousarray(values).tobytes())
    return state.hexdigest()


def read_only(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array, which nobody can change any more."""
    values.setflags(write=False)
    return values
