"""Ordinary PEFT adapters come in whoever made them, and what goes out is loaded by PEFT alone to the same logits."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_module

from overlay.adapters import AdapterLibrary, check_adapter
from overlay.adapters.exchange import NOT_PROVEN, export_adapter, import_adapter
from overlay.errors import AdapterError, ArgumentError, ModelUnavailable, WrongBaseModel
from overlay.model import LanguageModel, Row, VolatilityGauge

pytest_plugins = ["tiny_home"]

TEXT = "The ferry leaves at ten."


@pytest.fixture(scope="module")
def model(trained_home: Any) -> Any:
    return trained_home.load_model()


@pytest.fixture
def library(tmp_path: Path) -> AdapterLibrary:
    return AdapterLibrary(tmp_path / "lora", tmp_path / "built")


def worn_logits(library: AdapterLibrary, model: Any, name: str, scale: float = 1.0) -> torch.Tensor:
    with library.worn(model, name, scale) as worn:
        row = Row(text=TEXT, intervention=worn)
        ((_, found),) = model.logits([model.encode(row).tokens], [row])
    return torch.as_tensor(found)


def peft_logits(module: Any, folder: Path, tokens: Any) -> torch.Tensor:
    """Logits of PEFT and transformers alone."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = PeftModel.from_pretrained(module, str(folder)).eval()
    with torch.inference_mode():
        return torch.as_tensor(wrapped(input_ids=torch.tensor([tokens])).logits[0])


