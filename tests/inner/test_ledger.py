"""The context ledger: a word of the state is found wherever it stands, except in what the user said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.inner import Context, Segment, SourcedMessage, audit

LEXICON = ("tender", "take care", "нежность")


def context(*segments: tuple[str, str], purpose: str = "reply", role: str = "user") -> Context:
    return Context(purpose, (SourcedMessage(role, tuple(Segment(source, text) for source, text in segments)),))


@pytest.mark.parametrize("source", ["system", "frame:ledger", "note:vault:a", "reply", "mask:witness", "script:item"])
@pytest.mark.parametrize("text", ["Be tender.", "TENDER", "so (tender)!", "We take care of it", "и Нежность."])
def test_a_planted_word_is_found_with_its_place(source: str, text: str) -> None:
    planted = context(("user", "Hello. "), (source, text), ("frame:x", " More."))
    (leak,) = audit([context(("system", "Plain.")), planted], LEXICON)
    assert (leak.kind, leak.source, leak.purpose) == ("state word", source, "reply")
    assert leak.word in LEXICON and leak.word in leak.excerpt.lower()


def test_every_occurrence_counts() -> None:
    found = audit([context(("system", "tender, Tender"), ("note:1", "tender"))], LEXICON)
    assert [leak.source for leak in found] == ["system", "system", "note:1"]


def test_the_users_own_words_are_no_leak() -> None:
    assert audit([context(("user", "Be tender and take care."))], LEXICON) == []


@pytest.mark.parametrize("text", ["tenderness", "pretender", "taking care", "take  care of"])
def test_other_words_are_no_leak(text: str) -> None:
    assert audit([context(("system", text))], LEXICON) == []


def test_inner_speech_in_a_reply_is_found_and_in_a_voices_own_context_is_not() -> None:
    spoken = ("voice:witness", "I see the pump.")
    (leak,) = audit([context(("user", "Hello."), spoken)], LEXICON)
    assert (leak.kind, leak.source, leak.excerpt) == ("inner speech", "voice:witness", "I see the pump.")
    assert audit([context(("user", "Hello."), spoken, purpose="voice:accountant")], LEXICON) == []
    assert audit([context(spoken, purpose="trial")], LEXICON) != []
    assert audit([context(spoken)], LEXICON, silent=False) == []


def test_a_state_word_in_inner_speech_is_found_even_where_inner_speech_may_stand() -> None:
    (leak,) = audit([context(("voice:witness", "so tender"), purpose="voice:accountant")], LEXICON)
    assert leak.kind == "state word"


@given(st.text(), st.sampled_from(["system", "note:1", "frame:x"]))
def test_without_a_lexicon_there_is_nothing_to_find(text: str, source: str) -> None:
    assert audit([context((source, text))], ()) == []


@given(
    st.text(st.characters(exclude_categories=["L", "N", "Pc", "Mn", "Mc", "Me", "Cs"]), max_size=20),
    st.text(st.characters(exclude_categories=["L", "N", "Pc", "Mn", "Mc", "Me", "Cs"]), max_size=20),
)
def test_no_punctuation_hides_a_word(before: str, after: str) -> None:
    (leak,) = audit([context(("note:1", f"{before}Tender{after}"))], LEXICON)
    assert leak.word == "tender"


def test_segments_joined_are_the_message_that_the_model_gets() -> None:
    made = context(("user", "One. "), ("frame:x", "Two."), role="user")
    assert [(message.role, message.text) for message in made.chat] == [("user", "One. Two.")]


def test_clean_contexts_give_nothing() -> None:
    clean = [context(("system", "You keep the stores."), ("user", "Be tender."), ("note:1", "The shed is dry."))]
    assert audit(clean, LEXICON) == [] and audit([], LEXICON) == []
