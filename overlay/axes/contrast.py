"""Contrast sets: the texts from which a designed axis is made, one YAML file each."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, PlainValidator, model_validator

from overlay.axes.text import Text, parse_text, text_content, text_parts
from overlay.documents import Document, MistakeAt, read_document

Texts = Annotated[tuple[Annotated[Text, PlainValidator(parse_text)], ...], Field(min_length=8)]
"""At least eight texts: with fewer, four-fold held-out checks mean nothing."""


class ContrastSet(Document):
    """What an axis should fire on (`positive`), what on not (`negative`, `foils`), and ordinary prose.

    `negative[i]` is the matched twin of `positive[i]`. `lexicon` names the state: none of these
    words may stand in a text, so that the axis can't be an axis of words, and the leak audit
    looks for them in every context. Each text is a string, or a chat: a list of messages with `role`
    and `text`, whose last message is what the axis is made from.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str
    lexicon: tuple[str, ...] = ()
    lexicon_ru: tuple[str, ...] = ()
    positive: Texts
    negative: Texts
    foils: dict[str, Texts] = Field(min_length=1)
    neutral: Texts

    @model_validator(mode="after")
    def _state_is_never_named(self) -> ContrastSet:
        if taken := {"positive", "negative", "neutral"} & set(self.foils):
            raise MistakeAt(("foils", min(taken)), f"a foil can't be named '{min(taken)}': give it another name")
        words = find_words(self.lexicon + self.lexicon_ru)
        for group, texts in self.groups().items():
            place = ("foils", group) if group in self.foils else (group,)
            for index, text in enumerate(texts):
                for part, written in enumerate(text_parts(text)):
                    if named := words(written):
                        inside = () if isinstance(text, str) else (part, "text")
                        raise MistakeAt(
                            (*place, index, *inside),
                            f"this text names the state ('{named[0]}'): say it without that word",
                        )
        for index, text in enumerate(self.negative):
            if text in self.positive:
                raise MistakeAt(("negative", index), "positive and negative share a text: they must differ")
        if len(self.positive) != len(self.negative):
            raise ValueError(
                f"{len(self.positive)} positive and {len(self.negative)} negative texts: each needs its twin"
            )
        return self

    def groups(self) -> dict[str, tuple[Text, ...]]:
        """All texts by group: positive, negative, each foil by its name, neutral."""
        return {"positive": self.positive, "negative": self.negative, **self.foils, "neutral": self.neutral}

    @property
    def digest(self) -> str:
        """sha256 over all texts: the data hash that an axis carries."""
        content = {group: [text_content(text) for text in texts] for group, texts in self.groups().items()}
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def find_words(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    """A finder of whole words, whatever their case: `find_words(lexicon)(text)` lists those that occur."""
    if not words:
        return lambda text: []
    listed = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:{listed})(?!\w)", re.IGNORECASE)
    return lambda text: [match.group().lower() for match in pattern.finditer(text)]


def read_contrast(path: Path) -> ContrastSet:
    """Read one contrast set. Raises DocumentError with file and line."""
    return read_document(path, ContrastSet)
