"""Plots: one look for all figures, and the same bytes whenever the same is drawn."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from overlay.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FileFormat = Literal["svg", "png"]

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#E69F00", "#56B4E9"
"""Okabe and Ito's colours, told apart under every common colour blindness."""

INK, GREY, PALE = "#20262d", "#68717c", "#d5d9de"
"""Of words and what is measured against; of axes and controls; of grids."""

_SETTINGS: Mapping[str, Any] = {
    # Letters as shapes: the file looks the same wherever it is opened.
    "svg.fonttype": "path",
    # Labels are other people's text: a dollar sign in one is not mathematics.
    "text.parse_math": False,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.08,
}

_DPI = 110


def format_of(path: Path) -> FileFormat:
    """The format that a file's name asks for. Raises ArgumentError for another than .png or .svg."""
    ending = path.suffix.lower().removeprefix(".")
    for known in get_args(FileFormat):
        if ending == known:
            return cast(FileFormat, known)
    raise ArgumentError(f"{path} ends in neither .png nor .svg", "give the plot's file one of these endings")


def drawn(
    name: str,
    draw: Callable[[Figure], object],
    size: tuple[float, float],
    file_format: FileFormat,
    settings: Mapping[str, Any] | None = None,
) -> bytes:
    """A figure as the content of a file, its parts kept from overlapping.

    Args:
        name: what kind of plot it is.
        draw: puts everything on the empty figure.
        size: in inches.
        settings: of matplotlib, beside or instead of those of all plots.
    """
    from matplotlib.figure import Figure

    with plotting(name, settings):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        return saved(figure, file_format)


@contextmanager
def plotting(name: str, settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Matplotlib as all plots set it, within a `with`; the ids in an SVG follow from its content and `name`."""
    import matplotlib

    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name, **(settings or {})}), warnings.catch_warnings():
        # Whoever opens the file may have the letters that the measuring font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def saved(figure: Figure, file_format: FileFormat, *, transparent: bool = False) -> bytes:
    """A figure as the content of a file that tells neither when nor by what it was made; inside `plotting`."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if file_format == "svg" else {"Software": None}
    figure.savefig(buffer, format=file_format, dpi=_DPI, metadata=metadata, transparent=transparent)
    return buffer.getvalue()
