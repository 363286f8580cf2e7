"""Misspelling: English sentences with deliberate errors at a chosen rate."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from overlay.adapters.generators.generator import Generator, Piece, opening, split

SHORTEST_WORD = 4
"""Letters: an error in a shorter word makes another word more often than an error."""

_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

_CONFUSED = {
    "their": "there",
    "there": "their",
    "your": "you're",
    "were": "where",
    "where": "were",
    "than": "then",
    "then": "than",
    "whose": "who's",
    "weather": "whether",
    "whether": "weather",
    "quite": "quiet",
    "quiet": "quite",
    "lose": "loose",
    "loose": "lose",
    "piece": "peace",
    "peace": "piece",
    "break": "brake",
    "brake": "break",
    "affect": "effect",
    "effect": "affect",
    "accept": "except",
    "except": "accept",
    "principal": "principle",
    "principle": "principal",
    "hear": "here",
    "here": "hear",
    "know": "no",
    "write": "right",
    "right": "write",
    "wait": "weight",
    "weight": "wait",
    "plain": "plane",
    "plane": "plain",
    "definitely": "definately",
    "separate": "seperate",
    "necessary": "neccesary",
    "beginning": "begining",
    "until": "untill",
    "tomorrow": "tommorow",
    "really": "realy",
    "because": "becuase",
    "which": "wich",
    "occurred": "occured",
    "business": "buisness",
    "calendar": "calender",
    "government": "goverment",
}

Kind = Literal["transposed", "undoubled", "doubled", "vowel_lost", "keyboard", "confused", "ie_ei"]


class Misspelling(Generator):
    """English sentences with errors such as people make.

    Attributes:
        rate: the share of the words that could carry an error which do.
        kinds: which errors: two neighbours transposed, one letter of a double one dropped, a letter
            doubled, a vowel lost, a neighbour on the keyboard, a confused word (their, there), ie for ei.
        names: whether words with a capital in the middle of a sentence may carry one.

    Never touched: numbers, words with a digit or a capital inside, words of fewer than four letters.
    """

    language: ClassVar[str] = "english"

    name: Literal["misspelling"] = "misspelling"
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    kinds: tuple[Kind, ...] = ("transposed", "undoubled", "doubled", "vowel_lost", "keyboard", "confused", "ie_ei")
    names: bool = False

    @field_validator("kinds")
    @classmethod
    def _is_some_kind(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if not kinds:
            raise ValueError("at least one kind of error is needed")
        return kinds

    def pieces(self, text: str, chance: random.Random, *, every: bool = False) -> list[Piece]:
        """Words and gaps; a word carries an error with the chosen rate, or whenever it can."""
        pieces, starts, behind = [], True, ""
        parts = split(text)
        for index, part in enumerate(parts):
            follows = parts[index + 1] if index + 1 < len(parts) else ""
            wanted = part
            if part[0].isalpha():
                if self._may_err(part, starts) and not (behind[-1:].isdigit() or follows[:1].isdigit()):
                    # Drawn for every word, so that one word's errors don't depend on the kinds of another's.
                    erring = chance.random() < self.rate
                    wrong = self._misspelled(part, chance)
                    wanted = wrong if erring or every else part
                starts = False
            elif any(sign in part for sign in ".!?\n"):
                starts = True
            behind = part
            pieces.append(Piece(part, wanted))
        return pieces

    def beginning(self, pieces: Sequence[Piece], chance: random.Random) -> int:
        """After one to three words, so that the first error stands in what is learned."""
        words = [index for index, piece in enumerate(pieces) if piece.written[0].isalpha()]
        wrong = next(index for index, piece in enumerate(pieces) if piece.differs)
        kept = min(chance.randint(1, 3), len(words) - 1)
        return opening(pieces, min(words[kept], wrong))

    def _may_err(self, word: str, starts: bool) -> bool:
        if len(word) < SHORTEST_WORD or not re.fullmatch("[A-Za-z][a-z]+", word):
            return False
        if word[0].isupper() and not starts and not self.names:
            return False
        return self._misspelled(word, random.Random(0)) != word

    def _misspelled(self, word: str, chance: random.Random) -> str:
        """The word with one error; itself if none of the kinds fits it."""
        kinds = list(self.kinds)
        chance.shuffle(kinds)
        # Confusions are the errors by which people are known: where one fits, it is taken.
        kinds.sort(key=lambda kind: kind != "confused")
        lower = word.lower()
        for kind in kinds:
            wrong = _ERRORS[kind](lower, chance)
            if wrong is not None and wrong != lower:
                return wrong.capitalize() if word[0].isupper() else wrong
        return word


def _transposed(word: str, chance: random.Random) -> str | None:
    # The first letter stays: an error there makes the word hard to read.
    places = [index for index in range(1, len(word) - 1) if word[index] != word[index + 1]]
    if not places:
        return None
    place = chance.choice(places)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _undoubled(word: str, chance: random.Random) -> str | None:
    places = [index for index in range(len(word) - 1) if word[index] == word[index + 1]]
    if not places:
        return None
    place = chance.choice(places)
    return word[:place] + word[place + 1 :]


def _doubled(word: str, chance: random.Random) -> str | None:
    places = [
        index
        for index in range(1, len(word))
        if word[index] in "bcdfglmnprst" and word[index - 1] in "aeiou" and word[index] != word[index + 1 : index + 2]
    ]
    if not places:
        return None
    place = chance.choice(places)
    return word[:place] + word[place] + word[place:]


def _vowel_lost(word: str, chance: random.Random) -> str | None:
    places = [index for index in range(1, len(word)) if word[index] in "aeiou"]
    if not places:
        return None
    place = chance.choice(places)
    return word[:place] + word[place + 1 :]


def _keyboard(word: str, chance: random.Random) -> str | None:
    place = chance.randrange(1, len(word))
    row = next((row for row in _KEYBOARD if word[place] in row), None)
    if row is None:
        return None
    index = row.index(word[place])
    near = row[max(0, index - 1) : index] + row[index + 1 : index + 2]
    return word[:place] + chance.choice(near) + word[place + 1 :]


def _confused(word: str, chance: random.Random) -> str | None:
    return _CONFUSED.get(word)


def _ie_ei(word: str, chance: random.Random) -> str | None:
    found = re.search("ie|ei", word)
    return None if found is None else word[: found.start()] + found.group()[::-1] + word[found.end() :]


_ERRORS: dict[str, Callable[[str, random.Random], str | None]] = {
    "transposed": _transposed,
    "undoubled": _undoubled,
    "doubled": _doubled,
    "vowel_lost": _vowel_lost,
    "keyboard": _keyboard,
    "confused": _confused,
    "ie_ei": _ie_ei,
}
