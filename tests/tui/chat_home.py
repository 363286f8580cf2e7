"""A home for the chats: a tiny random model, one toy axis, two notes, the real embedder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from tiny_models import byte_tokenizer, tiny_module
from toy_axis import BUDGET, toy_contrast, write_contrast

from overlay.home import Home, create_home

KETTLE = "The kettle lives on the third shelf of the kitchen."
LANTERN = "The lantern hangs behind the door of the boat house."


def make_home(folder: Path, embedder: Path, **changes: Any) -> Home:
    """A home whose agent opens within seconds; `changes` replace parts of agent.yaml."""
    home = create_home(folder)
    shutil.rmtree(home.notes)
    home.notes.mkdir()
    (home.notes / "kettle.md").write_text(f"# Where is the kettle?\n\n{KETTLE}\n")
    (home.notes / "lantern.md").write_text(f"# Where is the lantern?\n\n{LANTERN}\n")
    write_contrast(home.folder / "adapters" / "steering", toy_contrast())
    settings = {
        "name": "tester",
        "embedder": str(embedder),
        "system": "Answer.",
        "budget": BUDGET,
        "state": {"axes": {"vowels": {"half_life": 8, "gain": 0.5, "cap": 1.5}}},
        "dialogue": {"mode": "off"},
        "recall": {"count": 1},
        "reply": {"max_tokens": 12},
    }
    (home.folder / "agent.yaml").write_text(yaml.safe_dump(settings | changes))
    return Home.open(home.folder)


def endless_parts() -> tuple[Any, Any]:
    """A tiny model and its tokenizer that know no token at which a reply ends."""
    module, tokenizer = tiny_module("llama"), byte_tokenizer()
    module.config.eos_token_id = module.generation_config.eos_token_id = None
    tokenizer.eos_token = None
    return module, tokenizer
