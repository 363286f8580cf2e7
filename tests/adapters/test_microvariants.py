"""Microvariants of a text on tiny models: what is accepted is within the budget, also when measured by other means."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import CHAT_TEMPLATE, tiny_module

from overlay.adapters.microvariants import (
    BUDGET,
    KINDS,
    Collection,
    Proposer,
    arrange,
    collect,
    compare,
    language_of,
    probe_for,
    read,
)
from overlay.adapters.microvariants.divergence import edited_tokens, shared_places
from overlay.adapters.microvariants.neighbour import Neighbourhood
from overlay.adapters.microvariants.schedule import NEAR
from overlay.errors import ArgumentError
from overlay.model import LanguageModel

TEXT = "The shop was closed, and two men often waited."
LOOSE = 0.005
"""Nats per token: random weights hardly look back, and most edits of a text move them by less."""


@pytest.fixture(scope="module")
def collection(tiny_llama: Any) -> Collection:
    return collect(tiny_llama, TEXT, budget=LOOSE, count=30)


def plain(model: Any, text: str) -> tuple[list[int], Any]:
    """Log-probabilities of one row, without padding or batches."""
    ids = model.tokenizer(text)["input_ids"]
    probe = model.tokenizer(probe_for(TEXT), add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        return ids, model.module(input_ids=torch.tensor([ids + probe])).logits[0].double().log_softmax(-1)


def plain_cost(model: Any, earlier: str, later: str) -> tuple[float, float]:
    """Mean KL on the common end of both texts, and on the probe."""
    (old, base), (new, other) = plain(model, earlier), plain(model, later)
    kl = [
        float((base[len(base) - place].exp() * (base[len(base) - place] - other[len(other) - place])).sum())
        for place in range(1, min(len(base), len(other)) + 1)
    ]
    probe = len(base) - len(old)
    first = next((place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    same = 0
    while same < min(len(old), len(new)) - first and old[-1 - same] == new[-1 - same]:
        same += 1
    aligned = kl[probe : probe + same]
    return sum(aligned) / max(1, same), sum(kl[:probe]) / probe


@pytest.mark.parametrize(
    "later", ["A" + TEXT, TEXT + " Of course.", TEXT.replace("two", "2"), TEXT.replace("often ", "")]
)
def test_divergence_is_that_of_plain_forward_passes(tiny_llama: Any, later: str) -> None:
    readings = dict(
        read(
            tiny_llama,
            [TEXT, "Some longer row that pads all the others in this batch of rows.", later],
            probe_for(TEXT),
        )
    )
    found = compare(readings[0], readings[2])
    aligned, probe = plain_cost(tiny_llama, TEXT, later)
    assert found.aligned == pytest.approx(aligned, abs=1e-6)
    assert found.probe == pytest.approx(probe, abs=1e-6)
    assert found.probe > 0


def test_a_text_does_not_differ_from_itself(tiny_llama: Any) -> None:
    readings = dict(read(tiny_llama, [TEXT, TEXT], probe_for(TEXT)))
    found = compare(readings[0], readings[1])
    assert found.volatility == pytest.approx(0, abs=1e-6)
    assert found.edited_tokens == 0


def test_an_edit_at_the_end_shows_on_the_probe_only(tiny_llama: Any) -> None:
    readings = dict(read(tiny_llama, [TEXT, TEXT + " §"], probe_for(TEXT)))
    found = compare(readings[0], readings[1])
    assert found.aligned_tokens == 0 and found.aligned == 0 and found.probe > 1e-5


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ("abc", "abc", 0),
        ("abc", "axbc", 1),
        ("abc", "c", 2),
        ("abc", "xbz", 2),
        ("abcd", "acbd", 2),
        ("aab", "aaab", 1),
    ],
)
def test_edited_tokens_are_those_put_in_taken_out_or_replaced(before: str, after: str, count: int) -> None:
    assert edited_tokens(before, after) == count


def test_shared_tokens_stand_behind_the_first_difference_and_hold_the_same() -> None:
    before, after = [1, 2, 3, 4, 5, 6], [1, 9, 3, 4, 8, 8, 6]
    assert shared_places(before, after) == [(2, 2), (3, 3), (5, 6)]
    assert shared_places([1, 2], [1, 2, 3]) == []


def test_a_mark_that_takes_a_words_space_leaves_the_word_as_it_was() -> None:
    model = spelled_model()
    readings = dict(read(model, ["the gray cat", "the *gray* cat"], "."))
    assert compare(readings[0], readings[1]).edited_tokens == 2


def test_whatever_is_accepted_is_within_the_budget_when_measured_by_plain_passes(
    tiny_llama: Any, collection: Collection
) -> None:
    assert len(collection.variants) == 30
    for variant in collection.variants:
        assert max(plain_cost(tiny_llama, TEXT, variant.edit.text)) <= LOOSE
        assert variant.divergence.volatility <= LOOSE


def test_variants_differ_from_each_other_and_from_the_text_and_mix_the_kinds(collection: Collection) -> None:
    texts = [variant.edit.text for variant in collection.variants]
    assert len({*texts, TEXT}) == len(texts) + 1
    assert len({variant.edit.kind for variant in collection.variants}) >= 8


def test_kinds_that_can_keep_to_two_tokens_do(collection: Collection) -> None:
    # This tokenizer spells words byte by byte: kinds that replace whole words can't.
    limits = {kind.name: kind.most_tokens for kind in KINDS if kind.most_tokens and not kind.by_words}
    limited = [variant for variant in collection.variants if variant.edit.kind in limits]
    assert len(limited) >= 8
    assert all(variant.divergence.edited_tokens <= 2 for variant in limited)


def test_yields_count_everything_that_was_looked_at(collection: Collection) -> None:
    assert sum(found.accepted for found in collection.yields.values()) >= len(collection.variants)
    for found in collection.yields.values():
        assert found.proposed == found.accepted + sum(found.refused.values())


def test_a_budget_that_nothing_meets_refuses_everything_and_says_why(tiny_llama: Any) -> None:
    found = collect(tiny_llama, "It is warm.", budget=1e-9)
    assert found.variants == ()
    reasons = {reason for one in found.yields.values() for reason in one.refused}
    assert reasons >= {"probe over the budget", "aligned and probe over the budget", "more than 2 tokens"}


@pytest.mark.parametrize("wrong", [{"text": " "}, {"budget": 0.0}, {"count": 0}])
def test_what_makes_no_sense_is_refused(tiny_llama: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="above 0"):
        collect(tiny_llama, wrong.pop("text", TEXT), **wrong)


def test_nothing_stays_on_the_model(tiny_llama: Any) -> None:
    before = tiny_llama.census()
    collect(tiny_llama, "It is warm.", budget=LOOSE, count=5)
    assert tiny_llama.census() == before


@pytest.mark.parametrize(("budget", "detours"), [(LOOSE, False), (LOOSE / 10, True)])
def test_no_step_of_a_schedule_is_above_the_budget(tiny_llama: Any, budget: float, detours: bool) -> None:
    found = collect(tiny_llama, TEXT, budget=budget, count=30)
    order = arrange(tiny_llama, found)
    assert order.steps[0].variant is None
    texts = [step.variant.edit.text if step.variant else TEXT for step in order.steps]
    assert (len(set(texts)) < len(texts)) == detours
    for place, step in enumerate(order.steps[1:], 1):
        readings = dict(read(tiny_llama, texts[place - 1 : place + 1], found.probe))
        again = compare(readings[0], readings[1])
        assert again.volatility <= budget + 1e-6 and again.volatility == pytest.approx(step.jump, abs=1e-6)


def test_a_schedule_feeds_every_variant_near_ones_first(tiny_llama: Any, collection: Collection) -> None:
    order = arrange(tiny_llama, collection)
    fed = list(dict.fromkeys(step.variant for step in order.steps if step.variant))
    assert {one.edit.text for one in (*fed, *order.left_out)} == {one.edit.text for one in collection.variants}
    far = [one.divergence.edited_tokens > NEAR for one in fed]
    assert True in far and False in far and far == sorted(far)


def test_the_nearest_token_of_the_embeddings_takes_a_tokens_place() -> None:
    model = spelled_model()
    embeddings = model.module.get_input_embeddings().weight
    gray, cat = (model.tokenizer.convert_tokens_to_ids(word) for word in ("Ġgray", "Ġcat"))
    other = model.tokenizer.convert_tokens_to_ids("Ġdog")
    with torch.no_grad():
        embeddings[other] = embeddings[cat] * 1.5 + 0.01 * embeddings[gray]
    edits = [edit.text for edit in Neighbourhood(model).edits("the gray cat")]
    assert "the gray dog" in edits
    assert all(text.islower() and len(text.split()) == 3 for text in edits)


def test_each_kind_is_proposed_once_and_never_the_text_itself(tiny_llama: Any) -> None:
    edits = [edit for found in Proposer(tiny_llama).edits(TEXT).values() for edit in found]
    assert len({edit.text for edit in edits} | {TEXT}) == len(edits) + 1


def test_the_probe_speaks_the_texts_language() -> None:
    assert language_of(probe_for("Мост закрыт.")) == "ru" and language_of(probe_for(TEXT)) == "en"


def spelled_model() -> LanguageModel:
    """A tiny model whose tokens are whole words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = ["the gray cat and the red dog . * the *gray* cat *gray* dog"] * 9
    tokenizer.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=200, special_tokens=["<pad>", "<end>"]))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", chat_template=CHAT_TEMPLATE
    )
    return LanguageModel(tiny_module("llama"), fast, "tiny-words")


@pytest.mark.real
def test_fifty_variants_of_a_note_stay_within_the_budget_on_the_embedded_model(real_model: Any) -> None:
    found = collect(real_model, "She quietly put two letters and a small key on the table before the train left.")
    assert len(found.variants) == 50
    assert max(variant.divergence.volatility for variant in found.variants) <= BUDGET
    accepted = {kind for kind, one in found.yields.items() if one.accepted}
    assert {
        "marked_word",
        "anchor",
        "shift",
        "summary",
        "dropped",
        "word_order",
        "neighbour",
        "continuation",
    } <= accepted
