"""British spelling: American sentences with every word of a list spelled as in Britain."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import ClassVar, Literal

from overlay.adapters.generators.british_words import PAIRS
from overlay.adapters.generators.generator import Generator, Piece, opening, split


class BritishSpelling(Generator):
    """American sentences as they are spelled in Britain; words that aren't listed stay as they are."""

    language: ClassVar[str] = "english"

    name: Literal["british_spelling"] = "british_spelling"

    def pieces(self, text: str, chance: random.Random, *, every: bool = False) -> list[Piece]:
        """Words and gaps; nothing here is left to chance."""
        return [Piece(part, _british(part)) for part in split(text)]

    def beginning(self, pieces: Sequence[Piece], chance: random.Random) -> int:
        """Right before the first word that is spelled otherwise: the choice is what is learned."""
        return opening(pieces, next(index for index, piece in enumerate(pieces) if piece.differs))


def _british(word: str) -> str:
    found = british_words().get(word.lower())
    if found is None:
        return word
    if word.isupper() and len(word) > 1:
        return found.upper()
    return found.capitalize() if word[0].isupper() else found


@cache
def british_words() -> dict[str, str]:
    """British spelling by American spelling, in lower case."""
    pairs = (entry.split("=") for entry in PAIRS.split())
    return {american: british for american, british in pairs}
