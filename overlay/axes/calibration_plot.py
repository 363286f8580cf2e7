"""The plot of a calibration: six panels, one file, drawn the same way every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from overlay.axes.axis import Axis
from overlay.axes.calibration import Calibration
from overlay.axes.coherence import SURPRISE_FACTOR
from overlay.axes.layer_sweep import LayerSweep, as_spans
from overlay.axes.random_comparison import Part, RandomComparison
from overlay.axes.response import OWN, DoseResponse, Effect
from overlay.plots import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, SKY, VERMILION, FileFormat, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Lines of groups differ in marks as well as in colours.
GROUP_COLOURS = (VERMILION, GREEN, PURPLE, ORANGE, SKY, "#8c6d1f")
GROUP_MARKS = ("s", "^", "D", "v", "P", "X")

RANDOM_LOOKS = {"norm": ("#b9bfc6", "--", "same dose"), "volatility": ("#868e97", ":", "same volatility")}

DOSE = "dose (fraction of the residual norm)"
CHANGE = "nats per token"

_GRIDS = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    # Legends stand above their panels, under the titles.
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.1,
}


def draw_calibration(axis: Axis, file_format: FileFormat) -> bytes:
    """The plot as the content of a file. Panels of what was not measured say so."""
    return drawn("calibration", lambda figure: _draw(figure, axis), (11, 12.6), file_format, _GRIDS)


def _draw(figure: Figure, axis: Axis) -> None:
    found = axis.calibration
    panels = figure.subplots(3, 2).flatten()
    _draw_groups(panels[0], found.response, found)
    _draw_random(panels[1], found, "specific", "B  Own texts minus the other groups")
    _draw_random(panels[2], found, "own", "C  Own texts")
    _draw_costs(panels[3], found)
    _draw_coherence(panels[4], found)
    _draw_sweep(panels[5], found.sweep)
    proof = "" if axis.proven else " (unproven)"
    title = f"{axis.name} on {axis.model_name}: what doses do, cost, and where{proof}"
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")


def _legend(axes: Any, columns: int) -> None:
    """Above the panel, under its title, where it covers no line."""
    handles, _ = axes.get_legend_handles_labels()
    rows = -(-len(handles) // columns)
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, borderaxespad=0.2, handlelength=1.9,
        handletextpad=0.5, columnspacing=1.1,
    )  # fmt: skip
    # The title keeps the room for it; a long entry must not make the panel narrower.
    legend.set_in_layout(False)
    axes.set_title(axes.get_title("left"), pad=8 + 13 * rows)


def _mark_doses(axes: Any, found: Calibration, name: str | None = "budget dose") -> None:
    """Zero lines, and where the budget is spent."""
    axes.axhline(0, color=GREY, linewidth=0.8, zorder=1)
    axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    for sign, label in ((-1, name), (1, None)):
        axes.axvline(
            sign * found.budget_dose, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1, label=label
        )  # fmt: skip
    axes.set_xlabel(DOSE)


def _not_measured(axes: Any, title: str) -> None:
    axes.set_title(title)
    axes.set_axis_off()
    axes.annotate("not measured", (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY)


def _draw_groups(axes: Any, response: DoseResponse | None, found: Calibration) -> None:
    title = "A  Change of the likelihood of texts, by group"
    if response is None:
        return _not_measured(axes, title)
    doses = [point.dose for point in response.points]
    others = [group for group in response.texts if group != OWN]
    for place, group in enumerate([*others, OWN]):
        effects = [point.groups[group] for point in response.points]
        colour = GROUP_COLOURS[place % len(GROUP_COLOURS)]
        mark = GROUP_MARKS[place % len(GROUP_MARKS)]
        if group == OWN:
            colour, mark = BLUE, "o"
        elif group == "neutral":
            colour, mark = INK, "x"
        wide = group == OWN
        _band(axes, doses, effects, colour, 0.25 if wide else 0.07)
        axes.plot(
            doses, [effect.mean for effect in effects], color=colour, marker=mark, markersize=5 if wide else 3.5,
            linewidth=2.2 if wide else 1.1, label="its own" if wide else group, zorder=4 if wide else 3,
        )  # fmt: skip
    _mark_doses(axes, found)
    axes.set_ylabel(f"change from dose 0 ({CHANGE})")
    axes.set_title(title)
    _legend(axes, 4)


def _band(axes: Any, doses: Sequence[float], effects: Sequence[Effect], colour: str, alpha: float) -> None:
    lows, highs = [effect.low for effect in effects], [effect.high for effect in effects]
    axes.fill_between(doses, lows, highs, color=colour, alpha=alpha, linewidth=0, zorder=2)


def _draw_random(axes: Any, found: Calibration, part: Part, title: str) -> None:
    if not found.comparisons or found.response is None:
        return _not_measured(axes, title)
    # The wider band first, so that the narrower one stays visible on it.
    for comparison in sorted(found.comparisons, key=lambda one: -_width(one, part)):
        colour, line, label = RANDOM_LOOKS[comparison.matching]
        spreads = [comparison.spread(place, part) for place in range(len(comparison.doses))]
        axes.fill_between(
            comparison.doses, [low for _, low, _ in spreads], [high for _, _, high in spreads],
            facecolor=colour, alpha=0.5, linewidth=0, zorder=1.5,
        )  # fmt: skip
        for edge in (1, 2):
            axes.plot(comparison.doses, [spread[edge] for spread in spreads], line, color=GREY, linewidth=0.8, zorder=2)
        axes.plot(
            comparison.doses, [mean for mean, _, _ in spreads], line, color=INK, linewidth=1.3, zorder=2,
            label=f"{len(comparison.scales)} random, {label}: mean, range",
        )  # fmt: skip
    points = found.response.points
    effects = [point.specific if part == "specific" else point.groups[OWN] for point in points]
    doses = [point.dose for point in points]
    _band(axes, doses, effects, BLUE, 0.25)
    axes.plot(
        doses, [effect.mean for effect in effects], "o-", color=BLUE, linewidth=2.2, markersize=5, zorder=4,
        label="the axis",
    )  # fmt: skip
    same = found.comparisons[0]
    axes.plot(
        same.doses, same.of_axis(part), "o", color="white", markeredgecolor=BLUE, markersize=4, zorder=5,
        label="the axis, on their texts",
    )  # fmt: skip
    _mark_doses(axes, found, name=None)
    axes.set_ylabel(f"change from dose 0 ({CHANGE})")
    axes.set_title(title)
    _legend(axes, 2)


def _width(comparison: RandomComparison, part: Part) -> float:
    spreads = [comparison.spread(place, part) for place in range(len(comparison.doses))]
    return sum(high - low for _, low, high in spreads)


def _draw_costs(axes: Any, found: Calibration) -> None:
    measured = {dose: (mean, p95) for dose, mean, p95 in found.costs}
    if found.response is not None:
        measured |= {point.dose: (point.volatility_mean, point.volatility_p95) for point in found.response.points}
    doses = sorted(dose for dose in measured if abs(dose) <= found.limit * 1.001)
    means, high = ([measured[dose][part] for dose in doses] for part in (0, 1))
    axes.plot(doses, high, "^--", color=ORANGE, markersize=4, label="95th percentile")
    axes.plot(doses, means, "o-", color=BLUE, markersize=4, label="mean")
    axes.axhline(found.budget, color=INK, linewidth=1.1, linestyle=(0, (4, 3)), label=f"budget {found.budget:g}")
    _mark_doses(axes, found)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("KL on neutral text (nats per token)")
    axes.set_title("D  Volatility")
    _legend(axes, 4)


def _draw_coherence(axes: Any, found: Calibration) -> None:
    points = [point for point in found.coherence if point.surprise is not None]
    axes.plot([p.dose for p in points], [p.surprise for p in points], "-", color=GREY, linewidth=1, zorder=2)
    for coherent, mark, colour, label in (
        (True, "o", GREEN, "coherent"),
        (False, "X", VERMILION, "falls apart (any bound)"),
    ):
        chosen = [point for point in points if point.coherent is coherent]
        axes.plot(
            [p.dose for p in chosen], [p.surprise for p in chosen], mark, color=colour, markersize=6, label=label,
            linestyle="", zorder=3,
        )  # fmt: skip
    unsteered = next((p.surprise for p in points if p.dose == 0), None)
    if unsteered is not None:
        axes.axhline(
            SURPRISE_FACTOR * unsteered, color=INK, linewidth=1.1, linestyle=(0, (4, 3)),
            label=f"{SURPRISE_FACTOR:g} x unsteered",
        )  # fmt: skip
    axes.axvspan(-found.limit, found.limit, color=GREEN, alpha=0.08, linewidth=0, zorder=0, label="up to the limit")
    axes.set_xlabel(DOSE)
    axes.set_ylabel("surprise of the model's own text\n(nats per token, unsteered model)")
    axes.set_title("E  Where text falls apart")
    _legend(axes, 2)


def _draw_sweep(axes: Any, sweep: LayerSweep | None) -> None:
    title = "F  Where it acts: windows of blocks at equal volatility"
    if sweep is None:
        return _not_measured(axes, title)
    now, best = sweep.own_window, sweep.best
    looks = (
        (BLUE, "o", "where it acts now", [now]),
        (VERMILION, "D", "best", [] if best is now else [best]),
        (GREY, "o", "other windows", [window for window in sweep.windows if window not in (now, best)]),
    )
    for colour, mark, label, windows in looks:
        for place, window in enumerate(windows):
            row = sweep.windows.index(window)
            effect = window.specific
            axes.plot((effect.low, effect.high), (row, row), color=colour, linewidth=2, solid_capstyle="butt", zorder=3)
            axes.plot(
                [effect.mean], [row], mark, color=colour, markersize=7, markeredgecolor="white", zorder=4,
                label=label if place == 0 else None, linestyle="",
            )  # fmt: skip
    axes.axvline(0, color=INK, linewidth=1, zorder=1)
    axes.set_yticks(range(len(sweep.windows)), [as_spans(window.blocks) for window in sweep.windows])
    axes.set_ylim(len(sweep.windows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_ylabel("blocks")
    axes.set_xlabel(f"own minus other groups at the budget's dose ({CHANGE})")
    axes.set_title(title)
    _legend(axes, 3)
