"""The plot of a state: one panel an axis, turn by turn, drawn the same way every time."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from overlay.inner.history import LivedTurn
from overlay.inner.state import Origin, StateSettings

# Okabe and Ito's colours, told apart under every common colour blindness; sources differ in their marks as well.
_LOOKS: Mapping[Origin, tuple[str, str]] = {
    "read": ("#0072B2", "o"),
    "said": ("#D55E00", "s"),
    "inner speech": ("#009E73", "^"),
    "recalled": ("#AA4499", "D"),
    "frames": ("#E69F00", "v"),
    "time": ("#868e97", "."),
    "damping": ("#56B4E9", "P"),
    "reset": ("#20262d", "X"),
}
_INK, _GREY, _PALE = "#20262d", "#68717c", "#d5d9de"

_SETTINGS = {
    # Letters as shapes: the file looks the same wherever it is opened.
    "svg.fonttype": "path",
    "text.parse_math": False,
    "svg.hashsalt": "state",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def draw_state(history: Sequence[LivedTurn], settings: StateSettings, file_format: Literal["svg", "png"]) -> bytes:
    """Each axis of the settings over all turns, as the content of a file.

    A turn's mark says which source moved the axis furthest in it; a reset is a jump at the turn that it followed; grey
    lines separate sessions.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    names = list(settings.axes)
    placed = placed_turns(history)
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(9, 1.2 + 1.9 * max(1, len(names))), layout="constrained")
        panels = figure.subplots(max(1, len(names)), 1, sharex=True, squeeze=False)[:, 0]
        used: set[Origin] = set()
        for panel, name in zip(panels, names, strict=False):
            used |= _draw_axis(panel, name, placed, settings)
        if not placed or not names:
            panels[0].annotate(
                "nothing was lived yet", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", color=_GREY
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
        buffer = io.BytesIO()
        metadata = {"Date": None} if file_format == "svg" else {"Software": None}
        figure.savefig(buffer, format=file_format, dpi=110, metadata=metadata)
    return buffer.getvalue()


def placed_turns(history: Sequence[LivedTurn]) -> tuple[tuple[int, LivedTurn], ...]:
    """Turns by how manieth they are, from 1; a reset stands where the turn before it does, and all else is left out."""
    placed: list[tuple[int, LivedTurn]] = []
    count = 0
    for turn in history:
        count += turn.is_turn
        if turn.is_turn or turn.kind == "reset":
            placed.append((count, turn))
    return tuple(placed)


def _draw_axis(panel: Any, name: str, placed: Sequence[tuple[int, LivedTurn]], settings: StateSettings) -> set[Origin]:
    accumulator = settings.axes[name]
    panel.set_title(name)
    panel.set_ylim(-1.08 * accumulator.cap, 1.08 * accumulator.cap)
    for cap in (-accumulator.cap, accumulator.cap):
        panel.axhline(cap, color=_GREY, linewidth=0.9, linestyle=(0, (4, 3)))
    panel.axhline(accumulator.rest, color=_PALE, linewidth=1)
    panel.set_ylabel("budget doses")
    turns = [(place, turn) for place, turn in placed if turn.is_turn]
    for (_, earlier), (place, turn) in pairwise(turns):
        if turn.session != earlier.session:
            panel.axvline(place - 0.5, color=_PALE, linewidth=1)
    shown = [(place, turn) for place, turn in placed if name in turn.after]
    panel.plot([place for place, _ in shown], [turn.after[name] for _, turn in shown], color=_INK, linewidth=1.2)
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
