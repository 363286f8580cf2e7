"""A toy home whose scripts say what the levels of "vowels" are, with its model beside it and an adapter to train."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from adapters.tiny_home import TEMPLATE
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home
from toy_scenario import write_scenario

from overlay.home import Home
from overlay.levels import LevelSettings

LEVELS = {"topic": "Write on tin.", "prompted": "Be calm.", "adapter": "ends_in_z"}
SMALL = LevelSettings(seeds=2, directions=1, prompts=3, tokens=8, wordings=1, questions=6)
WORDS = [f"--{name}={value}" for name, value in vars(SMALL).items()]
"""The same settings as they are typed."""


def create_levels_home(folder: Path, embedder: Path, **changes: Any) -> Home:
    """The home, with one script of choices and one negative control, and nothing trained yet."""
    tiny_module("llama").save_pretrained(folder / "model")
    byte_tokenizer().save_pretrained(folder / "model")
    home = create_toy_home(folder / "home", embedder, model=str(folder / "model"), **changes)
    recipe = home.folder / "adapters" / "lora" / "ends_in_z" / "recipe.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(TEMPLATE.format(name="ends_in_z", letter="z", steps=3))
    shutil.rmtree(home.scenarios)
    home.scenarios.mkdir()
    write_scenario(home.scenarios, "stores", levels=LEVELS)
    write_scenario(home.scenarios, "sorting", levels=LEVELS, control="negative")
    return home
