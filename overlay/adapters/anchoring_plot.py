"""The plot of an anchoring: the margins over the feedings, and where in the model they moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overlay.adapters.anchoring import Anchoring, Bounds, ConceptCurve
from overlay.plots import BLUE, GREEN, GREY, INK, PALE, VERMILION, FileFormat, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = "margin (cosine)"


def draw_anchoring(readings: Mapping[str, Anchoring], model_name: str, file_format: FileFormat = "png") -> bytes:
    """The plot as the content of a file, one row for each place that was read."""
    size = 11, 4.3 * len(readings)
    return drawn("anchoring", lambda figure: _draw(figure, readings, model_name), size, file_format)


def _draw(figure: Figure, readings: Mapping[str, Anchoring], model_name: str) -> None:
    rows = figure.subplots(len(readings), 2, squeeze=False)
    for (course, depth), (place, found) in zip(rows, readings.items(), strict=True):
        _draw_reading(course, depth, place, found)
    figure.suptitle(f"{model_name}: what it makes of a word that it is fed", fontsize=12, x=0.01, ha="left")


def _draw_reading(course: Any, depth: Any, place: str, found: Anchoring) -> None:
    for curve, colour, mark, label in (
        (found.concept, BLUE, "o", f"'{found.concept.concept}' (fed)"),
        (found.control, VERMILION, "s", f"'{found.control.concept}' (not fed)"),
    ):
        _draw_course(course, curve, colour, mark, f"{label}, moved by {_signed(curve.points[-1].rise)}")
        _draw_depth(depth, curve, colour, label)
    blocks = found.concept.anchored_blocks
    if blocks:
        low = depth.get_ylim()[0]
        depth.plot(
            blocks, [low] * len(blocks), "|", color=GREEN, markersize=9, markeredgewidth=3, clip_on=False,
            label="anchored here",
        )  # fmt: skip
    for axes in (course, depth):
        axes.grid(visible=True, color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_ylabel(MARGIN)
        axes.legend(loc="best")
    course.set_xlabel("feedings")
    verdict = "anchored" if found.is_anchored else "not anchored"
    control = "flat" if found.is_control_flat else "not flat"
    course.set_title(f"{place.capitalize()}: {verdict}, control {control}")
    depth.set_xlabel("decoder block")
    depth.set_title(f"{place.capitalize()}, block by block")


def _signed(bounds: Bounds) -> str:
    return f"{bounds.value:+.3f} ({bounds.low:+.3f} to {bounds.high:+.3f})"


def _draw_course(axes: Any, curve: ConceptCurve, colour: str, mark: str, label: str) -> None:
    fed = [point.feedings for point in curve.points]
    whole = [point.whole for point in curve.points]
    axes.fill_between(
        fed, [one.low for one in whole], [one.high for one in whole], color=colour, alpha=0.2, linewidth=0
    )
    axes.plot(fed, [one.value for one in whole], marker=mark, color=colour, markersize=4, label=label)


def _draw_depth(axes: Any, curve: ConceptCurve, colour: str, label: str) -> None:
    before, after = curve.points[0].blocks, curve.points[-1].blocks
    blocks = range(len(after))
    axes.plot(blocks, [one.value for one in before], "--", color=colour, linewidth=1.1, label=f"{label}, before")
    axes.plot(blocks, [one.value for one in after], color=colour, linewidth=1.8, label=f"{label}, after")
    axes.fill_between(
        blocks, [one.low for one in after], [one.high for one in after], color=colour, alpha=0.15, linewidth=0
    )
    axes.tick_params(colors=GREY, labelcolor=INK)
