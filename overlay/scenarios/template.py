"""The template of a scenario script: short, explained line by line, and a script that can be run as it stands."""

from __future__ import annotations

from importlib import resources

import yaml
from pydantic import TypeAdapter, ValidationError

from overlay.errors import ArgumentError
from overlay.scenarios.world import Name

_PLACEHOLDER = "NAME"


def new_script(name: str) -> str:
    """The text of a new script.

    Raises:
        ArgumentError: a scenario can't have this name.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise ArgumentError(
            f"'{name}' can't name a scenario",
            "use small letters, digits, - and _, with a letter or a digit first, such as night_shift",
        ) from None
    template = resources.files("overlay.scenarios").joinpath("template.yaml").read_text(encoding="utf-8")
    # YAML reads names such as 2026 or no as something else than text: its own writer puts those in quotes.
    written = yaml.safe_dump(name).splitlines()[0]
    return template.replace(f"name: {_PLACEHOLDER}\n", f"name: {written}\n", 1)
