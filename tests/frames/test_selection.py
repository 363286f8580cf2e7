"""Selection: within its budget, nearest to the goal first, nothing twice, and each with its reason."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.errors import ArgumentError
from overlay.frames import Offer, select

GOAL = np.array([1, 0, 0, 0], dtype=np.float32)


def offer(name: str, *direction: float, words: int = 10, strength: float = 0.0) -> Offer:
    vector = np.array(direction, dtype=np.float32)
    return Offer("note", name, words, vector / np.linalg.norm(vector), strength)


def test_the_nearest_comes_first_with_the_largest_weight_and_weights_sum_to_one() -> None:
    found = select(GOAL, [offer("far", 1, 2, 0, 0), offer("near", 3, 0, 1, 0)], items=5, words=100)
    assert [one.offer.name for one in found.chosen] == ["near", "far"]
    assert found.chosen[0].weight > found.chosen[1].weight
    assert sum(one.weight for one in found.chosen) == pytest.approx(1)


def test_energy_decides_between_equally_near_ones() -> None:
    found = select(GOAL, [offer("asleep", 1, 1, 0, 0), offer("awake", 1, 0, 1, 0, strength=0.9)], items=1, words=100)
    assert [one.offer.name for one in found.chosen] == ["awake"]
    assert found.left_out[0].reason == "1 are chosen already"


def test_what_repeats_gives_way_to_what_adds_something() -> None:
    offered = [offer("copy", 3, 1.1, 0, 0), offer("first", 3, 1, 0, 0), offer("other", 2, -1, 1, 0)]
    found = select(GOAL, offered, items=2, words=100)
    assert [one.offer.name for one in found.chosen] == ["first", "other"]
    (left,) = found.left_out
    assert left.repeats > 0.99 and left.repeated == "first"
    assert "repeats first" in str(left)


def test_a_short_one_takes_the_place_of_what_is_too_long() -> None:
    found = select(GOAL, [offer("long", 1, 0, 0, 0, words=90), offer("short", 1, 1, 0, 0, words=5)], items=3, words=20)
    assert [one.offer.name for one in found.chosen] == ["short"]
    assert "90 words" in found.left_out[0].reason


def test_what_is_far_from_the_goal_is_never_chosen() -> None:
    found = select(GOAL, [offer("against", -1, 0, 0, 0), offer("beside", 0, 1, 0, 0)], items=3, words=100)
    assert found.chosen == () and {one.reason for one in found.left_out} == {"far from the goal"}


@given(
    directions=st.lists(
        st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda v: np.linalg.norm(v) > 0.1), max_size=8
    ),
    words=st.lists(st.integers(0, 30), min_size=8, max_size=8),
    items=st.integers(0, 5),
    budget=st.integers(0, 60),
)
def test_the_budget_holds_and_nothing_is_lost(
    directions: list[list[float]], words: list[int], items: int, budget: int
) -> None:
    offered = [offer(f"n{place}", *one, words=words[place]) for place, one in enumerate(directions)]
    found = select(GOAL, offered, items=items, words=budget)
    assert len(found.chosen) <= items
    assert sum(one.offer.words for one in found.chosen) <= budget
    assert sorted(one.offer.name for one in (*found.chosen, *found.left_out)) == sorted(one.name for one in offered)
    assert all(one.reason and not one.weight for one in found.left_out)
    assert all(one.weight > 0 and not one.reason for one in found.chosen)


def test_vectors_of_another_embedder_and_strengths_out_of_range_are_refused() -> None:
    with pytest.raises(ArgumentError, match="shape"):
        select(GOAL[:2], [offer("a", 1, 0, 0, 0)], items=1, words=9)
    with pytest.raises(ArgumentError, match="strength"):
        select(GOAL, [offer("a", 1, 0, 0, 0, strength=2)], items=1, words=9)
