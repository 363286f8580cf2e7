"""Marking: words between marks, and anchor and shift markers, all of them single tokens of the tokenizer at hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from overlay.adapters.microvariants.edit import WORD, Edit, content_words, edited, ending_of

MARKS = (
    ("*", "*"),
    ("_", "_"),
    ("**", "**"),
    ("`", "`"),
    ('"', '"'),
    ("«", "»"),
    ("“", "”"),
    ("(", ")"),
    ("[", "]"),
    ("~", "~"),
)
ANCHORS = ("§", "†", "•", "^", "#", "@", "|", "~", "●", "*", "<<", "_", "[ANCHOR]")
SHIFTS = ("→", "»", ">>", "::", "||", "->", "…", "—", "|", "~", "•", "[SHIFT]")
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)")


def single_tokens(tokenizer: Any, marks: Sequence[str]) -> tuple[str, ...]:
    """Those that the tokenizer writes as one token, standing free after a space and at a text's beginning."""
    return tuple(mark for mark in marks if all(_length(tokenizer, form) == 1 for form in (mark, f" {mark}")))


def single_pairs(tokenizer: Any) -> tuple[tuple[str, str], ...]:
    """The pairs of marks of which each side is one token."""
    return tuple(pair for pair in MARKS if all(_length(tokenizer, side) == 1 for side in pair))


def marked_words(text: str, pairs: Sequence[tuple[str, str]]) -> list[Edit]:
    """Each content word between each pair of marks, tight and, for tokenizers that split words anew then, spaced."""
    found = []
    for opening, closing in pairs:
        for word in content_words(text):
            start, stop = word.span()
            found.append(edited(text, "marked_word", (start, start, opening), (stop, stop, closing)))
            found.append(edited(text, "marked_word", (start, start, f"{opening} "), (stop, stop, f" {closing}")))
    return found


def anchors(text: str, markers: Sequence[str]) -> list[Edit]:
    """One marker before a word."""
    return [
        edited(text, "anchor", (word.start(), word.start(), f"{marker} "))
        for marker in markers
        for word in WORD.finditer(text)
    ]


def shifts(text: str, markers: Sequence[str]) -> list[Edit]:
    """One marker behind a sentence, or before the punctuation that closes the text."""
    places = [found.end() for found in _SENTENCE_END.finditer(text)] or [len(text)]
    places.append(ending_of(text))
    return [
        edited(text, "shift", (place, place, f" {marker}")) for marker in markers for place in dict.fromkeys(places)
    ]


def _length(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
