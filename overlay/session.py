"""Sessions: what an agent lived through, one journal of turns each."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from overlay.records import append_record, read_journal, set_damage_aside


@dataclass(frozen=True)
class TurnRecord:
    """One turn as it was lived. A turn exists once this record is in the journal.

    Attributes:
        kind: "turn" when the agent replied, "lived" when it only read and thought.
        recalled: (note id, score, terms) of each recalled note.
        energies: frame energies after the turn.
        changes: every change of the state with its cause.
        doses: dose by axis that the reply was given under, as fractions of the residual norm.
        volatility: (mean, 95th percentile) of that intervention on neutral text, nats per token.
        inner_speech: what the voices said: kept here, and in silent mode in no later context.
        resonance: by round and axis, how far it moved as a multiple of the round before, and whether it was damped.
        avoided: banned texts that the reply turned away from, with the probability that was cut.
        contexts: for every generation, its purpose and the sourced segments of each message.
        tokens: ids of the reply's prompt and of the reply.
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
    adapter: str = ""
    ended: str = ""
    contexts: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: list[int] = field(default_factory=list)
    reply_tokens: list[int] = field(default_factory=list)
    model_digest: str = ""


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
