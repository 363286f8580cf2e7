"""Prompts: where the current turn begins, whatever a chat template does, and what can't be written is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import byte_tokenizer, tiny_module

from overlay.errors import ArgumentError
from overlay.model import NOTHING, Dose, Intervention, LanguageModel, LogitBias, Message, Row, Sampling

CHAT = (Message("user", "Which boat?"), Message("assistant", "The first."), Message("user", "And who is on it?"))


def model_with(template: str | None) -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return LanguageModel(tiny_module("llama"), tokenizer, "templated")


def turn(model: Any, messages: tuple[Message, ...]) -> str:
    prompt = model.encode(Row(messages))
    return str(model.decode(prompt.tokens[prompt.turn_start :]))


def test_the_turn_is_the_last_message_and_what_opens_the_reply() -> None:
    assert turn(model_with(None), CHAT) == "User: And who is on it?\nAssistant:"
    template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}{% if add_generation_prompt %}>{% endif %}"
    )
    assert turn(model_with(template), CHAT) == "[user] And who is on it? >"
    assert turn(model_with(template), CHAT[:1]) == "[user] Which boat? >"


def test_a_template_that_rewrites_the_past_leaves_less_of_it_shared() -> None:
    """Some templates drop earlier messages, or close an unfinished chat with words that no longer come."""
    only_last = "{{ messages[-1].content }}"
    assert turn(model_with(only_last), CHAT) == "And who is on it?"
    shorter = "{% if messages|length == 3 %}User{% else %}Users came and went, and many more words{% endif %}"
    model = model_with(shorter)
    prompt = model.encode(Row(CHAT))
    assert prompt.turn_start == len(prompt.tokens)
    assert len(model.generate([Row(CHAT, sampling=Sampling(2))])[0].tokens) == 2


def test_messages_that_a_template_refuses_are_refused_in_words() -> None:
    model = model_with("{{ raise_exception('System role not supported') }}")
    for verb in (model.encode, lambda row: model.generate([row])):
        with pytest.raises(ArgumentError, match="messages of system, user: System role not supported") as caught:
            verb(Row((Message("system", "You work."), Message("user", "Hello"))))
        assert caught.value.next_step


def test_norms_of_texts_without_a_second_token_are_refused(tiny_llama: Any) -> None:
    for texts in ((), ("a",), ("a", "b")):
        with pytest.raises(ArgumentError, match="without a second token"):
            tiny_llama.residual_norms(texts)
    assert tiny_llama.residual_norms(("a", "ab")).shape == (3,)


@pytest.mark.parametrize(
    ("template", "own"),
    [
        (None, ""),
        ("{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}", ""),
        (
            "{% if messages[0].role != 'system' %}system: Be of help.\n{% endif %}"
            "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}",
            "Be of help.",
        ),
        # The system's words stand within the user's message.
        (
            "{% for message in messages %}{{ message.content }}{{ ' / ' if message.role == 'system' else '\n' }}"
            "{% endfor %}",
            "",
        ),
        ("{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages }}", ""),
    ],
)
def test_what_a_template_says_as_the_system_by_itself(template: str | None, own: str) -> None:
    assert model_with(template).own_system == own


def test_the_last_logits_are_those_of_all_positions(tiny_model: Any, random_direction: Any) -> None:
    """Whatever the lengths of batch mates, and with a bias that looks at the token before."""
    first, second = (tiny_model.tokenize(text) for text in ("a", "b"))
    acting = Intervention(
        (Dose(random_direction(tiny_model, 1), 0.4, (1,)),), biases=(LogitBias((*first, *second), 3.0),)
    )
    tokens = [tiny_model.tokenize(text) for text in ("The cat and a", "a", "nothing at all, and a b")]
    rows = [Row(text=" ", intervention=intervention) for intervention in (acting, acting, NOTHING)]
    whole = dict(tiny_model.logits(tokens, rows))
    for index, found in tiny_model.logits(tokens, rows, last=3):
        expected = whole[index][-3:]
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"last": 0}, {"last": 2, "padding": "right"}])
def test_last_positions_that_there_are_not_are_refused(tiny_llama: Any, wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="last"):
        list(tiny_llama.logits([(1, 2)], [Row(text=" ")], **wrong))


def test_logits_of_no_tokens_are_refused(tiny_llama: Any) -> None:
    with pytest.raises(ArgumentError, match="no tokens"):
        list(tiny_llama.logits([(5, 6), ()], [Row(text="a"), Row(text="b")]))
