"""What is remembered, under which id, and what becomes of older texts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from overlay.errors import ArgumentError, NoteError
from overlay.memory import Filters, Memory, NewNote

Opener = Callable[..., Memory]


def test_a_note_comes_back_as_it_was_written_after_reopening(open_memory: Opener) -> None:
    memory = open_memory()
    written = memory.remember(
        "Blue whales sing.\n\tЁлка 🎄 \u2028 end",
        kind="fact",
        source="session:1:turn:3:user",
        note_id="whales",
        title="Whales",
        tags=["sea", "song"],
        links=["b", "a"],
        event_at=12.5,
    )
    memory.close()
    read = open_memory().get("whales")
    assert read == written.note
    assert (read.text, read.links, read.tags) == (
        "Blue whales sing.\n\tЁлка 🎄 \u2028 end",
        ("b", "a"),
        ("sea", "song"),
    )
    assert (read.event_at, read.written_at, read.valid_to) == (12.5, 1_000.0, None)


def test_the_same_text_under_the_same_id_changes_nothing(memory: Memory, embedder: Any) -> None:
    first = memory.remember("one text", kind="said", source="s", note_id="a", tags=["t"]).note
    journal, embedded = memory.journal(), list(embedder.embedded)
    for tags in (None, ["t"]):
        again = memory.remember("one text", kind="said", source="s", note_id="a", tags=tags)
        assert (again.note, again.outcome) == (first, "unchanged")
    assert (memory.count(), memory.journal(), embedder.embedded) == (1, journal, embedded)


def test_another_text_under_the_same_id_supersedes_and_keeps_the_older(memory: Memory, clock: Any) -> None:
    for moment, text in enumerate(["first", "second", "third"]):
        clock.now = 100.0 * (moment + 1)
        memory.remember(text, kind="fact", source="s", note_id="a")
    assert memory.get("a").text == "third"
    assert memory.get("a").is_current
    old = [memory.get("a@1"), memory.get("a@2")]
    assert [note.text for note in old] == ["first", "second"]
    assert [(note.valid_from, note.valid_to) for note in old] == [(100.0, 200.0), (200.0, 300.0)]
    assert {note.superseded_by for note in old} == {"a"}
    assert memory.count() == 1
    assert len(list(memory.notes())) == 3


def test_an_exact_duplicate_is_merged_and_all_its_sources_are_kept(memory: Memory) -> None:
    first = memory.remember("ok", kind="said", source="turn:1", tags=["x"]).note
    second = memory.remember("ok", kind="said", source="turn:2", tags=["y"], links=["z"])
    assert (second.note.id, second.outcome) == (first.id, "merged")
    assert memory.get(first.id).tags == ("x", "y")
    assert memory.get(first.id).links == ("z",)
    assert memory.sources(first.id) == ("turn:1", "turn:2")
    assert memory.remember("ok", kind="thought", source="turn:3").note.id != first.id
    assert memory.remember("ok", kind="said", source="turn:4", namespace="other").note.id != first.id
    assert memory.count() == 3


def test_title_tags_and_links_change_without_superseding(memory: Memory) -> None:
    memory.remember("text", kind="read", source="s", note_id="a", title="Old", tags=["t"], links=["b"])
    memory.remember("text", kind="read", source="s", note_id="a", title="Neptune", tags=[], links=["c"])
    note = memory.get("a")
    assert (note.title, note.tags, note.links) == ("Neptune", (), ("c",))
    assert "a@1" not in memory
    assert memory.recall("neptune")[0].terms["text"] == 1.0
    assert all(found.terms["text"] == 0.0 for found in memory.recall("old"))


def test_many_notes_are_as_if_remembered_one_by_one(open_memory: Opener) -> None:
    texts = ["a", "b", "a", "c", "b", "a"]
    ids = ["x", "x", "x", None, "y", None]
    new = [NewNote(text, "said", f"s{row}", note_id=ids[row]) for row, text in enumerate(texts)]
    together, single = open_memory("together"), open_memory("single")
    written = together.remember_many(new)
    for one in new:
        single.remember(one.text, kind=one.kind, source=one.source, note_id=one.note_id)
    assert list(together.notes()) == list(single.notes())
    assert [one.outcome for one in written] == ["added", "superseded", "superseded", "added", "added", "merged"]


def test_a_text_that_comes_back_after_it_was_superseded_in_the_same_group_is_kept(memory: Memory) -> None:
    memory.remember("one", kind="said", source="s", note_id="x")
    memory.remember_many(NewNote(text, "said", "s", note_id="x") for text in ["one", "two", "one"])
    assert [memory.get(note_id).text for note_id in ("x@1", "x@2", "x")] == ["one", "two", "one"]
    assert memory.check().is_whole


def test_a_failing_embedder_leaves_nothing_half_written(memory: Memory, embedder: Any) -> None:
    embed = type(embedder).embed
    embedder.embed = lambda texts: embed(embedder, texts)[:, :3]
    with pytest.raises(NoteError, match="shape"):
        memory.remember("text", kind="said", source="s")
    assert memory.count() == 0
    assert memory.journal() == []


def test_chosen_ids_never_meet_given_ones(memory: Memory) -> None:
    memory.remember("given", kind="said", source="s", note_id="note:2")
    chosen = memory.remember("chosen", kind="said", source="s").note
    assert chosen.id != "note:2"
    assert memory.get("note:2").text == "given"


def test_a_retired_note_stays_readable_and_leaves_recall(memory: Memory, clock: Any) -> None:
    memory.remember("penguins swim", kind="fact", source="s", note_id="p")
    clock.now = 2_000.0
    assert memory.retire("p").valid_to == 2_000.0
    assert memory.get("p").text == "penguins swim"
    assert memory.recall("penguins") == []
    assert [found.note.id for found in memory.recall("penguins", filters=Filters(as_of=1_500.0))] == ["p"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "  \n"},
        {"text": "\ud800"},
        {"kind": "rumour"},
        {"source": ""},
        {"note_id": " "},
        {"tags": [""]},
        {"event_at": float("nan")},
    ],
)
def test_what_is_no_note_is_refused_and_nothing_is_written(memory: Memory, wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {"text": "text", "kind": "said", "source": "s", **wrong}
    with pytest.raises(ArgumentError):
        memory.remember(given.pop("text"), **given)
    assert memory.count() == 0


def test_an_unknown_id_is_named(memory: Memory) -> None:
    for ask in (memory.get, memory.sources, memory.retire, memory.forget):
        with pytest.raises(NoteError, match="'nobody'"):
            ask("nobody")
