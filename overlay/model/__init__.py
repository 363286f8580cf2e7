"""The room of the language model: three verbs over rows.

In go rows: messages or text, each with its own intervention, sampling and seed. Out come
completions, option scores, observations and volatility. It never knows what a state, a note or
a scenario is, and nothing that it switched on stays on after a call.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.model.ban import Ban
from overlay.model.catalog import cache_folder, resolve_embedder, resolve_model
from overlay.model.census import Census
from overlay.model.direction import Direction
from overlay.model.focus import Focus
from overlay.model.hardware import environment
from overlay.model.intervention import NOTHING, AdapterUse, Dose, Intervention, LogitBias, Operator
from overlay.model.peft_warnings import without_peft_warnings
from overlay.model.row import Avoided, Completion, Encoded, Message, Observation, Pool, Row, Sampling, Scored
from overlay.model.span import Positions, Span, Stretch, When
from overlay.model.treatment import UNTREATED, Treatment

if TYPE_CHECKING:
    from overlay.model.language_model import LanguageModel
    from overlay.model.volatility import NO_VOLATILITY, Volatility, VolatilityGauge, neutral_texts

__all__ = [
    "NOTHING",
    "NO_VOLATILITY",
    "UNTREATED",
    "AdapterUse",
    "Avoided",
    "Ban",
    "Census",
    "Completion",
    "Direction",
    "Dose",
    "Encoded",
    "Focus",
    "Intervention",
    "LanguageModel",
    "LogitBias",
    "Message",
    "Observation",
    "Operator",
    "Pool",
    "Positions",
    "Row",
    "Sampling",
    "Scored",
    "Span",
    "Stretch",
    "Treatment",
    "Volatility",
    "VolatilityGauge",
    "When",
    "cache_folder",
    "environment",
    "neutral_texts",
    "resolve_embedder",
    "resolve_model",
    "without_peft_warnings",
]

# These import torch and transformers, which takes seconds: `overlay --help` must not wait for it.
_HEAVY = {
    "LanguageModel": "overlay.model.language_model",
    "NO_VOLATILITY": "overlay.model.volatility",
    "Volatility": "overlay.model.volatility",
    "VolatilityGauge": "overlay.model.volatility",
    "neutral_texts": "overlay.model.volatility",
}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(importlib.import_module(_HEAVY[name]), name)
    raise AttributeError(f"module 'overlay.model' has no attribute '{name}'")
