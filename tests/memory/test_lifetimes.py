"""Expiry, pins, importance, namespaces, streams, states, filters: what stands around a note, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from overlay.errors import ArgumentError, NoteError
from overlay.memory import Filters, Memory, NewNote

Opener = Callable[..., Memory]
DAY = 86_400.0


def ids(memory: Memory, query: str, **filters: Any) -> set[str]:
    return {one.note.id for one in memory.recall(query, 50, filters=Filters(**filters))}


@pytest.mark.parametrize("exact_below", [0, 10_000])
def test_an_expired_note_leaves_recall_and_stays_for_the_time_before(
    open_memory: Opener, clock: Any, exact_below: int
) -> None:
    memory = open_memory(exact_below=exact_below)
    memory.remember("the code of the door is 4711", kind="fact", source="s", note_id="code", expires_at=2_000.0)
    memory.remember("the door is green", kind="fact", source="s", note_id="door")
    assert ids(memory, "door code") == {"code", "door"}
    assert memory.count() == 2
    clock.now = 2_000.0
    assert ids(memory, "door code") == {"door"}
    assert memory.count() == 1
    assert ids(memory, "door code", as_of=1_999.0) == {"code", "door"}
    assert memory.check().is_whole
    memory.close()
    memory = open_memory(exact_below=exact_below)
    assert memory.get("code").valid_to == 2_000.0
    assert memory.journal()[-1][1:] == ("expire", "code")
    assert ids(memory, "door code", as_of=1_999.0) == {"code", "door"}
    assert memory.check().is_whole


def test_a_pinned_note_never_expires(memory: Memory, clock: Any) -> None:
    memory.remember("the code is 4711", kind="fact", source="s", note_id="code", expires_at=2_000.0)
    assert memory.pin("code").pinned
    clock.now = 3_000.0
    assert ids(memory, "code") == {"code"}
    assert memory.sweep_expired() == 0
    assert not memory.pin("code", False).pinned
    assert ids(memory, "code") == set()
    assert memory.sweep_expired() == 1
    assert memory.sweep_expired() == 0


def test_the_same_text_after_its_end_is_a_new_note(memory: Memory, clock: Any) -> None:
    first = memory.remember("the code is 4711", kind="fact", source="s", expires_at=2_000.0).note
    clock.now = 2_500.0
    again = memory.remember("the code is 4711", kind="fact", source="s", expires_at=9_000.0)
    assert (again.outcome, again.note.id != first.id) == ("added", True)
    assert ids(memory, "code") == {again.note.id}


def test_age_dims_and_a_pin_and_importance_lift(open_memory: Opener, clock: Any) -> None:
    memory = open_memory(weights={"recency": 1.0, "importance": 1.0}, minimum_score=0.0)
    clock.now = 400 * DAY
    for name, extra in {
        "old": {"event_at": 0.0},
        "new": {"event_at": 399 * DAY},
        "pinned": {"event_at": 0.0, "pinned": True},
        "grave": {"event_at": 0.0, "importance": 1.0},
    }.items():
        memory.remember(f"tea {name}", kind="fact", source="s", note_id=name, **extra)
    terms = {one.note.id: one.terms for one in memory.recall("tea")}
    assert terms["old"]["recency"] < terms["new"]["recency"] <= terms["pinned"]["recency"]
    assert terms["grave"]["importance"] > terms["old"]["importance"]


@pytest.mark.parametrize("exact_below", [0, 10_000])
def test_filters_let_through_what_they_say_by_scan_and_by_index(open_memory: Opener, exact_below: int) -> None:
    memory = open_memory(exact_below=exact_below, minimum_score=-10)
    memory.remember_many(
        NewNote(
            f"tea of sort number{row}",
            ("said", "fact", "fold")[row % 3],
            "s",
            note_id=f"n{row}",
            tags=(f"t{row % 5}", "all"),
            namespace="" if row % 2 else "ann",
            height=row % 3 // 2,
        )
        for row in range(300)
    )
    everything = set(range(300))

    def numbers(**filters: Any) -> set[int]:
        return {int(one.note.id[1:]) for one in memory.recall("tea", 300, filters=Filters(**filters))}

    assert numbers() == everything
    assert numbers(kinds=["fact"]) == {row for row in everything if row % 3 == 1}
    assert numbers(tags=["t1", "t2"]) == {row for row in everything if row % 5 in (1, 2)}
    assert numbers(namespaces=["ann"]) == {row for row in everything if row % 2 == 0}
    assert numbers(height=0) == {row for row in everything if row % 3 < 2}
    assert numbers(height=1, namespaces=[""], tags=["t4"]) == {
        row for row in everything if row % 3 == 2 and row % 2 and row % 5 == 4
    }
    assert numbers(tags=["nothing"]) == numbers(namespaces=[]) == set()


def test_a_filter_that_is_one_string_is_refused() -> None:
    with pytest.raises(ArgumentError, match="list"):
        Filters(kinds="fact")


def test_a_note_of_another_namespace_is_not_superseded_by_chance(memory: Memory) -> None:
    memory.remember("mine", kind="fact", source="s", note_id="a", namespace="ann")
    with pytest.raises(NoteError, match="namespace 'ann'"):
        memory.remember("yours", kind="fact", source="s", note_id="a", namespace="bob")
    assert memory.get("a").text == "mine"


def test_places_of_a_stream_follow_each_other_and_neighbours_are_found(open_memory: Opener) -> None:
    memory = open_memory(minimum_score=0.0)
    texts = ["which river did you swim in", "the Oka, near Kaluga", "was it cold", "yes, very", "the end of it"]
    for number, text in enumerate(texts):
        note = memory.remember(text, kind="said", source="s", note_id=f"c{number}", stream="chat").note
        assert (note.stream, note.place) == ("chat", number)
    memory.remember("somebody elsewhere", kind="said", source="s", note_id="lonely", stream="other")
    found = {one.note.id: one.terms for one in memory.recall("which river did you swim in", 10)}
    assert found["c1"]["neighbours"] > 0
    assert found["lonely"]["neighbours"] == 0


def test_the_state_at_writing_is_kept_and_bears_on_recall_only_in_a_state(open_memory: Opener) -> None:
    memory = open_memory(minimum_score=-10)
    memory.remember("the garden in autumn", kind="said", source="s", note_id="warm", state={"care": 3.0})
    memory.remember("the garden in autumn, once more", kind="said", source="s", note_id="cold", state={"care": -3.0})
    assert memory.get("warm").state == {"care": 3.0}
    still = memory.recall("the garden in autumn")
    assert still == memory.recall("the garden in autumn", state={}) == memory.recall("the garden in autumn", state=None)
    moved = {one.note.id: one.terms["congruence"] for one in memory.recall("the garden", state={"care": 1.0})}
    assert moved["warm"] > 0 > moved["cold"]


def test_boosted_tags_lift_their_notes(open_memory: Opener) -> None:
    memory = open_memory()
    memory.remember("tea in a pot", kind="fact", source="s", note_id="plain")
    memory.remember("tea in a cup", kind="fact", source="s", note_id="tagged", tags=["goal"])
    terms = {one.note.id: one.terms["tags"] for one in memory.recall("tea", tag_boosts={"goal": 1.0})}
    assert terms["tagged"] > terms["plain"] == 0


def test_what_is_not_given_stays_when_a_text_is_superseded(memory: Memory) -> None:
    memory.remember(
        "one", kind="fact", source="s", note_id="a", title="T", tags=["t"], links=["b"], importance=0.9,
        pinned=True, stream="book", place=7,
    )  # fmt: skip
    newer = memory.supersede("a", "two", source="s2", event_at=5_000.0)
    assert (newer.title, newer.tags, newer.links) == ("T", ("t",), ("b",))
    assert (newer.importance, newer.pinned, newer.stream, newer.place) == (0.9, True, "book", 7)
    assert memory.get("a@1").superseded_by == "a"
    assert memory.get("a@1").valid_to == 5_000.0
    with pytest.raises(NoteError, match="holds no longer"):
        memory.supersede("a@1", "three", source="s")
    with pytest.raises(NoteError, match="'nobody'"):
        memory.supersede("nobody", "three", source="s")
