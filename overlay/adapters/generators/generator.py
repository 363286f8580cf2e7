"""The generator: plain texts in, examples and held-out choices out."""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import model_validator

from overlay.adapters.example import Example, HeldOut, Text
from overlay.documents import Document, MistakeAt

SHORTEST_ROOT = 3
"""Letters. A shorter root stands inside most texts by chance, so no text could keep it from training."""

_LAST_WORD = re.compile(r"(?<=\S)\s+(\S*\w)(\W*)$")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


@dataclass(frozen=True)
class Piece:
    """A word, or what stands between two words: as it was written, and as the adapter should write it."""

    written: str
    wanted: str

    @property
    def differs(self) -> bool:
        """Whether there is anything in it to be learned."""
        return self.written != self.wanted


class Generator(Document, ABC):
    """Plain texts and a rule that respells them. A pure function: the texts and a seed decide the examples.

    Attributes:
        name: which generator.
        texts: short sentences; each becomes one example.
        held_out: sentences whose last word is only measured; its root stands in none of `texts`.
    """

    language: ClassVar[str]

    name: str
    texts: tuple[Text, ...]
    held_out: tuple[Text, ...] = ()

    @abstractmethod
    def pieces(self, text: str, chance: random.Random, *, every: bool = False) -> list[Piece]:
        """The text in pieces that join to it; `every` asks for a change wherever one is possible."""

    @abstractmethod
    def beginning(self, pieces: Sequence[Piece], chance: random.Random) -> int:
        """The index of the piece with which the target begins; the prompt is what was written before it."""

    def respell(self, text: str, seed: int = 0) -> str:
        """The whole text as the adapter should write it."""
        return "".join(piece.wanted for piece in self.pieces(text, chance_of(seed, text)))

    def examples(self, seed: int) -> tuple[Example, ...]:
        """One example a text, with the spans that differ from what was written."""
        return tuple(self._example(text, seed) for text in self.texts)

    def choices(self, seed: int) -> tuple[HeldOut, ...]:
        """One choice a held-out text: its last word, as the adapter should write it or as it was written.

        What stands behind the word belongs to both options: otherwise a spelling that only adds a letter
        would be measured against its own beginning.
        """
        return tuple(self._choice(text, seed) for text in self.held_out)

    @model_validator(mode="after")
    def _learns_and_measures_something(self) -> Self:
        if not self.texts:
            raise MistakeAt(("texts",), "at least one is needed")
        for place, text in enumerate(self.texts):
            pieces = self.pieces(text, chance_of(0, text), every=True)
            if not any(piece.differs for piece in pieces):
                raise MistakeAt(("texts", place), f"{self.name} changes nothing in this text")
        roots: dict[str, str] = {}
        for place, text in enumerate(self.held_out):
            last = _LAST_WORD.search(text)
            if last is None:
                raise MistakeAt(("held_out", place), "a held-out text has a word to choose and words before it")
            choice = self._choice(text, 0)
            if choice.good == choice.bad:
                raise MistakeAt(("held_out", place), f"{self.name} leaves '{last[1]}' as it is: nothing to choose")
            root = root_of(last[1], self.language)
            if len(root) < SHORTEST_ROOT:
                raise MistakeAt(("held_out", place), f"the root of '{last[1]}' is too short to be told apart")
            if root in roots:
                raise MistakeAt(("held_out", place), f"'{last[1]}' has the root of '{roots[root]}', which is measured")
            roots[root] = last[1]
        for place, text in enumerate(self.texts):
            shown = text.lower()
            for root, word in roots.items():
                if root in shown:
                    raise MistakeAt(("texts", place), f"this text shows '{root}', the root of the held-out '{word}'")
        return self

    def _example(self, text: str, seed: int) -> Example:
        chance = chance_of(seed, text)
        pieces = self.pieces(text, chance)
        if not any(piece.differs for piece in pieces):
            # By chance nothing changed; an example that teaches nothing would teach to change nothing.
            pieces = self.pieces(text, chance, every=True)
        first = self.beginning(pieces, chance)
        spans, reached = [], 0
        for piece in pieces[first:]:
            if piece.differs:
                spans.append((reached, reached + len(piece.wanted)))
            reached += len(piece.wanted)
        return Example(
            prompt="".join(piece.written for piece in pieces[:first]),
            target="".join(piece.wanted for piece in pieces[first:]),
            spans=tuple(spans),
        )

    def _choice(self, text: str, seed: int) -> HeldOut:
        last = _LAST_WORD.search(text)
        assert last is not None
        pieces = self.pieces(text, chance_of(seed, text), every=True)
        good = "".join(piece.wanted for piece in pieces)
        # Only the last word is the choice: what precedes it stands in the prompt as it was written.
        reached, before = 0, 0
        for piece in pieces:
            if reached + len(piece.written) > last.start():
                # A gap such as ", " may begin before the option does; it is written as it is wanted.
                before += last.start() - reached
                break
            reached += len(piece.written)
            before += len(piece.wanted)
        return HeldOut.model_construct(prompt=text[: last.start()], good=good[before:], bad=text[last.start() :])


def chance_of(seed: int, text: str) -> random.Random:
    """Random numbers of their own for each text: another text beside it changes nothing."""
    return random.Random(f"{seed}:{text}")


def split(text: str) -> list[str]:
    """Words and what stands between them, in turn; they join to the text.

    A gap and the word after it are two pieces, and a space is a gap: tokens that begin with a space are
    kept whole by `opening`.
    """
    parts, reached = [], 0
    for found in _WORD.finditer(text):
        parts += [part for part in (text[reached : found.start()], found.group()) if part]
        reached = found.end()
    return parts + ([text[reached:]] if reached < len(text) else [])


def opening(pieces: Sequence[Piece], index: int) -> int:
    """The index at which a target that begins with word `index` begins: the space before it belongs to it.

    Tokens carry the space in front of their word.
    """
    return index - 1 if index and pieces[index - 1].written == " " else index


def root_of(word: str, language: str) -> str:
    """The stem of a word in lower case, by Snowball ("english" or "russian")."""
    return str(_stemmer(language).stemWord(word.lower()))


@cache
def _stemmer(language: str) -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer(language)
