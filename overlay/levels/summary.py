"""Summary: what a comparison of levels found, in two sentences and in one word a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from overlay.levels.level import LABELS, LEVELS

NO_CHANGE = "no change detected"
AS_RANDOM = "no more than random directions"
FOUND = ("up", "down")

PLANNED = {
    "text": ("reads", "likelihood"),
    "choices": ("choice",),
    "self-report": ("admits",),
    "abilities": ("causality", "grammar", "unrelated choice"),
}
"""Planned quantities by question."""

SHORT = {
    "reads": "its own texts",
    "likelihood": "fresh texts",
    "choice": "leaning",
    "admits": "admitting",
    "causality": "causes",
    "grammar": "grammar",
    "unrelated choice": "unrelated choices",
}
"""What planned quantities are called where a table has little room."""


def found(result: Mapping[str, Any], quantity: str, level: str) -> Mapping[str, Any] | None:
    """The comparison of one quantity under one level; None where it wasn't measured."""
    return next((one for one in result["comparisons"] if (one["quantity"], one["level"]) == (quantity, level)), None)


def changed(result: Mapping[str, Any], section: str, level: str) -> list[str]:
    """What was found to change of one question under one level."""
    compared = [(name, found(result, name, level)) for name in PLANNED[section]]
    return [f"{SHORT[name]} {one['word']}" for name, one in compared if one is not None and one["word"] in FOUND]


def in_words(result: Mapping[str, Any], section: str, level: str) -> str:
    """The same as a cell of a table."""
    compared = [found(result, name, level) for name in PLANNED[section]]
    if not any(compared):
        return "not asked"
    nothing = AS_RANDOM if any(one and one["word"] == AS_RANDOM for one in compared) else NO_CHANGE
    return ", ".join(changed(result, section, level)) or nothing


def summarise(result: Mapping[str, Any]) -> tuple[str, str]:
    """What was found, in two sentences: what each level did, and what is left of it and what it cost."""
    axis = result["axis"]
    moved = {level: found(result, "choice", level) for level in LEVELS}
    by_choice = [
        f"the {LABELS[level]} ({one['change']:+.3f} nats per token)"
        for level, one in moved.items()
        if one and one["word"] in FOUND
    ]
    still = [f"the {LABELS[level]}" for level, one in moved.items() if one and one["word"] == NO_CHANGE]
    as_random = any(one and one["word"] == AS_RANDOM for one in moved.values())
    by_text = [f"the {LABELS[level]}" for level in LEVELS if changed(result, "text", level)]
    first = (
        f"Choices that never speak of {axis} moved under {listed(by_choice)}"
        + (f", with no change detected under {listed(still)}" if still else "")
        if by_choice
        else f"No level was found to move choices that never speak of {axis}"
    )
    first += ", under the state no more than under random directions" if as_random else ""
    written = f"what the model writes, or finds likely, changed under {listed(by_text)}"
    first += f", while {written if by_text else 'no change of what it writes was detected'}."
    return first, _second(result)


def _second(result: Mapping[str, Any]) -> str:
    gone = [f"the {LABELS[row['level']]}" for row in result["clearing"] if row["is_base"]]
    left = [f"the {LABELS[level]}" for level in LEVELS if f"the {LABELS[level]}" not in gone]
    said = [f"the {LABELS[level]}" for level in LEVELS if changed(result, "self-report", level)]
    cost = [
        f"the {LABELS[level]} ({', '.join(told)})" for level in LEVELS if (told := changed(result, "abilities", level))
    ]
    return (
        f"In a new context nothing is left of {listed(gone) or 'no level'}, and {listed(left)} act as before; "
        f"what the model says of itself {'changed under ' + listed(said) if said else 'was not found to change'}, "
        f"and unrelated abilities {'changed under ' + listed(cost) if cost else 'were not found to change'}."
    )


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
