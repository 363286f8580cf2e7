"""Contraction: two words drawn together, or a contracted one written out."""

from __future__ import annotations

import re

from overlay.adapters.microvariants.edit import Edit, edited, language_of, like

_PAIRS = {
    "en": (
        ("do not", "don't"),
        ("does not", "doesn't"),
        ("did not", "didn't"),
        ("is not", "isn't"),
        ("are not", "aren't"),
        ("was not", "wasn't"),
        ("were not", "weren't"),
        ("has not", "hasn't"),
        ("have not", "haven't"),
        ("had not", "hadn't"),
        ("will not", "won't"),
        ("would not", "wouldn't"),
        ("could not", "couldn't"),
        ("should not", "shouldn't"),
        ("cannot", "can't"),
        ("it is", "it's"),
        ("that is", "that's"),
        ("there is", "there's"),
        ("I am", "I'm"),
        ("we are", "we're"),
        ("they are", "they're"),
        ("you are", "you're"),
        ("she will", "she'll"),
        ("he will", "he'll"),
        ("we will", "we'll"),
        ("they will", "they'll"),
        ("I have", "I've"),
        ("until", "till"),
        ("although", "though"),
    ),
    "ru": (
        ("чтобы", "чтоб"),
        ("хотя", "хоть"),
        ("между", "меж"),
        ("уже", "уж"),
        ("перед", "пред"),
        ("или", "иль"),
        ("больше", "боле"),
    ),
}


def contractions(text: str) -> list[Edit]:
    """Each pair that stands in the text, written the other way."""
    found = []
    for pair in _PAIRS[language_of(text)]:
        for old, new in (pair, pair[::-1]):
            for place in re.finditer(rf"(?<![\w'’]){re.escape(old)}(?![\w'’])", text, re.IGNORECASE):
                found.append(edited(text, "contraction", (*place.span(), like(new, place[0]))))
    return found
