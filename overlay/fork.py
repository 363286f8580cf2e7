"""Fork: another life from one turn of a session on, in a home of its own, with the state kept or taken away."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from overlay.agent import Agent, open_embedder
from overlay.emergent import state_settings
from overlay.errors import ArgumentError, HomeError
from overlay.home import CONTENT_FOLDERS, Home
from overlay.memory import Memory
from overlay.model import LanguageModel
from overlay.progress import Progress, SilentProgress
from overlay.records import append_record, read_journal, storage_errors
from overlay.session import Session, session_path
from overlay.state import continued, reset_record, save_state

BUILT = ("axes", "adapters", "emergent")
"""What was built is taken along as it is now, emergent axes included."""


@dataclass(frozen=True)
class Fork:
    """A fork that was made.

    Attributes:
        session: its session, with the turns up to the fork; `overlay chat --session NAME` goes on with it.
        follows: what the user said in the original's later turns, as (text, reply, state after).
    """

    home: Home
    session: str
    turn: int
    with_state: bool
    follows: tuple[tuple[str, str, dict[str, float]], ...]


@dataclass(frozen=True)
class RelivedTurn:
    """One turn of the original and the same words in the fork."""

    user: str
    was: str
    now: str
    state_was: dict[str, float]
    state_now: dict[str, float]


def fork(
    home: Home,
    session: str,
    turn: int,
    target: Path,
    *,
    with_state: bool = True,
    pull: bool = True,
    progress: Progress | None = None,
) -> Fork:
    """Copy a home as it was after one turn of a session into a new folder; the original stays as it is.

    Everything that people wrote and what was built comes along as it is now. Of what was lived, the fork has what had
    happened by then: earlier turns of all sessions and their notes. Notes that came from elsewhere stay.

    Args:
        turn: the last turn that the fork has in common with the original.
        with_state: otherwise every accumulator is at rest after that turn, as if nothing had built up.

    Raises:
        ArgumentError: no such session or turn. HomeError: the target holds something already.
        RecordDamaged, StorageFull, ModelUnavailable
    """
    progress = progress or SilentProgress()
    path = session_path(home.sessions, session)
    records = read_journal(path)
    numbers = [record["number"] for record in records]
    if turn not in numbers:
        raise ArgumentError(
            f"session {path.stem} has no turn {turn}",
            f"its turns go from {numbers[0]} to {numbers[-1]}" if numbers else "it is empty",
        )
    last = records[numbers.index(turn)]
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise HomeError(f"{target} isn't an empty folder", "choose a new name for the fork")
    embedder = open_embedder(home, pull=pull, progress=progress)
    progress.step("copying the home", None, None)
    with _made_whole(target):
        for name in CONTENT_FOLDERS:
            if (home.folder / name).is_dir():
                shutil.copytree(home.folder / name, target / name)
        shutil.copy2(home.folder / "agent.yaml", target / "agent.yaml")
        forked = Home.open(target)
        for name in BUILT:
            if (home.lived / name).is_dir():
                shutil.copytree(home.lived / name, forked.lived / name)
        kept = _copy_sessions(home, forked, path.stem, last)
        _copy_memory(home, forked)
        with contextlib.closing(Memory.open(forked.lived, embedder)) as memory:
            later = [note.id for note in memory.notes() if _is_later(note.id, kept)]
            if later:
                progress.step(f"forgetting {len(later)} later notes", None, None)
                memory.forget(*later)
        if not with_state:
            settings = state_settings(forked)
            record = reset_record(
                Session(forked.sessions, path.stem),
                continued(last["state_after"], settings),
                settings,
                last["energies"],
                last["time"],
                last.get("model_digest", ""),
            )
            append_record(forked.sessions / f"{path.stem}.jsonl", asdict(record))
            last = asdict(record)
        save_state(forked, last)
    follows = tuple(
        (record["user"], record["reply"], dict(record["state_after"]))
        for record in records
        if record["number"] > turn and record["kind"] == "turn"
    )
    return Fork(forked, path.stem, turn, with_state, follows)


def relive(
    made: Fork, *, model: LanguageModel | None = None, dtype: str = "auto", progress: Progress | None = None
) -> Iterator[RelivedTurn]:
    """Say in the fork what the user said in the original's later turns, and set both replies side by side."""
    # The fork's clock stands still: what it lives at once, the original lived over some time.
    with Agent.open(made.home, model=model, dtype=dtype, session=made.session, progress=progress) as agent:
        for user, was, state in made.follows:
            reply = agent.turn(user)
            yield RelivedTurn(user, was, reply.text, state, dict(reply.state))


@contextlib.contextmanager
def _made_whole(target: Path) -> Iterator[None]:
    """Either all of the fork stands there afterwards or nothing."""
    was_there = target.exists()
    with storage_errors(target):
        try:
            target.mkdir(parents=True, exist_ok=True)
            yield
        except BaseException:
            for child in target.iterdir() if target.is_dir() else ():
                shutil.rmtree(child) if child.is_dir() else child.unlink()
            if not was_there and target.is_dir():
                target.rmdir()
            raise


def _copy_sessions(home: Home, forked: Home, session: str, last: dict[str, Any]) -> set[str]:
    """Journals up to the fork; gives the places of the turns that were kept, such as "session:NAME:turn:3"."""
    kept: set[str] = set()
    for path in sorted(home.sessions.glob("*.jsonl")):
        is_own = path.stem == session
        for record in read_journal(path):
            if record["number"] > last["number"] if is_own else record["time"] > last["time"]:
                break
            append_record(forked.sessions / path.name, record)
            kept.add(f"session:{path.stem}:turn:{record['number']}")
    return kept


def _copy_memory(home: Home, forked: Home) -> None:
    """The memory as it is now, also while an agent writes to it; the index is built anew from it."""
    source = home.lived / "memory.db"
    if not source.exists():
        return
    forked.lived.mkdir(parents=True, exist_ok=True)
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as there,
        contextlib.closing(sqlite3.connect(forked.lived / "memory.db")) as here,
    ):
        there.backup(here)


def _is_later(note_id: str, kept: set[str]) -> bool:
    return note_id.startswith("session:") and note_id.rpartition(":")[0] not in kept
