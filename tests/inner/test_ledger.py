"""The ledger: what was written into a session's records comes back as the contexts that the model saw."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from overlay.errors import RecordDamaged
from overlay.inner import Context, Segment, SourcedMessage, lived_contexts


def context(*segments: tuple[str, str], purpose: str = "reply", role: str = "user") -> Context:
    return Context(purpose, (SourcedMessage(role, tuple(Segment(source, text) for source, text in segments)),))


def record(number: int, *contexts: Context, said: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    return {
        "number": number,
        "contexts": [asdict(one) for one in contexts],
        "inner_speech": [{"text": text} for text in said],
        "prompt_tokens": [5, 6, number],
    } | changes


def test_segments_joined_are_the_message_that_the_model_gets() -> None:
    made = context(("user", "One. "), ("frame:x", "Two."), role="user")
    assert [(message.role, message.text) for message in made.chat] == [("user", "One. Two.")]
    assert [segment.source for segment in made.segments] == ["user", "frame:x"]


@pytest.mark.parametrize("source", ["user", "reply", "system", "template", "note:a", "frame:b", "voice:c", "mask:d"])
def test_the_ledger_knows_its_sources(source: str) -> None:
    assert Segment(source, "text").is_known


@pytest.mark.parametrize("source", ["", "users", "note", "note:", "memory:a", "voice", "User"])
def test_anything_else_is_no_source(source: str) -> None:
    assert not Segment(source, "text").is_known


@pytest.mark.parametrize(
    ("source", "own"),
    [
        ("user", True),
        ("note:session:20260101-120000-ab12:turn:3:user", True),
        ("note:session:20260101-120000-ab12:turn:3:reply", False),
        ("note:vault:user", False),
        ("note:user", False),
        ("reply", False),
        ("system", False),
    ],
)
def test_the_users_own_words_are_those_said_now_and_those_remembered(source: str, own: bool) -> None:
    assert Segment(source, "text").is_users_own is own


def test_contexts_come_back_with_their_turn_their_place_and_what_the_model_got() -> None:
    voice, reply = context(("user", "Hi."), purpose="voice:witness"), context(("user", "Hi."), ("note:a", "There."))
    found = lived_contexts([record(1, voice, reply), record(2, reply)])
    assert [(one.context, one.turn, one.place, one.tokens) for one in found] == [
        (voice, 1, 1, None),
        (reply, 1, 2, (5, 6, 1)),
        (reply, 2, 1, (5, 6, 2)),
    ]
    assert all(one.silent for one in found)


def test_a_record_says_whether_its_dialogue_was_spoken() -> None:
    first, second = lived_contexts(
        [record(1, context(("user", "Hi.")), dialogue_mode="spoken"), record(2, context(("user", "Hi.")))]
    )
    assert not first.silent and second.silent


def test_unspoken_is_what_voices_said_by_then_and_did_not_repeat_from_what_they_were_told() -> None:
    voice = context(("system", "You keep the stores dry and in order."), purpose="voice:witness")
    said = ("The rope on the left is the one that broke. Yes.", "You keep the stores dry and in order.")
    first, second, third = lived_contexts(
        [
            record(1, voice, said=said),
            record(2, context(("user", "Hi.")), said=("It is not the first time that it broke.",)),
            record(
                3, context(("user", "Hi.")), said=("This was said aloud to everybody there.",), dialogue_mode="spoken"
            ),
        ]
    )
    assert first.unspoken == ("The rope on the left is the one that broke.",)
    assert second.unspoken == (*first.unspoken, "It is not the first time that it broke.") == third.unspoken


@pytest.mark.parametrize("missing", ["contexts", "inner_speech", "prompt_tokens", "number"])
def test_a_record_without_its_contexts_is_refused(missing: str) -> None:
    whole = record(1, context(("user", "Hi.")))
    with pytest.raises(RecordDamaged, match="no readable contexts"):
        lived_contexts([{key: value for key, value in whole.items() if key != missing}])
