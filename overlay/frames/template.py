"""The template of a frame: short, explained line by line, and a frame that can be used as it stands."""

from __future__ import annotations

from importlib import resources

import yaml
from pydantic import TypeAdapter, ValidationError

from overlay.errors import ArgumentError
from overlay.frames.frame import Name

_PLACEHOLDER = "NAME"


def new_frame(name: str) -> str:
    """The text of a new frame's file. Raises ArgumentError when a frame can't have this name."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise ArgumentError(
            f"'{name}' can't name a frame",
            "use small letters, digits, - and _, with a letter or a digit first, such as shorter_way",
        ) from None
    template = resources.files("overlay.frames").joinpath("template.yaml").read_text(encoding="utf-8")
    # YAML reads names such as 2026 or no as something else than text: its own writer puts those in quotes.
    written = yaml.safe_dump(name).splitlines()[0]
    return template.replace(f"name: {_PLACEHOLDER}\n", f"name: {written}\n", 1)
