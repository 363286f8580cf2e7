"""Measuring E: its ends, its intervals, and what may be chosen by what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from equivalence.ladders import QUERIES, SPOKEN, asked, spoken, steered, target
from tiny_models import byte_tokenizer, tiny_module

from overlay.adapters import Example
from overlay.equivalence import NO_PROMPT, Prompt, Target
from overlay.equivalence.candidates import few_shot, openings_and_biases
from overlay.equivalence.estimate import excess, per_query, unreproduced
from overlay.errors import ArgumentError, InterventionError
from overlay.model import Ban, Dose, Intervention, LanguageModel, LogitBias, Treatment


def ratio(aim: Target, prompt: Prompt) -> float:
    found = aim.measure([(prompt, sample) for sample in aim.samples])
    return float(sum(one.kl.sum() for one in found) / sum(one.kl.sum() for one in aim.base.values()))


def test_the_same_prompt_leaves_nothing_undone_and_the_empty_one_everything(tiny_llama: Any) -> None:
    aim = target(tiny_llama, spoken())
    assert ratio(aim, Prompt(SPOKEN)) == pytest.approx(0, abs=1e-5)
    assert ratio(aim, NO_PROMPT) == pytest.approx(1, abs=1e-5)
    assert ratio(aim, Prompt("quite other words")) > 0.05


def test_plain_text_has_its_prompt_as_a_paragraph_before_it(tiny_llama: Any) -> None:
    prompt = Prompt("Say it.", shots=(Example(prompt="Q:", target=" A.\n"),), opening=" So")
    tokens = prompt.tokens(tiny_llama, "River:", chat=False)
    assert tiny_llama.decode(tokens) == "Say it.\n\nQ: A.\n\nRiver: So"
    assert (
        NO_PROMPT.tokens(tiny_llama, "River:", chat=False)
        == tiny_llama.encode(NO_PROMPT.row(tiny_llama, "River:", False)).tokens
    )


def test_divergences_are_those_of_the_distributions_position_by_position(
    tiny_llama: Any, random_direction: Any
) -> None:
    treatment = steered(tiny_llama, random_direction)
    aim = Target(tiny_llama, treatment, QUERIES[:1], chat=True, draws=1, length=5)
    (sample,) = aim.samples
    row = treatment.row(QUERIES[0], chat=True)
    head = tiny_llama.encode(row).tokens
    rows = {"treated": row, "base": NO_PROMPT.row(tiny_llama, QUERIES[0], True)}
    likely = {}
    for name, one in rows.items():
        ((_, logits),) = tiny_llama.logits([(*head, *sample.tokens)], [one])
        likely[name] = logits.double().log_softmax(-1).numpy()[len(head) - 1 : len(head) - 1 + sample.positions]
    p, q = np.exp(likely["treated"]), np.exp(likely["base"])
    found = aim.base[0, 0]
    np.testing.assert_allclose(found.kl, (p * np.log(p / q)).sum(1), rtol=1e-3, atol=1e-6)
    middle = (p + q) / 2
    js = ((p * np.log(p / middle)).sum(1) + (q * np.log(q / middle)).sum(1)) / 2
    np.testing.assert_allclose(found.js, js, rtol=1e-3, atol=1e-6)
    assert len(found.kl) == sample.positions >= 1


def test_samples_come_from_the_treated_model_and_differ_between_draws(tiny_llama: Any) -> None:
    aim = target(tiny_llama, spoken(), draws=3)
    again = target(tiny_llama, spoken(), draws=3)
    assert aim.samples == again.samples
    drawn = [tuple(one.tokens for one in aim.of(range(6), [draw])) for draw in range(3)]
    assert len(set(drawn)) == 3


def test_an_example_never_gives_away_the_answer_to_its_own_query(tiny_llama: Any) -> None:
    aim = target(tiny_llama, spoken())
    prompts = few_shot(aim, asked(), aim.of(range(3), [0]), seed=1)
    assert {prompt.count for prompt in prompts} == {1, 2}
    for prompt in prompts:
        for query in QUERIES:
            shown = prompt.shown(query)
            assert len(shown) == prompt.count and all(shot.prompt != query for shot in shown)


def test_fitted_biases_reproduce_a_treatment_that_is_nothing_else(tiny_llama: Any) -> None:
    biases = (LogitBias((70,), 2.0), LogitBias((80,), -1.5), LogitBias((90,), 1.0))
    aim = target(tiny_llama, Treatment("biased", Intervention(biases=biases)), draws=3)
    (prompt,) = openings_and_biases(aim, [], aim.of(range(6), [0]))
    assert ratio(aim, prompt) < 0.15
    assert dict(prompt.biases)[70] > 0.8


def test_a_treatment_that_cannot_be_read_along_a_given_text_is_refused(tiny_llama: Any, random_direction: Any) -> None:
    dose = Dose(random_direction(tiny_llama), 0.1, (0,), span="generated")
    for intervention in (Intervention(doses=(dose,)), Intervention(bans=(Ban("a"),))):
        with pytest.raises(InterventionError):
            target(tiny_llama, Treatment("late", intervention))
    with pytest.raises(ArgumentError, match="no queries"):
        Target(tiny_llama, spoken(), (), chat=True, draws=1, length=2)


def test_the_estimate_is_a_ratio_of_sums_and_its_interval_holds_it() -> None:
    generator = np.random.default_rng(0)
    base = generator.uniform(1, 3, (8, 3))
    noisy = base * generator.uniform(0.2, 0.8, (8, 3))
    found = unreproduced(noisy, base)
    assert found.value == pytest.approx(noisy.sum() / base.sum()) and found.low < found.value < found.high
    assert found == unreproduced(noisy, base)
    assert len(found.by_draw) == 3 and min(found.by_draw) <= found.value <= max(found.by_draw)
    same = unreproduced(2 * base, base)
    assert (same.value, same.low, same.high) == pytest.approx((2, 2, 2))
    assert excess(noisy, noisy, base).value == 0
    assert excess(2 * base, base, base).low == pytest.approx(1)
    assert per_query(np.array([[1.0], [2.0]]), np.array([[2.0], [0.0]])) == (0.5, None)


def test_what_has_no_ratio_is_refused() -> None:
    with pytest.raises(ArgumentError, match="does nothing"):
        unreproduced(np.ones((3, 2)), np.zeros((3, 2)))
    with pytest.raises(ArgumentError, match="two queries"):
        unreproduced(np.ones((1, 2)), np.ones((1, 2)))


def templated(template: str) -> LanguageModel:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return LanguageModel(tiny_module("llama"), tokenizer, "templated")


def test_a_prompt_stands_behind_what_the_template_says_by_itself_and_spends_its_own_tokens() -> None:
    model = templated(
        "{% if messages[0].role != 'system' %}system: You help.{{ '|' }}{% endif %}"
        "{% for message in messages %}{{ message.role }}: {{ message.content }}{{ '|' }}{% endfor %}"
    )
    prompt = Prompt("be kind")
    assert model.decode(prompt.tokens(model, "Why?", True)) == "system: You help.\n\nbe kind|user: Why?|"
    assert prompt.spends(model, "Why?", True) == len(model.tokenize("\n\nbe kind"))
    assert Prompt().spends(model, "Why?", True) == 0


def test_without_a_message_of_the_template_the_frame_of_a_message_is_not_the_prompts() -> None:
    model = templated("{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}")
    assert model.own_system == ""
    assert Prompt("be kind").spends(model, "Why?", True) == len(model.tokenize("be kind"))
