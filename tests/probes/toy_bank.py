"""Toy banks: probes of letters, whose cells a logit bias or an axis can move one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from overlay.probes import ProbeBank

PLACES = ("river", "mill", "gate", "road", "barn", "well", "hill", "lane", "wood", "ford", "moor", "quay")


def toy_probes(level: str, good: str, bad: str, count: int = 12, **changes: Any) -> list[dict[str, Any]]:
    """Probes of one cell: one letter is right and another is wrong, whatever the prompt is."""
    return [
        {
            "id": f"{level}_{place}",
            "level": level,
            "layer": "logical",
            "prompt": f"At the {place} stood",
            "good": f" {good}",
            "bad": f" {bad}",
        }
        | changes
        for place in PLACES[:count]
    ]


def toy_content(**changes: Any) -> dict[str, Any]:
    """The content of a bank with two cells, of the letters z against q and k against w."""
    probes = [*toy_probes("causality", "zzz", "qqq"), *toy_probes("definition", "kkk", "www")]
    return {"name": "letters", "about": "Letters.", "source": "own texts", "probes": probes} | changes


def toy_bank(**changes: Any) -> ProbeBank:
    """The same as a bank."""
    return ProbeBank.model_validate(toy_content(**changes))


def write_bank(folder: Path, content: dict[str, Any]) -> Path:
    """Write NAME.yaml as a person would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
