"""Whatever strikes while a checkpoint is written, the one before or the new one can be read, whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from overlay.adapters import checkpoint
from overlay.adapters.checkpoint import (
    Identity,
    Progressed,
    checkpoint_folder,
    drop_checkpoint,
    find_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from overlay.errors import AdapterError, StorageFull

IDENTITY = Identity("recipe", "model", "float32")
FIRST = Progressed(IDENTITY, {"steps": 9}, 4, 0.125, 2.5, 1e9, {"examples": [3, 1], "replay": []})
TENSORS = {"weight/a": torch.arange(6.0).view(2, 3).T, "random/examples": torch.Generator().get_state()}


class Struck(BaseException):
    """Not an Exception: nothing may catch it on its way."""


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    folder = checkpoint_folder(tmp_path, "name")
    assert find_checkpoint(folder) is None
    write_checkpoint(folder, FIRST, TENSORS)
    progressed, tensors = read_checkpoint(folder, IDENTITY)
    assert progressed == FIRST == find_checkpoint(folder)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    drop_checkpoint(folder)
    assert not folder.exists()
    drop_checkpoint(folder)


def test_an_older_checkpoint_leaves_nothing_behind(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, FIRST, TENSORS)
    write_checkpoint(tmp_path, replace(FIRST, step=8), TENSORS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "step-8.safetensors"]


@pytest.mark.parametrize(("strike", "step"), [("tensors", 4), ("record", 4), ("cleaning", 8)])
@pytest.mark.parametrize("fault", [Struck, StorageFull])
def test_a_checkpoint_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strike: str, step: int, fault: Any
) -> None:
    write_checkpoint(tmp_path, FIRST, TENSORS)
    write, error = checkpoint.write_record, fault("no space") if fault is Struck else fault("no space", "free some")

    def struck(path: Path, content: Any) -> None:
        if (path.suffix == ".json") == (strike == "record") and strike != "cleaning":
            raise error
        write(path, content)

    def kept(path: Path, missing_ok: bool = False) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_record", struck)
        if strike == "cleaning":
            patched.setattr(Path, "unlink", kept)
        with pytest.raises(fault):
            write_checkpoint(tmp_path, replace(FIRST, step=8), {**TENSORS, "weight/a": torch.zeros(1)})
    progressed, tensors = read_checkpoint(tmp_path, IDENTITY)
    assert progressed.step == step
    assert torch.equal(tensors["weight/a"], TENSORS["weight/a"] if step == 4 else torch.zeros(1))


def test_a_checkpoint_whose_removal_was_interrupted_is_none_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, FIRST, TENSORS)

    def struck(*_: Any, **__: Any) -> None:
        raise Struck

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.shutil, "rmtree", struck)
        with pytest.raises(Struck):
            drop_checkpoint(tmp_path)
    assert find_checkpoint(tmp_path) is None
    with pytest.raises(AdapterError, match="no training to resume"):
        read_checkpoint(tmp_path, IDENTITY)
