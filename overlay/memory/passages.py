"""Passages: the pieces of a text that are embedded, each short enough for an embedder to read whole."""

from __future__ import annotations

import re
from dataclasses import dataclass

# MiniLM reads 256 word pieces, which is some 170 words of English and 90 of Russian.
PASSAGE_WORDS = 170

# Sentences that end one passage and begin the next, so that what they say together isn't torn apart.
PASSAGE_OVERLAP = 1

_WORD = re.compile(r"\S+")

# A word of more characters is cut: nothing that long is read as one.
_LONGEST_WORD = 200

# Where a sentence may end: after its mark and what closes behind it, or at an empty line or a list's next item.
_END = re.compile(r"""(?:[.!?…。！？]+["'»”’)\]]*(?=\s)|\n(?=\s*\n)|\n(?=\s*(?:[-*+•]|\d+[.)]|\#{1,6})\s))""")

# What ends in a full stop and ends no sentence, in lower case.
_ABBREVIATED = (
    "mr mrs ms dr prof st vs etc no vol fig cf al approx dept jr sr inc ltd co ca pp ed eds e.g i.e a.m p.m u.s u.k"
    " г гг в вв т д п др пр см рис стр ул им тыс млн млрд руб коп т.е т.д т.п т.к и.о н.э"
)
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())

# After a full stop behind a short word or a number, a lower-case letter goes on with the sentence.
_GOES_ON = re.compile(r"\s+[a-zа-яё]")
_SHORT_WORD = 3


@dataclass(frozen=True)
class Passage:
    """A piece of a note's text: `text` is that text from character `start` to `end`, the `position`th of its pieces."""

    text: str
    start: int
    end: int
    position: int


def sentences(text: str) -> list[tuple[int, int]]:
    """Where each sentence starts and ends, in characters; what lies between them is white space."""
    borders: list[tuple[int, int]] = []
    start = 0
    for found in _END.finditer(text):
        if _ends_nothing(text, start, found):
            continue
        borders.append((start, found.end()))
        start = found.end()
    borders.append((start, len(text)))
    trimmed = (_trimmed(text, first, last) for first, last in borders)
    return [(first, last) for first, last in trimmed if first < last]


def passages(text: str, longest: int = PASSAGE_WORDS, overlap: int = PASSAGE_OVERLAP) -> list[Passage]:
    """Cut a text into passages of at most `longest` words, on sentence borders where there are any.

    A text that is short enough is one passage, whole. The last `overlap` sentences of a passage
    begin the next one, unless they fill half of it. A longer sentence is cut between words.
    """
    if _is_short(text, longest):
        return [Passage(text, 0, len(text), 0)]
    units = [
        (start, end, words)
        for first, last in sentences(text)
        for start, end, words in _pieces_of_sentence(text, first, last, longest)
    ]
    found: list[Passage] = []
    first = 0
    while first < len(units):
        after, count = first, 0
        while after < len(units) and (after == first or count + units[after][2] <= longest):
            count += units[after][2]
            after += 1
        start, end = units[first][0], units[after - 1][1]
        found.append(Passage(text[start:end], start, end, len(found)))
        if after == len(units):
            break
        # What is said again must leave room for the next sentence, or a passage would bring nothing new.
        room = min(longest // 2, longest - units[after][2])
        again = after
        while again > max(first + 1, after - overlap) and sum(unit[2] for unit in units[again - 1 : after]) <= room:
            again -= 1
        first = again
    return found


def _is_short(text: str, longest: int) -> bool:
    if len(text) > (longest + 1) * _LONGEST_WORD:
        return False
    words = text.split()
    return len(words) <= longest and all(len(word) <= _LONGEST_WORD for word in words)


def _ends_nothing(text: str, start: int, found: re.Match[str]) -> bool:
    """Whether the mark belongs to an abbreviation, an initial, a number, or to what somebody says in the sentence."""
    goes_on = bool(_GOES_ON.match(text, found.end()))
    if found[0] != ".":
        return goes_on and found[0][-1] not in ".!?…\n"
    # The word before it; no further back than a word may reach.
    before = text[max(start, found.start() - 40) : found.start()].split()
    word = before[-1].lstrip("\"'«“([") if before else ""
    if word.lower() in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word.isupper()):
        return True
    return (word.isdigit() and len(before) == 1) or (goes_on and len(word) <= _SHORT_WORD)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _pieces_of_sentence(text: str, start: int, end: int, longest: int) -> list[tuple[int, int, int]]:
    """(start, end, words) of a sentence, or of its parts when it has more words than a passage takes."""
    words = [
        (place, min(place + _LONGEST_WORD, word.end()))
        for word in _WORD.finditer(text, start, end)
        for place in range(word.start(), word.end(), _LONGEST_WORD)
    ]
    parts = [words[row : row + longest] for row in range(0, len(words), longest)]
    return [(part[0][0], part[-1][1], len(part)) for part in parts]
