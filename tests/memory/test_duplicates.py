"""What is the same text, what only repeats, and what must never be taken for either."""

from __future__ import annotations

import pytest

from overlay.memory import Memory
from overlay.memory.duplicates import folded, is_echo


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Anna drinks green tea.", "anna drinks  green TEA"),
        ("«Ёжик в тумане»", "ежик в тумане"),
        ("Well, the cat sleeps - just there!", "the cat sleeps there"),
        ("It rained — all night…", "It rained all night."),
    ],
)
def test_what_differs_in_nothing_that_matters_is_folded_together(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Anna moved to Tver", "Anna moved to Omsk"),
        ("Anna loves Boris", "Boris loves Anna"),
        ("the door is locked", "the door is not locked"),
        ("it costs 3.5 euros", "it costs 35 euros"),
        ("it is -5 outside", "it is 5 outside"),
        ("I like C++", "I like C"),
        ("Anna left.", "Anna left?"),
        ("she lives in Omsk", "she lived in Omsk"),
        ("он пришёл", "он не пришёл"),
    ],
)
def test_what_says_something_else_stays_apart(one: str, other: str) -> None:
    long = "and so on, as was told at length on many an evening by the fire in the old house by the river"
    assert folded(one) != folded(other)
    assert folded(f"{long} {one} {long}") != folded(f"{long} {other} {long}")


def test_near_duplicates_are_merged_with_their_sources_and_other_facts_are_kept(memory: Memory) -> None:
    first = memory.remember("Anna drinks green tea.", kind="fact", source="turn:1").note
    again = memory.remember("Anna drinks  green tea!", kind="fact", source="turn:2", tags=["tea"])
    assert (again.outcome, again.note.id, again.note.text) == ("merged", first.id, "Anna drinks green tea.")
    assert memory.sources(first.id) == ("turn:1", "turn:2")
    assert memory.remember("Anna drinks black tea.", kind="fact", source="turn:3").outcome == "added"
    assert memory.count() == 2


RECALLED = ["Anna drinks green tea every morning. She doesn't like coffee.", "The train to Kazan leaves at nine."]


@pytest.mark.parametrize(
    "text",
    [
        "Anna drinks green tea every morning.",
        "I remember: you said that Anna drinks green tea. She does not like coffee.",
        "You told me the train to Kazan leaves at nine. Yes, I know that.",
        "Anna drinks tea every morning.",
    ],
)
def test_what_only_repeats_is_an_echo(text: str) -> None:
    assert is_echo(text, RECALLED)


@pytest.mark.parametrize(
    "text",
    [
        "Anna drinks black tea every morning.",
        "Anna doesn't drink green tea every morning.",
        "She likes coffee.",
        "The train to Kazan leaves at ten.",
        "Anna drinks green tea every morning. She bought a new pot.",
        "Does Anna drink green tea every morning?",
        "Yes, I remember that.",
        "Anna.",
        "The morning train drinks tea.",
    ],
)
def test_what_says_more_or_less_or_asks_is_no_echo(text: str) -> None:
    assert not is_echo(text, RECALLED)


def test_a_reply_that_repeats_what_was_recalled_is_not_stored_again(memory: Memory) -> None:
    memory.remember("Anna drinks green tea every morning.", kind="fact", source="s", note_id="tea")
    memory.remember("The train leaves at nine.", kind="fact", source="s", note_id="train")
    given = {"kind": "said", "source": "turn:4:reply", "note_id": "turn:4", "echoes": ["train", "tea", "nobody"]}
    echoed = memory.remember("As you said, Anna drinks green tea every morning.", **given)
    assert (echoed.outcome, echoed.note.id) == ("echoed", "tea")
    assert "turn:4" not in memory
    assert memory.journal()[-1][1:] == ("echoed", "tea")
    assert memory.remember("Anna drinks green tea and Boris cooks.", **given).outcome == "added"
