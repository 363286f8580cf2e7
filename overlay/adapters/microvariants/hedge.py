"""Hedges: a word that takes nothing back and says how sure the speaker is."""

from __future__ import annotations

import re

from overlay.adapters.microvariants.edit import Edit, edited, ending_of, language_of, lowered

_FIRST = {
    "en": ("Perhaps", "Maybe", "Probably", "It seems", "Indeed,", "In fact,", "Then"),
    "ru": ("Кажется,", "Наверное,", "Возможно,", "Видимо,", "Конечно,", "И вот"),
}
_LAST = {
    "en": (", perhaps", ", it seems", ", I think", ", apparently", " too", " as well", ", in fact"),
    "ru": (", кажется", ", наверное", ", видимо", ", пожалуй", " тоже"),
}
_WITHIN = {"en": ("just", "really", "simply", "only"), "ru": ("просто", "как раз", "именно", "лишь")}
_PREPOSITION = {
    "en": re.compile(r"(?<=\w )(?=(?:in|on|at|by|with|for|from|to|until|because|after|before|when) )"),
    "ru": re.compile(r"(?<=\w )(?=(?:в|на|у|с|для|из|к|до|после|перед|за|по) )"),
}


def hedges(text: str) -> list[Edit]:
    """A hedge before the first word (where that can't be a name), before a preposition, or at the end."""
    language = language_of(text)
    found = []
    opening = lowered(text)
    if opening is not None:
        found += [edited(text, "hedge", (0, 1, f"{hedge} {opening}")) for hedge in _FIRST[language]]
    closing = ending_of(text)
    found += [edited(text, "hedge", (closing, closing, hedge)) for hedge in _LAST[language]]
    for place in _PREPOSITION[language].finditer(text):
        found += [edited(text, "hedge", (place.start(), place.start(), f"{hedge} ")) for hedge in _WITHIN[language]]
    return found
