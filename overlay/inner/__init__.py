"""The room of inner life: a state that builds up, and the inner dialogue that feeds it.

In go observations (what texts read on the axes), frames' questions and voices. Out come the next
state with the cause of every change, an intervention inside the volatility budget, and the ledger
of every context. It never puts a word of the state into a text.
"""

from __future__ import annotations

from overlay.inner.dialogue import Dialogue, DialogueSettings, Resonance, Utterance, Voice, read_voices
from overlay.inner.drift import Drift, DriftSettings, neutral_activations
from overlay.inner.effects import congruence
from overlay.inner.half_life import HalfLife
from overlay.inner.history import LivedTurn, latest_moves, read_history
from overlay.inner.influence import Influence, Influenced, NoteCongruence
from overlay.inner.ledger import Context, Leak, Segment, SourcedMessage, audit
from overlay.inner.mind import Experience, Mind, forbidden_words
from overlay.inner.state import Accumulator, Origin, Source, State, StateChange, StateSettings
from overlay.inner.state_plot import draw_state

__all__ = [
    "Accumulator",
    "Context",
    "Dialogue",
    "DialogueSettings",
    "Drift",
    "DriftSettings",
    "Experience",
    "HalfLife",
    "Influence",
    "Influenced",
    "Leak",
    "LivedTurn",
    "Mind",
    "NoteCongruence",
    "Origin",
    "Resonance",
    "Segment",
    "Source",
    "SourcedMessage",
    "State",
    "StateChange",
    "StateSettings",
    "Utterance",
    "Voice",
    "audit",
    "congruence",
    "draw_state",
    "forbidden_words",
    "latest_moves",
    "neutral_activations",
    "read_history",
    "read_voices",
]
