"""A memory whose writer is killed at any moment keeps what it acknowledged; and the look for losses finds them."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "benchmarks" / "memory_kills.py"

KILLS = 8

SCRIPT = f"""
import json, runpy
print(json.dumps(runpy.run_path({str(BENCH)!r})["measure"]({KILLS}, homes=2, with_server=False, seed=5)))
"""


def python(code: str, *given: str, **options: Any) -> subprocess.Popen[str]:
    """A process that has this folder's conftest, and pipes to talk through."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *given],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
        **options,
    )


def test_kills_at_any_moment_lose_nothing_acknowledged_and_bring_nothing_back() -> None:
    # A process of its own: it forks, and this one may have threads by now.
    done = python(SCRIPT)
    told, complaints = done.communicate(timeout=300)
    assert done.returncode == 0, complaints
    found = json.loads(told)
    assert found["faults"] == []
    assert found["kills"] == KILLS == sum(found["kills_by_stage"].values())
    for kind in ("lost", "changed", "half_done", "left_after_forget", "not_whole", "damaged", "recalls_failed"):
        assert found[kind] == 0
    assert set(found["acknowledged_by_operation"]) == {
        *("remember", "remember_many", "supersede", "retire", "forget", "fold", "import")
    }
    assert found["texts_acknowledged"] > 100 and found["forgotten"] > 5
    assert found["recalls_tried"] > KILLS


# --- what the look would find --------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    return runpy.run_path(str(BENCH))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, bench: dict[str, Any]) -> Any:
    """A home in which some notes were written, one was superseded and one forgotten."""
    home = bench["_Home"](tmp_path_factory.mktemp("killed") / "home", "embedded")
    texts = {f"zqbcdfghjkmpqrt{sign}": f"A kettle stands here. Zqbcdfghjkmpqrt{sign} by the well." for sign in "bcdfg"}
    texts = {marker: text.replace("Zq", "zq") for marker, text in texts.items()}
    Wanted = bench["Wanted"]
    with home.open() as memory:
        for number, (marker, text) in enumerate(texts.items()):
            memory.remember(text, kind="said", source="t", note_id=f"n{number}")
            home.known[marker] = Wanted(f"n{number}", text, "current")
        _, c, d, *_ = home.known
        memory.retire("n1")
        home.known[c] = replace(home.known[c], state="closed")
        memory.forget("n2")
        home.known[d] = replace(home.known[d], state="gone")
    return home


def cut(home: Any) -> None:
    with closing(sqlite3.connect(home.folder / "memory" / "memory.db")) as database, database:
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("DELETE FROM notes WHERE id = 'n0'")


def reword(home: Any) -> None:
    with closing(sqlite3.connect(home.folder / "memory" / "memory.db")) as database, database:
        database.execute("UPDATE notes SET text = text || ' more' WHERE id = 'n0'")


def revive(home: Any) -> None:
    with home.open() as memory:
        memory.remember(f"{list(home.known)[2]} is back", kind="said", source="t", note_id="n9")


def leave_bytes(home: Any) -> None:
    (home.folder / "memory" / "left.tmp").write_text(f"... {list(home.known)[2]} ...")


def let_go(home: Any) -> None:
    with home.open() as memory:
        memory.retire("n3")


DAMAGE: dict[str, tuple[Callable[..., None], set[str]]] = {
    "none": (lambda home: None, set()),
    "a note cut out": (cut, {"lost"}),
    "another text": (reword, {"changed"}),
    "a forgotten text written again": (revive, {"left_after_forget"}),
    "bytes of a forgotten text in a file": (leave_bytes, {"left_after_forget"}),
    "a note retired": (let_go, {"changed"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_kind_of_damage_is_found(lived: Any, bench: dict[str, Any], tmp_path: Path, damage: str) -> None:
    home = replace(lived, folder=Path(shutil.copytree(lived.folder, tmp_path / "home")))
    do, expected = DAMAGE[damage]
    do(home)
    found = bench["look"](home, {}, seed=0)["found"]
    assert found.pop("recalls_tried")
    for also in ("recalls_failed", "not_whole", "damaged"):
        if damage != "none":
            found.pop(also, None)
    assert set(found) == expected


def test_what_was_under_way_may_have_happened_or_not_but_not_by_half(
    lived: Any, bench: dict[str, Any], tmp_path: Path
) -> None:
    home = replace(lived, folder=Path(shutil.copytree(lived.folder, tmp_path / "home")))
    b, _, _, f, _ = home.known
    unwritten = bench["Wanted"]("", "never came to it", "current")
    closed = replace(home.known[f], state="closed")
    for under_way, expected in (
        ({"zqunwritten": unwritten}, set()),
        ({f: closed}, set()),
        ({f: replace(closed, state="gone")}, set()),
        # The first says that the writing didn't happen, the second that it did.
        ({f: closed, b: replace(home.known[b])}, {"half_done"}),
    ):
        found = bench["look"](home, under_way, seed=0)["found"]
        assert set(found) - {"recalls_tried", "unacknowledged", "unacknowledged_kept"} == expected


# --- two processes -------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from hashed_words import HashedWords
from overlay.memory import Memory
with Memory.open(Path(sys.argv[1]), HashedWords()) as memory:
    for line in sys.stdin:
        memory.remember(line.strip(), kind="said", source="holder")
        print("written", flush=True)
"""

SECOND = """
import sys
from pathlib import Path
from hashed_words import HashedWords
from overlay.errors import HomeLocked
from overlay.memory import Memory
try:
    Memory.open(Path(sys.argv[1]), HashedWords())
except HomeLocked as refusal:
    print(refusal)
"""


@contextmanager
def holding(folder: Path) -> Iterator[tuple[int, Callable[[str], None]]]:
    """A process that has the memory open for writing: its id, and a way to let it write."""
    process = python(HOLDER, str(folder))

    def write(text: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{text}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "written\n"

    try:
        yield process.pid, write
    finally:
        _, complaints = process.communicate(timeout=60)
        assert process.returncode == 0, complaints


def test_of_two_writing_processes_the_second_is_refused_and_readers_are_welcome(
    open_memory: Callable[..., Any], tmp_path: Path
) -> None:
    with holding(tmp_path / "home") as (pid, write):
        write("the first kettle")
        told, complaints = python(SECOND, str(tmp_path / "home")).communicate(timeout=60)
        assert f"process {pid} " in told, complaints
        with open_memory(read_only=True) as reader:
            assert [note.text for note in reader.notes()] == ["the first kettle"]
            write("the second lantern")
            assert reader.recall("second lantern")[0].note.text == "the second lantern"
            assert reader.count() == 2
    told, complaints = python(SECOND, str(tmp_path / "home")).communicate(timeout=60)
    assert told == "" and not complaints
