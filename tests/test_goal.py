"""A goal: what serves it is chosen within the room there is, and everything says why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from memory.hashed_words import HashedWords

from overlay.errors import ArgumentError
from overlay.frames import Frame
from overlay.goal import weigh_for
from overlay.memory import Memory

GOAL = "Bring the stores of oil through the winter."
COUNTING = Frame(
    name="counting", description="Counts the stores of oil.", cues=("How much?",), questions=("What is left?",)
)
SINGING = Frame(name="singing", description="Sings with birds.", cues=("Tra la",), questions=("Which song is it?",))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(tmp_path, HashedWords()) as opened:
        for number, text in enumerate(
            [
                "The stores of oil are in the north room.",
                "The stores of oil are in the north room, the old one.",
                "Winter begins in November here.",
                "A blackbird sang on the roof.",
            ]
        ):
            opened.remember(text, kind="fact", source="test", note_id=f"n{number}")
        yield opened


def test_what_is_near_to_the_goal_is_chosen_and_what_repeats_it_counts_less(memory: Memory) -> None:
    found = weigh_for(GOAL, memory, [COUNTING, SINGING], {"counting": 0.8}, HashedWords(), items=3)
    names = [one.offer.name for one in found.chosen]
    assert "counting" in names and "singing" not in names and "n3" not in names
    assert sum(one.weight for one in found.chosen) == pytest.approx(1)
    repeating = {one.offer.name: one for one in (*found.chosen, *found.left_out)}
    assert {"n0", "n1"} & {repeating["n0"].repeated, repeating["n1"].repeated}
    assert all("near the goal" in str(one) for one in (*found.chosen, *found.left_out))


def test_energy_decides_between_frames_and_nothing_exceeds_the_room(memory: Memory) -> None:
    twins = [COUNTING.model_copy(update={"name": name}) for name in ("awake", "asleep")]
    found = weigh_for(GOAL, memory, twins, {"awake": 1.0}, HashedWords(), items=10, words=12)
    assert sum(one.offer.words for one in found.chosen) <= 12
    assert "awake" in [one.offer.name for one in found.chosen]
    alone = weigh_for(GOAL, memory, twins, {"awake": 1.0}, HashedWords(), items=1)
    assert [one.offer.name for one in alone.chosen] == ["awake"]


@pytest.mark.parametrize(("goal", "items"), [(" ", 3), (GOAL, 0)])
def test_no_goal_and_no_room_are_refused(memory: Memory, goal: str, items: int) -> None:
    with pytest.raises(ArgumentError):
        weigh_for(goal, memory, [COUNTING], {}, HashedWords(), items=items)
