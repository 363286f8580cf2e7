"""The tables of a semantic map and of checks, for a terminal and for a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from overlay.probes.check_report import CheckReport
from overlay.probes.semantic_map import SemanticMap
from overlay.probes.shift import Shift, Verdict
from overlay.statistics import Interval

if TYPE_CHECKING:
    from rich.table import Table

STYLES: dict[Verdict, str] = {
    "strengthened": "green",
    "became possible": "bold green",
    "sagged": "red",
    "unchanged": "",
}

HEADINGS = ("level", "layer", "language", "n", "before", "after", "shift", "95%", "q", "right")


def map_table(found: SemanticMap) -> Table:
    """A line for each cell: margins in nats per token, the shift with its interval, accuracies, and the verdict."""
    from rich import box
    from rich.table import Table

    table = Table(*HEADINGS, "verdict", box=box.SIMPLE_HEAD, caption=caption(found))
    table.columns[0].no_wrap = table.columns[-1].no_wrap = True
    for cell, shift in found.cells.items():
        table.add_row(*_plain(*cell), *_figures(shift), shift.verdict, style=STYLES[shift.verdict])
    return table


def check_table(found: CheckReport) -> Table:
    """A line for each kind of check: its choices, its answers, what the judge gave, and what was found."""
    from rich import box
    from rich.table import Table

    table = Table(
        "check", "n", "shift", "95%", "q", "answers met before only", "after only", "p", "judged", "finding",
        box=box.SIMPLE_HEAD, caption=f"'{_plain(found.after)[0]}' against '{_plain(found.before)[0]}'",
    )  # fmt: skip
    for kind, one in found.kinds.items():
        split = one.answers
        answers = (str(split.only_first), str(split.only_second), f"{split.p:.3f}") if split else ("", "", "")
        judged = "" if one.judged is None else f"{one.judged:+.2f}"
        choices = one.choices
        shift = (f"{choices.shift:+.3f}", _interval(choices.interval), f"{choices.q:.3f}")
        table.add_row(kind.replace("_", " "), str(choices.n), *shift, *answers, judged, one.finding)
    return table


def map_page(found: SemanticMap) -> str:
    """The map as a Markdown page."""
    lines = [
        f"# What '{found.after}' did to {found.model}, against '{found.before}'",
        "",
        caption(found),
        "",
        f"| {' | '.join((*HEADINGS, 'verdict'))} |",
        f"|{' --- |' * (len(HEADINGS) + 1)}",
    ]
    for cell, shift in found.cells.items():
        verdict = shift.verdict if shift.verdict == "unchanged" else f"**{shift.verdict}**"
        lines.append(f"| {' | '.join((*cell, *_figures(shift), verdict))} |")
    return "\n".join(lines) + "\n"


def caption(found: SemanticMap) -> str:
    """What the figures are, and what a cell needs to be called changed."""
    form = "chat messages" if found.chat else "plain text"
    return (
        f"Bank '{found.bank}', asked as {form}. Margins in nats per token. A cell changed where the shift exceeds "
        f"{found.least_shift:g} either way at q <= .05; it became possible where it was not above chance before."
    )


def _figures(shift: Shift) -> tuple[str, ...]:
    return (
        str(shift.n),
        f"{shift.before:+.3f}",
        f"{shift.after:+.3f}",
        f"{shift.shift:+.3f}",
        _interval(shift.interval),
        f"{shift.q:.3f}",
        f"{shift.right_before / shift.n:.2f} to {shift.right_after / shift.n:.2f}",
    )


def _interval(interval: Interval) -> str:
    return f"{interval.low:+.2f} to {interval.high:+.2f}"


def _plain(*words: str) -> list[str]:
    """Words for a table, in which brackets are markup."""
    from rich.markup import escape

    return [escape(word) for word in words]
