"""A Chroma server as index: the same answers as the embedded one, nothing mixed, nothing left, and plain errors."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chromadb
import pytest

from overlay.errors import NoteError
from overlay.memory import Filters, Memory, NewNote

BENCH = Path(__file__).parents[2] / "benchmarks" / "memory_kills.py"

COLOURS = ("blue", "red", "green", "grey", "yellow")
THINGS = ("lantern", "kettle", "ladder", "map", "whistle", "compass", "bucket")
PLACES = ("in the shed", "under the stairs", "by the well", "on the roof")

NOTES = [
    NewNote(
        f"The {COLOURS[number % 5]} {THINGS[number % 7]} number {number} lies {PLACES[number % 4]}.",
        ("said", "fact")[number % 2],
        "t",
        note_id=f"n{number}",
        links=(f"n{number // 2}",),
        event_at=float(number),
    )
    for number in range(300)
]
QUERIES = ("a green kettle by the well", "what lies on the roof", "number 77", "yellow whistle map", "blue 12 ladder")
FILTERS = (None, Filters(kinds=["fact"]), Filters(height=0))

Opener = Callable[..., Memory]


@pytest.fixture(scope="module")
def start_server() -> Any:
    return runpy.run_path(str(BENCH))["chroma_server"]


@pytest.fixture(scope="module")
def server(start_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def open_on(open_memory: Opener) -> Opener:
    """Opens a memory whose recall asks the index at this place, however few notes there are."""

    def open_it(index: str, folder: str, **given: Any) -> Memory:
        return open_memory(folder, index=index, exact_below=0, **given)

    return open_it


def answers(memory: Memory) -> list[list[tuple[str, float, dict[str, float]]]]:
    return [
        [(one.note.id, one.score, dict(one.terms)) for one in memory.recall(query, 10, filters=filters)]
        for query in QUERIES
        for filters in FILTERS
    ]


def stored(url: str) -> dict[str, int]:
    """Collections of the server and how much each holds."""
    client = chromadb.HttpClient(host="127.0.0.1", port=int(url.rsplit(":", 1)[1]))
    return {one.name: one.count() for one in client.list_collections()}


def test_a_server_gives_the_same_notes_and_scores_as_the_embedded_index(server: str, open_on: Opener) -> None:
    with open_on(server, "remote") as remote, open_on("embedded", "local") as local:
        for memory in (remote, local):
            memory.remember_many(NOTES)
            memory.supersede("n5", "The grey compass has moved to the mill.", source="t")
            memory.retire("n6")
            memory.forget("n7", "n8")
        expected = answers(local)
        assert all(expected) and answers(remote) == expected
        assert remote.check().is_whole
    with open_on(server, "remote") as again:
        assert answers(again) == expected
        assert again.check().is_whole
    assert not list(Path(again.folder).rglob("chroma.sqlite3"))


def test_two_memories_on_one_server_do_not_mix(server: str, open_on: Opener) -> None:
    with open_on(server, "one") as one, open_on(server, "other") as other:
        one.remember_many(NOTES[:20])
        other.remember("an owl sits in the tower", kind="said", source="t", note_id="owl")
        assert [found.note.id for found in other.recall("an owl sits in the tower by the well", 50)] == ["owl"]
        assert "owl" not in [found.note.id for found in one.recall("an owl sits in the tower", 50)]
        other.forget("owl")
        one.rebuild_index()
        assert one.check().is_whole and other.check().is_whole
        assert len(one.recall("what lies by the well", 50)) > 1


def test_what_is_forgotten_leaves_nothing_on_the_server(server: str, open_on: Opener) -> None:
    before = set(stored(server))
    with open_on(server, "forgetful") as memory:
        memory.remember_many(NOTES[:30])
        assert memory.check().is_whole  # the server has been told
        (own,) = set(stored(server)) - before
        assert stored(server)[own] == 30
        memory.forget(*[f"n{number}" for number in range(30)])
        assert sum(count for name, count in stored(server).items() if name not in before) == 0
        assert memory.recall("lantern kettle ladder number 3") == []
        memory.remember(NOTES[40].text, kind="said", source="t")
        assert memory.check().is_whole
        assert sum(count for name, count in stored(server).items() if name not in before) == 1
    # Collections that were replaced are gone, and not only empty.
    assert len(set(stored(server)) - before) == 1


def test_a_server_that_went_away_is_named_and_no_note_is_lost(
    start_server: Any, open_on: Opener, open_memory: Opener, tmp_path: Path
) -> None:
    with start_server(tmp_path / "server") as url:
        memory = open_on(url, "cut off")
        memory.remember_many(NOTES[:10])
    memory.remember("written while the server was away", kind="said", source="t", note_id="late")
    with pytest.raises(NoteError, match=url) as refusal:
        memory.check()
    assert refusal.value.next_step
    memory.close()
    with pytest.raises(NoteError, match=url):
        open_on(url, "cut off")
    # The truth needs no server: with an index of its own, everything is there.
    with open_on("embedded", "cut off") as whole:
        assert whole.count() == 11 and whole.check().is_whole
        assert whole.recall("written while the server was away")[0].note.id == "late"


def test_a_server_that_was_never_there_is_named(open_on: Opener) -> None:
    with pytest.raises(NoteError, match=r"http://127\.0\.0\.1:9"):
        open_on("http://127.0.0.1:9", "nowhere")
