"""Learning: bounded whatever is lived, stronger by use alone, and back to what is written without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from word_embedder import WordEmbedder

from overlay.errors import ArgumentError, RecordDamaged
from overlay.frames import (
    NOTHING_LEARNED,
    Frame,
    FrameGraph,
    FrameTurn,
    LearnedWeights,
    learn,
    read_learned,
    write_learned,
)

FRAMES = [
    Frame(name="a", description="a", cues=("alpha beta",), links={"b": 0.2, "c": -0.5}),
    Frame(name="b", description="b", cues=("gamma delta",)),
    Frame(name="c", description="c", cues=("epsilon zeta",)),
]
GRAPH = FrameGraph(FRAMES, WordEmbedder())
BOTH = "alpha beta gamma delta"


def lived(*texts: str, learned: LearnedWeights = NOTHING_LEARNED) -> LearnedWeights:
    for text in texts:
        learned = learn(learned, FRAMES, GRAPH.turn({}, text, learned=learned))
    return learned


def weight(learned: LearnedWeights, origin: str, goal: str) -> float:
    return {frame.name: learned.weights_of(frame) for frame in FRAMES}[origin].get(goal, 0.0)


def test_frames_that_a_text_wakes_together_grow_together_also_where_no_link_is_written() -> None:
    learned = lived(BOTH, BOTH)
    assert weight(learned, "a", "b") > 0.2 + 0.05
    assert weight(learned, "b", "a") > 0.05
    assert weight(learned, "a", "c") == -0.5
    assert learned.turns == 2


def test_a_link_does_not_grow_by_what_it_did_itself() -> None:
    strong = LearnedWeights({"a": {"b": 0.8}})
    turn = GRAPH.turn({}, "alpha beta", learned=strong)
    assert {one.frame.name for one in turn.active} == {"a", "b"}
    assert weight(learn(strong, FRAMES, turn), "a", "b") < 1.0


def test_what_was_learned_changes_where_energy_goes() -> None:
    learned = lived(*[BOTH] * 20)
    assert GRAPH.spread({}, {"b": 1.0})["a"] == 0.0
    assert GRAPH.spread({}, {"b": 1.0}, learned)["a"] > 0.2


def test_unused_weights_return_to_what_is_written() -> None:
    learned = lived(*[BOTH] * 5)
    grown = weight(learned, "a", "b")
    idle = GRAPH.turn({}, "")
    half = learned
    for _ in range(35):
        half = learn(half, FRAMES, idle)
    assert weight(half, "a", "b") - 0.2 < (grown - 0.2) / 2
    for _ in range(600):
        half = learn(half, FRAMES, idle)
    assert half.changes == {}
    assert weight(half, "a", "b") == 0.2


@given(
    changes=st.dictionaries(
        st.sampled_from("abc"), st.dictionaries(st.sampled_from("abc"), st.floats(-2, 2), max_size=3), max_size=3
    ),
    texts=st.lists(st.sampled_from([BOTH, "epsilon zeta alpha beta", "alpha", ""]), max_size=6),
    rate=st.floats(0, 1),
    forgetting=st.floats(0, 1),
)
def test_weights_stay_bounded_whatever_is_lived(
    changes: dict[str, dict[str, float]], texts: list[str], rate: float, forgetting: float
) -> None:
    learned = LearnedWeights(changes)
    energies: dict[str, float] = {}
    for text in texts:
        turn = GRAPH.turn(energies, text, learned=learned)
        assert all(0 <= energy <= 1 for energy in turn.energies.values())
        learned = learn(learned, FRAMES, turn, rate=rate, forgetting=forgetting)
        energies = turn.energies
        assert all(-1 <= one <= 1 for frame in FRAMES for one in learned.weights_of(frame).values())
    assert LearnedWeights.from_plain(json.loads(json.dumps(learned.to_plain()))).to_plain() == learned.to_plain()


def test_what_is_known_of_frames_that_are_gone_is_dropped() -> None:
    learned = LearnedWeights({"gone": {"a": 0.5}, "a": {"gone": 0.5, "b": 0.5}})
    assert GRAPH.spread({}, {"a": 1.0}, learned)["b"] > 0
    after = learn(learned, FRAMES, FrameTurn({}, {}, ()))
    assert set(after.changes) == {"a"} and set(after.changes["a"]) == {"b"}


def test_learned_weights_are_kept_and_reset(tmp_path: Path) -> None:
    path = tmp_path / "frames.json"
    assert read_learned(path) == NOTHING_LEARNED
    write_learned(path, lived(BOTH))
    assert read_learned(path) == lived(BOTH)
    write_learned(path, NOTHING_LEARNED)
    assert read_learned(path).changes == {}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"turns": 1}', '{"turns": 1, "changes": {"a": {"b": NaN}}}'])
def test_damaged_weights_are_told_with_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "frames.json"
    path.write_text(damage)
    with pytest.raises(RecordDamaged, match="overlay frames reset"):
        read_learned(path)


@pytest.mark.parametrize("wrong", [{"rate": 1.5}, {"forgetting": -0.1}])
def test_shares_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError):
        learn(NOTHING_LEARNED, FRAMES, GRAPH.turn({}, ""), **wrong)
