"""A saved axis comes back as it was, or is refused by what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts, write_contrast

from overlay.axes import Axis, AxisLibrary, load_axis
from overlay.errors import AxisMissing, RecordDamaged, WrongBaseModel
from overlay.model import VolatilityGauge


def test_an_axis_comes_back_as_it_was_saved(tmp_path: Path, toy_axis: Axis) -> None:
    path = toy_axis.save(tmp_path / "deep" / "axes")
    found = load_axis(path, toy_axis.model_digest)
    assert found == toy_axis and found.direction.digest == toy_axis.direction.digest
    assert path.name == "vowels.safetensors" and list(path.parent.iterdir()) == [path]


def test_saving_again_replaces_the_axis(tmp_path: Path, toy_axis: Axis) -> None:
    toy_axis.save(tmp_path)
    path = replace(toy_axis, neutral_mean=5.0).save(tmp_path)
    assert load_axis(path).neutral_mean == 5.0


def test_an_axis_of_another_model_is_refused_and_both_are_named(tmp_path: Path, toy_axis: Axis) -> None:
    path = toy_axis.save(tmp_path)
    with pytest.raises(WrongBaseModel, match=f"tiny-llama \\({toy_axis.model_digest[:12]}\\).*ffffffffffff") as caught:
        load_axis(path, "f" * 64)
    assert "overlay axes build vowels" in caught.value.next_step
    assert load_axis(path) == toy_axis


def test_an_axis_that_was_not_built_is_missing(tmp_path: Path) -> None:
    with pytest.raises(AxisMissing, match="'vowels' has not been built") as caught:
        load_axis(tmp_path / "vowels.safetensors")
    assert "overlay axes build vowels" in caught.value.next_step


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _other_bytes(path: Path) -> None:
    path.write_bytes(b"\x93NUMPY" + bytes(500))


def _no_metadata(path: Path) -> None:
    save_file(load_file(path), path)


def _other_format(path: Path) -> None:
    save_file(load_file(path), path, metadata={"format": "pt", "axis": "{}"})


def _change_facts(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    facts = json.loads(metadata["axis"])
    change(facts)
    save_file(load_file(path), path, metadata=metadata | {"axis": json.dumps(facts)})


def _no_calibration(path: Path) -> None:
    _change_facts(path, lambda facts: facts.pop("calibration"))


def _older_format(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    save_file(load_file(path), path, metadata=metadata | {"format": "overlay-axis-2"})


def _no_evidence(path: Path) -> None:
    _change_facts(path, lambda facts: facts.pop("evidence"))


def _no_model(path: Path) -> None:
    _change_facts(path, lambda facts: facts.pop("model_digest"))


def _surplus_fact(path: Path) -> None:
    _change_facts(path, lambda facts: facts.update(colour="red"))


def _no_vectors(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    save_file({"norms": load_file(path)["norms"]}, path, metadata=metadata)


def _vectors_of_no_unit_length(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    tensors = load_file(path)
    save_file(tensors | {"vectors": tensors["vectors"] * np.float32(2)}, path, metadata=metadata)


@pytest.mark.parametrize(
    "damage",
    [
        _cut_short, _empty, _other_bytes, _no_metadata, _other_format, _older_format, _no_calibration, _no_evidence,
        _no_model, _surplus_fact, _no_vectors, _vectors_of_no_unit_length,
    ],
)  # fmt: skip
def test_a_damaged_axis_is_refused_with_its_path_and_what_to_do(
    tmp_path: Path, toy_axis: Axis, damage: Callable[[Path], None]
) -> None:
    path = toy_axis.save(tmp_path)
    damage(path)
    with pytest.raises(RecordDamaged) as caught:
        load_axis(path, toy_axis.model_digest)
    assert str(path) in caught.value.problem and "overlay axes build vowels" in caught.value.next_step


# --- the library ---------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> AxisLibrary:
    write_contrast(tmp_path / "written", toy_contrast())
    return AxisLibrary(tmp_path / "written", tmp_path / "built")


def test_an_axis_is_built_once_and_found_again(
    library: AxisLibrary, tmp_path: Path, toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    assert library.ready("vowels", tiny_llama, tiny_gauge, BUDGET) == toy_axis
    written = (tmp_path / "built" / "vowels.safetensors").stat()
    assert library.ready("vowels", tiny_llama, tiny_gauge, BUDGET) == toy_axis
    assert (tmp_path / "built" / "vowels.safetensors").stat().st_mtime_ns == written.st_mtime_ns
    assert [(status.name, status.axis, status.problem) for status in library.status()] == [("vowels", toy_axis, "")]


def test_changed_texts_make_a_built_axis_stale(
    library: AxisLibrary, tmp_path: Path, toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    toy_axis.save(tmp_path / "built")
    write_contrast(tmp_path / "written", toy_contrast(neutral=toy_texts(LETTERS["neutral"], seed=2)))
    with pytest.raises(AxisMissing, match="changed after it was built"):
        library.load("vowels", tiny_llama.digest)
    assert "changed" in library.status()[0].problem
    assert library.ready("vowels", tiny_llama, tiny_gauge, BUDGET).data_digest != toy_axis.data_digest


def test_an_axis_of_an_older_format_is_built_anew(
    library: AxisLibrary, tmp_path: Path, toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    _older_format(toy_axis.save(tmp_path / "built"))
    assert library.ready("vowels", tiny_llama, tiny_gauge, BUDGET) == toy_axis
    assert load_axis(tmp_path / "built" / "vowels.safetensors") == toy_axis


def test_another_model_or_budget_builds_the_axis_anew(
    library: AxisLibrary, tmp_path: Path, toy_axis: Axis, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    replace(toy_axis, model_digest="0" * 64).save(tmp_path / "built")
    assert library.ready("vowels", tiny_llama, tiny_gauge, BUDGET) == toy_axis
    assert library.ready("vowels", tiny_llama, tiny_gauge, BUDGET / 2).calibration.budget == BUDGET / 2


def test_status_tells_what_is_wrong_without_a_model(library: AxisLibrary, tmp_path: Path, toy_axis: Axis) -> None:
    assert [status.problem for status in library.status()] == ["not built yet"]
    weak = replace(toy_axis.evidence, auroc={"negative": 0.5})
    replace(toy_axis, evidence=weak).save(tmp_path / "built")
    assert "did not pass its checks" in library.status()[0].problem
    _cut_short(tmp_path / "built" / "vowels.safetensors")
    assert "not a readable axis" in library.status()[0].problem
