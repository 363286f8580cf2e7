"""An adapter acts on the rows that wear it, inside the `with` alone; then the model is bit for bit what it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import byte_tokenizer, tiny_module

from overlay.errors import AdapterError, ArgumentError, DocumentError, WrongBaseModel
from overlay.model import NOTHING, Intervention, LanguageModel, Row, Sampling

pytest_plugins = ["tiny_home"]

TEXTS = ("one two", "the ferry leaves at ten", "b")


@pytest.fixture
def model(trained_home: Any) -> Any:
    return trained_home.load_model()


def logits(model: Any, intervention: Intervention = NOTHING) -> list[torch.Tensor]:
    tokens = [model.encode(Row(text=text)).tokens for text in TEXTS]
    rows = [Row(text=text, intervention=intervention) for text in TEXTS]
    return [found for _, found in sorted(model.logits(tokens, rows), key=lambda pair: pair[0])]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_after_the_with_the_model_is_what_it_was(trained_home: Any, model: Any) -> None:
    before, modules = logits(model), [id(module) for module in model.module.modules()]
    with trained_home.library.worn(model, "ends_in_z") as worn:
        assert not same(logits(model, worn), before)
        assert same(logits(model), before)
    assert same(logits(model), before)
    assert [id(module) for module in model.module.modules()] == modules
    assert model.adapters == {}
    # Frozen weights take another kernel, slower and with other roundings.
    assert all(parameter.requires_grad for parameter in model.module.parameters())


def test_after_an_error_in_the_with_the_model_is_what_it_was(trained_home: Any, model: Any) -> None:
    before = logits(model)
    with pytest.raises(KeyboardInterrupt), trained_home.library.worn(model, "ends_in_z"):
        raise KeyboardInterrupt
    assert same(logits(model), before)
    assert model.adapters == {}


def test_a_hook_that_raises_while_generating_leaves_nothing_behind(trained_home: Any, model: Any) -> None:
    before = logits(model)
    library = trained_home.library
    with library.worn(model, "ends_in_k") as other:
        alone = logits(model, other)
        with library.worn(model, "ends_in_z") as worn:
            calls = []

            def fail(*_: Any) -> None:
                calls.append(1)
                if len(calls) == 3:
                    raise RuntimeError("a hook failed")

            handle = model.blocks.modules[1].register_forward_hook(fail)
            with pytest.raises(RuntimeError, match="a hook failed"):
                model.generate([Row(text="one", intervention=worn * 0.5, sampling=Sampling(max_tokens=8))])
            handle.remove()
            assert same(logits(model), before)
        assert same(logits(model, other), alone)
    assert same(logits(model), before)


def test_rows_with_different_adapters_in_one_call_equal_their_solo_runs(trained_home: Any, model: Any) -> None:
    library = trained_home.library
    with library.worn(model, "ends_in_z") as z, library.worn(model, "ends_in_k", 0.7) as k:
        rows = [
            Row(text=text, intervention=worn, sampling=Sampling(max_tokens=6))
            for text in TEXTS
            for worn in (z, NOTHING, k, z + k, z * -1)
        ]
        together = [completion.tokens for completion in model.generate(rows)]
        assert together == [model.generate([row])[0].tokens for row in rows]
        assert len(set(together[:5])) >= 4
        z_beside_k = logits(model, z)
    with library.worn(model, "ends_in_z") as alone:
        assert same(logits(model, alone), z_beside_k)


def test_scale_zero_is_the_base_model(trained_home: Any, model: Any) -> None:
    before = logits(model)
    with trained_home.library.worn(model, "ends_in_z", 0.0) as worn:
        assert same(logits(model, worn), before)


def test_the_scale_decides_how_strongly_it_acts(trained_home: Any, model: Any) -> None:
    with trained_home.library.worn(model, "ends_in_z") as worn:
        full, half = logits(model, worn), logits(model, worn * 0.5)
    with trained_home.library.worn(model, "ends_in_z", 0.5) as worn:
        assert same(logits(model, worn), half)
    assert not same(full, half)


def test_an_adapter_worn_twice_stays_until_the_outer_end(trained_home: Any, model: Any) -> None:
    library = trained_home.library
    with library.worn(model, "ends_in_z") as outer:
        expected = logits(model, outer)
        with library.worn(model, "ends_in_z", 0.5):
            pass
        assert same(logits(model, outer), expected)
    assert model.adapters == {}


def test_a_name_that_means_something_to_the_adapter_library_below_works(trained_home: Any, model: Any) -> None:
    """PEFT itself loads an adapter called "lora" without its weights."""
    before = logits(model)
    with trained_home.library.worn(model, "lora") as worn:
        assert not same(logits(model, worn), before)


def test_weights_attached_by_others_under_this_name_are_refused(trained_home: Any, model: Any) -> None:
    model.attach("ends_in_z", trained_home.built / "ends_in_k")
    with pytest.raises(AdapterError, match="other weights"), trained_home.library.worn(model, "ends_in_z"):
        pass
    assert list(model.adapters) == ["ends_in_z"]


def test_an_adapter_that_does_not_fit_leaves_the_model_as_it_was(trained_home: Any, model: Any, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    before = logits(model)
    bad = Path(shutil.copytree(trained_home.built / "ends_in_z", tmp_path / "bad"))
    weights = load_file(bad / "adapter_model.safetensors")
    last = sorted(weights)[-1]
    for spoiled in ({**weights, last: weights[last][:-1]}, {key: weights[key] for key in weights if key != last}):
        save_file({key: value.copy() for key, value in spoiled.items()}, bad / "adapter_model.safetensors")
        with pytest.raises(AdapterError, match="can't be attached"):
            model.attach("bad", bad)
        assert same(logits(model), before)
        with trained_home.library.worn(model, "ends_in_k") as worn:
            expected = logits(model, worn)
            with pytest.raises(AdapterError, match="can't be attached"):
                model.attach("bad", bad)
            assert same(logits(model, worn), expected)
            assert same(logits(model), before)
    assert model.adapters == {}


def test_an_adapter_is_worn_only_by_its_own_base_model(trained_home: Any) -> None:
    other = LanguageModel(tiny_module("llama", seed=1), byte_tokenizer(), "of the same shapes")
    with pytest.raises(WrongBaseModel), trained_home.library.worn(other, "ends_in_z"):
        pass
    assert other.adapters == {}


@pytest.mark.parametrize("name", ["../ends_in_z", "/etc", "Ends", "", ".", "a.b", "ends_in_z\n", "a/b"])
def test_names_never_lead_outside_the_folders(trained_home: Any, model: Any, name: str) -> None:
    library = trained_home.library
    with pytest.raises(ArgumentError):
        library.recipe(name)
    with pytest.raises(ArgumentError):
        library.load(name, model.digest)
    with pytest.raises(ArgumentError):
        library.train(name, str(trained_home.model_folder))
    with pytest.raises(ArgumentError), library.worn(model, name):
        pass


def test_status_says_of_each_adapter_whether_it_can_be_used(home: Any, trained_home: Any) -> None:
    shutil.copytree(trained_home.built, home.built)
    home.write("ends_in_k", letter="m")
    home.write("never_trained")
    home.write("broken", steps="many")
    home.write("Badly-Named")
    home.write("spoiled")
    shutil.copytree(home.built / "ends_in_z", home.built / "spoiled")
    found = {status.name: status for status in home.library.status()}
    assert list(found) == list(home.library.names)
    assert found["ends_in_z"].problem == ""
    assert found["ends_in_z"].adapter.steps == 5
    assert found["ends_in_k"].problem == "its recipe changed after it was trained"
    assert found["never_trained"].problem == "not trained yet"
    assert "recipe.yaml:" in found["broken"].problem
    assert "can't be the name" in found["Badly-Named"].problem
    assert "belongs to adapter" in found["spoiled"].problem


def test_an_adapter_whose_recipe_changed_is_not_worn(home: Any, trained_home: Any, model: Any) -> None:
    shutil.copytree(trained_home.built, home.built)
    home.library.load("ends_in_z", model.digest)
    home.write("ends_in_z", letter="y")
    with pytest.raises(AdapterError, match="changed after it was trained"):
        home.library.load("ends_in_z", model.digest)


def test_training_anew_while_it_is_worn_is_noticed(home: Any, trained_home: Any, model: Any) -> None:
    library = home.library
    library.train("ends_in_z", str(home.model_folder), dtype="float32")
    with library.worn(model, "ends_in_z"):
        home.write("ends_in_z", steps=3)
        library.train("ends_in_z", str(home.model_folder), dtype="float32")
        with pytest.raises(AdapterError, match="other weights"), library.worn(model, "ends_in_z"):
            pass
    with library.worn(model, "ends_in_z"):
        assert list(model.adapters) == ["ends_in_z"]


def test_a_recipe_in_a_folder_of_another_name_is_a_mistake(home: Any) -> None:
    (home.written / "ends_in_z").rename(home.written / "other")
    with pytest.raises(DocumentError, match="give both the same name"):
        home.library.recipe("other")


def test_a_missing_recipe_is_answered_with_those_there_are(home: Any) -> None:
    with pytest.raises(AdapterError, match="known adapters: ends_in_z"):
        home.library.recipe("absent")
