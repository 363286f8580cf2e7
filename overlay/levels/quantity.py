"""Quantities: what is compared between levels, in which unit, and which of it was planned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["nats per token", "deviations", "share"]

Section = Literal["text", "choices", "self-report", "abilities"]


@dataclass(frozen=True)
class Quantity:
    """One number a unit.

    Attributes:
        name: its key in the records.
        section: under which of the four questions it stands.
        label: what people read.
        is_planned: whether its changes under the four levels are among the planned comparisons.
    """

    name: str
    section: Section
    label: str
    unit: Unit
    is_planned: bool = False


def quantities(axis: str, foils: Iterable[str], groups: Iterable[str]) -> tuple[Quantity, ...]:
    """All quantities in the order of a page. `foils` are read in written texts, `groups` are those of fresh texts."""
    return (
        Quantity("reads", "text", f"what it writes reads as {axis}", "deviations", is_planned=True),
        Quantity("likelihood", "text", f"fresh texts of {axis} against their twins", "nats per token", is_planned=True),
        *(Quantity(f"reads as {foil}", "text", f"what it writes reads as {foil}", "deviations") for foil in foils),
        *(
            Quantity(f"likelihood of {group}", "text", f"fresh texts: {_named(group, axis)}", "nats per token")
            for group in groups
        ),
        Quantity("names it", "text", f"replies with a word for {axis}", "share"),
        Quantity("surprise", "text", "how surprising the replies are to the unchanged model", "nats per token"),
        Quantity("repetition", "text", "runs of three tokens that came before", "share"),
        Quantity("empty", "text", "empty replies", "share"),
        Quantity("choice", "choices", "leaning to the act that nothing calls for", "nats per token", is_planned=True),
        Quantity("chosen", "choices", "such acts chosen", "share"),
        Quantity("admits", "self-report", "leaning to admit an influence or a mood", "nats per token", is_planned=True),
        Quantity("admitted", "self-report", "questions answered with yes", "share"),
        Quantity("causality", "abilities", "causes and effects told rightly", "share", is_planned=True),
        Quantity("grammar", "abilities", "grammatical sentences told rightly", "share", is_planned=True),
        Quantity(
            "unrelated choice",
            "abilities",
            "leaning in choices that have nothing to do with it",
            "nats per token",
            is_planned=True,
        ),
        Quantity("unrelated chosen", "abilities", "the same, chosen", "share"),
    )


def _named(group: str, axis: str) -> str:
    return {"positive": axis, "negative": f"twins without {axis}"}.get(group, group)
