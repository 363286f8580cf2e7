"""The template of a scenario script: short, explained line by line, and a script that can be run as it stands."""

from __future__ import annotations

from overlay.documents import new_document, require_name
from overlay.scenarios.script import Scenario


def new_script(name: str) -> str:
    """The text of a new script. Raises ArgumentError when a scenario can't have this name."""
    rule = "use small letters, digits, - and _, with a letter or a digit first, such as night_shift"
    require_name(name, Scenario, "a scenario", rule)
    return new_document(name, "overlay.scenarios")
