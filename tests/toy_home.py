"""Toy homes: the stock home made small, with an axis that a random-weight model can have."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from toy_axis import BUDGET, toy_contrast, write_contrast

from overlay.home import Home, create_home

KEPT_NOTES = ("volatility.md", "budget.md", "axis.md")


def toy_settings(embedder: Path | str, **changes: Any) -> dict[str, Any]:
    """The content of a quick agent.yaml."""
    settings: dict[str, Any] = {
        "name": "toy",
        "embedder": str(embedder),
        "system": "You answer.",
        "budget": BUDGET,
        "state": {"axes": {"vowels": {"half_life": 4, "gain": 0.3}}},
        "dialogue": {"rounds": 1, "voices": 2},
        "recall": {"count": 2, "history": 4},
        "reply": {"max_tokens": 12},
    }
    return settings | changes


def create_toy_home(folder: Path, embedder: Path | str, **changes: Any) -> Home:
    """A home with few notes, quick voices and the axis "vowels"."""
    home = create_home(folder)
    for note in home.notes.iterdir():
        if note.name not in KEPT_NOTES:
            note.unlink()
    for path in home.voices.glob("*.yaml"):
        voice = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(voice | {"max_tokens": 8}), encoding="utf-8")
    shutil.rmtree(home.folder / "adapters" / "steering")
    write_contrast(home.folder / "adapters" / "steering", toy_contrast())
    return write_settings(home.folder, toy_settings(embedder, **changes))


def write_settings(folder: Path, settings: dict[str, Any]) -> Home:
    """Replace agent.yaml and open the home again."""
    (folder / "agent.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return Home.open(folder)
