"""The axes commands: every choice reaches the axis, an unproven one is told from a proven one, mistakes end at once."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from command import Command, command
from tiny_models import byte_tokenizer, tiny_module
from toy_axis import LETTERS, toy_contrast, toy_texts, write_contrast
from toy_home import create_toy_home

from overlay.axes import load_axis


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys, columns=200)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A toy home whose model is a tiny one in a folder, with the axis "vowels" and "same", which can't pass."""
    tiny_module("llama").save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    folder = create_toy_home(tmp_path / "home", "unused", model=str(tmp_path / "model")).folder
    weak = toy_contrast("same", positive=toy_texts(LETTERS["negative"], seed=1))
    write_contrast(folder / "adapters" / "steering", weak)
    return folder


def test_method_and_pool_of_the_command_line_are_those_of_the_axis(overlay: Command, home: Path) -> None:
    done = overlay("axes", "build", "vowels", "--method", "logistic", "--pool", "last", "--home", home)
    assert done.code == 0 and "made by logistic, read over last at blocks" in done.out
    assert "of its own texts read above their twins" in done.out and "unproven" not in done.out
    axis = load_axis(home / ".overlay" / "axes" / "vowels.safetensors")
    assert (axis.method, axis.pool, axis.forced) == ("logistic", "last", False)


def test_what_the_dose_turns_the_wrong_way_is_printed_beside_what_reads_the_wrong_way(
    overlay: Command, home: Path
) -> None:
    fresh = {
        group: toy_texts(LETTERS[letters], 4, 3)
        for group, letters in {"positive": "positive", "liquids": "foil"}.items()
    }
    (home / "adapters" / "steering" / "vowels.confirm.yaml").write_text(json.dumps(fresh))
    done = overlay("axes", "build", "vowels", "--home", home)
    share = load_axis(home / ".overlay" / "axes" / "vowels.safetensors").evidence.acts_against_sign
    assert share is not None and f"{share:.0%} of its own fresh texts are made less likely by the dose" in done.out
    assert "of its own texts read below neutral" in done.out


def test_an_unproven_axis_fails_the_build_unless_forced_and_is_marked_in_every_list(
    overlay: Command, home: Path
) -> None:
    refused = overlay("axes", "build", "same", "--home", home)
    assert refused.code == 1 and "did not pass its checks" in refused.told and "unproven: held-out" in refused.out
    forced = overlay("axes", "build", "same", "--force", "--home", home)
    assert forced.code == 0 and "unproven, forced: held-out AUROC against negative" in forced.out
    overlay("axes", "build", "vowels", "--force", "--home", home)
    assert "unproven, forced: held-out AUROC" in overlay("axes", "list", "--home", home).out
    listed = {axis["name"]: axis for axis in json.loads(overlay("axes", "list", "--json", "--home", home).out)}
    assert listed["same"] | {"problem": ""} == {
        "name": "same", "built": True, "proven": False, "forced": True, "method": "levelled",
        "writes": "gradient", "pool": "ramp", "problem": "",
    }  # fmt: skip
    assert listed["same"]["problem"].startswith("unproven, forced: held-out AUROC against negative")
    assert listed["vowels"]["proven"] and not listed["vowels"]["forced"] and not listed["vowels"]["problem"]


def test_an_axis_goes_out_and_comes_in_again(overlay: Command, home: Path, tmp_path: Path) -> None:
    overlay("axes", "build", "vowels", "--home", home)
    file = tmp_path / "vowels.gguf"
    written = overlay("axes", "export", "vowels", file, "--dose", "-0.5", "--home", home)
    assert written.code == 0 and str(file) in written.out
    came = overlay("axes", "import", file, "--name", "back", "--pool", "mean", "--home", home)
    assert came.code == 0 and "unproven: it has no texts" in came.out
    built = home / ".overlay" / "axes"
    vowels, back = load_axis(built / "vowels.safetensors"), load_axis(built / "back.safetensors")
    (block,) = vowels.blocks
    assert vowels.writing.vectors[block] @ back.direction.vectors[block] < -0.9999 and back.pool == "mean"
    assert overlay("axes", "import", file, "--name", "back", "--force", "--home", home).code == 0
    assert load_axis(built / "back.safetensors").forced


def foreign(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_tensor("direction.1", np.ones(16, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["build", "joy"], 1, "there is no axis 'joy'"),
        (["build", "vowels", "--method", "magic"], 2, "'magic' is not a method"),
        (["build", "vowels", "--pool", "median"], 2, "'median' is not a pool"),
        (["build", "vowels", "--pool", "-1,2"], 2, "'-1,2' is not a pool"),
        (["export", "joy", "FOLDER/joy.gguf"], 1, "there is no axis 'joy'"),
        (["export", "vowels", "FOLDER/vowels.gguf"], 1, "'vowels' has not been built"),
        (["import", "FOLDER/none.gguf", "--name", "found"], 2, "there is no file"),
        (["import", "FOLDER/foreign.gguf", "--name", "No name"], 2, "'No name' is no name"),
        (["import", "FOLDER/foreign.gguf", "--name", "vowels"], 2, "there is an axis 'vowels' already"),
        (["import", "FOLDER/foreign.gguf", "--name", "found"], 1, "of width 16"),
        (["import", "FOLDER/agent.yaml", "--name", "found"], 1, "not a readable GGUF file"),
    ],
)
def test_a_mistake_ends_in_one_message(overlay: Command, home: Path, words: list[str], code: int, problem: str) -> None:
    foreign(home / "foreign.gguf")
    done = overlay("axes", *[word.replace("FOLDER", str(home)) for word in words], "--home", home)
    message = done.told[done.told.index("overlay: ") :]
    assert (done.code, done.out) == (code, "") and problem in message and "\n  -> " in message
    assert not (home / ".overlay" / "axes").exists()
