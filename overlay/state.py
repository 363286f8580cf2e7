"""The state of a home as it lies on disk: what it is now, how it came to be, its plot, and back to rest.

No model is loaded for any of it: the sessions' journals say everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from overlay.emergent import state_settings
from overlay.errors import ArgumentError, HomeError
from overlay.frames import read_learned
from overlay.home import Home
from overlay.inner import LivedTurn, State, StateChange, StateSettings, latest_moves, read_history
from overlay.memory import WriterLock
from overlay.plots import format_of
from overlay.records import write_record
from overlay.session import Session, TurnRecord, last_record

LAST_CAUSES = 3


@dataclass(frozen=True)
class Standing:
    """Where one accumulator stands, and what moved it last.

    Attributes:
        value: now; what has faded in wall-clock time since the last turn is taken off.
        half_life: as people write it, such as "8 turns".
        last: the last changes that moved it, newest first, each with its turn.
    """

    axis: str
    value: float
    rest: float
    cap: float
    half_life: str
    last: tuple[tuple[LivedTurn, StateChange], ...]


def present(home: Home, now: float) -> tuple[Standing, ...]:
    """Where each accumulator of agent.yaml stands at `now` (epoch seconds). Raises RecordDamaged."""
    settings = state_settings(home)
    turns = read_history(home.sessions)
    state = State.resting(settings)
    if turns:
        state = continued(turns[-1].after, settings)
        state, _ = state.passed(settings, seconds=max(0.0, now - turns[-1].time))
    return tuple(
        Standing(
            name,
            state.values[name],
            accumulator.rest,
            accumulator.cap,
            str(accumulator.half_life),
            latest_moves(turns, name, LAST_CAUSES)[::-1],
        )
        for name, accumulator in settings.axes.items()
    )


def history(
    home: Home, *, axis: str | None = None, last: int | None = None
) -> tuple[tuple[LivedTurn, StateChange], ...]:
    """Every change that moved an accumulator, with its turn, oldest first; the `last` ones if given.

    Raises:
        ArgumentError: no journal and no setting knows this axis. RecordDamaged: a journal can't be read.
    """
    turns = read_history(home.sessions)
    known = sorted({*state_settings(home).axes, *(change.axis for turn in turns for change in turn.changes)})
    if axis is not None and axis not in known:
        raise ArgumentError(f"no axis is called '{axis}'", f"known ones: {', '.join(known) or 'none'}")
    return latest_moves(turns, axis, last)


def plot(home: Home, path: Path) -> int:
    """Draw all axes over all turns into a .png or .svg file; gives the number of turns, resets not among them.

    Raises:
        ArgumentError: the file's name ends otherwise. RecordDamaged, StorageFull
    """
    from overlay.inner import draw_state

    file_format = format_of(path)
    turns = read_history(home.sessions)
    write_record(path, draw_state(turns, state_settings(home), file_format))
    return sum(turn.is_turn for turn in turns)


def reset(home: Home, now: float) -> TurnRecord | None:
    """Put every accumulator back to rest, as one more record of the newest session; frames stay as awake as they are.

    Gives None, and writes nothing, in a home that nothing was lived in.

    Raises:
        HomeLocked: an agent is open in this home. HomeError: its newest turn isn't wholly saved yet.
    """
    if last_record(home.sessions) is None:
        return None
    lock = WriterLock(home.lived / "memory.lock")
    try:
        newest = last_record(home.sessions)
        if newest is None:
            return None
        if not is_saved(home, newest):
            raise HomeError(
                "the newest turn was cut off before it was wholly saved",
                "open the agent once, as with `overlay chat`, and reset then",
            )
        session = Session(home.sessions, newest["session"])
        settings = state_settings(home)
        state = continued(newest["state_after"], settings)
        learned = read_learned(home.learned_frames).to_plain()
        digest = newest.get("model_digest", "")
        record = reset_record(session, state, settings, newest["energies"], learned, now, digest)
        session.append(record)
        save_state(home, asdict(record))
        return record
    finally:
        lock.release()


def reset_record(
    session: Session,
    state: State,
    settings: StateSettings,
    energies: Mapping[str, float],
    learned: Mapping[str, Any],
    now: float,
    digest: str,
) -> TurnRecord:
    """The record that says a state was put back to rest."""
    after, changes = state.reset(settings, "put back to rest")
    return TurnRecord(
        session=session.name,
        number=session.count + 1,
        kind="reset",
        time=now,
        seed=0,
        user="",
        reply="",
        state_before=dict(state.values),
        state_after=dict(after.values),
        energies=dict(energies),
        learned_before=learned,
        learned=learned,
        changes=[asdict(change) for change in changes],
        model_digest=digest,
    )


def continued(values: Mapping[str, float], settings: StateSettings) -> State:
    """A journalled state under today's settings: new axes begin at rest, and those that are gone are left out."""
    known = {name: value for name, value in values.items() if name in settings.axes}
    return State({**State.resting(settings).values, **known})


def save_state(home: Home, record: Mapping[str, Any]) -> None:
    """Write the state file of a record; it is written last, and says that all of its turn is saved."""
    write_record(_path(home), _content(record))


def is_saved(home: Home, record: Mapping[str, Any]) -> bool:
    """Whether the state file is that of this record."""
    return _path(home).exists() and _path(home).read_bytes() == _content(record).encode()


def _path(home: Home) -> Path:
    return home.lived / "state" / "state.json"


def _content(record: Mapping[str, Any]) -> str:
    kept = {key: record[key] for key in ("session", "number", "time", "state_after", "energies")}
    return json.dumps(kept, indent=1)
