"""The template of a recipe: short, explained line by line, and a recipe that can be trained as it stands."""

from __future__ import annotations

import re
from importlib import resources

import yaml

from overlay.adapters.recipe import NAME_PATTERN
from overlay.errors import ArgumentError

_PLACEHOLDER = "NAME"


def new_recipe(name: str) -> str:
    """The text of a new recipe's file. Raises ArgumentError when an adapter can't have this name."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ArgumentError(
            f"'{name}' can't be the name of an adapter", "use a-z, 0-9 and _, and a letter at the start"
        )
    template = resources.files("overlay.adapters").joinpath("template.yaml").read_text(encoding="utf-8")
    # YAML reads names such as no or on as something else than text: its own writer puts those in quotes.
    written = yaml.safe_dump(name).splitlines()[0]
    named = template.replace(f"name: {_PLACEHOLDER}\n", f"name: {written}\n", 1)
    return re.sub(rf"(overlay adapters \w+) {_PLACEHOLDER}\n", rf"\1 {name}\n", named)
