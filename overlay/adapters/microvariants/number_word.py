"""Number words: a number in words as digits, or digits in words."""

from __future__ import annotations

import re

from overlay.adapters.microvariants.edit import Edit, edited, language_of, like

_NUMBERS = {
    "en": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    "ru": ("два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять", "десять", "одиннадцать", "двенадцать"),
}


def number_words(text: str) -> list[Edit]:
    """Each number from 2 to 12 written the other way; Russian digits become words only in the nominative."""
    words = _NUMBERS[language_of(text)]
    digits = {word: str(number) for number, word in enumerate(words, 2)}
    if language_of(text) == "ru":
        digits["две"] = "2"
    other = digits | {number: word for word, number in digits.items() if word != "две"}
    return [
        edited(text, "number", (*place.span(), like(other[place[0].lower()], place[0])))
        for place in re.finditer(r"(?<![\w.,-])\w+(?![\w-]|[.,]\d)", text)
        if place[0].lower() in other
    ]
