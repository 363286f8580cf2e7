"""JSON form: the text as the value of a small JSON document."""

from __future__ import annotations

import json

from overlay.adapters.microvariants.edit import Edit, edited, language_of

KEYS = {"en": ("text", "note", "fact"), "ru": ("текст", "заметка", "text")}


def json_forms(text: str) -> list[Edit]:
    """The text as a JSON string, in a list, and under a key; what JSON escapes is escaped."""
    inside = json.dumps(text, ensure_ascii=False)
    frames = [("", ""), ("[", "]"), *((f'{{"{key}": ', "}") for key in KEYS[language_of(text)])]
    if inside[1:-1] != text:
        return [edited(text, "json", (0, len(text), f"{before}{inside}{after}")) for before, after in frames]
    return [edited(text, "json", (0, 0, f'{before}"'), (len(text), len(text), f'"{after}')) for before, after in frames]
