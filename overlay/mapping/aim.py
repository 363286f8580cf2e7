"""Aims: what a map is drawn for, by which recipe it is taught and measured, and what is said about its place."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel

from overlay.adapters import AdapterLibrary, Recipe, read_recipe
from overlay.documents import Document, read_document
from overlay.errors import AdapterError, ArgumentError

FEWEST_CHOICES = 8
"""Held-out choices: fewer of them can't tell one place from another."""

Region = Literal["early", "middle", "late", "head", "tokens"]
"""A part of the model of which something can be claimed."""


class Claim(Document):
    """What is said about the place of an aim, before anything was measured.

    Attributes:
        recipe: the adapter by whose recipe it is taught; None: the recipe that lies beside the claims.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    recipe: str | None = None
    place: Region
    claim: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Aim:
    """What is mapped. `claim` is None where nothing is said about its place."""

    name: str
    recipe: Recipe
    claim: Claim | None = None


class _Claims(RootModel[tuple[Claim, ...]]):
    """The file of claims: one YAML list."""


def known_aims() -> tuple[Claim, ...]:
    """The aims that have a name of their own, with what is said about their places."""
    return read_document(_beside("aims.yaml"), _Claims).root


def read_aim(library: AdapterLibrary, name: str) -> Aim:
    """The aim of this name: one of `known_aims`, or any recipe of the home.

    Raises:
        AdapterError: there is no such aim, or its recipe isn't there.
        ArgumentError: it has too few held-out choices to be measured by.
        DocumentError: its recipe is wrong.
    """
    known = {claim.name: claim for claim in known_aims()}
    claim = known.get(name)
    if claim is None and name not in library.names:
        raise AdapterError(
            f"there is no aim '{name}'",
            f"known aims: {', '.join(known)}; or any adapter with a recipe: {', '.join(library.names) or 'none'}",
        )
    if claim is not None and claim.recipe is None:
        recipe = read_recipe(_beside(f"{name}.yaml"))
    else:
        recipe = library.recipe(claim.recipe if claim is not None and claim.recipe else name)
    if claim is None:
        claim = next((one for one in known.values() if one.recipe == name), None)
    if len(recipe.held_out) < FEWEST_CHOICES:
        raise ArgumentError(
            f"the aim '{name}' can't be measured: its recipe has {len(recipe.held_out)} held-out choices, and "
            f"{FEWEST_CHOICES} are needed",
            "write more of them under `held_out`, about things that no example shows",
        )
    return Aim(name, recipe, claim)


def _beside(name: str) -> Path:
    return Path(str(resources.files("overlay.mapping"))) / name
