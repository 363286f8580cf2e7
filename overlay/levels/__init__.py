"""The room of levels: one state brought about in four ways, side by side on the same questions.

In go a home and an axis; out comes a record and a page: what a topic prompt, an instruction, an adapter and an
accumulated state each do to text, to choices, to what the model says of itself and to unrelated abilities, and what is
left of it in a new context. It never reports a level without base, and never the state without its random directions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.levels.questions import Question, causality, minimal_pairs
from overlay.levels.subject import Subject, read_subject

if TYPE_CHECKING:
    from overlay.levels.page import write_page
    from overlay.levels.run import LevelSettings, compare_levels

__all__ = [
    "LevelSettings",
    "Question",
    "Subject",
    "causality",
    "compare_levels",
    "minimal_pairs",
    "read_subject",
    "write_page",
]

# These import torch or matplotlib.
_LATER = {"LevelSettings": "run", "compare_levels": "run", "write_page": "page"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"overlay.levels.{_LATER[name]}"), name)
    raise AttributeError(f"module 'overlay.levels' has no attribute '{name}'")
