"""Microvariants: one text in some fifty forms, each a measured small step away from it.

In go a text and a model; out come accepted variants with their volatility (on the tokens they share with the text
and on a fixed probe behind both), the yield of every kind of edit, and an order of feeding without a jump above the
budget. The kinds are pure functions over text; nothing here trains, and nothing stays on the model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.adapters.microvariants.edit import Edit, language_of

if TYPE_CHECKING:
    from overlay.adapters.microvariants.collection import BUDGET, COUNT, Collection, Variant, Yield, collect
    from overlay.adapters.microvariants.divergence import Divergence, Reading, compare, probe_for, read
    from overlay.adapters.microvariants.proposal import KINDS, Kind, Proposer
    from overlay.adapters.microvariants.schedule import Schedule, Step, arrange

__all__ = [
    "BUDGET",
    "COUNT",
    "KINDS",
    "Collection",
    "Divergence",
    "Edit",
    "Kind",
    "Proposer",
    "Reading",
    "Schedule",
    "Step",
    "Variant",
    "Yield",
    "arrange",
    "collect",
    "compare",
    "language_of",
    "probe_for",
    "read",
]

# Measuring needs torch; proposing edits by their pure functions does not.
_HEAVY = {
    **dict.fromkeys(("BUDGET", "COUNT", "Collection", "Variant", "Yield", "collect"), "collection"),
    **dict.fromkeys(("Divergence", "Reading", "compare", "probe_for", "read"), "divergence"),
    **dict.fromkeys(("KINDS", "Kind", "Proposer"), "proposal"),
    **dict.fromkeys(("Schedule", "Step", "arrange"), "schedule"),
}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(importlib.import_module(f"overlay.adapters.microvariants.{_HEAVY[name]}"), name)
    raise AttributeError(f"module 'overlay.adapters.microvariants' has no attribute '{name}'")
