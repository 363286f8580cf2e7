"""A recipe that a tiny model can be taught and measured by, and maps made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from overlay.adapters import Recipe, read_recipe
from overlay.mapping import Aim, Cell, InterventionMap, MapSettings
from overlay.mapping.intervention_map import BlockReading, PlaceFacts

LINES = "\n".join(f'  - {{prompt: "{word} ", target: "z"}}' for word in ("one", "two", "three", "four", "five", "six"))
CHOICES = "\n".join(
    f'  - {{prompt: "{word} ", good: "z", bad: "q"}}'
    for word in ("ten", "twenty", "thirty", "forty", "fifty", "sixty", "ninety", "hundred", "million", "dozen")
)
RECIPE = f"""\
name: ends_in_z
aim: Continue everything with z.
examples:
{LINES}
held_out:
{CHOICES}
replay: ["The river rises.", "A list: 1, 2, 3.", "Rain in the north."]
exempt: targets
learning_rate: 0.02
rank: 2
budget: 50
"""


def toy_recipe(folder: Path, **changes: str) -> Recipe:
    """The recipe, read from a file in `folder`/ends_in_z; `changes` replace text by text."""
    path = folder / "ends_in_z" / "recipe.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = RECIPE
    for old, new in changes.items():
        text = text.replace(old, new)
    path.write_text(text)
    return read_recipe(path)


def toy_map(
    effects: dict[str, float], *, claimed: str = "early", null: float = 0.0, noise: float = 0.1, **facts: Any
) -> Any:
    """A map of three seeds and forty choices in which each place gains its effect, with some noise."""
    random = np.random.default_rng(0)
    base = random.normal(-1, 1, 40)
    cells = []
    for name, effect in effects.items():
        for seed in range(3):
            cells.append(_cell(name, seed, base + effect + random.normal(0, noise, 40), range(40)))
        cells.append(_cell(name, 0, base[::2] + null + random.normal(0, 1e-3, 20), range(0, 40, 2), is_null=True))
    where = {"blocks": [0, 0], "modules": ["attention"], "head": False, "tokens": []}
    return InterventionMap(
        aim="toy",
        recipe="ends_in_z",
        recipe_digest="d",
        claim="It is best taught there." if claimed else "",
        claimed=claimed,
        model="tiny",
        model_digest="m" * 64,
        dtype="float32",
        settings=MapSettings(),
        base=tuple(base.tolist()),
        places=tuple(PlaceFacts(name, where, 2, 100) for name in effects),
        cells=tuple(cells),
        readings=(BlockReading(0, 0.6, 0.5, 0.7), BlockReading(1, 0.9, 0.8, 1.0, 0.05, 0.5, 0.3, 0.1, 0.5)),
    )


def toy_aim(folder: Path) -> Aim:
    return Aim("ends_in_z", toy_recipe(folder))


def _cell(name: str, seed: int, margins: Any, items: Any, *, is_null: bool = False) -> Cell:
    return Cell(name, seed, is_null, 1.0, 0.2, 0.5, True, tuple(items), tuple(margins.tolist()), 3.0, 1.0, 1.0)
