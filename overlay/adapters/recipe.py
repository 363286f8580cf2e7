"""Recipes: how an adapter is trained and what it is measured by, one YAML file each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    RootModel,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from overlay.adapters.example import Example, HeldOut, Text
from overlay.adapters.generators import GENERATORS, Generator
from overlay.documents import Document, MistakeAt, read_document
from overlay.errors import ArgumentError, DocumentError
from overlay.records import digest_of

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"

OVERRIDES = ("blocks", "steps", "seed")
"""What may be set otherwise for one training, beside the recipe."""

_FOLDER: ContextVar[Path] = ContextVar("folder of the recipe that is being read")
"""Where a generator's text files lie: the schema of a document doesn't know its path."""


class _TextList(RootModel[tuple[Text, ...]]):
    """A file of texts: one YAML list."""


def _made(written: object) -> object:
    """The generator that a recipe names, its text files read."""
    if written is None or isinstance(written, Generator):
        return written
    if not isinstance(written, dict):
        raise ValueError("write a mapping: the name of a generator, its texts, and its settings")
    name = written.get("name")
    if not isinstance(name, str) or name not in GENERATORS:
        raise MistakeAt(("name",), f"{name!r} is no generator; known: {', '.join(sorted(GENERATORS))}")
    settings, files = dict(written), {}
    for key in ("texts", "held_out"):
        if isinstance(settings.get(key), str):
            files[key] = _beside(settings[key], key)
            settings[key] = list(read_document(files[key], _TextList).root)
    try:
        return GENERATORS[name].model_validate(settings)
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        cause = mistake.get("ctx", {}).get("error")
        place = (*mistake["loc"], *(cause.place if isinstance(cause, MistakeAt) else ()))
        problem = _problem(mistake)
        if place and place[0] in files:
            file = files[str(place[0])]
            line = _item_lines(file)[int(place[1])] if len(place) > 1 else None
            raise DocumentError(file, line, problem, "mend the text and run the command again") from None
        raise MistakeAt(place, problem) from None


def _problem(mistake: Any) -> str:
    if mistake["type"] == "extra_forbidden":
        return "no setting of this generator"
    if mistake["type"] == "missing":
        return "this is missing"
    return str(mistake["msg"]).removeprefix("Value error, ")


def _beside(name: str, key: str) -> Path:
    if not re.fullmatch(r"\w[\w-]*\.yaml", name):
        raise MistakeAt((key,), f"{name!r} is no file beside the recipe: give a name such as {key}.yaml, or a list")
    return _FOLDER.get() / name


def _item_lines(path: Path) -> list[int]:
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    return [item.start_mark.line + 1 for item in root.value] if isinstance(root, yaml.SequenceNode) else []


class Where(Document):
    """Which part of the model learns; everything else stays as it is.

    Attributes:
        blocks: the decoder blocks that learn, "all" or [first, last], both included, counted from 0.
        modules: what learns in each of them: "attention", "mlp", or a linear layer by its own name.
        head: whether the output head learns as well, through LoRA: one that shares its weights with the
            embedding goes on sharing them, for neither is changed.
        tokens: words whose rows of the embedding learn (and of a head that shares it).
    """

    blocks: Literal["all"] | tuple[int, int] = "all"
    modules: tuple[Text, ...] = ("attention", "mlp")
    head: bool = False
    tokens: tuple[Text, ...] = ()

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

    @model_validator(mode="after")
    def _learns_somewhere(self) -> Self:
        if not self.modules and not self.head and not self.tokens:
            raise MistakeAt(("modules",), "at least one is needed, or head: true, or tokens")
        return self


class SafeZone(Document):
    """What may be learned from: the share of a batch's target tokens that surprise the base model least.

    Attributes:
        quantile: that share at the first step.
        widens_to: that share at the last step; in between it grows evenly.
    """

    quantile: Annotated[float, Field(gt=0, le=1)] = 0.7
    widens_to: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _never_narrows(self) -> Self:
        if self.widens_to < self.quantile:
            raise MistakeAt(("widens_to",), f"less than the quantile {self.quantile:g} that it begins with")
        return self


class Recipe(Document):
    """What is learned (`examples`), what is kept (`replay`), what is measured (`held_out`), and how.

    Attributes:
        aim: one sentence that says what the adapter is for.
        licence: under which terms the texts may be used, and whose they are.
        generator: makes the examples from plain texts, and the choices if it is given held-out texts;
            what it makes is not written in the recipe as well.
        replay: ordinary texts on which the model should stay what it was.
        rank: width of the LoRA matrices.
        alpha: LoRA's numerator: the update is scaled by alpha / rank.
        notes: ids of notes of the memory that the examples came from.
        where: which part of the model learns.
        steps: optimizer steps.
        batch: examples a step.
        learning_rate: of AdamW, constant.
        safe_zone: which tokens of the targets may be learned from; written "none" (None) for all of them.
        exempt: what is learned from however surprising it is: the examples' "spans", or their "targets" as a whole.
        anchor: weight of KL(base ‖ tuned) on replay texts against the cross-entropy on targets.
        budget: the KL on replay text, nats per token, beyond which training stops.
        seed: of the first weights and of the order of the examples.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    aim: Text
    licence: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    generator: Annotated[SerializeAsAny[Generator] | None, BeforeValidator(_made)] = None
    examples: Annotated[tuple[Example, ...], Field(validate_default=True)] = ()
    held_out: Annotated[tuple[HeldOut, ...], Field(validate_default=True)] = ()
    replay: tuple[Text, ...]
    notes: tuple[Text, ...] = ()
    rank: Annotated[int, Field(ge=1, le=256)] = 8
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 16.0
    where: Where = Where()
    steps: Annotated[int, Field(ge=1, le=100_000)] = 24
    batch: Annotated[int, Field(ge=1, le=1024)] = 8
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    safe_zone: SafeZone | None = SafeZone()
    exempt: Literal["spans", "targets"] = "spans"
    anchor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.15

    @field_validator("examples", "held_out", mode="before")
    @classmethod
    def _is_written_or_generated(cls, written: object, info: ValidationInfo) -> object:
        generator, seed = info.data.get("generator"), info.data.get("seed", 0)
        if not isinstance(generator, Generator) or not isinstance(written, list | tuple):
            return written
        if info.field_name == "examples":
            made: tuple[Document, ...] = generator.examples(seed)
        elif generator.held_out:
            made = generator.choices(seed)
        else:
            return written
        # A recipe that was dumped holds both, and is read back.
        given = [item.model_dump(mode="json") if isinstance(item, Document) else item for item in written]
        if given and given != [item.model_dump(mode="json") for item in made]:
            raise ValueError("the generator makes them: leave them out here, or leave out the generator")
        return made

    @field_validator("examples", "held_out", "replay")
    @classmethod
    def _holds_something(cls, items: tuple[object, ...], info: ValidationInfo) -> tuple[object, ...]:
        # A minimum length in the type would also count a wrong item as missing, and say so first. Where the
        # generator is wrong, nothing that it should have made is missing.
        if not items and (info.field_name == "replay" or "generator" in info.data):
            raise ValueError("at least one is needed")
        return items

    @field_validator("safe_zone", mode="before")
    @classmethod
    def _is_a_zone(cls, zone: object) -> object:
        if zone is None or zone == "none":
            return None
        if not isinstance(zone, dict | SafeZone):
            raise ValueError(f"write none, or a mapping such as {{quantile: 0.7, widens_to: 1.0}}, not {zone!r}")
        return zone

    @field_validator("examples")
    @classmethod
    def _examples_differ(cls, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        for text, count in Counter(example.prompt + example.target for example in examples).most_common(1):
            if count > 1:
                raise ValueError(f"{text!r} stands here {count} times: a repeated example only weighs more")
        return examples

    @field_validator("held_out")
    @classmethod
    def _held_out_is_not_trained_on(cls, held_out: tuple[HeldOut, ...], info: ValidationInfo) -> tuple[HeldOut, ...]:
        trained = [example.prompt + example.target for example in info.data.get("examples", ())]
        _require_unseen(held_out, trained)
        return held_out

    @field_validator("replay")
    @classmethod
    def _replay_holds_nothing_held_out(cls, replay: tuple[Text, ...], info: ValidationInfo) -> tuple[Text, ...]:
        _require_unseen(info.data.get("held_out", ()), replay)
        return replay

    @property
    def digest(self) -> str:
        """sha256 over all that training and its measurement depend on: all but the aim and the licence."""
        content = self.model_dump(mode="json", exclude={"aim", "licence"})
        return digest_of(content)

    def overridden(self, overrides: Mapping[str, Any]) -> Recipe:
        """This recipe with other `steps`, another `seed` or other `blocks`; a generator starts from the new seed.

        Raises:
            ArgumentError: a value can't be, or is none of these three.
        """
        if not overrides:
            return self
        content = self.model_dump(mode="json")
        if self.generator is not None:
            del content["examples"]
            if self.generator.held_out:
                del content["held_out"]
        for key, value in overrides.items():
            if key not in OVERRIDES:
                raise ArgumentError(f"'{key}' can't be set beside a recipe", f"set one of {', '.join(OVERRIDES)}")
            (content["where"] if key == "blocks" else content)[key] = value
        try:
            return Recipe.model_validate(content)
        except ValidationError as error:
            mistake = error.errors(include_url=False)[0]
            place = str(mistake["loc"][-1]) if mistake["loc"] else "recipe"
            raise ArgumentError(f"{place}: {_problem(mistake)}", "give another value") from None


def read_recipe(path: Path) -> Recipe:
    """Read one recipe, and the text files beside it. Raises DocumentError with file and line."""
    folder = _FOLDER.set(path.parent)
    try:
        return read_document(path, Recipe)
    finally:
        _FOLDER.reset(folder)


def _require_unseen(held_out: Iterable[HeldOut], trained: Iterable[str]) -> None:
    """Raise ValueError where a text that is trained on says what is held out."""
    for item in held_out:
        for option in (item.good, item.bad):
            if any(item.prompt + option in text for text in trained):
                raise ValueError(f"{item.prompt + option!r} is trained on as well: it can't measure anything")
