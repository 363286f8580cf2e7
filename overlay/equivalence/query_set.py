"""Query sets: what a treatment is asked when a prompt is to stand in for it, one YAML file each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from overlay.adapters import Example
from overlay.documents import Document, MistakeAt, read_document
from overlay.errors import ArgumentError

if TYPE_CHECKING:
    from overlay.adapters import AdapterLibrary, Recipe
    from overlay.axes import AxisLibrary

Text = Annotated[str, Field(min_length=1)]

FEWEST = 4
"""Queries: two to choose a prompt by and two that it never saw, or nothing can be said about others."""

LONGEST = 32
"""Queries taken from a recipe: more cost minutes each and narrow no interval that matters."""


class QuerySet(Document):
    """Queries, and the wordings that a person would try as prompts.

    Attributes:
        about: what the queries have in common.
        chat: whether a query is a user's message; otherwise it is plain text to be gone on with.
        queries: what is asked; one half chooses the prompts, the other is held out.
        instructions: ways to ask for what the treatment does.
        anchors: words or phrases that only name it.
        openings: fixed beginnings of the answer.
        phrases: further material for the search.
        examples: for few-shot prompts; without any, the treated model's own answers are taken.
    """

    about: str = ""
    chat: bool = True
    queries: tuple[Text, ...]
    instructions: tuple[Text, ...] = ()
    anchors: tuple[Text, ...] = ()
    openings: tuple[Text, ...] = ()
    phrases: tuple[Text, ...] = ()
    examples: tuple[Example, ...] = ()

    @field_validator("queries")
    @classmethod
    def _are_enough(cls, queries: tuple[str, ...]) -> tuple[str, ...]:
        if len(queries) < FEWEST:
            raise ValueError(
                f"{len(queries)} {'query' if len(queries) == 1 else 'queries'}, and {FEWEST} are the fewest: one half "
                "chooses the prompt, the other half is held out"
            )
        return queries

    @field_validator("queries", "instructions", "anchors", "openings", "phrases")
    @classmethod
    def _differ(cls, texts: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for place, text in enumerate(texts):
            if text in texts[:place]:
                raise MistakeAt((place,), f"{text!r} stands here twice")
        return texts

    @field_validator("examples")
    @classmethod
    def _examples_are_not_asked(cls, examples: tuple[Example, ...], info: ValidationInfo) -> tuple[Example, ...]:
        for place, example in enumerate(examples):
            if example.prompt in info.data.get("queries", ()):
                raise MistakeAt((place, "prompt"), "this is a query as well: its answer would be given away")
        return examples


@dataclass(frozen=True)
class Split:
    """Places of queries, each in one half: prompts are chosen on one and stay unseen by the other."""

    in_domain: tuple[int, ...]
    held_out: tuple[int, ...]

    @classmethod
    def of(cls, count: int, seed: int = 0) -> Split:
        """Two halves by chance; of an odd number the larger one is held out."""
        order = np.random.default_rng(seed).permutation(count).tolist()
        return cls(tuple(sorted(order[: count // 2])), tuple(sorted(order[count // 2 :])))


def read_queries(path: Path | str) -> QuerySet:
    """Read one query set. Raises DocumentError with file and line."""
    return read_document(path, QuerySet)


def shipped_queries(name: str) -> QuerySet | None:
    """The queries that come with the program for an adapter or axis of this name; None when there are none."""
    folder = resources.files("overlay.equivalence").joinpath("queries")
    if f"{name}.yaml" not in {entry.name for entry in folder.iterdir()}:
        return None
    with resources.as_file(folder.joinpath(f"{name}.yaml")) as path:
        return read_queries(path)


def queries_of(recipe: Recipe) -> QuerySet:
    """Queries of an adapter that has none of its own: its held-out prompts, its aim, its examples.

    Raises:
        ArgumentError: the recipe has too few held-out prompts.
    """
    prompts = tuple(Counter(item.prompt for item in recipe.held_out))[:LONGEST]
    if len(prompts) < FEWEST:
        raise ArgumentError(
            f"the recipe '{recipe.name}' has {len(prompts)} held-out prompts to ask, and {FEWEST} are the fewest",
            "give queries of your own with --queries FILE",
        )
    about = f"held-out prompts of {recipe.name}"
    return _with_examples(QuerySet(about=about, queries=prompts, chat=False, instructions=(recipe.aim,)), recipe)


def queries_for(treatment: str, adapters: AdapterLibrary, axes: AxisLibrary) -> QuerySet:
    """The queries for a treatment as it is written on the command line, such as "adapter:terse_style".

    Those that come with the program under its name; else an adapter's are from its recipe, and anything else gets
    everyday queries, an axis with its description as instruction.

    Raises:
        ArgumentError: an adapter has neither. AdapterError, DocumentError
    """
    kind, _, rest = treatment.partition(":")
    name = rest.partition("@")[0]
    found = shipped_queries(name) if kind in ("adapter", "axis") else None
    if kind == "adapter":
        recipe = _recipe(adapters, name)
        if found is not None:
            return _with_examples(found, recipe)
        if recipe is None:
            raise ArgumentError(
                f"adapter '{name}' has no recipe, and so no held-out prompts to ask", "give queries with --queries FILE"
            )
        return queries_of(recipe)
    if found is not None:
        return found
    everyday = shipped_queries("everyday")
    assert everyday is not None
    if kind == "axis":
        # An axis that emerged has no name to describe it by, and an imported one no description.
        description = getattr(axes.source(name), "description", "") if name in axes.names else ""
        everyday = everyday.model_copy(update={"instructions": (description,) if description else ()})
    return everyday


def _with_examples(queries: QuerySet, recipe: Recipe | None) -> QuerySet:
    """The same queries with the recipe's examples, unless they have some; those that are queries are left out."""
    if recipe is None or queries.examples:
        return queries
    asked = set(queries.queries)
    examples = tuple(example for example in recipe.examples if example.prompt not in asked)
    return queries.model_copy(update={"examples": examples})


def _recipe(adapters: AdapterLibrary, name: str) -> Recipe | None:
    """The recipe of an adapter; None for one that was imported or mixed."""
    adapters.require(name)
    written = (adapters.written / name / "recipe.yaml").exists() or (adapters.built / name / "recipe.json").exists()
    return adapters.recipe(name) if written else None
