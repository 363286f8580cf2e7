"""Transcripts: what happened in one episode, as detectors, probes and reports read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from overlay.model import Message
from overlay.scenarios.expression import Value
from overlay.scenarios.world import Entry

EventKind = Literal["choose", "act", "free"]


@dataclass(frozen=True)
class Event:
    """One thing that the agent did.

    Attributes:
        step: id of the step of the script.
        text: the text of the option or action, or what was written freely.
        chosen: id of the option or action; None for free text.
        offered: ids of all that could be chosen there.
        asked: whether a turn asked for this act.
        scores: mean log-probability per token of each of `offered`, nats, one tuple per order in which they stood.
    """

    step: str
    kind: EventKind
    text: str
    chosen: str | None = None
    offered: tuple[str, ...] = ()
    asked: bool = True
    scores: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Transcript:
    """One episode, finished.

    Attributes:
        item: id of the item.
        messages: the whole chat, the agent's own replies included.
        before, after: the world's resources and facts at the start and at the end.
    """

    item: str
    messages: tuple[Message, ...]
    events: tuple[Event, ...]
    ledger: tuple[Entry, ...]
    before: Mapping[str, Value]
    after: Mapping[str, Value]

    @property
    def task(self) -> str:
        """What the agent was given first: the setting and the situation."""
        return "\n\n".join(message.text for message in self.messages if message.role != "assistant")

    @property
    def written(self) -> str:
        """All that the agent wrote freely, in order."""
        return "\n\n".join(event.text for event in self.events if event.kind == "free")

    @property
    def acts(self) -> tuple[str, ...]:
        """Ids of all options and actions taken, in order."""
        return tuple(event.chosen for event in self.events if event.chosen is not None)
