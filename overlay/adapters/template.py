"""The template of a recipe: short, explained line by line, and a recipe that can be trained as it stands."""

from __future__ import annotations

from overlay.adapters.library import check_name
from overlay.documents import new_document


def new_recipe(name: str) -> str:
    """The text of a new recipe's file. Raises ArgumentError when an adapter can't have this name."""
    check_name(name)
    return new_document(name, "overlay.adapters")
