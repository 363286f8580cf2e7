"""Plots: what each figure of a report puts on its canvas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overlay.plots import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, SKY, VERMILION
from overlay.scenarios.report.arms import ReportedArm
from overlay.scenarios.report.canvas import (
    WIDE,
    Canvas,
    interval_bar,
    mark_line,
    place,
    scatter_cloud,
    set_rows,
    wrapped,
    write_numbers,
)
from overlay.scenarios.report.numbers import number, pair, plain

AXIS_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
SOURCE_MARKERS = {"read": "o", "inner speech": "D"}


@dataclass(frozen=True)
class Bar:
    """One row of a plot: an estimate, its interval, a cloud of dots, and two texts at the row's end."""

    label: str
    value: float | None
    interval: tuple[float, float] | None
    colour: str = GREY
    marker: str = "o"
    cloud: tuple[float, ...] = ()
    numbers: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Scale:
    """What the x axis of bars shows: its words on a wide and on a narrow canvas, and the word above its zero."""

    wide: str
    narrow: str
    zero: str | None = None


SHIFT = Scale("shift of the mean margin (nats per token)", "shift (nats per token)", "base")
RATE = Scale("units in which it happened (%)", "units in which it happened (%)")
RATE_CHANGE = Scale("change of the rate (percentage points)", "change (percentage points)", "base")


def draw_bars(axes: Any, bars: Sequence[Bar], canvas: Canvas, scale: Scale, second: int = 54) -> float:
    """Rows of estimates with their intervals; a scale of percentages runs from 0 to 100."""
    if scale.zero is not None:
        axes.axvline(0, color=INK, linewidth=1.1, zorder=1)
        mark_line(axes, 0, scale.zero)
    for row, bar in enumerate(bars):
        scatter_cloud(axes, bar.cloud, row, bar.colour)
        interval_bar(axes, row, bar.value, bar.interval, bar.colour, bar.marker)
    if scale is RATE:
        axes.set_xlim(-2, 102)
        axes.set_xticks(range(0, 101, 25))
    else:
        axes.margins(x=0.06)
    axes.set_xlabel(scale.wide if canvas is WIDE else scale.narrow)
    write_numbers(axes, canvas, [bar.numbers for bar in bars], second)
    return set_rows(axes, [bar.label for bar in bars], canvas, top=0.08 if scale.zero is None else 0.26)


def draw_pairs(axes: Any, bars: Sequence[Bar], canvas: Canvas) -> float:
    """Rows that run from one rate (hollow) to another (filled); `interval` holds the two, in percent."""
    for row, bar in enumerate(bars):
        if bar.interval is None:
            continue
        axes.plot(bar.interval, (row, row), color=bar.colour, linewidth=2, zorder=2)
        before, after = bar.interval
        axes.plot([before], [row], "o", color=INK, markerfacecolor="white", markersize=8, markeredgewidth=1.4, zorder=3)
        axes.plot([after], [row], "o", color=bar.colour, markersize=5, zorder=4)
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel(RATE.wide)
    write_numbers(axes, canvas, [bar.numbers for bar in bars])
    return set_rows(axes, [bar.label for bar in bars], canvas, top=0.08)


def draw_doses(axes: Any, doses: Sequence[Mapping[str, Any]], canvas: Canvas, key: str) -> float:
    """The response at each dose, with its interval; `key` is "shift" (nats per token) or "rate" (shares)."""
    size = 100.0 if key == "rate" else 1.0
    axes.axhline(0, color=INK if key == "shift" else PALE, linewidth=0.9, zorder=1)
    axes.axvline(0, color=PALE, linewidth=0.9, zorder=1)
    known = [(float(dose["factor"]), number(dose.get(key)), pair(dose.get(f"{key}_interval"))) for dose in doses]
    known.sort(key=lambda dose: dose[0])
    line = [(factor, size * value) for factor, value, _ in known if value is not None]
    axes.plot([at for at, _ in line], [value for _, value in line], color=BLUE, linewidth=1.3, alpha=0.5, zorder=2)
    for factor, value, interval in known:
        colour = VERMILION if factor < 0 else GREY if factor == 0 else BLUE
        if interval is not None:
            axes.plot(
                (factor, factor), [size * end for end in interval], color=colour, linewidth=2, marker="_", markersize=8,
                markeredgewidth=1.4, zorder=3,
            )  # fmt: skip
        if value is not None:
            axes.plot([factor], [size * value], "o", color=colour, markersize=7, markeredgecolor="white", zorder=4)
    axes.set_xticks([factor for factor, _, _ in known], [_dose_name(factor, canvas) for factor, _, _ in known])
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.08)
    axes.set_xlabel("dose, as a multiple of the treated dose")
    axes.set_ylabel("shift (nats per token)" if key == "shift" else "units in which it happened (%)")
    height = 3.2
    # The names of the doses take a second line below the axes.
    place(axes, canvas, height, left=0.75, right=0.25, top=0.15, bottom=0.64)
    return height


