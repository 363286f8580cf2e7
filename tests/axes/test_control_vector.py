"""Control vectors: what llama.cpp would add is what the dose adds, and what comes in is refused unless it fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tiny_models import byte_tokenizer, tiny_module
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts, write_contrast

from overlay.axes import Axis, AxisLibrary, load_axis, read_control_vector
from overlay.errors import ArgumentError, AxisMissing, AxisUnproven, DocumentError, RecordDamaged, WrongBaseModel
from overlay.model import Intervention, LanguageModel, Row, VolatilityGauge


@pytest.fixture
def library(tmp_path: Path, toy_axis: Axis) -> AxisLibrary:
    """A library in which the toy axis is built."""
    write_contrast(tmp_path / "written", toy_contrast())
    toy_axis.save(tmp_path / "built")
    return AxisLibrary(tmp_path / "written", tmp_path / "built")


def write_gguf(path: Path, tensors: dict[str, Any], architecture: str = "controlvector", **texts: str) -> Path:
    """Write a GGUF as another program might."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, text in texts.items():
        writer.add_string(key.replace("__", "."), text)
    for name, values in tensors.items():
        writer.add_tensor(name, values.astype(np.float32) if values.dtype == np.float64 else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def foreign(path: Path, width: int = 32, blocks: tuple[int, ...] = (1, 2)) -> Path:
    draw = np.random.default_rng(0)
    return write_gguf(path, {f"direction.{block}": draw.standard_normal(width).astype(np.float32) for block in blocks})


# --- out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [1.0, 0.5, -1.0])
def test_the_file_holds_what_other_programs_expect_of_it(
    library: AxisLibrary, toy_axis: Axis, tmp_path: Path, amount: float
) -> None:
    library.export_vector("vowels", tmp_path / "vowels.gguf", amount)
    reader = gguf.GGUFReader(tmp_path / "vowels.gguf")
    texts = {key: field.contents() for key, field in reader.fields.items()}
    assert texts["general.architecture"] == "controlvector"
    assert texts["controlvector.model_hint"] == "tiny-llama" and texts["controlvector.layer_count"] == 1
    assert "proven" in texts["general.description"] and "unproven" not in texts["general.description"]
    (block,) = toy_axis.blocks
    (tensor,) = reader.tensors
    assert tensor.name == f"direction.{block}" and tensor.tensor_type == gguf.GGMLQuantizationType.F32
    strength = amount * toy_axis.calibration.budget_dose * toy_axis.writing.norms[block]
    np.testing.assert_allclose(tensor.data, toy_axis.writing.vectors[block] * strength, rtol=1e-5)


def test_added_to_the_outputs_of_its_blocks_a_vector_does_what_the_dose_does(
    library: AxisLibrary, toy_axis: Axis, tmp_path: Path
) -> None:
    """llama.cpp's rule, `direction.N` onto the output of block N counted from 0, tried with hooks of our own."""
    module = tiny_module("llama")
    model = LanguageModel(module, byte_tokenizer(), "tiny-llama")
    tokens = model.encode(Row(text=toy_texts(LETTERS["neutral"])[0])).tokens
    row = Row(text="unused", intervention=Intervention((toy_axis.dose(1.0),)))
    ((_, wanted),) = model.logits([tokens], [row])
    ((_, base),) = model.logits([tokens], [replace(row, intervention=Intervention())])
    library.export_vector("vowels", tmp_path / "vowels.gguf")
    handles = []
    for tensor in gguf.GGUFReader(tmp_path / "vowels.gguf").tensors:
        added = torch.from_numpy(np.array(tensor.data))

        def add(block: Any, args: Any, output: Any, added: torch.Tensor = added) -> Any:
            return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added

        number = int(tensor.name.removeprefix("direction."))
        handles.append(module.model.layers[number].register_forward_hook(add))
    with torch.no_grad():
        found = module(torch.tensor([tokens])).logits[0]
    for handle in handles:
        handle.remove()
    assert float((wanted - base).abs().max()) > 0.01
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_block_0_cannot_be_expressed(library: AxisLibrary, toy_axis: Axis, tmp_path: Path) -> None:
    replace(toy_axis, blocks=(0, 1)).save(tmp_path / "built")
    with pytest.raises(ArgumentError, match="'vowels' acts at block 0"):
        library.export_vector("vowels", tmp_path / "vowels.gguf")
    assert not (tmp_path / "vowels.gguf").exists()


def test_a_dose_of_nothing_is_no_vector(library: AxisLibrary, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="adds nothing"):
        library.export_vector("vowels", tmp_path / "vowels.gguf", 0.0)


def test_no_file_is_overwritten(library: AxisLibrary, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"precious")
    with pytest.raises(ArgumentError, match=r"model\.gguf exists already"):
        library.export_vector("vowels", tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_bytes() == b"precious"


def test_a_place_that_is_not_there_is_told(library: AxisLibrary, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="can't be written"):
        library.export_vector("vowels", tmp_path / "nowhere" / "vowels.gguf")


def test_an_unproven_axis_goes_out_only_when_forced_and_says_so(
    library: AxisLibrary, toy_axis: Axis, tmp_path: Path
) -> None:
    weak = replace(toy_axis, evidence=replace(toy_axis.evidence, auroc={"negative": 0.5}))
    weak.save(tmp_path / "built")
    with pytest.raises(AxisUnproven):
        library.export_vector("vowels", tmp_path / "vowels.gguf")
    replace(weak, forced=True).save(tmp_path / "built")
    library.export_vector("vowels", tmp_path / "vowels.gguf")
    fields = gguf.GGUFReader(tmp_path / "vowels.gguf").fields
    assert "unproven, forced: held-out AUROC against negative is 0.50" in fields["general.description"].contents()


def test_an_unknown_or_unbuilt_or_changed_axis_is_not_exported(library: AxisLibrary, tmp_path: Path) -> None:
    write_contrast(tmp_path / "written", toy_contrast("liquids"))
    write_contrast(tmp_path / "written", toy_contrast(neutral=toy_texts(LETTERS["neutral"], seed=2)))
    for name, problem in {"joy": "there is no axis", "liquids": "has not been built", "vowels": "changed"}.items():
        with pytest.raises(AxisMissing, match=problem):
            library.export_vector(name, tmp_path / "out.gguf")


# --- in ------------------------------------------------------------------------------------------


def test_what_goes_out_comes_back_as_the_same_vectors(
    library: AxisLibrary, toy_axis: Axis, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    library.export_vector("vowels", tmp_path / "vowels.gguf")
    found = library.import_vector(tmp_path / "vowels.gguf", "again", tiny_llama, tiny_gauge, budget=BUDGET)
    blocks = list(toy_axis.blocks)
    assert found.blocks == toy_axis.blocks and found.name == "again" and found.method == "imported"
    cosines = (found.direction.vectors[blocks] * toy_axis.writing.vectors[blocks]).sum(-1)
    assert (cosines > 0.9999).all() and not np.delete(found.direction.vectors, blocks, axis=0).any()
    np.testing.assert_allclose(found.direction.norms, toy_axis.writing.norms, rtol=1e-4)
    assert found.calibration.budget_dose == pytest.approx(toy_axis.calibration.budget_dose, rel=1e-2)
    replace(found, forced=True).save(tmp_path / "built")
    library.export_vector("again", tmp_path / "again.gguf")
    first, second = read_control_vector(tmp_path / "vowels.gguf"), read_control_vector(tmp_path / "again.gguf")
    assert set(first.vectors) == set(second.vectors)
    for block, values in first.vectors.items():
        np.testing.assert_allclose(second.vectors[block], values, rtol=1e-2, atol=1e-6)


def test_an_imported_axis_is_calibrated_and_unproven_until_forced(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    path = foreign(tmp_path / "found.gguf")
    axis = library.import_vector(path, "found", tiny_llama, tiny_gauge, budget=BUDGET, pool="last")
    assert axis == load_axis(tmp_path / "built" / "found.safetensors", tiny_llama.digest)
    assert axis.blocks == (1, 2) and axis.pool == "last" and not axis.proven
    cost = tiny_gauge.measure(Intervention((axis.dose(1.0),))).mean
    assert 0 < cost <= BUDGET
    with pytest.raises(AxisUnproven, match="it has no texts"):
        axis.require_proof()
    library.import_vector(path, "found", tiny_llama, tiny_gauge, budget=BUDGET, force=True).require_proof()


def test_an_imported_axis_is_listed_and_built_again_like_any_other(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    path = foreign(tmp_path / "found.gguf")
    first = library.import_vector(path, "found", tiny_llama, tiny_gauge, budget=BUDGET, pool="mean", force=True)
    path.unlink()
    assert library.names == ("found", "vowels")
    assert "unproven, forced: it has no texts" in library.status()[0].problem
    with pytest.raises(AxisMissing, match="'found' was imported"):
        library.contrast("found")
    assert library.ready("found", tiny_llama, tiny_gauge, BUDGET) == first
    cheaper = library.ready("found", tiny_llama, tiny_gauge, BUDGET / 2)
    assert cheaper.calibration.budget == BUDGET / 2 and cheaper.pool == "mean" and cheaper.forced
    (tmp_path / "built" / "found.safetensors").unlink()
    assert library.status()[0].problem == "not built yet"
    assert library.build("found", tiny_llama, tiny_gauge, budget=BUDGET).direction == first.direction
    with pytest.raises(ArgumentError, match="'found' was imported"):
        library.build("found", tiny_llama, tiny_gauge, budget=BUDGET, method="pca")


def test_another_vector_in_its_place_makes_an_imported_axis_stale_and_no_longer_forced(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    library.import_vector(foreign(tmp_path / "a.gguf"), "found", tiny_llama, tiny_gauge, budget=BUDGET, force=True)
    (tmp_path / "written" / "found.gguf").write_bytes(foreign(tmp_path / "b.gguf", blocks=(2,)).read_bytes())
    with pytest.raises(AxisMissing, match="control vector of axis 'found' changed"):
        library.load("found", tiny_llama.digest)
    assert "changed" in library.status()[0].problem
    anew = library.ready("found", tiny_llama, tiny_gauge, BUDGET)
    assert anew.blocks == (2,) and not anew.forced


def test_lengths_do_not_matter_and_blocks_of_zeros_are_left_out(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    vector = np.random.default_rng(1).standard_normal(32).astype(np.float32)
    small = write_gguf(tmp_path / "s.gguf", {"direction.1": vector * np.float32(1e-30), "direction.2": np.zeros(32)})
    large = write_gguf(tmp_path / "l.gguf", {"direction.1": vector * np.float32(1e30)})
    one, other = (
        library.import_vector(path, path.stem, tiny_llama, tiny_gauge, budget=BUDGET) for path in (small, large)
    )
    assert one.blocks == other.blocks == (1,)
    np.testing.assert_allclose(one.direction.vectors, other.direction.vectors, atol=1e-6)


@pytest.mark.parametrize(
    ("width", "blocks", "problem"),
    [
        (16, (1, 2), "width 16, tiny-llama of width 32"),
        (32, (1, 3), "direction for block 3, tiny-llama has blocks 0 to 2"),
    ],
)  # fmt: skip
def test_a_vector_for_another_model_is_refused_and_nothing_is_kept(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge, width: int,
    blocks: tuple[int, ...], problem: str,
) -> None:  # fmt: skip
    path = foreign(tmp_path / "found.gguf", width, blocks)
    with pytest.raises(WrongBaseModel, match=problem):
        library.import_vector(path, "found", tiny_llama, tiny_gauge, budget=BUDGET)
    assert library.names == ("vowels",)


def _tensor(values: Any, name: str = "direction.1") -> Callable[[Path], Path]:
    return lambda path: write_gguf(path, {name: values})


def _bytes(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (_bytes(b""), "not a readable GGUF"),
        (_bytes(b"GGUF"), "not a readable GGUF"),
        (_bytes(b"\x93NUMPY" + bytes(500)), "not a readable GGUF"),
        (lambda path: write_gguf(path, {"blk.0.attn": np.ones(32)}, "llama"), "it holds 'llama', not a controlvector"),
        (_tensor(np.ones(32), "direction.0"), "'direction.0' is no direction of a block from 1 on"),
        (_tensor(np.ones(32), "direction"), "'direction' is no direction"),
        (_tensor(np.ones(32), "noise.1"), "'noise.1' is no direction"),
        (_tensor(np.ones(32, np.float16)), "isn't one row of 32-bit numbers"),
        (_tensor(np.ones((2, 32), np.float32)), "isn't one row of 32-bit numbers"),
        (_tensor(np.full(32, np.nan, np.float32)), "aren't finite"),
        (_tensor(np.zeros(32, np.float32)), "no direction other than zero"),
        (lambda path: write_gguf(path, {}), "no direction other than zero"),
        (lambda path: write_gguf(path, {"direction.1": np.ones(32), "direction.2": np.ones(16)}), "differ in length"),
    ],
)
def test_what_is_no_control_vector_is_refused_with_its_path_and_the_reason(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge,
    write: Callable[[Path], Path], problem: str,
) -> None:  # fmt: skip
    path = write(tmp_path / "found.gguf")
    with pytest.raises(RecordDamaged, match=problem) as caught:
        library.import_vector(path, "found", tiny_llama, tiny_gauge, budget=BUDGET)
    assert str(path) in caught.value.problem and caught.value.next_step
    assert library.names == ("vowels",)


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = foreign(tmp_path / "whole.gguf").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(RecordDamaged):
            read_control_vector(tmp_path / "cut.gguf")


def test_a_damaged_count_ends_in_an_error_and_not_in_a_long_wait(tmp_path: Path) -> None:
    """The type of a value turned into that of a list makes its text the length of the list: 10^18 and more."""
    path = foreign(tmp_path / "whole.gguf")
    content = bytearray(path.read_bytes())
    place = content.index(b"general.architecture") + len(b"general.architecture")
    assert content[place] == gguf.GGUFValueType.STRING
    content[place] = gguf.GGUFValueType.ARRAY
    content[place + 4] = gguf.GGUFValueType.UINT8
    path.write_bytes(content)
    with pytest.raises(RecordDamaged):
        read_control_vector(path)


@pytest.mark.parametrize("name", ["Found", "2nd", "a-b", "", "../x", "vowels"])
def test_a_name_that_is_none_or_taken_is_refused(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge, name: str
) -> None:
    path = foreign(tmp_path / "found.gguf")
    with pytest.raises(ArgumentError, match=r"no name for an axis|there is an axis 'vowels' already"):
        library.import_vector(path, name, tiny_llama, tiny_gauge, budget=BUDGET)


def test_a_file_that_is_not_there_is_told(
    library: AxisLibrary, tmp_path: Path, tiny_llama: Any, tiny_gauge: VolatilityGauge
) -> None:
    with pytest.raises(ArgumentError, match=r"there is no file .*none\.gguf"):
        library.import_vector(tmp_path / "none.gguf", "found", tiny_llama, tiny_gauge, budget=BUDGET)


def test_an_axis_with_two_sources_is_refused(library: AxisLibrary, tmp_path: Path) -> None:
    foreign(tmp_path / "written" / "vowels.gguf")
    with pytest.raises(DocumentError, match=r"vowels\.gguf beside it is an axis of the same name"):
        library.source("vowels")
