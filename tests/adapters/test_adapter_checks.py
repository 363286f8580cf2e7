"""Nothing of an adapter is loaded before it has passed its checks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from overlay.adapters import check_adapter
from overlay.adapters.adapter import file_digest
from overlay.errors import AdapterError, WrongBaseModel

pytest_plugins = ["tiny_home"]


@pytest.fixture
def folder(trained_home: Any, tmp_path: Path) -> Path:
    """A copy of a trained adapter that a test may spoil."""
    return Path(shutil.copytree(trained_home.built / "ends_in_z", tmp_path / "ends_in_z"))


def sign_anew(folder: Path) -> None:
    """Make the manifest agree with the files: whoever can change one can change the other."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["weights_sha256"] = file_digest(folder / "adapter_model.safetensors")
    manifest["config_sha256"] = file_digest(folder / "adapter_config.json")
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_untouched_copy_passes(folder: Path) -> None:
    sign_anew(folder)
    assert check_adapter(folder).name == "ends_in_z"


def test_another_base_model_is_refused_and_both_are_named(folder: Path) -> None:
    own = check_adapter(folder).base_digest
    with pytest.raises(WrongBaseModel) as caught:
        check_adapter(folder, "f" * 64)
    assert own[:12] in caught.value.problem
    assert "f" * 12 in caught.value.problem


@pytest.mark.parametrize("name", ["adapter_model.bin", "x.PT", "deeper/x.pkl", "x.pickle", "x.ckpt", "x.py", "x"])
def test_a_file_that_may_hold_code_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"harmless")
    with pytest.raises(AdapterError, match="does not belong to an adapter"):
        check_adapter(folder)


def test_a_link_to_somewhere_else_is_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(AdapterError, match="does not belong"):
        check_adapter(folder)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_changed_or_missing_file_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(AdapterError, match="is not what was trained"):
        check_adapter(folder)
    (folder / name).unlink()
    with pytest.raises(AdapterError, match="is missing"):
        check_adapter(folder)


@pytest.mark.parametrize(
    "key",
    [
        "base_model.model.lm_head.weight",
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.other.weight",
        "lora_A.weight",
    ],
)
def test_a_key_that_is_no_lora_weight_is_refused(folder: Path, key: str) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    weights[key] = next(iter(weights.values()))
    save_file(weights, folder / "adapter_model.safetensors")
    sign_anew(folder)
    with pytest.raises(AdapterError, match="which is not a LoRA weight"):
        check_adapter(folder)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 64])
def test_weights_that_are_no_safetensors_are_refused(folder: Path, content: bytes) -> None:
    (folder / "adapter_model.safetensors").write_bytes(content)
    sign_anew(folder)
    with pytest.raises(AdapterError, match="can't be read as safetensors"):
        check_adapter(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "IA3"),
        ("auto_mapping", {"base_model_class": "Evil", "parent_library": "evil"}),
        ("custom", "evil.Layer"),
        ("a_newer_setting", None),
        ("modules_to_save", ["lm_head"]),
        ("use_dora", True),
        ("megatron_config", {"core": "evil"}),
        ("init_lora_weights", "pissa"),
        ("bias", "all"),
        ("layer_replication", [[0, 2]]),
        ("target_modules", "(a+)+b"),
        ("target_modules", ["(a+)+b"]),
        ("rank_pattern", {"(a+)+b": 4}),
        ("alpha_pattern", {"q_proj": 1e300}),
        ("r", 10**9),
        ("r", True),
        ("lora_alpha", float("nan")),
        ("lora_alpha", 0),
        ("trainable_token_indices", [1, 1]),
        ("trainable_token_indices", {"embed_tokens": [-1]}),
        ("trainable_token_indices", [[1]]),
    ],
)
def test_a_configuration_beyond_plain_lora_is_refused(folder: Path, key: str, value: Any) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, key: value}))
    sign_anew(folder)
    with pytest.raises(AdapterError, match=rf"adapter_config\.json .*{key if key != 'peft_type' else 'IA3'}"):
        check_adapter(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "name": "ends_in_z", "unknown": 2}', "\udcff"]
)
def test_a_damaged_manifest_is_refused(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(AdapterError, match="can't be read as an adapter's manifest"):
        check_adapter(folder)


def test_facts_of_the_wrong_kind_are_refused(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "accuracy_after": "high"}))
    with pytest.raises(AdapterError, match="accuracy_after"):
        check_adapter(folder)


def test_an_adapter_that_was_never_trained_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="isn't trained yet"):
        check_adapter(tmp_path / "absent")


def test_a_folder_under_another_name_is_refused(folder: Path) -> None:
    with pytest.raises(AdapterError, match="belongs to adapter 'ends_in_z'"):
        check_adapter(folder.rename(folder.with_name("other")))
