"""Broken, forged and foreign adapters are refused for the right reason before anything of them is attached."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from overlay.adapters import AdapterLibrary
from overlay.adapters.adapter import file_digest
from overlay.adapters.exchange import import_adapter
from overlay.errors import OverlayError
from overlay.model import Row

pytest_plugins = ["tiny_home"]

UP = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
DOWN = "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    """A fault in the tensors."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return spoil


def config(**changes: Any) -> Callable[[Path], None]:
    """A fault in the configuration."""

    def spoil(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"lora_A.weight": [1.0]}))


def truncated(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def boundless_header(folder: Path) -> None:
    """A header that claims to be 2**62 bytes long."""
    (folder / "adapter_model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")


def overlapping(folder: Path) -> None:
    """Two tensors in the same bytes."""
    part = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({UP: part, DOWN: part}).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


def poisoned(value: float, dtype: torch.dtype = torch.float32) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[UP] = tensors[UP].to(dtype)
        tensors[UP][3, 1] = value

    return change


def of_high_rank(tensors: dict[str, torch.Tensor]) -> None:
    tensors[DOWN] = tensors[DOWN].repeat(2048, 1)
    tensors[UP] = tensors[UP].repeat(1, 2048)


def renamed(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for key in (UP, DOWN):
            tensors[key.replace(old, new)] = tensors.pop(key)

    return change


def token_rows(rows: int, width: int) -> Callable[[dict[str, torch.Tensor]], None]:
    key = "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
    return lambda tensors: tensors.update({key: torch.ones(rows, width)})


def together(*faults: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: [fault(folder) for fault in faults] and None


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pickle file": (pickled, r"adapter_model\.bin"),
    "truncated file": (truncated, "can't be read as safetensors"),
    "boundless header": (boundless_header, "can't be read as safetensors"),
    "overlapping tensors": (overlapping, "can't be read as safetensors"),
    "unknown setting": (config(evil_hook="os.system"), "sets 'evil_hook'"),
    "code in a setting": (config(auto_mapping={"parent_library": "evil"}), "sets 'auto_mapping'"),
    "changed base": (config(modules_to_save=["lm_head"]), "sets 'modules_to_save'"),
    "endless pattern": (config(rank_pattern={"(.*)*x": 2}), "sets 'rank_pattern'"),
    "forged rank": (config(r=2**31), "sets 'r'"),
    "rank that the weights don't have": (config(r=4), "not of rank 4"),
    "huge rank": (together(weights(of_high_rank), config(r=4096)), "sets 'r'"),
    "not LoRA": (config(peft_type="PREFIX_TUNING"), "PREFIX_TUNING"),
    "base weight": (
        weights(lambda tensors: tensors.update({"base_model.model.lm_head.weight": torch.ones(2, 2)})),
        "'base_model.model.lm_head.weight', which is not a LoRA weight",
    ),
    "too wide": (
        weights(lambda tensors: tensors.update({DOWN: torch.ones(2, 33)})),
        r"layer of shape \[64, 33\], and the base has \[64, 32\]",
    ),
    "turned round": (
        weights(lambda tensors: tensors.update({UP: torch.ones(2, 64)})),
        r"'model.layers.1.mlp.up_proj' has factors of shapes",
    ),
    "half a pair": (weights(lambda tensors: tensors.pop(UP)), "LoRA is a pair"),
    "absent layer": (weights(renamed("layers.1", "layers.7")), r"no layer 'model\.layers\.7\.mlp\.up_proj'"),
    "a path in a key": (weights(renamed("layers.1", "../layers")), "which is not a LoRA weight"),
    "no number": (weights(poisoned(float("nan"))), "infinite or no numbers"),
    "infinity in bfloat16": (weights(poisoned(float("inf"), torch.bfloat16)), "infinite or no numbers"),
    "infinity in float16": (weights(poisoned(float("-inf"), torch.float16)), "infinite or no numbers"),
    "whole numbers": (
        weights(lambda tensors: tensors.update({UP: tensors[UP].to(torch.int32)})),
        "has the type I32",
    ),
    "token rows without tokens": (weights(token_rows(2, 32)), "trainable_token_indices names none"),
    "token rows of other tokens": (
        together(weights(token_rows(2, 32)), config(trainable_token_indices={"embed_tokens": [4]})),
        "for 1 tokens",
    ),
    "token rows beyond the vocabulary": (
        together(weights(token_rows(1, 32)), config(trainable_token_indices={"embed_tokens": [999]})),
        "up to token 999",
    ),
    "no settings": (lambda folder: (folder / "adapter_config.json").write_text("[" * 100_000), "is not JSON|type None"),
    "endless settings": (
        lambda folder: (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA" + " " * 2**20})),
        "is the limit",
    ),
}


@pytest.fixture(scope="module")
def model(trained_home: Any) -> Any:
    return trained_home.load_model()


@pytest.fixture
def unharmed(model: Any) -> Any:
    """The model, of which the test must leave everything as it was."""
    row = Row(text="one two three")

    def logits() -> Any:
        ((_, found),) = model.logits([model.encode(row).tokens], [row])
        return found

    before, census = logits(), model.census()
    yield model
    assert torch.equal(logits(), before)
    assert model.census() == census
    assert model.adapters == {}


def copied(trained_home: Any, place: Path) -> Path:
    return Path(shutil.copytree(trained_home.built / "ends_in_z", place / "ends_in_z"))


def sign_anew(folder: Path, **facts: Any) -> None:
    """Make the manifest agree with the files: whoever can change one can change the other."""
    manifest = json.loads((folder / "manifest.json").read_text()) | facts
    for fact, name in (("weights_sha256", "adapter_model.safetensors"), ("config_sha256", "adapter_config.json")):
        if (folder / name).exists():
            manifest[fact] = file_digest(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_forged_adapter_of_the_library_is_not_worn(
    trained_home: Any, unharmed: Any, tmp_path: Path, fault: str
) -> None:
    folder = copied(trained_home, tmp_path)
    spoil, reason = FAULTS[fault]
    spoil(folder)
    sign_anew(folder)
    library = AdapterLibrary(trained_home.written, tmp_path)
    with pytest.raises(OverlayError, match=reason) as caught, library.worn(unharmed, "ends_in_z"):
        pass
    assert caught.value.next_step


@pytest.mark.parametrize("fault", FAULTS)
def test_a_forged_adapter_is_not_imported(trained_home: Any, unharmed: Any, tmp_path: Path, fault: str) -> None:
    folder = copied(trained_home, tmp_path / "theirs")
    spoil, reason = FAULTS[fault]
    spoil(folder)
    library = AdapterLibrary(tmp_path / "lora", tmp_path / "built")
    with pytest.raises(OverlayError, match=reason) as caught:
        import_adapter(str(folder), library, unharmed)
    assert caught.value.next_step
    assert not library.built.exists()


@pytest.mark.parametrize("name", ["../../escaped", "/etc/passwd", "Ends", "ends in z", "", ".hidden", "a" * 3 + "\n"])
def test_a_path_in_a_name_is_refused(trained_home: Any, unharmed: Any, tmp_path: Path, name: str) -> None:
    folder = copied(trained_home, tmp_path)
    sign_anew(folder, name=name)
    with pytest.raises(OverlayError, match="names its adapter"):
        AdapterLibrary(trained_home.written, tmp_path).load("ends_in_z")
    library = AdapterLibrary(tmp_path / "lora", tmp_path / "built")
    with pytest.raises(OverlayError, match="can't be the name"):
        import_adapter(str(trained_home.built / "ends_in_z"), library, unharmed, name=name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ends_in_z"]


def test_a_pickle_file_beside_the_weights_is_never_opened(trained_home: Any, unharmed: Any, tmp_path: Path) -> None:
    folder = copied(trained_home, tmp_path)
    opened = tmp_path / "opened"

    class Bomb:
        def __reduce__(self) -> Any:
            return (opened.write_text, ("",))

    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Bomb()))
    (folder / "training_args.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(OverlayError, match=r"adapter_model\.bin does not belong"):
        AdapterLibrary(trained_home.written, tmp_path).load("ends_in_z")
    adapter = import_adapter(str(folder), AdapterLibrary(tmp_path / "lora", tmp_path / "built"), unharmed)
    assert sorted(path.name for path in adapter.folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    assert not opened.exists()


def test_all_floats_that_are_numbers_pass(trained_home: Any, unharmed: Any, tmp_path: Path) -> None:
    """The largest and the smallest numbers of each type are no infinities."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        folder = copied(trained_home, tmp_path / str(dtype))
        for value in (torch.finfo(dtype).max, torch.finfo(dtype).tiny / 2):
            weights(poisoned(value, dtype))(folder)
            sign_anew(folder)
            assert AdapterLibrary(trained_home.written, folder.parent).load("ends_in_z", unharmed.digest)
