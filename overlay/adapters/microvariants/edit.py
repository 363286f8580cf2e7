"""The edit: one proposed variant of a text, and which of its characters are new."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "ru"]

Change = tuple[int, int, str]
"""From this character up to that one of the original, this text stands instead."""

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_CYRILLIC = re.compile(r"[а-яё]", re.IGNORECASE)
_LETTER = re.compile(r"[^\W\d_]")
_ENDING = re.compile(r"[.!?…]+\s*$")

_FUNCTION_WORDS = """
a an and are as at be been but by for from had has have he her him his i if in into is it its me my no not of on
or our she so than that the their them then there they this to too until up us was we were what when where which
while who with you your
а без бы был была были было в во вы да для до его ее её ей ему если есть еще ещё же за и из или им их к как ко
когда ли мне мой моя мы на над нам нас не него нет ни но о об она они оно он от перед по под пока после при с со
так там то только ты у уже через что чтобы эта эти это этот я
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that carry grammar and no topic; one that opens a sentence is never a name."""


@dataclass(frozen=True)
class Edit:
    """A proposed variant.

    Attributes:
        spans: (start, stop) in characters of `text`: what is new; empty where something was taken out.
    """

    kind: str
    text: str
    spans: tuple[tuple[int, int], ...]


def edited(text: str, kind: str, *changes: Change) -> Edit:
    """The edit that makes `changes` in a text; they are in order and don't overlap."""
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    taken = length = 0
    for start, stop, new in changes:
        parts += [text[taken:start], new]
        length += start - taken
        spans.append((length, length + len(new)))
        length += len(new)
        taken = stop
    return Edit(kind, "".join([*parts, text[taken:]]), tuple(spans))


def language_of(text: str) -> Language:
    """Russian where more than half of the letters are Cyrillic, otherwise English."""
    return "ru" if 2 * len(_CYRILLIC.findall(text)) > len(_LETTER.findall(text)) else "en"


def content_words(text: str) -> list[re.Match[str]]:
    """Words of three letters or more that carry a topic, where they stand."""
    return [found for found in WORD.finditer(text) if len(found[0]) > 2 and found[0].lower() not in FUNCTION_WORDS]


def ending_of(text: str) -> int:
    """Where the closing punctuation of a text begins; its length where there is none."""
    found = _ENDING.search(text)
    return found.start() if found else len(text.rstrip())


def like(word: str, written: str) -> str:
    """A word with the capital letters of another that it replaces."""
    if written.isupper() and len(written) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if written[:1].isupper() else word


def lowered(text: str, start: int = 0) -> str | None:
    """The first letter of the word at `start` in lower case; None where it may be a name."""
    found = WORD.match(text, start)
    if found is None or (found[0].lower() not in FUNCTION_WORDS) or found[0] == "I":
        return None
    return found[0][0].lower()
