"""Scenario scripts: an exposure through which a state builds up, and a trial that asks nothing of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from overlay.axes import find_words
from overlay.documents import Document, Location, MistakeAt, read_document

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Text = Annotated[str, Field(min_length=1)]


class Option(Document):
    """One thing the agent may do, and what it does to the agent's own stock."""

    id: Name
    text: Text
    effects: dict[str, int] = Field(default_factory=dict)


class Item(Document):
    """One situation, in several wordings, with the agent's stock at its start and two options."""

    id: Name
    resources: dict[str, Annotated[int, Field(ge=0)]]
    paraphrases: Annotated[tuple[Text, ...], Field(min_length=1)]
    options: tuple[Option, ...]

    @model_validator(mode="after")
    def _is_playable(self) -> Item:
        if len(self.options) != 2:
            raise ValueError(f"item '{self.id}' has {len(self.options)} options: a choice needs exactly two")
        if len({option.id for option in self.options}) != 2:
            raise ValueError(f"item '{self.id}' names both options '{self.options[0].id}'")
        for option in self.options:
            for resource, change in option.effects.items():
                if resource not in self.resources:
                    raise ValueError(
                        f"option '{option.id}' of item '{self.id}' changes '{resource}', which isn't there"
                    )
                if self.resources[resource] + change < 0:
                    raise ValueError(f"option '{option.id}' of item '{self.id}' spends more '{resource}' than there is")
        return self


class Detector(Document):
    """What counts as the behaviour: own stock spent, or one option chosen."""

    name: Name
    kind: Literal["ledger", "choice"]
    spent_at_least: Annotated[int, Field(ge=1)] | None = None
    option: str | None = None

    @model_validator(mode="after")
    def _knows_what_to_look_for(self) -> Detector:
        if self.kind == "ledger" and (self.spent_at_least is None or self.option is not None):
            raise ValueError(f"the ledger detector '{self.name}' needs spent_at_least, and nothing else")
        if self.kind == "choice" and (self.option is None or self.spent_at_least is not None):
            raise ValueError(f"the choice detector '{self.name}' needs option, and nothing else")
        return self

    def fires(self, item: Item, chosen: Option) -> bool:
        """Whether choosing this option, with its effects on the item's stock, is the behaviour."""
        if self.kind == "choice":
            return chosen.id == self.option
        stock = {name: amount + chosen.effects.get(name, 0) for name, amount in item.resources.items()}
        spent = sum(max(0, amount - stock[name]) for name, amount in item.resources.items())
        return spent >= (self.spent_at_least or 1)


class Trial(Document):
    """The situations, the same tokens in all arms. `setting` is the system message."""

    setting: Text
    question: Text
    items: Annotated[tuple[Item, ...], Field(min_length=1)]


class Scenario(Document):
    """One scenario script.

    `forbidden` words, like those of the axes' lexicons, may stand in no text of the script.
    """

    name: Name
    description: Text
    axes: Annotated[tuple[str, ...], Field(min_length=1)]
    exposure: Annotated[tuple[Text, ...], Field(min_length=1)]
    trial: Trial
    detectors: Annotated[tuple[Detector, ...], Field(min_length=1)]
    primary: Name
    forbidden: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _can_tell_arms_apart(self) -> Scenario:
        names = [detector.name for detector in self.detectors]
        if self.primary not in names:
            raise MistakeAt(("primary",), f"'{self.primary}' is none of the detectors {', '.join(names)}")
        if len(set(names)) != len(names):
            raise MistakeAt(("detectors",), f"detectors {', '.join(names)} name one twice")
        ids = [item.id for item in self.trial.items]
        if len(set(ids)) != len(ids):
            raise MistakeAt(("trial", "items"), f"items {', '.join(ids)} name one twice")
        for index, item in enumerate(self.trial.items):
            if len({self.primary_detector.fires(item, option) for option in item.options}) != 2:
                raise MistakeAt(
                    ("trial", "items", index),
                    f"detector '{self.primary}' doesn't tell the options of item '{item.id}' apart",
                )
        return self

    @model_validator(mode="after")
    def _names_no_forbidden_word(self) -> Scenario:
        words = find_words(self.forbidden)
        for location, place, text in self._texts_by_location():
            if found := words(text):
                raise MistakeAt(
                    location,
                    f"{place} contains the forbidden word '{found[0]}': say it without that word, "
                    "a named state is a prompt and would prove nothing",
                )
        return self

    @property
    def primary_detector(self) -> Detector:
        """The detector that the verdict rests on."""
        return next(detector for detector in self.detectors if detector.name == self.primary)

    @property
    def digest(self) -> str:
        """sha256 over everything in the script."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def options_in_order(self, item: Item) -> tuple[Option, Option]:
        """The option that is the behaviour, then the other."""
        first, second = item.options
        return (first, second) if self.primary_detector.fires(item, first) else (second, first)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every text that may enter a context, with the place where it stands."""
        for _, place, text in self._texts_by_location():
            yield place, text

    def _texts_by_location(self) -> Iterator[tuple[Location, str, str]]:
        yield ("trial", "setting"), "trial.setting", self.trial.setting
        yield ("trial", "question"), "trial.question", self.trial.question
        for index, text in enumerate(self.exposure):
            yield ("exposure", index), f"exposure[{index}]", text
        for number, item in enumerate(self.trial.items):
            inside: Location = ("trial", "items", number)
            for index, text in enumerate(item.paraphrases):
                yield (*inside, "paraphrases", index), f"item '{item.id}', paraphrase {index + 1}", text
            for index, option in enumerate(item.options):
                yield (*inside, "options", index), f"item '{item.id}', option '{option.id}'", option.text


def read_scenario(path: Path | str) -> Scenario:
    """Read a script. Raises DocumentError with file and line, also for forbidden words inside it."""
    return read_document(path, Scenario)
