"""Tiny models whose blocks see only the last few tokens, for what happens beyond a sliding window."""

from __future__ import annotations

from typing import Any

from tiny_models import byte_tokenizer, tiny_module

WINDOWED_ARCHITECTURES = ("mistral", "gemma3_text")
WINDOW = 12


def windowed_model(architecture: str) -> Any:
    """Six blocks that see the last twelve tokens; of gemma's, the last one sees all."""
    from overlay.model import LanguageModel

    module = tiny_module(architecture, layers=6)
    module.config.sliding_window = WINDOW
    return LanguageModel(module, byte_tokenizer(), f"windowed-{architecture}")
