"""The plot of a comparison: one panel for every planned quantity, levels down, random directions below them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overlay.levels.level import LABELS, LEVELS
from overlay.levels.summary import FOUND, found
from overlay.plots import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, FileFormat, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = dict(zip(LEVELS, (ORANGE, PURPLE, GREEN, BLUE), strict=True))

COLUMNS = 4
HIGH = 2.3
"""Inches a panel."""


def draw_levels(result: Mapping[str, Any], file_format: FileFormat = "svg") -> bytes:
    """The plot as the content of a file. Filled points are changes that were found, hollow ones weren't."""
    planned = [
        quantity
        for quantity in result["quantities"]
        if quantity["is_planned"] and any(found(result, quantity["name"], level) for level in LEVELS)
    ]
    rows = -(-len(planned) // COLUMNS)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True)
        for place, panel in enumerate(panels.flat):
            if place < len(planned):
                _draw(panel, result, planned[place])
            else:
                panel.set_visible(False)
        figure.suptitle(f"Four levels of {result['axis']} on {result['model']['name']}: changes against base",
                        fontsize=12, x=0.01, ha="left")  # fmt: skip

    return drawn("levels", draw, (13, HIGH * rows + 0.5), file_format)


def _draw(panel: Any, result: Mapping[str, Any], quantity: Mapping[str, Any]) -> None:
    factor = 100 if quantity["unit"] == "share" else 1
    panel.axvline(0, color=INK, linewidth=0.8)
    for place, level in enumerate(LEVELS):
        one = found(result, quantity["name"], level)
        if one is None:
            continue
        colour = COLOURS[level]
        if one["low"] is not None:
            panel.plot([factor * one["low"], factor * one["high"]], [place, place], color=colour, linewidth=1.6)
        is_found = one["word"] in FOUND
        panel.plot([factor * one["change"]], [place], "o", color=colour, markersize=6,
                   markerfacecolor=colour if is_found else "white")  # fmt: skip
    random = result["random"].get(quantity["name"], ())
    panel.plot([factor * change for change in random], [len(LEVELS)] * len(random), "|", color=GREY, markersize=9)
    panel.set_yticks(
        range(len(LEVELS) + 1), [*(f"{place}. {LABELS[level]}" for place, level in enumerate(LEVELS, 1)), "random"]
    )
    panel.set_ylim(len(LEVELS) + 0.6, -0.6)
    panel.locator_params(axis="x", nbins=5)
    panel.grid(axis="x", color=PALE, linewidth=0.6)
    panel.set_axisbelow(True)
    panel.set_title(_wrapped(quantity["label"]))
    panel.set_xlabel("points" if quantity["unit"] == "share" else quantity["unit"])


def _wrapped(title: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(title, 32))
