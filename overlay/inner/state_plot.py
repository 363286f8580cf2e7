"""The plot of a state: one panel an axis, turn by turn, drawn the same way every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from overlay.inner.history import LivedTurn
from overlay.inner.state import Origin, StateSettings
from overlay.plots import BLUE, GREEN, GREY, INK, ORANGE, PALE, PURPLE, SKY, VERMILION, FileFormat, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Sources differ in their marks as well as in their colours.
_LOOKS: Mapping[Origin, tuple[str, str]] = {
    "read": (BLUE, "o"),
    "said": (VERMILION, "s"),
    "inner speech": (GREEN, "^"),
    "recalled": (PURPLE, "D"),
    "frames": (ORANGE, "v"),
    "time": ("#868e97", "."),
    "damping": (SKY, "P"),
    "reset": (INK, "X"),
}
_STACKED = {
    # Panels that share their turns lie close above each other, and their numbers stand back behind the curves.
    "figure.constrained_layout.h_pad": 0.04167,
    "figure.constrained_layout.w_pad": 0.04167,
    "xtick.labelcolor": "inherit",
    "ytick.labelcolor": "inherit",
    "axes.axisbelow": True,
}


def draw_state(history: Sequence[LivedTurn], settings: StateSettings, file_format: FileFormat) -> bytes:
    """Each axis of the settings over all turns, as the content of a file.

    A turn's mark says which source moved the axis furthest in it; a reset is a jump at the turn that it followed; grey
    lines separate sessions.
    """
    size = 9, 1.2 + 1.9 * max(1, len(settings.axes))
    return drawn("state", lambda figure: _draw(figure, placed_turns(history), settings), size, file_format, _STACKED)


def placed_turns(history: Sequence[LivedTurn]) -> tuple[tuple[int, LivedTurn], ...]:
    """Turns by how manieth they are, from 1; a reset stands where the turn before it does, and all else is left out."""
    placed: list[tuple[int, LivedTurn]] = []
    count = 0
    for turn in history:
        count += turn.is_turn
        if turn.is_turn or turn.kind == "reset":
            placed.append((count, turn))
    return tuple(placed)


def _draw(figure: Figure, placed: Sequence[tuple[int, LivedTurn]], settings: StateSettings) -> None:
    from matplotlib.lines import Line2D

    names = list(settings.axes)
    panels = figure.subplots(max(1, len(names)), 1, sharex=True, squeeze=False)[:, 0]
    used: set[Origin] = set()
    for panel, name in zip(panels, names, strict=False):
        used |= _draw_axis(panel, name, placed, settings)
    if not placed or not names:
        panels[0].annotate(
            "nothing was lived yet", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=GREY
        )
    figure.align_ylabels(panels)
    panels[-1].set_xlabel("turn")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    handles = [
        Line2D([], [], linestyle="", marker=mark, color=colour, label=source)
        for source, (colour, mark) in _LOOKS.items()
        if source in used
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), title="moved most by")


def _draw_axis(panel: Any, name: str, placed: Sequence[tuple[int, LivedTurn]], settings: StateSettings) -> set[Origin]:
    accumulator = settings.axes[name]
    panel.set_title(name)
    panel.set_ylim(-1.08 * accumulator.cap, 1.08 * accumulator.cap)
    for cap in (-accumulator.cap, accumulator.cap):
        panel.axhline(cap, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    panel.axhline(accumulator.rest, color=PALE, linewidth=1)
    panel.set_ylabel("budget doses")
    turns = [(place, turn) for place, turn in placed if turn.is_turn]
    for (_, earlier), (place, turn) in pairwise(turns):
        if turn.session != earlier.session:
            panel.axvline(place - 0.5, color=PALE, linewidth=1)
    shown = [(place, turn) for place, turn in placed if name in turn.after]
    panel.plot([place for place, _ in shown], [turn.after[name] for _, turn in shown], color=INK, linewidth=1.2)
    used: set[Origin] = set()
    for place, turn in shown:
        moved: dict[Origin, float] = {}
        for change in turn.moves(name):
            moved[change.source] = moved.get(change.source, 0.0) + change.after - change.before
        if moved:
            source = max(moved, key=lambda one: abs(moved[one]))
            colour, mark = _LOOKS[source]
            panel.plot([place], [turn.after[name]], mark, color=colour, markersize=4.5)
            used.add(source)
    return used
