"""The status of a turn in words: one line that both faces show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from overlay.agent import Reply
    from overlay.memory import Recalled

_TITLE_LENGTH = 48
"""Longer first words of a note are cut, so that three notes fit on two lines of a terminal."""


def status_line(reply: Reply, budget: float) -> str:
    """Where the state is, what it cost (nats per token), and what was recalled."""
    parts = [
        state_words(reply.state, reply.record.state_before),
        f"volatility {reply.volatility.mean:.3f} of {budget:.3f} nats/token",
    ]
    if reply.recalled:
        parts.append("recalled " + ", ".join(f"“{note_words(entry)}”" for entry in reply.recalled))
    return " · ".join(parts)


def state_words(state: Mapping[str, float], before: Mapping[str, float] | None = None) -> str:
    """Each accumulator's value, and how far it is from `before`."""
    words = []
    for name, value in state.items():
        moved = "" if before is None else f" ({value - before.get(name, 0.0):+.2f})"
        words.append(f"{name} {value:+.2f}{moved}")
    return ", ".join(words) or "no axes"


def note_words(entry: Recalled) -> str:
    """A recalled note's title or, without one, its first words, on one line."""
    words = " ".join((entry.note.title or entry.note.text).split())
    return words if len(words) <= _TITLE_LENGTH else words[: _TITLE_LENGTH - 1].rstrip() + "…"
