"""Probes: choices of known meaning by which a treatment of the model is measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from overlay.documents import Document, MistakeAt

Text = Annotated[str, Field(min_length=1)]

Level = Literal["definition", "causality", "generalisation", "analogy", "counterexample", "conceptual_transfer"]
"""What is asked of understanding, from naming a thing to carrying its form elsewhere."""

Layer = Literal["lexical", "logical", "narrative", "philosophical"]
"""In what kind of text it is asked."""

CheckKind = Literal["other_words", "another_field", "analogous_structure", "unrelated"]
"""What is asked after teaching: to say it again, to carry it over, to find its like, and to leave the rest alone."""

LONGEST_SHARE = 0.3
"""Good and bad may differ in length by this share of the longer one: a model's liking for length is no meaning."""

SPARE_CHARACTERS = 3
"""So many characters they may differ by in any case: " yes" and " no" are not a choice of length."""


class Cell(NamedTuple):
    """Probes that are weighed together."""

    level: Level
    layer: Layer
    language: str

    def __str__(self) -> str:
        return f"{self.level} / {self.layer} / {self.language}"


class Choice(Document):
    """After `prompt`, `good` and `bad` are both fluent, and only their meaning says which of them is right.

    Attributes:
        language: two letters, such as en or ru.
        topic: tags by which probes are picked.
    """

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] = "en"
    topic: tuple[Text, ...] = ()
    prompt: Text
    good: Text
    bad: Text

    @field_validator("prompt")
    @classmethod
    def _ends_before_the_blank(cls, prompt: str) -> str:
        if prompt != prompt.rstrip():
            raise ValueError("it ends in a blank, which cuts the next word's token in two: begin good and bad with it")
        return prompt

    @model_validator(mode="after")
    def _only_meaning_differs(self) -> Self:
        good, bad = self.good.strip(), self.bad.strip()
        if not good or not bad:
            raise MistakeAt(("bad" if good else "good",), "nothing but blanks: write how the prompt goes on")
        if good.casefold() == bad.casefold():
            raise MistakeAt(("bad",), "the same as 'good': there is nothing to choose")
        if self.good[:1].isspace() != self.bad[:1].isspace():
            raise MistakeAt(("bad",), "good and bad must both begin with a blank, or neither")
        lengths = sorted((len(self.good), len(self.bad)))
        if lengths[1] - lengths[0] > max(SPARE_CHARACTERS, LONGEST_SHARE * lengths[1]):
            raise MistakeAt(
                ("bad",),
                f"good has {len(self.good)} characters and bad {len(self.bad)}: they may differ by "
                f"{LONGEST_SHARE:.0%} of the longer one, or by {SPARE_CHARACTERS} characters",
            )
        return self


class Probe(Choice):
    """A choice that belongs to one cell of the semantic map."""

    level: Level
    layer: Layer

    @property
    def cell(self) -> Cell:
        """The cell that it is weighed in."""
        return Cell(self.level, self.layer, self.language)


class Expectation(Document):
    """What an answer that the model writes itself must look like; regular expressions, small and large letters alike.

    Attributes:
        contains: every one of them occurs.
        lacks: none of them occurs.
        like: texts to one of which it is as similar as `similarity`, the cosine of an embedder's vectors.
    """

    contains: tuple[Text, ...] = ()
    lacks: tuple[Text, ...] = ()
    like: tuple[Text, ...] = ()
    similarity: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @field_validator("contains", "lacks")
    @classmethod
    def _can_be_searched(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for place, pattern in enumerate(patterns):
            try:
                re.compile(pattern)
            except re.error as error:
                raise MistakeAt((place,), f"{pattern!r} is no regular expression: {error}") from None
        return patterns

    @model_validator(mode="after")
    def _expects_something(self) -> Self:
        if not (self.contains or self.lacks or self.like):
            raise ValueError("at least one of contains, lacks and like is needed")
        return self


class Check(Choice):
    """A choice that is also asked as an open question, and answered in the model's own words.

    Attributes:
        ask: what is asked; the prompt when not given.
        expect: what the answer must look like; without it only the choice is measured.
        max_tokens: how long the answer may be.
    """

    kind: CheckKind
    ask: Text | None = None
    expect: Expectation | None = None
    max_tokens: Annotated[int, Field(ge=1, le=512)] = 40

    @property
    def question(self) -> str:
        """What the model is asked to go on from in its own words."""
        return self.ask or self.prompt


AnyProbe = TypeVar("AnyProbe", bound=Probe)


def cells_of(probes: Sequence[AnyProbe]) -> dict[Cell, list[AnyProbe]]:
    """Probes by cell, in the order in which cells and probes first come."""
    found: dict[Cell, list[AnyProbe]] = {}
    for probe in probes:
        found.setdefault(probe.cell, []).append(probe)
    return found
