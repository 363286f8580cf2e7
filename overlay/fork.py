"""Fork: another life from one turn of a session on, in a home of its own, with the state kept or taken away."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from overlay.agent import Agent, open_embedder
from overlay.emergent import state_settings, take_back
from overlay.errors import ArgumentError, HomeError
from overlay.frames import LearnedWeights, write_learned
from overlay.home import CONTENT_FOLDERS, Home
from overlay.memory import Memory, copy_truth
from overlay.model import LanguageModel
from overlay.progress import Progress, SilentProgress
from overlay.records import append_record, read_journal, storage_errors
from overlay.replay import fill_caches, session_journal
from overlay.session import Session
from overlay.state import continued, reset_record, save_state

BUILT = ("axes", "adapters", "emergent")
"""What was built is taken along as it is now; of what emerged, the fork is then left with what lived at its turn."""

DECISIONS = "reprogramming.jsonl"

RELIVED = ("turn", "lived", "reset")
"""The kinds of records that somebody asked for; what emerges does so by itself."""


@dataclass(frozen=True)
class LaterTurn:
    """What came after the fork in the original.

    Attributes:
        kind: "turn", "lived" or "reset", as a record of a session has it.
        seconds: what had passed since the turn before. ended: epoch seconds, when it was over.
        opened: whether the model's caches were empty then.
    """

    kind: str
    user: str
    reply: str
    state: Mapping[str, float]
    seed: int
    seconds: float
    ended: float
    opened: bool

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> LaterTurn:
        """What of a record is needed to live its turn again."""
        return cls(
            record["kind"],
            record["user"],
            record["reply"],
            dict(record["state_after"]),
            record["seed"],
            record["seconds"],
            record["time"],
            record["opened"],
        )


@dataclass(frozen=True)
class Fork:
    """A fork that was made.

    Attributes:
        session: its session, with the turns up to the fork; `overlay chat --session NAME` goes on with it.
        dtype: the number format in which its last turn was lived; empty where its record doesn't say.
        follows: the original's later turns.
    """

    home: Home
    session: str
    turn: int
    with_state: bool
    dtype: str
    follows: tuple[LaterTurn, ...]

    @property
    def replies(self) -> int:
        """How often the original replied later."""
        return sum(one.kind == "turn" for one in self.follows)


@dataclass(frozen=True)
class RelivedTurn:
    """One turn of the original and the same words in the fork.

    Attributes:
        doubt: why `was` is no control for `now`, in words. It is one, to the last bit where the state was kept, when
            this machine gives the turns that both have in common as they were: then `doubt` is empty.
    """

    user: str
    was: str
    now: str
    state_was: dict[str, float]
    state_now: dict[str, float]
    doubt: str = ""


def fork(
    home: Home,
    session: str,
    turn: int | None,
    target: Path,
    *,
    with_state: bool = True,
    pull: bool = True,
    progress: Progress | None = None,
) -> Fork:
    """Copy a home as it was after one turn of a session into a new folder; the original stays as it is.

    Everything that people wrote and what was built comes along as it is now. Of what was lived, the fork has what had
    happened by then: earlier turns of all sessions, their notes and their drift, the emergent axes in force and what
    had been decided about self-reprogramming. Notes that came from elsewhere stay.

    Args:
        session: its name, "last", or the path of its journal.
        turn: the last turn that the fork has in common with the original; None for all of them.
        target: a new or empty folder outside the home.
        with_state: otherwise every accumulator is at rest after that turn, as if nothing had built up.

    Raises:
        ArgumentError: no such session or turn. HomeError: the target holds something already, or lies in the home.
        RecordDamaged, StorageFull, ModelUnavailable
    """
    progress = progress or SilentProgress()
    path = session_journal(home, session)
    records = read_journal(path)
    numbers = [record["number"] for record in records]
    if turn is None and numbers:
        turn = numbers[-1]
    if turn is None or turn not in numbers:
        raise ArgumentError(
            f"session {path.stem} has no turn {turn or 1}",
            f"its turns go from {numbers[0]} to {numbers[-1]}" if numbers else "it is empty",
        )
    last = records[numbers.index(turn)]
    dtype = next(
        (one["made_with"]["dtype"] for one in reversed(records[: numbers.index(turn) + 1]) if _says_dtype(one)), ""
    )
    if target.resolve().is_relative_to(home.folder):
        raise HomeError(
            f"{target} lies in the home that is to be forked", f"put it beside {home.folder}, such as ../{target.name}"
        )
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
        kept, later_turns = _copy_sessions(home, forked, path.stem, last)
        take_back(forked, kept, later_turns)
        _copy_decisions(home, forked, last["time"])
        _copy_memory(home, forked)
        with Memory.open(forked.lived, embedder, settings=forked.settings.memory) as memory:
            places = {f"session:{record['session']}:turn:{record['number']}" for record in kept}
            later = [note.id for note in memory.notes() if _is_later(note.id, places)]
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
                last["learned"],
                last["time"],
                last.get("model_digest", ""),
            )
            append_record(forked.sessions / f"{path.stem}.jsonl", asdict(record))
            last = asdict(record)
        save_state(forked, last)
        write_learned(forked.learned_frames, LearnedWeights.from_plain(last["learned"]))
    follows = tuple(LaterTurn.of(one) for one in records if one["number"] > turn and one["kind"] in RELIVED)
    return Fork(forked, path.stem, turn, with_state, dtype, follows)


def relive(
    made: Fork, *, model: LanguageModel | None = None, dtype: str | None = None, progress: Progress | None = None
) -> Iterator[RelivedTurn]:
    """Live the original's later turns again in the fork, with their seeds, and set both replies side by side.

    The fork's own last sitting is lived again first, so that the model's caches hold what they held: how a prefix was
    encoded decides over roundings, and a rounding over a token. Time passes as it did in the original.

    Args:
        dtype: another number format than that of the session.
    """
    clock = _Clock(read_journal(made.home.sessions / f"{made.session}.jsonl")[-1]["time"])
    with Agent.open(
        made.home,
        model=model,
        dtype=dtype or made.dtype or "auto",
        session=made.session,
        progress=progress,
        clock=clock,
    ) as agent:
        again = fill_caches(made.home, agent.mind, made.session, progress)
        doubt = ""
        if again.difference is None:
            agent.go_on_as_if_never_closed()
        else:
            one = again.difference
            reasons = "; ".join(one.reasons) or "this machine rounds differently"
            doubt = f"turn {one.turn}, which both have in common, comes out differently here ({reasons})"
        for later in made.follows:
            clock.let_pass(later)
            if later.opened:
                agent.model.prefixes.clear()
            if later.kind == "reset":
                agent.reset_state()
            elif later.kind == "lived":
                agent.live(later.user, seed=later.seed)
            else:
                reply = agent.turn(later.user, seed=later.seed)
                yield RelivedTurn(later.user, later.reply, reply.text, dict(later.state), dict(reply.state), doubt)


class _Clock:
    """Gives a relived turn the times of its original: that of its beginning first, from then on that of its end."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._ended: float | None = None

    def let_pass(self, later: LaterTurn) -> None:
        """What passes before a later turn begins; a clock that is set back lets nothing pass."""
        # A reset has no beginning of its own.
        self.now = self.now + later.seconds if later.kind != "reset" else max(self.now, later.ended)
        self._ended = max(self.now, later.ended)

    def __call__(self) -> float:
        now = self.now
        if self._ended is not None:
            self.now, self._ended = self._ended, None
        return now


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


