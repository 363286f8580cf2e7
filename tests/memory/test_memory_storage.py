"""What a memory survives, what it refuses, and what forgetting leaves on the disk: nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from overlay.errors import HomeLocked, NoteError, StorageFull
from overlay.memory import Memory, NewNote

Opener = Callable[..., Memory]

SECRET = "xylophonist Quetzalcoatl hides the marzipan"
SECRET_PARTS = (b"Quetzalcoatl", b"quetzalcoatl", b"xylophonist", b"xylophon", b"marzipan")


def every_byte(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def holds_vector(folder: Path, vector: NDArray[np.float32]) -> bool:
    """Whether this vector lies in any file, up to the rounding of having been normalised again."""
    place = int(np.argmax(np.abs(vector)))
    for path in sorted(folder.rglob("*")):
        for offset in range(4 if path.is_file() else 0):
            content = path.read_bytes()[offset:]
            numbers = np.frombuffer(content[: len(content) // 4 * 4], dtype="<f4")
            for found in np.flatnonzero(np.isclose(numbers, vector[place], rtol=1e-4, atol=0)):
                window = numbers[max(found - place, 0) : found - place + len(vector)]
                if len(window) == len(vector) and np.allclose(window, vector, rtol=1e-3, atol=1e-5):
                    return True
    return False


def fill(memory: Memory, count: int = 30) -> None:
    memory.remember_many(NewNote(f"note about topic{row}", "fact", "test", note_id=f"n{row}") for row in range(count))


# -- forgetting -------------------------------------------------------------------------------


def test_what_is_forgotten_is_in_no_file(open_memory: Opener, tmp_path: Path, embedder: Any) -> None:
    memory = open_memory()
    # Enough notes that Chroma writes vectors into its own files and not only into its log.
    fill(memory, 1_200)
    memory.remember("something harmless", kind="said", source="s", note_id="other", links=["secret"])
    memory.remember(
        SECRET, kind="said", source="source-marzipan", note_id="secret", title="marzipan", tags=["marzipan"]
    )
    memory.remember("older " + SECRET, kind="said", source="s", note_id="versions")
    memory.remember("a newer text", kind="said", source="s", note_id="versions")
    vector = embedder.embed([f"marzipan {SECRET}"])[0]
    assert memory.check().is_whole  # the index has been told
    assert SECRET.encode() in every_byte(tmp_path / "home")
    assert holds_vector(tmp_path / "home" / "index", vector)

    assert memory.forget("secret", "versions") == 3
    for moment in ("while open", "after closing"):
        left = every_byte(tmp_path / "home")
        assert not [part for part in SECRET_PARTS if part in left], moment
        assert not holds_vector(tmp_path / "home", vector), moment
        memory.close()
    memory = open_memory()
    assert "secret" not in memory
    assert "versions@1" not in memory
    assert memory.get("other").links == ()
    assert "secret" not in [note_id for _, _, note_id in memory.journal()]
    assert memory.count() == 1_201
    assert memory.check().is_whole
    assert all(one.note.id != "secret" for one in memory.recall(SECRET, 50))


def test_several_notes_are_forgotten_together_or_not_at_all(memory: Memory) -> None:
    fill(memory, 4)
    with pytest.raises(NoteError, match="'nobody'"):
        memory.forget("n2", "nobody")
    assert "n2" in memory
    assert memory.forget("n0", "n1", "n0") == 2
    assert [note.id for note in memory.notes()] == ["n2", "n3"]


def test_a_reader_in_the_middle_of_reading_is_named_and_the_rest_is_wiped_at_the_next_opening(
    open_memory: Opener, tmp_path: Path
) -> None:
    memory = open_memory()
    memory.remember(SECRET, kind="said", source="s", note_id="secret")
    memory.truth._connection.execute("PRAGMA busy_timeout = 50")
    reader = sqlite3.connect(tmp_path / "home" / "memory.db", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM notes").fetchone() == (1,)
    with pytest.raises(NoteError, match="another process still reads"):
        memory.forget("secret")
    assert "secret" not in memory
    memory.close()
    reader.close()
    open_memory().close()
    left = every_byte(tmp_path / "home")
    assert not [part for part in SECRET_PARTS if part in left]


def test_the_journal_holds_no_text(memory: Memory) -> None:
    memory.remember(SECRET, kind="said", source="s", note_id="a")
    memory.remember("another", kind="said", source="s", note_id="a")
    memory.retire("a")
    assert [(action, note_id) for _, action, note_id in memory.journal()] == [
        ("added", "a"),
        ("superseded", "a"),
        ("retire", "a"),
    ]


# -- the index --------------------------------------------------------------------------------


def cut_files(index: Path) -> None:
    for path in index.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:100])


def garble_database(index: Path) -> None:
    next(index.rglob("chroma.sqlite3")).write_bytes(b"garbage" * 2_000)


def remove_segments(index: Path) -> None:
    for path in index.glob("*/*"):
        if path.is_dir():
            shutil.rmtree(path)


def replace_by_file(index: Path) -> None:
    shutil.rmtree(index)
    index.write_text("not a folder")


@pytest.mark.parametrize(
    "damage", [shutil.rmtree, cut_files, garble_database, remove_segments, replace_by_file], ids=lambda f: f.__name__
)
def test_a_missing_or_damaged_index_is_built_again_at_opening(
    open_memory: Opener, tmp_path: Path, embedder: Any, damage: Callable[[Path], None]
) -> None:
    memory = open_memory(exact_below=0)
    fill(memory, 1_100)
    memory.close()
    damage(tmp_path / "home" / "index")
    memory = open_memory(exact_below=0)
    assert memory.check().is_whole
    assert memory.check().indexed == 1_100
    assert memory._keeper.index is not None
    assert len(memory._keeper.index.nearest(embedder.embed(["topic7"])[0], 100)) == 100
    assert memory.recall("topic7")[0].note.id == "n7"
    assert len(list((tmp_path / "home" / "index").iterdir())) == 1


def test_check_names_what_truth_and_index_disagree_about(memory: Memory) -> None:
    fill(memory, 5)
    assert memory.check().is_whole
    index = memory._keeper.index
    assert index is not None
    [(lost, _)] = memory.truth.passages.first_of([(memory.truth.notes.find("n3") or (0, None))[0]])
    index.remove([lost])
    index.put([999], np.eye(1, 64, dtype=np.float32))
    found = memory.check()
    assert (found.notes, found.vectors, found.indexed) == (5, 5, 5)
    assert found.missing_in_index == ("n3",)
    assert found.unknown_in_index == ("key:999",)
    memory.rebuild_index()
    assert memory.check().is_whole


def test_superseded_and_retired_notes_leave_the_index(memory: Memory) -> None:
    fill(memory, 4)
    memory.remember("newer", kind="fact", source="t", note_id="n1")
    memory.retire("n2")
    found = memory.check()
    assert (found.notes, found.vectors, found.indexed) == (5, 5, 3)
    assert found.is_whole


def test_notes_that_the_index_could_not_take_are_safe_and_found_and_indexed_later(
    open_memory: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = open_memory(exact_below=0)
    fill(memory, 3)
    memory.check()
    index = memory._keeper.index
    assert index is not None
    with monkeypatch.context() as patch:
        patch.setattr(index._collection, "upsert", lambda **_: (_ for _ in ()).throw(RuntimeError("broken")))
        with pytest.raises(NoteError, match="index"):
            memory.remember_many(NewNote(f"other {row}", "fact", "t") for row in range(300))
        with pytest.raises(NoteError, match="index"):
            memory.remember("a zebra", kind="fact", source="t", note_id="zebra")
        assert memory.recall("zebra")[0].note.id == "zebra"
        memory.close()
    memory = open_memory(exact_below=0)
    assert memory.check().is_whole
    assert memory.recall("zebra")[0].note.id == "zebra"


@pytest.mark.parametrize("exact_below", [0, 10_000])
def test_what_the_index_has_not_heard_of_is_found_beside_what_it_has(open_memory: Opener, exact_below: int) -> None:
    memory = open_memory(exact_below=exact_below)
    fill(memory, 40)
    assert memory.check().indexed == 40
    memory.remember("a zebra", kind="fact", source="t", note_id="zebra")
    memory.remember("a zebra in topic7", kind="fact", source="t", note_id="n7")
    assert memory._keeper.index is not None
    assert memory._keeper.index.count() == 40
    assert {one.note.id for one in memory.recall("zebra", 2)} == {"zebra", "n7"}
    assert memory.recall("topic7", 50)[0].note.text == "a zebra in topic7"
    memory.close()
    assert open_memory(exact_below=exact_below).check().indexed == 41


# -- embedders --------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"name": "other"}, {"dimension": 32}])
def test_another_embedder_is_refused_until_the_memory_is_embedded_again(
    open_memory: Opener, tmp_path: Path, embedder: Any, change: dict[str, Any]
) -> None:
    memory = open_memory()
    fill(memory, 5)
    memory.remember("changed", kind="fact", source="t", note_id="n1")
    memory.close()
    other = type(embedder)(**change)
    for read_only in (False, True):
        with pytest.raises(NoteError) as refusal:
            open_memory(embedder=other, read_only=read_only)
        assert "overlay memory reembed" in str(refusal.value)
        assert f"{embedder.name} ({embedder.dimension}" in str(refusal.value)
        assert f"{other.name} ({other.dimension}" in str(refusal.value)
    assert Memory.reembed(tmp_path / "home", other) == 6
    memory = open_memory(embedder=other)
    assert memory.check().is_whole
    assert memory.get("n1@1").text == "note about topic1"
    assert memory.recall("topic3")[0].note.id == "n3"
    memory.close()
    with pytest.raises(NoteError):
        open_memory()


def test_embedding_again_that_fails_leaves_the_old_vectors(open_memory: Opener, tmp_path: Path, embedder: Any) -> None:
    memory = open_memory()
    fill(memory, 5)
    memory.close()
    other = type(embedder)(name="other")
    other.embed = lambda texts: np.zeros((1, 1), dtype=np.float32)
    with pytest.raises(NoteError):
        Memory.reembed(tmp_path / "home", other)
    assert open_memory().check().is_whole


# -- damage, a full disk, other processes -------------------------------------------------------


@pytest.mark.parametrize("content", [b"this is no database\n" * 300, b"SQLite format 3\x00" + b"\xff" * 5_000])
def test_a_damaged_truth_is_named_and_left_as_it_is(open_memory: Opener, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "home" / "memory.db"
    path.parent.mkdir()
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(NoteError, match=r"memory\.db is damaged") as refusal:
            open_memory(read_only=read_only)
        assert refusal.value.next_step
    assert path.read_bytes() == content
    path.unlink()
    open_memory()  # the refusal let go of the lock


def test_another_program_s_database_is_refused_and_left_as_it_is(open_memory: Opener, tmp_path: Path) -> None:
    path = tmp_path / "home" / "memory.db"
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.commit()
    other.close()
    with pytest.raises(NoteError, match="no memory"):
        open_memory()
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    other.close()


def test_a_newer_schema_is_refused(open_memory: Opener, tmp_path: Path) -> None:
    open_memory().close()
    database = sqlite3.connect(tmp_path / "home" / "memory.db")
    database.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    database.commit()
    database.close()
    with pytest.raises(NoteError, match="schema 99"):
        open_memory()


def test_a_full_disk_is_told_and_loses_nothing(memory: Memory) -> None:
    fill(memory, 5)
    pages = memory.truth._connection.execute("PRAGMA page_count").fetchone()[0]
    memory.truth._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull, match="disk is full"):
        memory.remember_many(NewNote(f"{row} " * 2_000, "said", "s") for row in range(200))
    assert memory.count() == 5
    memory.truth._connection.execute("PRAGMA max_page_count = 100000")
    memory.remember("there is space again", kind="said", source="s")
    assert memory.count() == 6
    assert memory.check().is_whole


def test_a_second_writer_is_told_who_has_it_and_readers_may_read(open_memory: Opener, tmp_path: Path) -> None:
    memory = open_memory()
    fill(memory, 3)
    with pytest.raises(HomeLocked, match=f"process {os.getpid()} "):
        open_memory()
    with open_memory(read_only=True) as reader:
        assert reader.count() == 3
        memory.remember("a zebra", kind="fact", source="t", note_id="zebra")
        assert reader.recall("zebra")[0].note.id == "zebra"
        assert reader.recall("topic1") == memory.recall("topic1")
    memory.close()
    open_memory()


def test_reading_only_writes_nothing_and_needs_no_index(open_memory: Opener, tmp_path: Path) -> None:
    memory = open_memory()
    fill(memory, 3)
    memory.close()
    shutil.rmtree(tmp_path / "home" / "index")
    content = (tmp_path / "home" / "memory.db").read_bytes()
    with open_memory(read_only=True, exact_below=0) as reader:
        assert reader.recall("topic2")[0].note.id == "n2"
        for write in (
            lambda: reader.remember("x", kind="said", source="s"),
            lambda: reader.forget("n1"),
            lambda: reader.retire("n1"),
            reader.rebuild_index,
            reader.check,
        ):
            with pytest.raises(NoteError, match="reading only"):
                write()
    assert not (tmp_path / "home" / "index").exists()
    assert (tmp_path / "home" / "memory.db").read_bytes() == content


def test_reading_only_what_does_not_exist_makes_nothing(open_memory: Opener, tmp_path: Path) -> None:
    with pytest.raises(NoteError, match="no memory"):
        open_memory(read_only=True)
    assert not (tmp_path / "home").exists()


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from hashed_words import HashedWords
from overlay.memory import Memory
with Memory.open(Path(sys.argv[1]), HashedWords()) as memory:
    for number in range(10_000):
        memory.remember(f"note about topic{number}", kind="said", source="s", note_id=f"n{number}")
        print(number, flush=True)
"""


def test_a_killed_writer_loses_no_acknowledged_note_and_lets_go_of_the_lock(
    open_memory: Opener, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "home"), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "25":
            break
    with pytest.raises(HomeLocked, match=f"process {process.pid} "):
        open_memory()
    process.send_signal(signal.SIGKILL)
    process.wait()
    acknowledged = 26 + len([line for line in process.stdout if line.endswith("\n")])
    process.stdout.close()
    memory = open_memory()
    assert all(f"n{number}" in memory for number in range(acknowledged))
    assert memory.check().is_whole


def test_several_threads_may_use_one_memory(memory: Memory) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(10):
                memory.remember(f"thread {name} writes {number}", kind="said", source="s")
                assert memory.recall(f"thread {name}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert memory.count() == 40
    assert memory.check().is_whole