def made_by_peft(folder: Path, base_name: str | None, architecture: str = "llama", **settings: Any) -> Path:
    """An adapter with random weights as PEFT alone makes and saves it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = tiny_module(architecture)
        given = {"r": 3, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"} | settings
        wrapped = get_peft_model(module, LoraConfig(**given))
        with torch.no_grad():
            for parameter in wrapped.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape) * 0.2)
        wrapped.peft_config["default"].base_model_name_or_path = base_name
        wrapped.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def test_an_exported_adapter_is_loaded_by_peft_alone_to_the_same_logits(
    trained_home: Any, model: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    expected = worn_logits(trained_home.library, model, "ends_in_z")
    export_adapter(trained_home.library.load("ends_in_z", model.digest), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    bare = AutoModelForCausalLM.from_pretrained(trained_home.model_folder, dtype=torch.float32)
    found = peft_logits(bare, tmp_path / "out", model.encode(Row(text=TEXT)).tokens)
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-5)
    assert not torch.allclose(found, worn_logits(trained_home.library, model, "ends_in_z", 0.0), atol=1e-2)


def test_an_export_comes_back_as_what_it_was(
    trained_home: Any, model: Any, library: AdapterLibrary, tmp_path: Path
) -> None:
    original = trained_home.library.load("ends_in_z")
    export_adapter(original, tmp_path / "out")
    adapter = import_adapter(str(tmp_path / "out"), library, model, name="back")
    assert (adapter.remark, adapter.origin, adapter.recipe_digest) == ("", "imported", "")
    assert adapter.weights_sha256 == original.weights_sha256
    assert adapter.volatility_mean == pytest.approx(original.volatility_mean, rel=1e-4)
    assert torch.equal(worn_logits(library, model, "back"), worn_logits(trained_home.library, model, "ends_in_z"))


def test_an_export_replaces_nothing(trained_home: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(AdapterError, match="not empty"):
        export_adapter(trained_home.library.load("ends_in_z"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


KINDS: dict[str, dict[str, Any]] = {
    "names of layers": {},
    "all layers": {"target_modules": "all-linear"},
    "a regular expression": {"target_modules": r".*\.layers\.[02]\..*(q|v)_proj"},
    "some blocks": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "ranks of their own": {"rank_pattern": {"down_proj": 5}, "alpha_pattern": {"layers.1.self_attn.q_proj": 1}},
    "root of the rank": {"use_rslora": True, "lora_alpha": 3},
    "a gaussian start": {"init_lora_weights": "gaussian"},
    "the head": {"target_modules": ["q_proj", "lm_head"]},
    "the embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "token rows": {"trainable_token_indices": [66, 70]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_peft_saves_is_imported_and_acts_as_it_does_there(
    model: Any, library: AdapterLibrary, tmp_path: Path, kind: str
) -> None:
    folder = made_by_peft(tmp_path / "My LoRA-1", model.name, **KINDS[kind])
    adapter = import_adapter(str(folder), library, model)
    assert adapter.name == "my_lora_1"
    assert check_adapter(adapter.folder, model.digest) == adapter
    expected = peft_logits(tiny_module("llama"), folder, model.encode(Row(text=TEXT)).tokens)
    found = worn_logits(library, model, adapter.name)
    assert torch.allclose(found, expected, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(found, worn_logits(library, model, adapter.name, 0.0), atol=1e-2)


@pytest.mark.parametrize("architecture", ["gpt2", "qwen3", "gpt_neox"])
def test_adapters_of_other_architectures_come_and_go(
    library: AdapterLibrary, tmp_path: Path, architecture: str
) -> None:
    from tiny_models import byte_tokenizer

    other = LanguageModel(tiny_module(architecture), byte_tokenizer(), f"tiny-{architecture}")
    folder = made_by_peft(tmp_path / "theirs", other.name, architecture, target_modules="all-linear")
    adapter = import_adapter(str(folder), library, other)
    export_adapter(library.load(adapter.name, other.digest), tmp_path / "again")
    tokens = other.encode(Row(text=TEXT)).tokens
    expected = peft_logits(tiny_module(architecture), folder, tokens)
    assert torch.allclose(worn_logits(library, other, adapter.name), expected, atol=1e-3, rtol=1e-4)
    assert torch.equal(peft_logits(tiny_module(architecture), tmp_path / "again", tokens), expected)


def test_what_it_costs_is_measured_on_the_neutral_texts(model: Any, library: AdapterLibrary, tmp_path: Path) -> None:
    adapter = import_adapter(str(made_by_peft(tmp_path / "theirs", model.name)), library, model)
    with library.worn(model, "theirs") as worn:
        measured = VolatilityGauge(model).measure(worn)
    assert (adapter.volatility_mean, adapter.volatility_p95) == pytest.approx((measured.mean, measured.p95), rel=1e-4)
    assert adapter.volatility_mean > 0
    assert model.adapters == {}


@pytest.mark.parametrize(
    ("setting", "value"), [("use_dora", True), ("init_lora_weights", "olora"), ("lora_bias", True)]
)
def test_what_is_no_plain_lora_is_refused_by_the_name_of_its_setting(
    model: Any, library: AdapterLibrary, tmp_path: Path, setting: str, value: Any
) -> None:
    folder = made_by_peft(tmp_path / "theirs", model.name, **{setting: value})
    with pytest.raises(AdapterError, match=f"sets '{setting}'"):
        import_adapter(str(folder), library, model)


def test_unset_settings_of_a_newer_peft_are_left_out_and_set_ones_refused(
    model: Any, library: AdapterLibrary, tmp_path: Path
) -> None:
    folder = made_by_peft(tmp_path / "theirs", model.name)
    path = folder / "adapter_config.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "hyper_config": None, "use_hyper": False}))
    adapter = import_adapter(str(folder), library, model)
    assert not any("hyper" in key for key in json.loads((adapter.folder / "adapter_config.json").read_text()))
    path.write_text(json.dumps({**written, "use_hyper": True}))
    with pytest.raises(AdapterError, match="sets 'use_hyper'"):
        import_adapter(str(folder), library, model, name="second")


def test_an_adapter_of_another_base_is_taken_by_force_only_and_says_so_ever_after(
    model: Any, library: AdapterLibrary, tmp_path: Path
) -> None:
    folder = made_by_peft(tmp_path / "theirs", "someone/else-7b")
    with pytest.raises(WrongBaseModel, match="someone/else-7b"):
        import_adapter(str(folder), library, model)
    adapter = import_adapter(str(folder), library, model, force=True)
    assert adapter.remark == NOT_PROVEN
    assert library.load("theirs", model.digest).remark == NOT_PROVEN
    nameless = import_adapter(str(made_by_peft(tmp_path / "nameless", None)), library, model)
    assert nameless.remark == NOT_PROVEN


def test_force_does_not_bend_shapes(model: Any, library: AdapterLibrary, tmp_path: Path) -> None:
    folder = made_by_peft(tmp_path / "theirs", model.name, "gpt2", target_modules=["c_fc"])
    with pytest.raises(AdapterError, match="the base model has no layer"):
        import_adapter(str(folder), library, model, force=True)


def test_a_name_that_is_taken_is_refused(trained_home: Any, model: Any, tmp_path: Path) -> None:
    folder = made_by_peft(tmp_path / "ends_in_z", model.name)
    before = (trained_home.built / "ends_in_z" / "manifest.json").read_text()
    with pytest.raises(AdapterError, match="already"):
        import_adapter(str(folder), trained_home.library, model)
    assert (trained_home.built / "ends_in_z" / "manifest.json").read_text() == before


def test_imported_adapters_are_listed_beside_those_with_recipes(
    model: Any, library: AdapterLibrary, tmp_path: Path
) -> None:
    import_adapter(str(made_by_peft(tmp_path / "theirs", model.name)), library, model)
    assert library.names == ("theirs",)
    (status,) = library.status()
    assert status.problem == "" and status.adapter is not None and status.adapter.accuracy_after is None
    library.require("theirs")


@pytest.mark.parametrize("source", ["absent", "./absent/folder", "a/b/c", "https://hub/a/b", "../x"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_said_to_be_so(
    model: Any, library: AdapterLibrary, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(AdapterError, match="no folder and no hub id"):
        import_adapter(source, library, model, name="it")


def test_a_hub_id_offline_is_a_plain_error(model: Any, library: AdapterLibrary) -> None:
    with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE forbids"):
        import_adapter("nobody-here/no-such-lora", library, model)


def test_a_hub_id_reads_the_two_files_of_the_local_cache(
    model: Any, library: AdapterLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    cached = tmp_path / "cache" / "models--someone--formal-lora"
    snapshot = made_by_peft(cached / "snapshots" / ("c" * 40), model.name)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("c" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    adapter = import_adapter("someone/formal-lora", library, model)
    assert adapter.name == "formal_lora"
    ours = load_file(adapter.folder / "adapter_model.safetensors")
    theirs = load_file(snapshot / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_source_without_a_usable_name_asks_for_one(model: Any, library: AdapterLibrary, tmp_path: Path) -> None:
    folder = made_by_peft(tmp_path / "2024-03", model.name)
    with pytest.raises(ArgumentError, match="no name"):
        import_adapter(str(folder), library, model)
    assert import_adapter(str(folder), library, model, name="march").name == "march"
