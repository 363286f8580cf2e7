"""The room of inner life: a state that builds up, and the inner dialogue that feeds it.

In go observations (what texts read on the axes), frames' questions and voices. Out come the next
state with the cause of every change, an intervention inside the volatility budget, and the ledger
of every context. It never puts a word of the state into a text.
"""

from __future__ import annotations

from overlay.inner.audit import UNKNOWN_TOKENS, Examination, Leak, StateNames, audit, examine
from overlay.inner.dialogue import Dialogue, DialogueSettings, Resonance, Utterance, Voice, read_voices, tokens_digest
from overlay.inner.drift import Drift, DriftSettings, neutral_activations
from overlay.inner.effects import congruence
from overlay.inner.emergence import EMERGENT, Emergence, EmergentAxis, Event, calibrated
from overlay.inner.emergence_settings import EmergenceSettings
from overlay.inner.half_life import HalfLife
from overlay.inner.history import LivedTurn, latest_moves, read_history
from overlay.inner.inflection import WordFinder
from overlay.inner.influence import Influence, Influenced, NoteCongruence
from overlay.inner.inner_neutral import (
    InnerNeutral,
    gather_inner_neutral,
    ordinary_subjects,
    read_inner_speech,
    setup_digest,
    speak_unsteered,
)
from overlay.inner.ledger import Context, LivedContext, Segment, SourcedMessage, lived_contexts
from overlay.inner.measured import MeasuredMixes
from overlay.inner.mind import Experience, Mind
from overlay.inner.state import Accumulator, Origin, Source, State, StateChange, StateSettings
from overlay.inner.state_plot import draw_state
from overlay.inner.token_source import SourcedTokens, source_tokens

__all__ = [
    "EMERGENT",
    "UNKNOWN_TOKENS",
    "Accumulator",
    "Context",
    "Dialogue",
    "DialogueSettings",
    "Drift",
    "DriftSettings",
    "Emergence",
    "EmergenceSettings",
    "EmergentAxis",
    "Event",
    "Examination",
    "Experience",
    "HalfLife",
    "Influence",
    "Influenced",
    "InnerNeutral",
    "Leak",
    "LivedContext",
    "LivedTurn",
    "MeasuredMixes",
    "Mind",
    "NoteCongruence",
    "Origin",
    "Resonance",
    "Segment",
    "Source",
    "SourcedMessage",
    "SourcedTokens",
    "State",
    "StateChange",
    "StateNames",
    "StateSettings",
    "Utterance",
    "Voice",
    "WordFinder",
    "audit",
    "calibrated",
    "congruence",
    "draw_state",
    "examine",
    "gather_inner_neutral",
    "latest_moves",
    "lived_contexts",
    "neutral_activations",
    "ordinary_subjects",
    "read_history",
    "read_inner_speech",
    "read_voices",
    "setup_digest",
    "source_tokens",
    "speak_unsteered",
    "tokens_digest",
]
