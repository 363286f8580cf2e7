"""Killed at any moment, an agent loses no turn that it answered; and the look for losses finds those that are there."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from toy_home import create_toy_home

from overlay import Agent, Home
from overlay.records import append_record, read_journal

TESTS = Path(__file__).parent
BENCH = TESTS.parent / "benchmarks" / "kills.py"

KILLS = 12

pytestmark = pytest.mark.real

SCRIPT = f"""
import json, runpy, sys
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home
from overlay.model import LanguageModel

settings = {{"reply": {{"max_tokens": 4}}, "dialogue": {{"rounds": 1, "voices": 1}}}}
found = runpy.run_path({str(BENCH)!r})["measure"](
    {KILLS},
    model=LanguageModel(tiny_module("llama"), byte_tokenizer(), "tiny-llama"),
    make_home=lambda folder: create_toy_home(folder, sys.argv[1], **settings),
    lives=8,
    seed=3,
)
print(json.dumps(found))
"""


def test_kills_at_any_moment_lose_nothing_that_was_acknowledged(embedder_folder: Path) -> None:
    # A process of its own: it forks, and this one may have threads by now.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(embedder_folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["faults"] == []
    assert found["kills"] == KILLS == sum(found["kills_by_stage"].values()) and found["homes"] == 2
    assert set(found["kills_by_aim"]) == {"opening", "committing", "anywhere"}
    assert found["turns_acknowledged"] >= 4 and KILLS / 2 < found["homes_reopened"] <= KILLS
    assert found["recalls_tried"] > KILLS
    for kind in ("acknowledged_lost", "acknowledged_changed", "states_differing", "journals_damaged"):
        assert found[kind] == 0
    for kind in (
        "notes_missing",
        "notes_changed",
        "notes_twice",
        "notes_of_no_turn",
        "recalls_failed",
        "temporary_files_left",
    ):
        assert found[kind] == 0


# --- what the look would find --------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    return runpy.run_path(str(BENCH))


@pytest.fixture(scope="module")
def lived(
    tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path, tiny_llama: Any, bench: dict[str, Any]
) -> tuple[Path, list[dict[str, Any]]]:
    """A toy home in which two turns were lived, and their acknowledgements."""
    home = create_toy_home(tmp_path_factory.mktemp("killed") / "home", embedder_folder)
    with Agent.open(home, model=tiny_llama) as agent:
        records = [agent.turn(bench["saying"](number)).record for number in (1, 2)]
    told = [
        {"session": one.session, "number": one.number, "content": bench["fingerprint"](asdict(one))} for one in records
    ]
    return home.folder, told


def journal(home: Home) -> Path:
    (path,) = home.sessions.glob("*.jsonl")
    return path


def cut(home: Home, agent: Callable[[], Agent]) -> None:
    journal(home).write_bytes(journal(home).read_bytes().splitlines(keepends=True)[0])


def tear(home: Home, agent: Callable[[], Agent]) -> None:
    journal(home).write_bytes(journal(home).read_bytes() + b'{"session":"half a li')


def reword(home: Home, agent: Callable[[], Agent]) -> None:
    path = journal(home)
    records = read_journal(path)
    path.unlink()
    for record in records:
        append_record(path, record | {"reply": record["reply"] + "x"})


def forget(home: Home, agent: Callable[[], Agent]) -> None:
    with agent() as opened:
        opened.memory.forget(f"session:{journal(home).stem}:turn:1:user")


def repeat(home: Home, agent: Callable[[], Agent]) -> None:
    place = f"session:{journal(home).stem}:turn:1:user"
    with agent() as opened:
        opened.memory.remember("Said again.", kind="said", source=place, note_id="again")


def leave_half_a_file(home: Home, agent: Callable[[], Agent]) -> None:
    (home.lived / "state" / ".state.json.a1b2c3d4").write_text("{")


DAMAGE: dict[str, tuple[Callable[..., None], set[str]]] = {
    "none": (lambda home, agent: None, set()),
    "the last turn cut off": (cut, {"acknowledged_lost", "notes_of_no_turn"}),
    "half a line more": (tear, {"torn_lines_seen"}),
    "other replies": (reword, {"acknowledged_changed", "notes_changed"}),
    "a note forgotten": (forget, {"notes_missing"}),
    "a note twice": (repeat, {"notes_twice"}),
    "half a file, which opening clears away": (leave_half_a_file, set()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_kind_of_damage_is_found_and_nothing_else(
    lived: tuple[Path, list[dict[str, Any]]], bench: dict[str, Any], tiny_llama: Any, tmp_path: Path, damage: str
) -> None:
    folder, told = lived
    home = Home.open(shutil.copytree(folder, tmp_path / "home"))
    do, expected = DAMAGE[damage]
    do(home, lambda: Agent.open(home, model=tiny_llama))
    found = bench["_look"](home, tiny_llama, told, seed=0)
    assert len(found.pop("recalls_tried")) == (1 if damage == "the last turn cut off" else 2)
    found.pop("recalls_failed", None)
    assert set(found) == expected
