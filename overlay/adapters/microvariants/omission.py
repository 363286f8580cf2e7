"""Omission: the last line, the last sentence, the last words, or the closing punctuation left out."""

from __future__ import annotations

import re

from overlay.adapters.microvariants.edit import WORD, Edit, edited, ending_of

_SENTENCE = re.compile(r"(?<=[.!?…])\s+")


def omissions(text: str) -> list[Edit]:
    """The text without its last line, sentence, two words, word, or closing punctuation; something always stays."""
    found = []
    end = len(text.rstrip())
    line = text.rstrip().rfind("\n")
    if line > 0:
        found.append(edited(text, "dropped", (line, end, "")))
    sentences = list(_SENTENCE.finditer(text.rstrip()))
    if sentences:
        found.append(edited(text, "dropped", (sentences[-1].start(), end, "")))
    words = list(WORD.finditer(text))
    closing = ending_of(text)
    for count in (1, 2):
        if len(words) > count:
            start = words[-count].start()
            while start > 0 and text[start - 1] in " ,;:—-\n":
                start -= 1
            found.append(edited(text, "dropped", (start, closing, "")))
            found.append(edited(text, "dropped", (start, end, "")))
    if words and closing < end:
        found.append(edited(text, "dropped", (closing, end, "")))
    return found
