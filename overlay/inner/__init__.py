"""The room of inner life: a state that builds up, and the inner dialogue that feeds it.

In go observations (what texts read on the axes), frames' questions and voices. Out come the next
state with the cause of every change, an intervention inside the volatility budget, and the ledger
of every context. It never puts a word of the state into a text.
"""

from __future__ import annotations

from overlay.inner.dialogue import Dialogue, DialogueSettings, Utterance, Voice, read_voices
from overlay.inner.influence import Influence, Influenced
from overlay.inner.ledger import Context, Leak, Segment, SourcedMessage, audit
from overlay.inner.mind import Experience, Mind
from overlay.inner.state import Accumulator, State, StateChange, StateSettings

__all__ = [
    "Accumulator",
    "Context",
    "Dialogue",
    "DialogueSettings",
    "Experience",
    "Influence",
    "Influenced",
    "Leak",
    "Mind",
    "Segment",
    "SourcedMessage",
    "State",
    "StateChange",
    "StateSettings",
    "Utterance",
    "Voice",
    "audit",
    "read_voices",
]
