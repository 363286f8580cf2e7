"""The canvas of a plot: two widths, rows that line up from plot to plot, and SVG that may stand in a page."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from xml.etree import ElementTree

from markupsafe import Markup

from overlay.plots import GREY, INK, PALE, plotting, saved


@dataclass(frozen=True)
class Canvas:
    """One width that every plot is drawn at, in inches; `label` is the room left of the axes, `numbers` right."""

    name: str
    width: float
    label: float
    numbers: float
    characters: int


# A plot scaled down to a phone can't be read, so each is drawn twice and the page picks one by its width.
WIDE = Canvas("wide", width=8.6, label=1.95, numbers=2.05, characters=24)
NARROW = Canvas("narrow", width=4.3, label=1.3, numbers=0.2, characters=16)
ROW, TOP, BOTTOM = 0.42, 0.26, 0.5

Drawn = TypeVar("Drawn")


def plots(
    name: str, title: str, rows: Sequence[Drawn], draw: Callable[[Any, Sequence[Drawn], Canvas], float]
) -> Markup | None:
    """The plot at both widths as inline SVG, or None when there is nothing to draw.

    `draw` puts the rows on matplotlib axes and returns the figure's height in inches.
    """
    if not rows:
        return None
    return Markup("").join(_plot(name, title, rows, draw, canvas) for canvas in (WIDE, NARROW))


def _plot(
    name: str,
    title: str,
    rows: Sequence[Drawn],
    draw: Callable[[Any, Sequence[Drawn], Canvas], float],
    canvas: Canvas,
) -> Markup:
    from matplotlib.figure import Figure

    # In a page, text stays text: the reader can search it, and the browser has the letters.
    with plotting(name, {"svg.fonttype": "none", "legend.fontsize": "medium"}):
        figure = Figure()
        height = draw(figure.add_subplot(), rows, canvas)
        figure.set_size_inches(canvas.width, height)
        svg = saved(figure, "svg", transparent=True)
    return _inline(svg, f"{name}-{canvas.name}-", title, canvas.name)


def _inline(svg: bytes, prefix: str, title: str, css_class: str) -> Markup:
    """Make an SVG document safe to stand in a page beside others: own ids, no style or metadata of its own."""
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in {"metadata", "style"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if "id" in attributes:
            attributes["id"] = prefix + attributes["id"]
        if "href" in attributes:
            attributes["href"] = attributes["href"].replace("#", "#" + prefix)
        if "clip-path" in attributes:
            attributes["clip-path"] = attributes["clip-path"].replace("url(#", "url(#" + prefix)
        element.attrib.clear()
        element.attrib.update(attributes)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib.update({"class": css_class, "role": "img", "aria-label": title})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def wrapped(text: str, characters: int) -> str:
    """At most two lines, without the control characters that XML has no way to carry."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return "\n".join(textwrap.wrap(printable, characters, max_lines=2, placeholder=" …"))


def set_rows(axes: Any, labels: Sequence[str], canvas: Canvas, top: float = TOP) -> float:
    """Name the rows from the top down, place the axes, and return the figure's height in inches."""
    axes.set_yticks(range(len(labels)), [wrapped(label, canvas.characters) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, pad=8)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    height = top + ROW * len(labels) + BOTTOM
    place(axes, canvas, height, canvas.label, canvas.numbers, top)
    return height


def place(
    axes: Any, canvas: Canvas, height: float, left: float, right: float, top: float, bottom: float = BOTTOM
) -> None:
    """Put the axes inside margins given in inches, so that rows line up from plot to plot."""
    width = canvas.width
    axes.set_position((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))


def write_numbers(axes: Any, canvas: Canvas, numbers: Sequence[tuple[str, str]], second: int = 54) -> None:
    """An estimate and what belongs to it at the end of each row, where the canvas leaves room for them.

    `second` is where the second column begins, in typographic points right of the axes.
    """
    if canvas is not WIDE:
        return
    for row, columns in enumerate(numbers):
        for text, offset, colour in zip(columns, (14, second), (INK, GREY), strict=True):
            axes.annotate(
                text, (1, row), xycoords=("axes fraction", "data"), xytext=(offset, 0), textcoords="offset points",
                va="center", color=colour,
            )  # fmt: skip


def mark_line(axes: Any, at: float, text: str, colour: str = GREY) -> None:
    """A word above the axes at a place of the x axis."""
    axes.annotate(
        text, (at, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points", ha="center",
        color=colour,
    )  # fmt: skip


def scatter_cloud(axes: Any, numbers: Sequence[float], row: int, colour: str) -> None:
    """One dot per random direction."""
    if not numbers:
        return
    # Neighbours in size are set apart up and down, so that equal directions stay countable.
    lanes = (0.0, 0.2, -0.2, 0.1, -0.1)
    heights = [row + lanes[order % len(lanes)] for order in range(len(numbers))]
    axes.scatter(sorted(numbers), heights, s=16, color=colour, alpha=0.45, linewidths=0, zorder=2)


def interval_bar(
    axes: Any, row: int, value: float | None, interval: tuple[float, float] | None, colour: str, marker: str = "o"
) -> None:
    """An estimate on its interval, lying in a row."""
    if interval is not None:
        axes.plot(
            interval, (row, row), color=colour, linewidth=2, solid_capstyle="butt", marker="|", markersize=8,
            markeredgewidth=1.4, zorder=3,
        )  # fmt: skip
    if value is not None:
        axes.plot([value], [row], marker, color=colour, markersize=7, markeredgecolor="white", zorder=4)
