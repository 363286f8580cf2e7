"""The heatmap of a semantic map: levels down, layers across, a panel for each language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from overlay.plots import FileFormat, drawn
from overlay.probes.probe import Cell, Layer, Level
from overlay.probes.semantic_map import SemanticMap
from overlay.probes.shift import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS: dict[Verdict, str] = {"strengthened": "▲", "became possible": "★", "sagged": "▼", "unchanged": ""}

WIDEST = 0.1
"""Nats per token: colours reach at least so far, lest a map of nothing be drawn in strong ones."""


def draw_map(found: SemanticMap, file_format: FileFormat) -> bytes:
    """The heatmap as the content of an .svg or .png file: shifts as colours, changed cells marked.

    Colours tell losses from gains under every common colour blindness, and what isn't measured stays white.
    """
    languages = tuple(dict.fromkeys(cell.language for cell in found.cells))
    return drawn(
        "semantic map", lambda figure: _draw(figure, found, languages), (1.5 + 4.6 * len(languages), 4.4), file_format
    )


def _draw(figure: Figure, found: SemanticMap, languages: tuple[str, ...]) -> None:
    panels = figure.subplots(1, len(languages), squeeze=False, sharey=True)[0]
    reach = max([WIDEST, *(abs(shift.shift) for shift in found.cells.values())])
    for axes, language in zip(panels, languages, strict=True):
        image = _panel(axes, found, language, reach)
    bar = figure.colorbar(image, ax=list(panels), shrink=0.85, aspect=25)
    bar.set_label("shift of the margin, nats per token")
    marks = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items() if mark)
    figure.suptitle(
        f"'{found.after}' against '{found.before}' on {found.model}\n{marks}", fontsize=11, x=0.01, ha="left"
    )


def _panel(axes: Any, found: SemanticMap, language: str, reach: float) -> Any:
    levels: tuple[Level, ...] = get_args(Level)
    layers: tuple[Layer, ...] = get_args(Layer)
    shifts = np.full((len(levels), len(layers)), np.nan)
    for row, level in enumerate(levels):
        for column, layer in enumerate(layers):
            shift = found.cells.get(Cell(level, layer, language))
            if shift is None:
                continue
            shifts[row, column] = shift.shift
            ink = "white" if abs(shift.shift) > 0.6 * reach else "black"
            axes.text(
                column, row, f"{shift.shift:+.2f} {MARKS[shift.verdict]}\nn = {shift.n}",
                ha="center", va="center", fontsize=8, color=ink,
            )  # fmt: skip
    image = axes.imshow(shifts, aspect="auto", cmap="PuOr", vmin=-reach, vmax=reach)
    axes.set_xticks(range(len(layers)), layers)
    axes.set_yticks(range(len(levels)), [level.replace("_", " ") for level in levels])
    axes.tick_params(length=0)
    axes.set_title(language)
    return image
