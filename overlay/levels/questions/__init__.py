"""Questions that have nothing to do with any state: English grammar, and causes and effects.

Out come choices between two continuations, one of them right. `causality.md` says where those about causes are from.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

_PAIR = re.compile(r"(?P<before>[^{|}]*\S) \{(?P<good>[^{|}]+)\|(?P<bad>[^{|}]+)\}(?P<after>[^{|}]*)")

_OPENINGS = frozenset(
    ("A", "An", "The", "This", "These", "It", "He", "She", "They", "His", "Her", "Their", "There", "Some")
)


@dataclass(frozen=True)
class Question:
    """A choice between two continuations; `right` is the index of the right one.

    `kind` is the phenomenon, or what is asked for; `by_token` whether options are compared per token: they are where
    they have lengths of their own, and a minimal pair's sentences are compared as wholes.
    """

    kind: str
    prompt: str
    options: tuple[str, str]
    right: int
    by_token: bool


@cache
def minimal_pairs() -> tuple[Question, ...]:
    """Sentences that differ in one place, of which one is English, each cut before that place."""
    found = []
    for kind, sentences in yaml.safe_load(_read("minimal_pairs.yaml")).items():
        for sentence in sentences:
            match = _PAIR.fullmatch(sentence)
            if match is None:
                raise ValueError(f"'{sentence}' is no minimal pair")
            options = (f" {match['good']}{match['after']}", f" {match['bad']}{match['after']}")
            found.append(Question(kind, match["before"], options, 0, by_token=False))
    return tuple(found)


@cache
def causality() -> tuple[Question, ...]:
    """Premises that are gone on with "because" or "so", and two ways to do it."""
    found = []
    for line in _read("causality.jsonl").splitlines():
        item = json.loads(line)
        joint = "because" if item["ask-for"] == "cause" else "so"
        first, second = (_lowered(item[f"hypothesis{number}"]) for number in (1, 2))
        prompt = f"{item['premise'].rstrip('.')} {joint}"
        found.append(Question(item["ask-for"], prompt, (f" {first}", f" {second}"), item["label"], by_token=True))
    return tuple(found)


def _read(name: str) -> str:
    return resources.files("overlay.levels.questions").joinpath(name).read_text(encoding="utf-8")


def _lowered(sentence: str) -> str:
    """The sentence as it stands within another. Names can't be told, so only common openings are written small."""
    return sentence[0].lower() + sentence[1:] if sentence.split(" ", 1)[0] in _OPENINGS else sentence
