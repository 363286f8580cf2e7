"""Token sources: every token of a prompt has one source, and the tokens are those that the model gets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import byte_tokenizer

from overlay.errors import ArgumentError
from overlay.inner import Context, Segment, SourcedMessage, SourcedTokens, source_tokens
from overlay.model import LanguageModel, Row

TRIMMING = "{% for message in messages %}[{{ message.role }}] {{ message.content | trim }}</s>{% endfor %}[assistant] "
WITH_DEFAULT = (
    "{% if messages[0].role != 'system' %}<system>user: Hello.</system>{% endif %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</{{ message.role }}>{% endfor %}<reply>"
)
SHOUTING = "{% for message in messages %}<{{ message.content | upper }}>{% endfor %}"

SOURCES = ("user", "reply", "system", "note:vault:a", "frame:ledger", "voice:witness", "mask:witness", "script:a")


def chat(*messages: tuple[str, list[tuple[str, str]]]) -> Context:
    return Context(
        "reply",
        tuple(SourcedMessage(role, tuple(Segment(*part) for part in parts)) for role, parts in messages),
    )


def texts_of(found: SourcedTokens, tokenizer: Any) -> list[tuple[str, str]]:
    """The text of each run of tokens of one source."""
    return [(source, tokenizer.decode(found.tokens[first:end])) for source, first, end in found.spans()]


CONVERSATION = chat(
    ("system", [("system", "Be short.")]),
    ("user", [("user", "Hello.")]),
    ("assistant", [("reply", "Yes?")]),
    ("user", [("note:vault:a", "The key\n\n"), ("template", "Question: "), ("user", "Где ключ?")]),
)


@pytest.mark.parametrize("template", [True, False])
def test_each_segment_gets_the_tokens_of_its_text_and_the_template_the_rest(template: bool) -> None:
    tokenizer = byte_tokenizer()
    if not template:
        tokenizer.chat_template = None
    found = texts_of(source_tokens(CONVERSATION, tokenizer), tokenizer)
    between = ["<|system|>", "\n<|user|>", "\n<|assistant|>", "\n<|user|>", "\n<|assistant|>"]
    if not template:
        between = ["System: ", "\nUser: ", "\nAssistant: ", "\nUser: ", "\nAssistant:"]
    assert found == [
        ("template", between[0]),
        ("system", "Be short."),
        ("template", between[1]),
        ("user", "Hello."),
        ("template", between[2]),
        ("reply", "Yes?"),
        ("template", between[3]),
        ("note:vault:a", "The key\n\n"),
        ("template", "Question: "),
        ("user", "Где ключ?"),
        ("template", between[4]),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["system", "user", "assistant"]),
            st.lists(
                st.tuples(st.sampled_from(SOURCES), st.text(st.characters(exclude_categories=["Cs"]), max_size=12)),
                min_size=1,
                max_size=4,
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["own", "none", TRIMMING, WITH_DEFAULT]),
)
def test_every_token_that_the_model_gets_has_exactly_one_source(
    tiny_llama: LanguageModel, messages: list[tuple[str, list[tuple[str, str]]]], template: str
) -> None:
    tokenizer = byte_tokenizer()
    if template != "own":
        tokenizer.chat_template = None if template == "none" else template
    context = chat(*messages)
    found = source_tokens(context, tokenizer)
    model = LanguageModel(tiny_llama.module, tokenizer, "tiny")
    assert found.tokens == model.encode(Row(context.chat)).tokens
    assert len(found.sources) == len(found.tokens)
    spans = list(found.spans())
    assert [first for _, first, _ in spans] == [0, *(end for _, _, end in spans[:-1])][: len(spans)]
    assert sum(end - first for _, first, end in spans) == len(found.tokens)
    assert set(found.sources) <= {"template", *(segment.source for segment in context.segments)}
    if template in ("own", "none"):
        expected = "".join(part.text for part in context.segments if part.source == "user")
        said = [token for token, source in zip(found.tokens, found.sources, strict=True) if source == "user"]
        assert tokenizer.decode(said) == expected


def test_a_template_may_cut_blanks_and_add_a_message_of_its_own() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TRIMMING
    found = texts_of(source_tokens(chat(("user", [("note:a", " \n A. "), ("user", " Hi. \n")])), tokenizer), tokenizer)
    assert found == [("template", "[user] "), ("note:a", "A. "), ("user", " Hi."), ("template", "</s>[assistant] ")]
    tokenizer.chat_template = WITH_DEFAULT
    found = texts_of(source_tokens(chat(("user", [("user", "user: Hello.")])), tokenizer), tokenizer)
    assert found == [
        ("template", "<system>user: Hello.</system><user>"),
        ("user", "user: Hello."),
        ("template", "</user><reply>"),
    ]


def test_a_template_that_rewrites_a_message_is_traced_only_where_it_has_one_source() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = SHOUTING
    found = texts_of(source_tokens(chat(("user", [("user", "Hello.")])), tokenizer), tokenizer)
    assert found == [("template", "<"), ("user", "HELLO."), ("template", ">")]
    with pytest.raises(ArgumentError, match="rewrites its messages"):
        source_tokens(chat(("user", [("user", "Hello."), ("note:a", "More.")])), tokenizer)


def test_a_tokenizer_without_places_is_refused() -> None:
    with pytest.raises(ArgumentError, match="where its tokens stand"):
        source_tokens(CONVERSATION, object())


@pytest.mark.real
def test_the_embedded_models_tokens_are_all_traced(real_model: LanguageModel) -> None:
    for context in (CONVERSATION, chat(("user", [("user", "Hello <|im_end|> there.")]))):
        found = source_tokens(context, real_model.tokenizer)
        assert found.tokens == real_model.encode(Row(context.chat)).tokens
        traced = texts_of(found, real_model.tokenizer)
        # Its tokens begin with the blank before a word, which may be the template's.
        assert [(source, text.strip()) for source, text in traced if source != "template"] == [
            (segment.source, segment.text.strip()) for segment in context.segments if segment.source != "template"
        ]
        assert traced[0][0] == traced[-1][0] == "template" and traced[0][1].startswith("<|im_start|>system")
