"""Plots: the same file every time, in the format of its name, and nothing of one plot's look in the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pytest

from overlay.errors import ArgumentError
from overlay.plots import BLUE, FileFormat, drawn, format_of, plotting, saved


def one_line(figure: Any) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=BLUE, label="costs $5, not $6 東京")
    axes.set_title("a line")
    axes.legend()


@pytest.mark.parametrize(("file_format", "starts"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_same_figure_is_the_same_file_every_time(file_format: FileFormat, starts: bytes) -> None:
    first, second = (drawn("line", one_line, (3, 2), file_format) for _ in range(2))
    assert first == second and first.startswith(starts)


def test_a_plots_own_settings_change_it_alone(recwarn: pytest.WarningsRecorder) -> None:
    before = dict(matplotlib.rcParams)
    plain = drawn("line", one_line, (3, 2), "svg")
    own = drawn("line", one_line, (3, 2), "svg", {"svg.fonttype": "none"})
    assert b"<text" not in plain and "costs $5, not $6 東京".encode() in own
    assert dict(matplotlib.rcParams) == before
    assert drawn("line", one_line, (3, 2), "svg") == plain
    assert not recwarn.list


def test_settings_are_as_before_also_when_drawing_fails() -> None:
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), plotting("line"):
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before


def test_a_file_tells_neither_when_nor_by_what_it_was_made() -> None:
    from matplotlib.figure import Figure

    for file_format in ("svg", "png"):
        with plotting("line"):
            content = saved(Figure(), file_format)
        assert b"<dc:date>" not in content and b"Software" not in content


def test_a_plots_file_must_say_its_format() -> None:
    assert (format_of(Path("a.PNG")), format_of(Path("b.svg"))) == ("png", "svg")
    with pytest.raises(ArgumentError, match="neither"):
        format_of(Path("c.pdf"))
