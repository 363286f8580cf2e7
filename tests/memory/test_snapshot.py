"""A snapshot goes on showing what was there, by scan and by index, while the memory is written to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from overlay.errors import NoteError
from overlay.memory import Filters, Memory, NewNote

Opener = Callable[..., Memory]


@pytest.mark.parametrize("exact_below", [0, 10_000])
def test_a_snapshot_sees_nothing_written_or_closed_later(open_memory: Opener, clock: Any, exact_below: int) -> None:
    memory = open_memory(exact_below=exact_below, minimum_score=0.0)
    memory.remember_many(NewNote(f"tea of sort number{row}", "fact", "s", note_id=f"n{row}") for row in range(40))
    memory.remember("tea with a date", kind="fact", source="s", note_id="dated", expires_at=1_500.0)
    before = memory.recall("tea number3", 50)
    snapshot = memory.snapshot()
    clock.now = 500.0  # a clock that is set back must not matter
    memory.remember("tea of another sort number3", kind="fact", source="s", note_id="n3")
    memory.retire("n4")
    memory.remember("tea that is new", kind="fact", source="s", note_id="late")
    clock.now = 9_000.0
    memory.sweep_expired()
    seen = snapshot.recall("tea number3", 50)
    assert [one.note for one in seen] == [one.note for one in before]
    assert (snapshot.count(), memory.count()) == (41, 40)
    assert snapshot.get("n3").text == "tea of sort number3"
    assert snapshot.get("n3").is_current
    assert memory.get("n3").text == "tea of another sort number3"
    assert "late" not in snapshot
    assert "late" in memory
    assert {note.id for note in snapshot.notes()} == {*(f"n{row}" for row in range(40)), "dated"}
    with pytest.raises(NoteError, match="'late'"):
        snapshot.get("late")
    assert {one.note.id for one in memory.recall("tea", 50)} == {
        *(f"n{row}" for row in range(40) if row != 4),
        "late",
    }


def test_what_is_forgotten_is_gone_from_snapshots_too(memory: Memory) -> None:
    memory.remember("a secret", kind="fact", source="s", note_id="secret")
    memory.remember("another", kind="fact", source="s", note_id="other")
    snapshot = memory.snapshot()
    memory.forget("secret")
    assert "secret" not in snapshot
    assert [note.id for note in snapshot.notes()] == ["other"]
    assert all(one.note.id != "secret" for one in snapshot.recall("a secret"))


def test_a_snapshot_takes_filters_and_times(memory: Memory, clock: Any) -> None:
    memory.remember("Anna lives in Tver", kind="fact", source="s", note_id="anna")
    clock.now = 2_000.0
    memory.remember("Anna lives in Omsk", kind="fact", source="s", note_id="anna")
    snapshot = memory.snapshot()
    clock.now = 3_000.0
    memory.remember("Anna lives in Perm", kind="fact", source="s", note_id="anna")
    assert [one.note.text for one in snapshot.recall("Anna lives")] == ["Anna lives in Omsk"]
    then = snapshot.recall("Anna lives", filters=Filters(as_of=1_500.0))
    assert [one.note.text for one in then] == ["Anna lives in Tver"]
    assert snapshot.recall("Anna lives", filters=Filters(kinds=["said"])) == []
