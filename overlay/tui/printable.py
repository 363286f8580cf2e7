"""Printable text: what a terminal can show without obeying it."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text with every control character but tab and newline made visible as a replacement character.

    A model or a note may hold any character, escape sequences that repaint the terminal among them.
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
