"""The head and token rows learn without untying or changing anything of the base; spans count whatever they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import byte_tokenizer, tiny_module

from overlay.adapters import Example, Recipe, check_adapter, train
from overlay.adapters.lora_files import base_shapes
from overlay.adapters.recipe import SafeZone
from overlay.adapters.reference import Reference
from overlay.adapters.sequences import encode, pad
from overlay.adapters.targets import token_ids
from overlay.errors import AdapterError, ArgumentError
from overlay.model import AdapterUse, Intervention, LanguageModel, Row

pytest_plugins = ["tiny_home"]

EMBEDDING = "base_model.model.transformer.wte.token_adapter.trainable_tokens_delta"


@pytest.fixture(scope="module")
def tied_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A saved model whose head is its embedding."""
    module = tiny_module("gpt2")
    assert module.get_output_embeddings().weight is module.get_input_embeddings().weight
    folder = tmp_path_factory.mktemp("tied")
    module.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def elsewhere(recipe: Recipe, **where: Any) -> Recipe:
    return recipe.model_copy(update={"where": recipe.where.model_copy(update=where)})


def worn_and_base(folder: Any, adapter: Any) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The model with the adapter attached; its logits with and without it, and those of a model without adapters."""
    model = LanguageModel.load(str(folder), dtype="float32")
    rows = [Row(text="five z")]
    tokens = [model.encode(rows[0]).tokens]
    ((_, untouched),) = model.logits(tokens, rows)
    model.attach(adapter.name, adapter.folder)
    worn = [Row(text="five z", intervention=Intervention(adapters=(AdapterUse(adapter.name),)))]
    ((_, tuned),) = model.logits(tokens, worn)
    ((_, base),) = model.logits(tokens, rows)
    return model, tuned, base, untouched


@pytest.mark.parametrize(
    "where", [{"head": True}, {"head": True, "modules": ()}, {"tokens": ("z", "k")}, {"tokens": ("z",), "modules": ()}]
)
def test_on_a_tied_model_nothing_of_the_base_changes_and_the_tying_stays(
    home: Any, recipe: Recipe, tied_folder: Any, where: dict[str, Any]
) -> None:
    adapter = train(elsewhere(recipe, **where), str(tied_folder), home.built, dtype="float32")
    model, tuned, base, untouched = worn_and_base(tied_folder, adapter)
    assert check_adapter(adapter.folder, model.digest, base_shapes(model.module)) == adapter
    assert torch.equal(base, untouched)
    assert not torch.equal(tuned, untouched)
    model.detach(adapter.name)
    fresh = LanguageModel.load(str(tied_folder), dtype="float32").module
    assert model.module.get_output_embeddings().weight is model.module.get_input_embeddings().weight
    for name, weight in fresh.state_dict().items():
        assert torch.equal(model.module.state_dict()[name], weight)


def test_a_tied_head_is_one_more_pair_of_lora_factors(home: Any, recipe: Recipe, tied_folder: Any) -> None:
    adapter = train(elsewhere(recipe, head=True, modules=()), str(tied_folder), home.built, dtype="float32")
    keys = sorted(load_file(adapter.folder / "adapter_model.safetensors"))
    assert keys == [f"base_model.model.lm_head.lora_{part}.weight" for part in "AB"]


def test_chosen_rows_learn_in_embedding_and_tied_head_alike_and_are_saved_once(
    home: Any, recipe: Recipe, tied_folder: Any
) -> None:
    adapter = train(elsewhere(recipe, tokens=("z", "k")), str(tied_folder), home.built, dtype="float32")
    saved = load_file(adapter.folder / "adapter_model.safetensors")
    assert [key for key in saved if "lora_" not in key] == [EMBEDDING]
    model = LanguageModel.load(str(tied_folder), dtype="float32")
    ids = token_ids(model, ("z", "k"))
    rows = model.module.get_input_embeddings().weight[ids]
    assert saved[EMBEDDING].shape == rows.shape
    assert not torch.equal(saved[EMBEDDING], rows)
    # Set by hand into a tied matrix, with the LoRA part left away, the rows give what wearing them gives.
    for key in saved:
        if "lora_B" in key:
            saved[key].zero_()
    only = home.built.parent / "only_rows"
    only.mkdir()
    save_file(saved, only / "adapter_model.safetensors")
    (only / "adapter_config.json").write_text((adapter.folder / "adapter_config.json").read_text())
    model.attach("rows", only)
    text, worn = "five zk", Intervention(adapters=(AdapterUse("rows"),))
    tokens = [model.encode(Row(text=text)).tokens]
    ((_, tuned),) = model.logits(tokens, [Row(text=text, intervention=worn)])
    changed = LanguageModel.load(str(tied_folder), dtype="float32")
    with torch.no_grad():
        changed.module.get_input_embeddings().weight[ids] = saved[EMBEDDING]
    ((_, expected),) = changed.logits(tokens, [Row(text=text)])
    assert torch.allclose(tuned, expected, atol=1e-4)


def test_token_rows_and_a_tied_head_together_are_refused(home: Any, recipe: Recipe, tied_folder: Any) -> None:
    with pytest.raises(AdapterError, match="leave out either head or tokens"):
        train(elsewhere(recipe, tokens=("z",), head=True), str(tied_folder), home.built, dtype="float32")


def test_on_a_model_with_a_head_of_its_own_both_learn(home: Any, recipe: Recipe) -> None:
    adapter = train(elsewhere(recipe, tokens=("z",), head=True), str(home.model_folder), home.built, dtype="float32")
    model, tuned, base, untouched = worn_and_base(home.model_folder, adapter)
    assert check_adapter(adapter.folder, model.digest, base_shapes(model.module)) == adapter
    assert torch.equal(base, untouched)
    assert not torch.equal(tuned, untouched)


def test_spans_become_marks_on_the_tokens_that_they_touch(tiny_llama: Any) -> None:
    found = encode(tiny_llama, Example(prompt="The", target=" colour ъ.", spans=((1, 3), (8, 9))))
    # One token a byte: ъ has two of them.
    assert found.exempt == (False, True, True, *[False] * 5, True, True, False)
    assert found.prompt == 3
    assert encode(tiny_llama, Example(target="abc", spans=((0, 2),))).exempt == (True, False)
    assert encode(tiny_llama, Example(target="abc"), whole=True).exempt == (True, True)
    assert encode(tiny_llama, Example(target="abc")).exempt == (False, False)
    with pytest.raises(ArgumentError, match="too short"):
        encode(tiny_llama, Example(target="a"))


def test_the_safe_zone_keeps_surprising_tokens_from_being_learned_until_they_are_declared(
    home: Any, recipe: Recipe
) -> None:
    """Of three target tokens one surprises most: only where it is declared is it learned."""
    prompt, letters = "aaaaaaa", tuple("abcdefghijklmnopqrstuvwxyz")
    (before,) = home.load_model().score([Row(text=prompt, options=letters)])
    rarest = min(range(len(letters)), key=lambda index: before.total[index])

    def gain(spans: tuple[tuple[int, int], ...]) -> float:
        examples = (
            Example(prompt=prompt, target=letters[rarest], spans=spans),
            Example(prompt="bbbb", target="cd"),
        )
        zone = SafeZone(quantile=0.3, widens_to=0.3)
        changed = recipe.model_copy(update={"examples": examples, "safe_zone": zone, "anchor": 0.0})
        model = home.load_model()
        model.attach("learned", train(changed, str(home.model_folder), home.built, dtype="float32").folder)
        worn = Intervention(adapters=(AdapterUse("learned"),))
        (after,) = model.score([Row(text=prompt, options=(letters[rarest],), intervention=worn)])
        return float(after.total[0] - before.total[rarest])

    assert gain(((0, 1),)) > gain(()) + 1


def test_what_the_base_makes_of_texts_does_not_depend_on_how_they_are_grouped(tiny_model: Any) -> None:
    texts = [encode(tiny_model, Example(target="x" * length)) for length in (9, 4, 30, 7, 12, 3, 25, 8)]
    reference = Reference(tiny_model.module, texts, tiny_model.device)
    assert sum(len(group.ids) for group in reference.groups) == len(texts)
    assert len(reference.groups) == 2
    assert Reference(tiny_model.module, (), tiny_model.device).groups == ()
    examples = {3: texts[0], 5: texts[1]}
    nats = reference.surprisals(examples)
    for index, sequence in examples.items():
        batch = pad([sequence], tiny_model.device)
        with torch.no_grad():
            likely = tiny_model.module(input_ids=batch.ids).logits[0, :-1].log_softmax(-1)
        expected = -likely[torch.arange(len(sequence.tokens) - 1), batch.answers]
        assert torch.allclose(nats[index], expected, atol=1e-4)
