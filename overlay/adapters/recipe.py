"""Recipes: how an adapter is trained and what it is measured by, one YAML file each."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from overlay.documents import Document, read_document

NAME_PATTERN = r"^[a-z][a-z0-9_]*$"

Text = Annotated[str, Field(min_length=1)]


class Example(Document):
    """The model reads `prompt` (which may be empty) and learns to continue it with `target`."""

    prompt: str = ""
    target: Text


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


class Recipe(Document):
    """What is learned (`examples`), what is kept (`replay`), what is measured (`held_out`), and how.

    Attributes:
        aim: one sentence that says what the adapter is for.
        replay: ordinary texts on which the model should stay what it was.
        rank: width of the LoRA matrices.
        alpha: LoRA's numerator: the update is scaled by alpha / rank.
        blocks: the decoder blocks that learn, "all" or [first, last], both included, counted from 0.
        modules: what learns in each block: "attention", "mlp", or a linear layer by its own name.
        steps: optimizer steps.
        batch: examples a step.
        learning_rate: of AdamW, constant.
        anchor: weight of KL(base ‖ tuned) on replay texts against the cross-entropy on targets.
        budget: the KL on replay text, nats per token, beyond which training stops.
        seed: of the first weights and of the order of the examples.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    aim: Text
    examples: tuple[Example, ...]
    held_out: tuple[HeldOut, ...]
    replay: tuple[Text, ...]
    rank: Annotated[int, Field(ge=1, le=256)] = 8
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 16.0
    blocks: Literal["all"] | tuple[int, int] = "all"
    modules: tuple[Text, ...] = ("attention", "mlp")
    steps: Annotated[int, Field(ge=1, le=100_000)] = 24
    batch: Annotated[int, Field(ge=1, le=1024)] = 8
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    anchor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.15
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("examples", "held_out", "replay", "modules")
    @classmethod
    def _holds_something(cls, items: tuple[object, ...]) -> tuple[object, ...]:
        # A minimum length in the type would also count a wrong item as missing, and say so first.
        if not items:
            raise ValueError("at least one is needed")
        return items

    @field_validator("blocks", mode="before")
    @classmethod
    def _is_a_range(cls, blocks: object) -> object:
        if blocks == "all":
            return blocks
        if (
            not isinstance(blocks, list | tuple)
            or len(blocks) != 2
            or not all(type(block) is int for block in blocks)
            or not 0 <= blocks[0] <= blocks[1]
        ):
            raise ValueError(f"write all, or [first, last] with 0 <= first <= last, not {blocks!r}")
        return tuple(blocks)

    @field_validator("examples")
    @classmethod
    def _examples_differ(cls, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        text, count = Counter(example.prompt + example.target for example in examples).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{text!r} stands here {count} times: a repeated example only weighs more")
        return examples

    @field_validator("held_out")
    @classmethod
    def _held_out_is_not_trained_on(cls, held_out: tuple[HeldOut, ...], info: ValidationInfo) -> tuple[HeldOut, ...]:
        trained = [example.prompt + example.target for example in info.data.get("examples", ())]
        for item in held_out:
            for option in (item.good, item.bad):
                if any(text.startswith(item.prompt + option) for text in trained):
                    raise ValueError(f"{item.prompt + option!r} is trained on as well: it can't measure anything")
        return held_out

    @property
    def digest(self) -> str:
        """sha256 over all that training and its measurement depend on: all but the aim."""
        content = self.model_dump(mode="json", exclude={"aim"})
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def read_recipe(path: Path) -> Recipe:
    """Read one recipe. Raises DocumentError with file and line."""
    return read_document(path, Recipe)