def _copy_sessions(
    home: Home, forked: Home, session: str, last: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Copy the journals up to the fork; gives the records that were kept and the later ones, each oldest first."""
    kept: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    for path in sorted(home.sessions.glob("*.jsonl")):
        is_own = path.stem == session
        is_over = False
        for record in read_journal(path):
            is_over |= record["number"] > last["number"] if is_own else record["time"] > last["time"]
            (later if is_over else kept).append(record)
            if not is_over:
                append_record(forked.sessions / path.name, record)
    # Of equal times, those of the forked session come last: it is the one that goes on.
    kept.sort(key=lambda record: (record["time"], record["session"] == session))
    return kept, sorted(later, key=lambda record: float(record["time"]))


def _copy_decisions(home: Home, forked: Home, until: float) -> None:
    """What had been decided about self-reprogramming by then; the axes that were replaced lie beside the others."""
    for decision in read_journal(home.lived / DECISIONS):
        if decision["time"] <= until:
            append_record(forked.lived / DECISIONS, decision)


def _copy_memory(home: Home, forked: Home) -> None:
    """The memory as it is now, also while an agent writes to it; the index is built anew from it."""
    source = home.lived / "memory.db"
    if not source.exists():
        return
    forked.lived.mkdir(parents=True, exist_ok=True)
    copy_truth(source, forked.lived / "memory.db")


def _is_later(note_id: str, kept: set[str]) -> bool:
    return note_id.startswith("session:") and note_id.rpartition(":")[0] not in kept


def _says_dtype(record: Mapping[str, Any]) -> bool:
    return bool(record.get("made_with", {}).get("dtype"))
