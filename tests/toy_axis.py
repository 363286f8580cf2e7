"""Toy axes: contrast texts that a random-weight model tells apart by their letters, for tests that need some axis.

Positive texts are words of the letters "aeiou", every other group has letters of its own. Each word occurs in one
text only, so that no word is telling, and removing telling words removes nothing.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

LETTERS = {"positive": "aeiou", "negative": "bcdfg", "foil": "hjklm", "neutral": "npqrs"}
TEXTS = 12

BUDGET = 0.03
"""Nats per token. On so small a model KL stops growing with the square of the dose soon after that."""


def toy_texts(letters: str, count: int = TEXTS, seed: int = 0) -> list[str]:
    """Texts of six random words each."""
    generator = random.Random(f"{letters}-{seed}")
    return [" ".join("".join(generator.choices(letters, k=7)) for _ in range(6)) for _ in range(count)]


def toy_contrast(name: str = "vowels", **changes: Any) -> dict[str, Any]:
    """The content of a contrast file whose axis passes its checks on a random model."""
    content: dict[str, Any] = {
        "name": name,
        "description": "Vowels, for tests.",
        "lexicon": ["vowel", "open mouth"],
        "positive": toy_texts(LETTERS["positive"]),
        "negative": toy_texts(LETTERS["negative"]),
        "foils": {"liquids": toy_texts(LETTERS["foil"])},
        "neutral": toy_texts(LETTERS["neutral"]),
    }
    return content | changes


def write_contrast(folder: Path, content: dict[str, Any]) -> Path:
    """Write NAME.yaml as a person would, one text a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=1000, allow_unicode=True), encoding="utf-8")
    return path
