"""Toy scenarios: scripts whose axis is that of toy homes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from toy_axis import LETTERS, toy_texts


def toy_scenario(name: str = "toy", items: int = 6, **changes: Any) -> dict[str, Any]:
    """The content of a script: `items` items of two wordings with one choice each, and one ledger detector."""
    content: dict[str, Any] = {
        "name": name,
        "description": "For tests.",
        "axes": ["vowels"],
        "exposure": toy_texts(LETTERS["positive"], 2, 11),
        "trial": {
            "setting": "You keep the stores.",
            "question": "What now?",
            "items": [
                {
                    "id": f"item-{number}",
                    "resources": {"logs": 12},
                    "paraphrases": [f"There are 12 logs at {number}.", f"Place {number} has 12 logs."],
                    "options": [
                        {"id": "give", "text": f"I give {number} away.", "effects": {"logs": -1}},
                        {"id": "keep", "text": "I keep all of it."},
                    ],
                }
                for number in range(items)
            ],
        },
        "detectors": [{"name": "gave", "kind": "ledger", "spent_at_least": 1}],
        "primary": "gave",
    }
    return content | changes


def write_scenario(folder: Path, name: str = "toy", **changes: Any) -> Path:
    """Write a toy script; `changes` are those of `toy_scenario`."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(toy_scenario(name, **changes), sort_keys=False), encoding="utf-8")
    return path
