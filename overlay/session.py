"""Sessions: what an agent lived through, one journal of turns each."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from overlay.errors import ArgumentError
from overlay.records import append_record, read_journal, set_damage_aside

LAST = "last"
"""Stands for the newest session where one is asked for."""


@dataclass(frozen=True)
class TurnRecord:
    """One turn as it was lived. A turn exists once this record is in the journal.

    Attributes:
        kind: "turn" when the agent replied, "lived" when it only read and thought, "reset" when its state was put
            back to rest, "emerged" when it looked at its own drift and an axis was born, moved on or retired.
        time: epoch seconds; `seconds` is what had passed since the turn before.
        opened: whether nothing of an earlier turn was in the model's caches, as after opening the agent.
        recalled: id, shown text, score and terms of each recalled note.
        energies_before, energies: frame energies before and after the turn.
        learned_before, learned: what links between frames weighed then beside what is written, see `LearnedWeights`.
        changes: every change of the state with its cause.
        doses: dose by axis that the reply was given under, as fractions of the residual norm.
        adapters: name and scale of each adapter that it was given under.
        temperature: at which it was sampled.
        focus: text and weight, in nats, of what got more attention.
        bans: what it had to do without.
        volatility: (mean, 95th percentile) of doses and adapters on neutral text, nats per token.
        inner_speech: what the voices said: kept here, and in silent mode in no later context.
        resonance: by round and axis, how far it moved as a multiple of the round before, and whether it was damped.
        avoided: banned texts that the reply turned away from, with the probability that was cut.
        contexts: for every generation, its purpose and the sourced segments of each message.
        prompt_tokens, reply_tokens: ids of the reply's prompt and of the reply.
        events: what a look at the drift did, with words.
        made_with: what the turn rests on beside this record: hashes of model, axes, adapters and of what people
            wrote, versions of libraries, number format, hardware.
    """

    session: str
    number: int
    kind: str
    time: float
    seed: int
    user: str
    reply: str
    state_before: Mapping[str, float]
    state_after: Mapping[str, float]
    energies: Mapping[str, float]
    energies_before: Mapping[str, float] = field(default_factory=dict)
    learned_before: Mapping[str, Any] = field(default_factory=dict)
    learned: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    opened: bool = False
    recalled: list[dict[str, Any]] = field(default_factory=list)
    frames: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    inner_speech: list[dict[str, Any]] = field(default_factory=list)
    dialogue_mode: str = "off"
    dialogue_ended: str = "off"
    resonance: list[dict[str, Any]] = field(default_factory=list)
    avoided: list[dict[str, Any]] = field(default_factory=list)
    doses: Mapping[str, float] = field(default_factory=dict)
    volatility: tuple[float, float] = (0.0, 0.0)
    adapters: list[dict[str, Any]] = field(default_factory=list)
    temperature: float | None = None
    focus: list[dict[str, Any]] = field(default_factory=list)
    bans: list[str] = field(default_factory=list)
    ended: str = ""
    contexts: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    reply_tokens: list[int] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    model_digest: str = ""
    made_with: Mapping[str, Any] = field(default_factory=dict)


class Session:
    """The journal of one session: turns are appended, never changed."""

    def __init__(self, folder: Path, name: str | None = None) -> None:
        # The time orders sessions; the random part keeps two of one second apart.
        self.name = name or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        self.path = folder / f"{self.name}.jsonl"
        self.count = len(read_journal(self.path))

    def append(self, record: TurnRecord) -> None:
        """Add one turn; when this returns, the turn is on disk."""
        append_record(self.path, asdict(record))
        self.count += 1


def session_names(folder: Path) -> tuple[str, ...]:
    """All sessions, oldest first by the time at which they began."""
    return tuple(sorted(path.stem for path in folder.glob("*.jsonl")))


def session_path(folder: Path, name: str) -> Path:
    """The journal of a session; "last" is the one with the newest turn. Raises ArgumentError."""
    if name == LAST:
        newest = last_record(folder)
        if newest is None:
            raise ArgumentError("this home has no session yet", "talk to the agent first: overlay chat")
        name = str(newest["session"])
    known = session_names(folder)
    if name not in known:
        raise ArgumentError(
            f"there is no session '{name}' in {folder}",
            f"newest sessions: {', '.join(known[-5:]) or 'none'}; or name '{LAST}'",
        )
    return folder / f"{name}.jsonl"


def mend_sessions(folder: Path) -> tuple[str, ...]:
    """Set damaged journals aside, go on from what is whole of them, and say so in words."""
    told = (set_damage_aside(path) for path in sorted(folder.glob("*.jsonl")))
    return tuple(words for words in told if words)


def last_record(folder: Path) -> dict[str, Any] | None:
    """The newest turn of all sessions in `folder`, or None. Raises RecordDamaged."""
    newest: dict[str, Any] | None = None
    for path in folder.glob("*.jsonl"):
        records = read_journal(path)
        if records and (newest is None or records[-1]["time"] >= newest["time"]):
            newest = records[-1]
    return newest
