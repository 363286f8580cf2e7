"""Punctuation: one sign for another, the words untouched."""

from __future__ import annotations

import re

from overlay.adapters.microvariants.edit import Edit, edited, ending_of

_COMMA = re.compile(r",(?= \w)")
_BETWEEN = re.compile(r"(?<=[.!?…]) (?=\w)")
_BEFORE_AND = re.compile(r"(?<=\w) (?=(?:and|but|while|because|и|но|потому) )")


def repunctuations(text: str) -> list[Edit]:
    """Another closing sign; a comma as a semicolon, a dash or nothing; a comma before a conjunction; a new line."""
    closing = ending_of(text)
    last = text[closing:].rstrip()
    found = [
        edited(text, "punctuation", (closing, closing + len(last), sign))
        for sign in (".", "!", "…", ";", "..", "...")
        if sign != last
    ]
    for comma in _COMMA.finditer(text):
        found += [edited(text, "punctuation", (*comma.span(), sign)) for sign in ("", ";", " —", ":")]
    found += [edited(text, "punctuation", (*space.span(), "\n")) for space in _BETWEEN.finditer(text)]
    found += [edited(text, "punctuation", (*space.span(), ", ")) for space in _BEFORE_AND.finditer(text)]
    return found
