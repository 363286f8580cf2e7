"""Which titles a text mentions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.memory.mentions import Titles

TITLES = {
    1: "Steve Hillage",
    2: "Green (Steve Hillage album)",
    3: "New York",
    4: "New York City",
    5: "Cause",
    6: "The",
    7: "1987",
    8: "Ёжик в тумане",
    9: "New York",
    10: "",
    11: "X",
    12: "C++ (language)",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the spouse of Steve Hillage, a guitarist", {1}),
        ("STEVE  HILLAGE'S band", {1}),
        ("they heard Green twice", {2}),
        ("the green door", set()),
        ("in New York City it rains", {4}),
        ("in New York it rains", {3, 9}),
        ("New Yorkers", set()),
        ("the cause of it", set()),
        ("Cause and effect", {5}),
        ("The end of 1987 for X", set()),
        ("смотрели «Ежик в тумане» вчера", {8}),
        ("", set()),
    ],
)
def test_a_title_is_mentioned_where_it_stands_in_whole_words_as_a_name(text: str, expected: set[int]) -> None:
    assert Titles(TITLES).mentioned_in(text) == expected


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_asked(text: str) -> None:
    assert Titles(TITLES).mentioned_in(text) <= TITLES.keys()


def test_a_title_that_comes_later_is_found_as_if_it_had_been_there() -> None:
    titles = Titles({})
    titles.add(1, "Grand Canal")
    titles.add(2, "Grand Canal Museum")
    assert titles.mentioned_in("near the Grand Canal") == {1}
    assert titles.mentioned_in("in the Grand Canal Museum") == {2}
