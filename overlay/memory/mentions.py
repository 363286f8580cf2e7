"""Mentions: which notes' titles stand in a text. Pure; it reads no store."""

from __future__ import annotations

import re
from collections.abc import Mapping

from overlay.memory.recall import function_stems
from overlay.memory.words import stems, words

# A title of one letter would be mentioned everywhere.
_SHORTEST = 2

# What tells one of several things with a name from the others: "Green (Steve Hillage album)" is written "Green".
_EXPLAINED = re.compile(r"\s*\([^()]*\)\s*$")


class Titles:
    """Finds the titles of notes in a text, as whole words in any case; built once, asked often.

    A title counts if it has two characters of words and more than function words and numbers, and only where the
    text begins it as a name, with no small letter: "the cause of it" doesn't mention the note "Cause". What is in
    parentheses at its end needn't be there. Of titles that overlap the longest counts.
    """

    def __init__(self, titles: Mapping[int, str]) -> None:
        self._keys: dict[tuple[str, ...], set[int]] = {}
        self._lengths: dict[str, list[int]] = {}
        for key, title in titles.items():
            self.add(key, title)

    def add(self, key: int, title: str) -> None:
        """Take in one more title."""
        name = title_words(title)
        if not name:
            return
        self._keys.setdefault(name, set()).add(key)
        lengths = self._lengths.setdefault(name[0], [])
        if len(name) not in lengths:
            lengths.append(len(name))
            lengths.sort(reverse=True)

    def mentioned_in(self, text: str) -> set[int]:
        """The keys of all notes whose title the text mentions."""
        found: set[int] = set()
        written = _written(text)
        place = 0
        while place < len(written):
            place += self._longest(written, place, found)
        return found

    def _longest(self, written: list[tuple[str, bool]], place: int, found: set[int]) -> int:
        """Add who has the longest title that begins here; how many words to go on by."""
        first, is_name = written[place]
        if not is_name:
            return 1
        for length in self._lengths.get(first, ()):
            keys = self._keys.get(tuple(word for word, _ in written[place : place + length]))
            if keys:
                found |= keys
                return length
        return 1


def title_words(title: str) -> tuple[str, ...]:
    """The words by which a title is mentioned; none for one that can't be told from other text."""
    name = tuple(words(_EXPLAINED.sub("", title)) or words(title))
    if len("".join(name)) < _SHORTEST or "".join(name).isdecimal():
        return ()
    return () if function_stems().issuperset(stems(" ".join(name))) else name


_WORD = re.compile(r"[^\W_]+")


def _written(text: str) -> list[tuple[str, bool]]:
    """The words of a text as titles have them, each with whether it is written as a name begins."""
    return [(word, not found[0][0].islower()) for found in _WORD.finditer(text) for word in words(found[0])]
