"""The plot of a ladder: how much of the influence each prompt reproduces, against the tokens that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from overlay.equivalence.result import Equivalence, Rung
from overlay.plots import BLUE, GREY, INK, PALE, VERMILION, FileFormat, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TICKS = (0, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)

LOWEST = -1.0
"""Influence below this is drawn at the border: a prompt may be infinitely harmful, and a plot is finite."""


def draw_influence(found: Equivalence, file_format: FileFormat = "png") -> bytes:
    """The plot as the content of a file: 1 - E, so that up is better, 1 is the treatment and 0 the bare model."""
    return drawn("influence", lambda figure: _draw(figure, found), (9, 5), file_format)


def _draw(figure: Figure, found: Equivalence) -> None:
    from matplotlib.ticker import NullLocator

    axes = figure.subplots()
    axes.set_xscale("symlog", linthresh=4)
    axes.axhspan(LOWEST, 0, color=PALE, alpha=0.5, linewidth=0)
    axes.axhline(1, color=INK, linestyle=(0, (4, 3)), linewidth=1.1)
    axes.axhline(0, color=INK, linewidth=0.8)
    for rung in found.rungs:
        for _, tokens, ratio in rung.candidates:
            axes.plot(
                tokens, max(1 - ratio, LOWEST), ".", color=GREY, markersize=3, alpha=0.6,
                label="tried, on the samples that chose",
            )  # fmt: skip
    for rung in found.rungs:
        _draw_rung(axes, found, rung)
    own = found.own
    if own is not None:
        axes.axhline(1 - own.value, color=BLUE, linestyle=":", linewidth=1.4, label="the best prompt for each query")
    axes.set_ylim(LOWEST, 1.08)
    axes.set_xlim(left=-0.3)
    longest = max([1.0, *(tokens for rung in found.rungs for _, tokens, _ in rung.candidates)])
    axes.set_xticks([tick for tick in TICKS if tick <= 1.5 * longest])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("tokens of context")
    axes.set_ylabel("influence reproduced (1 - E)")
    axes.text(0.99, 0.02, "harmful: leads away from the treatment", transform=axes.transAxes, ha="right", color=GREY)
    axes.set_title(f"What prompts can do in the place of {found.treatment} ({found.model})")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), loc="lower left", bbox_to_anchor=(0, 0.05))


def _draw_rung(axes: Any, found: Equivalence, rung: Rung) -> None:
    for estimate, colour, mark, shift, label in (
        (found.in_domain(rung), BLUE, "o", 0.97, "one prompt, queries it was chosen by"),
        (found.held_out(rung), VERMILION, "s", 1.03, "one prompt, held-out queries"),
    ):
        place = rung.tokens * shift
        low, high = max(1 - estimate.high, LOWEST), max(1 - estimate.low, LOWEST)
        axes.plot([place, place], [low, high], color=colour, linewidth=1.2)
        axes.plot(place, max(1 - estimate.value, LOWEST), mark, color=colour, markersize=5, label=label)
    top = max(1 - found.in_domain(rung).value, 1 - found.held_out(rung).value, LOWEST)
    axes.annotate(
        rung.name, (rung.tokens, top), xytext=(6, 5), textcoords="offset points", fontsize=8, color=INK, rotation=20
    )
