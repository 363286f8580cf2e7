"""Control vectors: the GGUF files in which llama.cpp keeps directions, written and read.

llama.cpp adds the tensor `direction.N` to the output of block N, counted from 0, at every position, times
the scale it is given. Block 0 can't be named. The loader reads no metadata; ours is for people.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError, RecordDamaged
from overlay.records import storage_errors

if TYPE_CHECKING:
    from overlay.axes.axis import Axis

ARCHITECTURE = "controlvector"

_UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, MemoryError, AttributeError, OSError)
"""What the reader of the format raises on damaged bytes: it checks little before it uses them."""

_NEXT_STEP = "export it again, or fetch it again"


@dataclass(frozen=True, eq=False)
class ControlVector:
    """What a control vector adds to block outputs at scale 1: by block, from 1 on, (width,) float32, none zero."""

    vectors: Mapping[int, NDArray[np.float32]]
    model_hint: str

    @property
    def width(self) -> int:
        """Width of the residual stream that it fits."""
        return len(next(iter(self.vectors.values())))

    @cached_property
    def digest(self) -> str:
        """sha256 over blocks and numbers."""
        found = hashlib.sha256()
        for block, vector in sorted(self.vectors.items()):
            found.update(block.to_bytes(8, "little") + vector.astype("<f4").tobytes())
        return found.hexdigest()


def axis_vector(axis: Axis, amount: float = 1.0) -> ControlVector:
    """What `amount` times the budget dose of an axis adds to its blocks' outputs.

    Raises:
        ArgumentError: the axis acts at block 0, which the format can't name, or the amount adds nothing.
    """
    dose = axis.dose(amount)
    if 0 in dose.blocks:
        raise ArgumentError(
            f"axis '{axis.name}' acts at block 0, which a control vector can't express: its directions begin at "
            "block 1",
            "build the axis with other blocks",
        )
    if dose.coefficient == 0:
        raise ArgumentError(f"a dose of {amount} adds nothing", "give a dose other than 0")
    strengths = {block: np.float32(dose.coefficient * float(dose.direction.norms[block])) for block in dose.blocks}
    return ControlVector(
        {block: dose.direction.vectors[block] * strength for block, strength in strengths.items()}, axis.model_name
    )


def write_control_vector(path: Path, vector: ControlVector, name: str, description: str) -> None:
    """Write a control vector as a new GGUF file, whole or not at all.

    Raises:
        ArgumentError: the file exists already, or can't be written there. StorageFull
    """
    from gguf import GGUFWriter

    if path.exists():
        raise ArgumentError(f"{path} exists already", "give a new name, or remove it first")
    with storage_errors(path):
        try:
            with tempfile.TemporaryDirectory(prefix=".vector-", dir=path.parent) as folder:
                written = Path(folder) / path.name
                writer = GGUFWriter(written, ARCHITECTURE)
                try:
                    writer.add_name(name)
                    writer.add_description(description)
                    writer.add_string(f"{ARCHITECTURE}.model_hint", vector.model_hint)
                    writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vector.vectors))
                    for block, values in sorted(vector.vectors.items()):
                        writer.add_tensor(f"direction.{block}", np.ascontiguousarray(values, np.float32))
                    writer.write_header_to_file()
                    writer.write_kv_data_to_file()
                    writer.write_tensors_to_file()
                finally:
                    writer.close()
                written.replace(path)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise ArgumentError(f"{path} can't be written: {error.strerror}", "choose another place") from error


def read_control_vector(path: Path) -> ControlVector:
    """Read a control vector; a block whose numbers are all zero is left out, for nothing is done there.

    Raises:
        ArgumentError: there is no such file.
        RecordDamaged: the file is damaged, or isn't a control vector that llama.cpp would take.
    """
    from gguf import GGMLQuantizationType

    if not path.is_file():
        raise ArgumentError(f"there is no file {path}", "name a control vector in GGUF format")
    vectors: dict[int, NDArray[np.float32]] = {}
    try:
        reader = _open_gguf(path)
        architecture = _text_field(reader, "general.architecture")
        if architecture != ARCHITECTURE:
            raise _NotOne(f"it holds '{architecture}', not a {ARCHITECTURE}")
        for tensor in reader.tensors:
            match = re.fullmatch(r"direction\.([1-9]\d{0,5})", tensor.name)
            if match is None:
                raise _NotOne(f"the tensor '{tensor.name}' is no direction of a block from 1 on")
            if tensor.tensor_type != GGMLQuantizationType.F32 or len(tensor.shape) != 1:
                raise _NotOne(f"the tensor '{tensor.name}' isn't one row of 32-bit numbers")
            values = np.array(tensor.data, np.float32)
            if values.shape != (int(tensor.shape[0]),) or not np.isfinite(values).all():
                raise _NotOne(f"the tensor '{tensor.name}' is cut off, or holds values that aren't finite")
            vectors[int(match.group(1))] = values
        hint = _text_field(reader, f"{ARCHITECTURE}.model_hint")
    except _NotOne as error:
        raise RecordDamaged(f"{path} is not a control vector: {error}", _NEXT_STEP) from None
    except _UNREADABLE as error:
        raise RecordDamaged(f"{path} is not a readable GGUF file ({error})", _NEXT_STEP) from error
    if len({len(values) for values in vectors.values()}) > 1:
        raise RecordDamaged(f"{path} is not a control vector: its directions differ in length", _NEXT_STEP)
    kept = {block: values for block, values in sorted(vectors.items()) if values.any()}
    if not kept:
        raise RecordDamaged(f"{path} holds no direction other than zero", _NEXT_STEP)
    return ControlVector(kept, hint)


class _NotOne(Exception):
    """Why a readable file is no control vector."""


def _open_gguf(path: Path) -> Any:
    from gguf import GGUFReader

    class WholeReader(GGUFReader):
        # The reader takes what lies behind the end for empty values, and would count them up to any damaged length.
        def _get(self, offset: int, dtype: Any, count: int = 1, *args: Any, **named: Any) -> Any:
            found = super()._get(offset, dtype, count, *args, **named)
            if len(found) < count:
                raise ValueError("it ends too early")
            return found

    return WholeReader(path)


def _text_field(reader: Any, key: str) -> str:
    field = reader.get_field(key)
    return "" if field is None else bytes(field.parts[-1]).decode("utf-8")
