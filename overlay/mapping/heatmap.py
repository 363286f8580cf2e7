"""The plot of a map: the grid of places with their gains, random labels beside it, and what activations say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from overlay.mapping.intervention_map import InterventionMap
from overlay.mapping.place import DEPTHS, PARTS
from overlay.plots import BLUE, GREY, INK, VERMILION, FileFormat, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (*PARTS, "head", "tokens")

_BOXES = ((0.055, 0.14, 0.36, 0.68), (0.455, 0.14, 0.20, 0.68), (0.775, 0.14, 0.16, 0.68))
_BAR = (0.665, 0.22, 0.009, 0.52)
"""Where the three panels and the scale of colours stand, as shares of the figure: left, bottom, width, height."""


def draw_map(found: InterventionMap, file_format: FileFormat = "png") -> bytes:
    """The heatmap as the content of a file: gains with intervals, those of random labels, and the readings by block."""
    return drawn("map", lambda figure: _draw(figure, found), (12.5, 4.4), file_format)


def _draw(figure: Figure, found: InterventionMap) -> None:
    # The solver of the usual layout leaves dust in the last digits of places, and with it in the ids of an SVG.
    figure.set_layout_engine("none")
    left, middle, right = (figure.add_axes(box) for box in _BOXES)
    top = max(0.05, *(abs(spread.value) for spread in found.spreads.values()))
    image = _grid(left, found, top, {name: found.spreads[name].value for name in found.spreads}, intervals=True)
    left.set_title("Taught there: gain in nats per token")
    nulls = {place.name: gain for place in found.places if (gain := found.null_gain(place.name)) is not None}
    _grid(middle, found, top, nulls, intervals=False)
    middle.set_title("Random labels" if nulls else "Random labels: not measured")
    figure.colorbar(image, cax=figure.add_axes(_BAR)).set_label("gain, nats per token")
    _blocks(right, found)
    claim = f'  "{found.claim}"' if found.claim else ""
    figure.suptitle(
        f"{found.aim} on {found.model}, each place at p95 = {found.settings.p95:g} nats.{claim}",
        fontsize=11,
        x=0.01,
        ha="left",
    )


def _grid(axes: Any, found: InterventionMap, top: float, values: dict[str, float], *, intervals: bool) -> Any:
    grid = np.full((len(DEPTHS), len(COLUMNS)), np.nan)
    for name, value in values.items():
        row, column = _spot(name)
        grid[row, column] = value
    image = axes.imshow(grid, cmap="PuOr_r", vmin=-top, vmax=top, aspect="auto")
    for name, value in values.items():
        row, column = _spot(name)
        label = f"{value:+.2f}"
        if intervals:
            spread = found.spreads[name]
            star = "*" if found.is_beyond_null(name) else ""
            label = f"{value:+.2f}{star}\n{spread.low:+.2f} to {spread.high:+.2f}"
        ink = "white" if abs(value) > 0.7 * top else INK
        axes.text(column, row, label, ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(
        range(len(COLUMNS)), [{"head": "head", "tokens": "token\nrows"}.get(name, name) for name in COLUMNS]
    )
    axes.set_yticks(range(len(DEPTHS)), DEPTHS)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return image


def _spot(name: str) -> tuple[int, int]:
    """Row and column of a place; head and token rows stand beside all blocks."""
    depth, _, part = name.partition(" ")
    return (DEPTHS.index("all"), COLUMNS.index(name)) if not part else (DEPTHS.index(depth), COLUMNS.index(part))


def _blocks(axes: Any, found: InterventionMap) -> None:
    blocks = [reading.block for reading in found.readings]
    axes.plot(blocks, [reading.accuracy for reading in found.readings], color=BLUE, label="probe accuracy")
    axes.fill_between(
        blocks, [reading.low for reading in found.readings], [reading.high for reading in found.readings],
        color=BLUE, alpha=0.15, linewidth=0,
    )  # fmt: skip
    axes.axhline(0.5, color=GREY, linestyle=(0, (4, 3)), linewidth=1)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("block")
    axes.set_ylabel("probe accuracy", color=BLUE)
    axes.set_title("What activations alone say")
    steered = [reading for reading in found.readings if reading.gain is not None]
    other = axes.twinx()
    other.spines["right"].set_visible(True)
    other.plot(
        [reading.block for reading in steered], [reading.gain for reading in steered], color=VERMILION, label="steering"
    )
    other.fill_between(
        [reading.block for reading in steered],
        [reading.gain_low for reading in steered],
        [reading.gain_high for reading in steered],
        color=VERMILION, alpha=0.15, linewidth=0,
    )  # fmt: skip
    other.set_ylabel("steering there: gain, nats per token", color=VERMILION)
