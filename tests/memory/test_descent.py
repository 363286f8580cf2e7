"""Going down from folds to notes: it finds what stands there, as plain recall does, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from overlay.errors import ArgumentError
from overlay.memory import Filters, Memory, NewNote, descend, fold, tree

WORDS = {
    "sea": "harbour sail anchor captain storm gull tide rope island lighthouse",
    "kitchen": "bread oven butter flour spoon kettle onion pepper soup plate",
    "music": "piano violin chord melody concert drum choir tempo singer stage",
    "garden": "apple spade seed dew rose bush fence bench bee path",
    "train": "rail station ticket whistle tunnel bridge wagon engine porter signal",
}


@pytest.fixture
def folded(memory: Memory) -> Memory:
    draw = random.Random(1)
    memory.remember_many(
        NewNote(
            " ".join([subject, *draw.sample(words.split(), 4), f"mark{number}"]),
            "said" if number % 2 else "thought",
            "test",
            note_id=f"{subject}{number}",
        )
        for number in range(40)
        for subject, words in WORDS.items()
    )
    fold(memory)
    return memory


@pytest.mark.parametrize("height", [1, 2, None])
def test_it_comes_down_to_notes_about_what_was_asked(folded: Memory, height: int | None) -> None:
    for subject, words in WORDS.items():
        found = descend(folded, f"{subject} {words}", 5, start_height=height)
        assert len(found) == 5
        assert all(one.note.id.startswith(subject) for one in found)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        assert all(one.score == folded.settings.weights.total(one.terms) for one in found)


def test_with_a_beam_as_wide_as_the_tree_it_finds_what_recall_finds(
    folded: Memory, open_memory: Callable[..., Memory]
) -> None:
    folded.close()
    # Without a floor, which would leave out folds that say little of what was asked.
    folded = open_memory(minimum_score=-10)
    for query in ("piano concert with a choir", "bread and butter", "rope"):
        flat = folded.recall(query, 10, filters=Filters(height=0))
        found = descend(folded, query, 10, start_height=1, beam=200)
        # By scores: notes of the same score may change places.
        assert [one.score for one in found] == pytest.approx([one.score for one in flat])


def test_a_narrow_beam_stays_below_the_best_folds(folded: Memory) -> None:
    best = folded.recall("storm at sea", 1, filters=Filters(height=1))[0].note
    found = descend(folded, "storm at sea", 20, start_height=1, beam=1)
    assert found
    assert {one.note.id for one in found} <= set(best.links)


def test_filters_choose_among_the_notes(folded: Memory) -> None:
    found = descend(folded, "piano melody", 6, filters=Filters(kinds=["thought"]))
    assert found
    assert {one.note.kind for one in found} == {"thought"}


def test_a_lower_tree_is_entered_at_its_root(folded: Memory) -> None:
    folded.remember("piano in another house", kind="said", source="t", note_id="a", namespace="other")
    folded.remember("violin in another house", kind="said", source="t", note_id="b", namespace="other")
    fold(folded)
    assert {root.namespace: root.height for root in tree(folded)}["other"] == 1
    found = descend(folded, "another house", 4, start_height=2)
    assert {one.note.id for one in found[:2]} == {"a", "b"}
    only = descend(folded, "piano", 9, filters=Filters(namespaces=["other"]))
    assert {one.note.id for one in only} <= {"a", "b"}
    assert only[0].note.id == "a"


def test_what_is_forgotten_or_retired_is_not_found(folded: Memory) -> None:
    query = "mark7 piano"
    first = descend(folded, query, 1)[0].note.id
    folded.retire(first)
    assert first not in [one.note.id for one in descend(folded, query, 20)]
    second = descend(folded, query, 1)[0].note.id
    folded.forget(second)
    fold(folded)
    assert {first, second}.isdisjoint(one.note.id for one in descend(folded, query, 20))


def test_without_folds_nothing_is_found(memory: Memory) -> None:
    memory.remember("piano", kind="said", source="t")
    assert descend(memory, "piano") == []


@pytest.mark.parametrize(
    "wrong", [{"beam": 0}, {"start_height": 0}, {"filters": Filters(height=1)}, {"filters": Filters(as_of=1.0)}]
)
def test_what_makes_no_descent_is_refused(folded: Memory, wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        descend(folded, "piano", **wrong)
