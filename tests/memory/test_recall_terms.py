"""What the terms of a score promise, whatever the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import TypeVar

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from overlay.memory.recall import (
    LEADERS,
    LINK_DAMPING,
    TERMS,
    Coverage,
    Evidence,
    RecallWeights,
    leaders,
    match_expression,
    page_rank,
    query_words,
    rarity,
    score,
)
from overlay.memory.words import stems

Key = TypeVar("Key")
Value = TypeVar("Value")

WORDS = ("harbor", "lantern", "violin", "meadow")
WEIGHTS = RecallWeights()
KEYS = st.integers(1, 12)

states = st.dictionaries(st.sampled_from(["calm", "warmth", "x1"]), st.floats(-20, 20), max_size=3)


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    keys = draw(st.lists(KEYS, min_size=1, max_size=12, unique=True))
    of_some = st.sampled_from(keys)
    places = draw(st.dictionaries(of_some, st.tuples(st.sampled_from(["s1", "s2"]), st.integers(0, 6)), max_size=12))
    assume(len(set(places.values())) == len(places))
    return Evidence(
        rarity=draw(st.fixed_dictionaries({word: st.floats(0.01, 10) for word in WORDS})),
        words=draw(st.dictionaries(of_some, st.frozensets(st.sampled_from(WORDS)))),
        vector={key: draw(st.floats(-1, 1)) for key in keys},
        places=places,
        links=frozenset(draw(st.sets(st.tuples(KEYS, KEYS), max_size=20))),
        age=draw(st.dictionaries(of_some, st.floats(-5, 10_000))),
        importance=draw(st.dictionaries(of_some, st.floats(0, 1))),
        tags=draw(st.dictionaries(of_some, st.lists(st.sampled_from("abc"), max_size=3))),
        state=draw(st.dictionaries(of_some, states)),
    )


weightings = st.builds(RecallWeights, **dict.fromkeys(TERMS, st.just(0.0) | st.floats(0, 10)))


@settings(deadline=None)
@given(evidences(), weightings, states, st.dictionaries(st.sampled_from("abc"), st.floats(-2, 2)))
def test_every_candidate_gets_every_term_within_its_bounds_under_any_weights(
    evidence: Evidence, weights: RecallWeights, state: dict[str, float], boosts: dict[str, float]
) -> None:
    found = score(evidence, weights, state=state, tag_boosts=boosts)
    assert found.keys() == evidence.vector.keys()
    bounds = {"text": (0, 1), "neighbours": (0, 1), "links": (0, 1), "recency": (0, 1), "crowding": (-1, 0)}
    for terms in found.values():
        assert tuple(terms) == TERMS
        for term, value in terms.items():
            low, high = bounds.get(term, (-1, 1))
            assert low - 1e-9 <= value <= high + 1e-9, term


@settings(deadline=None)
@given(evidences(), weightings)
def test_many_totals_at_once_are_to_the_last_bit_those_of_one(evidence: Evidence, weights: RecallWeights) -> None:
    terms = score(evidence, weights)
    assert weights.totals(terms) == {key: weights.total(one) for key, one in terms.items()}


@settings(deadline=None)
@given(evidences(), st.sets(KEYS))
def test_coverage_to_which_notes_are_added_is_that_of_all_of_them(evidence: Evidence, added: set[int]) -> None:
    fewer = replace(
        evidence,
        words={key: words for key, words in evidence.words.items() if key not in added},
        places={key: place for key, place in evidence.places.items() if key not in added},
    )
    assert Coverage.of(evidence, Coverage.of(fewer), added) == Coverage.of(evidence)


@settings(deadline=None)
@given(evidences(), states)
def test_a_state_at_zero_is_as_no_state_and_notes_without_states_are_unmoved_by_one(
    evidence: Evidence, state: dict[str, float]
) -> None:
    plain = score(evidence, WEIGHTS)
    assert score(evidence, WEIGHTS, state={}) == plain
    assert score(evidence, WEIGHTS, state=dict.fromkeys(state, 0.0)) == plain
    bare = replace(evidence, state={})
    assert score(bare, WEIGHTS, state=state) == score(bare, WEIGHTS)


@settings(deadline=None)
@given(evidences(), states, st.randoms(use_true_random=False))
def test_the_order_in_which_evidence_comes_changes_nothing(
    evidence: Evidence, state: dict[str, float], order: Random
) -> None:
    def shuffled(mapping: Mapping[Key, Value]) -> dict[Key, Value]:
        items = list(mapping.items())
        order.shuffle(items)
        return dict(items)

    turned = replace(
        evidence,
        vector=shuffled(evidence.vector),
        words=shuffled(evidence.words),
        places=shuffled(evidence.places),
        rarity=shuffled(evidence.rarity),
        links=frozenset((other, one) for one, other in evidence.links),
    )
    one, other = score(evidence, WEIGHTS, state=state), score(turned, WEIGHTS, state=state)
    for key, terms in one.items():
        assert other[key] == pytest.approx(terms, abs=1e-9)


def _two(**given: object) -> dict[int, dict[str, float]]:
    """Notes 1 and 2 that are alike except for what is given."""
    alike = Evidence(
        rarity={"harbor": 2.0, "lantern": 1.0},
        words={1: {"lantern"}, 2: {"lantern"}},
        vector={1: 0.3, 2: 0.3},
        age={1: 9.0, 2: 9.0},
    )
    return score(replace(alike, **given), WEIGHTS, state={"calm": 0.5}, tag_boosts={"yes": 0.5, "no": -0.5})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "better",
    [
        {"words": {1: {"lantern", "harbor"}, 2: {"lantern"}}},
        {"words": {1: {"harbor"}, 2: {"lantern"}}},
        {"vector": {1: 0.4, 2: 0.3}},
        {"age": {1: 1.0, 2: 9.0}},
        {"age": {2: 9.0}},
        {"importance": {1: 0.9}},
        {"importance": {1: 0.5, 2: 0.1}},
        {"tags": {1: ["yes"]}},
        {"tags": {2: ["no"]}},
        {"state": {1: {"calm": 2.0}}},
        {"state": {1: {"calm": 2.0}, 2: {"calm": 1.0}}},
        {"state": {2: {"calm": -1.0}}},
    ],
    ids=lambda better: "-".join(better),
)
def test_more_of_anything_good_ranks_a_note_higher(better: dict[str, object]) -> None:
    found = _two(**better)
    assert WEIGHTS.total(found[1]) > WEIGHTS.total(found[2])


def _stream(places: dict[int, tuple[str, int]], words: dict[int, set[str]]) -> dict[int, dict[str, float]]:
    evidence = Evidence({"harbor": 2.0, "lantern": 1.0}, words, dict.fromkeys(range(1, 6), 0.1), places)
    return score(evidence, WEIGHTS)


def test_words_beside_a_note_count_less_the_further_they_stand_and_not_across_streams() -> None:
    places = {1: ("a", 3), 2: ("a", 4), 3: ("a", 5), 4: ("a", 6), 5: ("b", 4)}
    found = _stream(places, {1: {"harbor"}})
    assert found[2]["neighbours"] > found[3]["neighbours"] > 0
    assert found[4]["neighbours"] == found[5]["neighbours"] == found[1]["neighbours"] == 0
    assert found[1]["text"] == pytest.approx(2 / 3)


def test_a_word_that_the_note_has_itself_isnt_counted_again_from_beside_it() -> None:
    assert _stream({1: ("a", 1), 2: ("a", 2)}, {1: {"harbor"}, 2: {"harbor"}})[1]["neighbours"] == 0


def test_a_better_note_of_the_same_stream_crowds_and_one_of_another_stream_does_not() -> None:
    places = {1: ("a", 10), 2: ("a", 20), 3: ("a", 30), 4: ("b", 1)}
    found = _stream(places, {1: {"harbor", "lantern"}, 2: {"harbor"}, 3: {"lantern"}, 4: {"lantern"}})
    assert found[1]["crowding"] == found[4]["crowding"] == found[5]["crowding"] == 0
    assert 0 > found[2]["crowding"] > found[3]["crowding"]


def test_a_link_lifts_what_the_best_note_points_to_and_more_so_if_it_points_to_nothing_else() -> None:
    vectors = {key: 0.8 if key == 1 else 0.1 for key in range(1, 30)}
    lone = score(Evidence({}, {}, vectors, links=frozenset({(1, 20)})), WEIGHTS)
    shared = score(Evidence({}, {}, vectors, links=frozenset({(1, 20), (1, 21), (1, 22)})), WEIGHTS)
    assert lone[20]["links"] > shared[20]["links"] > 0
    assert lone[21]["links"] == 0
    far = score(Evidence({}, {}, vectors, links=frozenset({(20, 21)})), WEIGHTS)
    assert far[20]["links"] == far[21]["links"] == 0


def test_the_leaders_are_the_few_best_by_what_the_query_says() -> None:
    evidence = Evidence({"harbor": 1.0}, {7: {"harbor"}}, {key: 0.01 * key for key in range(1, 20)})
    assert leaders(evidence, WEIGHTS) == [7, *range(19, 19 - LEADERS + 1, -1)]


@settings(deadline=None)
@given(st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda pair: pair[0] < pair[1]), min_size=1))
def test_the_rank_is_that_of_networkx(links: set[tuple[int, int]]) -> None:
    graph: nx.Graph[int] = nx.Graph(sorted(links))
    keys = sorted(graph)
    restart = {key: 1.0 + key for key in keys}
    total = sum(restart.values())
    ends = np.array([(keys.index(one), keys.index(other)) for one, other in links])
    mine = page_rank(ends, np.array([restart[key] / total for key in keys]))
    theirs = nx.pagerank(graph, alpha=LINK_DAMPING, personalization=restart)
    assert mine == pytest.approx([theirs[key] for key in keys], abs=2e-3)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 1000))
def test_a_rarer_word_tells_more_and_every_word_tells_something(frequency: int, size: int) -> None:
    assume(frequency < size)
    assert rarity(frequency, size) > rarity(frequency + 1, size) > 0


def test_a_question_about_what_isnt_there_is_not_answered_by_its_verb() -> None:
    words = query_words(stems("tell me about cats"))
    told = {word: rarity(1 if word == "tell" else 0, 5) for word in words}
    found = score(Evidence(told, {1: {"tell"}}, {1: 0.0}), WEIGHTS)
    assert found[1]["text"] < 0.5


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("What did Caroline research?", ["carolin", "research"]),
        ("Где живёт ёжик?", stems("живёт ёжик")),
        ("what is it", ["what", "is", "it"]),
        ("fire Fire FIRES", ["fire"]),
        ("", []),
    ],
)
def test_function_words_are_left_out_unless_there_is_nothing_else(query: str, expected: list[str]) -> None:
    assert query_words(stems(query)) == expected


def test_nothing_in_a_match_expression_acts_as_an_operator() -> None:
    assert match_expression(["near", 'a"b', "not"]) == '"near" OR "a""b" OR "not"'
    assert match_expression([]) == ""