def _dose_name(factor: float, canvas: Canvas) -> str:
    known = {-1.0: "reversed", 0.0: "sham", 1.0: "treated"}
    text = f"{factor:g}".replace("-", "−")
    return f"{text}\n{known[factor]}" if factor in known and canvas is WIDE else text


def draw_volatility(axes: Any, rows: Sequence[ReportedArm], canvas: Canvas, budget: float | None) -> float:
    """Mean volatility of each arm, whiskers to the 95th percentile, and the budget."""
    for row, arm in enumerate(rows):
        mean, high = arm.volatility_mean or 0.0, arm.volatility_p95
        axes.barh(row, mean, height=0.5, color=arm.colour, alpha=0.85, zorder=2)
        if high is not None and high > mean:
            axes.plot((mean, high), (row, row), color=arm.colour, linewidth=1.2, zorder=2)
            axes.plot((high, high), (row - 0.14, row + 0.14), color=arm.colour, linewidth=1.4, zorder=2)
        dots = arm.cloud("volatility_mean")
        if dots:
            axes.scatter(dots, [row] * len(dots), s=11, color="white", edgecolors=INK, linewidths=0.6, zorder=4)
    if budget is not None:
        axes.axvline(budget, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=3)
        mark_line(axes, budget, f"budget {budget:g}", INK)
    highest = max([0.0, *(arm.volatility_p95 or 0.0 for arm in rows), *(arm.volatility_mean or 0.0 for arm in rows)])
    axes.set_xlim(0, 1.06 * max(highest, budget or 0.0) or 1.0)
    axes.set_xlabel("volatility (nats per token)")
    write_numbers(axes, canvas, [(plain(arm.volatility_mean), f"p95 {plain(arm.volatility_p95)}") for arm in rows])
    return set_rows(axes, [arm.label for arm in rows], canvas)


def axes_of(path: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of all axes of a state's path, in the order in which they first moved."""
    return list(dict.fromkeys(axis for step in path for axis in step.get("state", {})))


def draw_state(axes: Any, path: Sequence[Mapping[str, Any]], canvas: Canvas) -> float:
    """The state of each axis after each step."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    # Past about thirty steps, markers of full size would hide the lines.
    size = 6 if len(path) <= 30 else 3.5
    axes.axhline(0, color=PALE, linewidth=1, zorder=1)
    handles = []
    for order, name in enumerate(axes_of(path)):
        colour, dashes = AXIS_COLOURS[order % len(AXIS_COLOURS)], "-" if order < len(AXIS_COLOURS) else "--"
        steps = [(step["step"], number(step.get("state", {}).get(name)), step.get("source")) for step in path]
        known = [(at, value, source) for at, value, source in steps if value is not None]
        axes.plot([at for at, _, _ in known], [value for _, value, _ in known], dashes, color=colour, linewidth=1.8)
        for at, value, source in known:
            hollow = source != "read"
            axes.plot(
                [at], [value], SOURCE_MARKERS.get(str(source), "s"), color=colour, markersize=size,
                markerfacecolor="white" if hollow else colour, markeredgewidth=1.4, zorder=3,
            )  # fmt: skip
        handles.append(Line2D([], [], color=colour, linestyle=dashes, label=wrapped(name, 24)))
    handles += [
        Line2D([], [], linestyle="", marker=marker, color=GREY, markerfacecolor=fill, label=source)
        for (source, marker), fill in zip(SOURCE_MARKERS.items(), (GREY, "white"), strict=True)
        if any(step.get("source") == source for step in path)
    ]
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step")
    axes.set_ylabel("state")
    columns = 4 if canvas is WIDE else 2
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, borderaxespad=0.2,
        handletextpad=0.6, columnspacing=1.4,
    )  # fmt: skip
    top = 0.2 + 0.2 * math.ceil(len(handles) / columns)
    height = 2.3 + top
    place(axes, canvas, height, left=0.65, right=0.2, top=top)
    return height
