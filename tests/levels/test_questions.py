"""Questions: all there, each with one right answer, and no side that wins by itself."""

from __future__ import annotations

from collections import Counter

from overlay.levels import causality, minimal_pairs


def test_every_question_has_two_different_options_and_a_beginning() -> None:
    asked = (*causality(), *minimal_pairs())
    assert len(causality()) == 1000 and len(minimal_pairs()) == 155
    assert all(one.prompt and one.options[0] != one.options[1] and one.right in (0, 1) for one in asked)
    assert len({(one.prompt, one.options) for one in asked}) == len(asked)


def test_right_answers_about_causes_stand_as_often_first_as_second() -> None:
    for asked, each in ((causality(), 250), (causality()[:200], 50)):
        assert Counter((one.kind, one.right) for one in asked) == {
            (kind, right): each for kind in ("cause", "effect") for right in (0, 1)
        }


def test_there_are_enough_minimal_pairs_of_enough_phenomena() -> None:
    kinds = Counter(pair.kind for pair in minimal_pairs())
    assert len(kinds) >= 8 and min(kinds.values()) >= 10


def test_a_minimal_pair_is_cut_before_the_place_where_its_sentences_differ() -> None:
    first = minimal_pairs()[0]
    assert first.prompt + first.options[0] == "The keys of the cabinet are on the table."
    assert first.prompt + first.options[1] == "The keys of the cabinet is on the table."
