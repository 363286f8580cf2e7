"""Examples: what an adapter is taught, and the choices by which it is measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from overlay.documents import Document

Text = Annotated[str, Field(min_length=1)]

Span = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]


class Example(Document):
    """The model reads `prompt` (which may be empty) and learns to continue it with `target`.

    Attributes:
        spans: the characters of `target` that carry what is to be learned, as (start, end), in order
            and apart. They count however surprising they are; without spans nothing is set apart.
    """

    prompt: str = ""
    target: Text
    spans: tuple[Span, ...] = ()

    @field_validator("spans")
    @classmethod
    def _lie_in_the_target(cls, spans: tuple[Span, ...], info: ValidationInfo) -> tuple[Span, ...]:
        reached = 0
        for start, end in spans:
            if not reached <= start < end <= len(info.data.get("target", "")):
                raise ValueError(f"({start}, {end}) is no part of the target, or not behind the span before it")
            reached = end
        return spans


class HeldOut(Document):
    """A choice that is only measured: after `prompt`, is `good` likelier per token than `bad`?"""

    prompt: Text
    good: Text
    bad: Text

    @field_validator("bad")
    @classmethod
    def _differs(cls, bad: str, info: ValidationInfo) -> str:
        if bad == info.data.get("good"):
            raise ValueError("the same text as 'good': there is nothing to choose")
        return bad
