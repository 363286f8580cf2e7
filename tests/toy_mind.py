"""Toy minds: a tiny model with the axis of toy homes and one quick voice, without frames or an embedder."""

from __future__ import annotations

from typing import Any

from toy_axis import BUDGET, toy_contrast

from overlay.axes import Axis, ContrastSet, build_axis
from overlay.frames import FrameGraph
from overlay.inner import Accumulator, DialogueSettings, Influence, Mind, StateSettings, Voice
from overlay.model import LanguageModel, VolatilityGauge

SETTINGS = StateSettings(axes={"vowels": Accumulator(half_life=4, gain=0.3)})
VOICE = Voice(name="first", description="One.", mask="You count.", max_tokens=8)


class NoEmbedder:
    """Without frames there are no cues to embed."""

    def embed(self, texts: Any) -> Any:
        raise AssertionError("nothing is to be embedded")


def toy_mind(model: LanguageModel) -> Mind:
    """A mind whose only axis is "vowels"; it is built here, from letters."""
    gauge = VolatilityGauge(model)
    axis: Axis = build_axis(ContrastSet(**toy_contrast()), model, gauge, budget=BUDGET)
    influence = Influence([axis], gauge, BUDGET, SETTINGS)
    dialogue = DialogueSettings(rounds=1, voices=1)
    return Mind(model, influence, FrameGraph([], NoEmbedder()), (VOICE,), SETTINGS, dialogue, "You answer.")
