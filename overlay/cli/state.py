"""The state: what it is, how it came to be, its plot, and back to rest."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, HomeOption, JsonOption, new_table, print_table

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from overlay.inner import LivedTurn, StateChange

app = typer.Typer(help="Show, plot and reset the agent's state; no model is loaded.", no_args_is_help=True)

_HALF_BAR = 10

_AXIS_WIDTH, _CAUSE_WIDTH = 8, 12
"""Where there is little room, these give way before anything else does, but not beyond that."""


@app.command("show", epilog="Example: overlay state show --json")
def state_show(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """Where each accumulator stands now, and what moved it last."""
    from overlay.home import Home
    from overlay.state import present

    found = present(Home.open(home), time.time())
    if as_json:
        rows = [one.__dict__ | {"last": [_row(turn, change) for turn, change in one.last]} for one in found]
        print(json.dumps(rows, ensure_ascii=False))
        return
    if not found:
        print("agent.yaml names no axes under state.")
        return
    table = _table("axis", "now", "-cap to +cap", "rest", "cap", "half-life")
    for one in found:
        bar = _bar(one.value, one.cap)
        table.add_row(one.axis, f"{one.value:+.3f}", bar, f"{one.rest:g}", f"{one.cap:g}", one.half_life)
    print_table(table)
    print()
    moves = _table("axis", "moved last", "by")
    for one in found:
        if not one.last:
            moves.add_row(one.axis, "", "nothing yet")
        for _, change in one.last:
            moves.add_row(one.axis, f"{change.after - change.before:+.3f}", _cause(change))
    print_table(moves)


@app.command("history", epilog="Example: overlay state history --axis tenderness --last 20")
def state_history(
    axis: Annotated[str | None, typer.Option(help="One axis; all when not given.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="How many changes; all when not given.")] = None,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Every change of the state with its cause, oldest first."""
    from overlay.home import Home
    from overlay.state import history

    found = history(Home.open(home), axis=axis, last=last)
    if as_json:
        print(json.dumps([_row(turn, change) for turn, change in found], ensure_ascii=False))
        return
    if not found:
        print("Nothing has moved the state yet.")
    # Its name over a session's changes costs them no width, and stands whole to be copied.
    for session, moves in groupby(found, key=lambda pair: pair[0].session):
        print(f"Session {session}\n")
        print_table(_moves(moves))
        print()


@app.command("plot", epilog="Example: overlay state plot --out state.svg")
def state_plot(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .png or .svg file; by default .overlay/state/state.png.")
    ] = None,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Draw all axes over all turns."""
    from overlay.home import Home
    from overlay.state import plot

    opened = Home.open(home)
    path = out or opened.lived / "state" / "state.png"
    turns = plot(opened, path)
    if as_json:
        print(json.dumps({"file": str(path), "turns": turns, "axes": list(opened.settings.state.axes)}))
    else:
        print(f"{path}: {turns} turns")


@app.command("reset", epilog="Example: overlay state reset --yes")
def state_reset(
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Put every accumulator back to rest; the journal records it, and what was lived stays."""
    from overlay.errors import ArgumentError
    from overlay.home import Home
    from overlay.state import reset

    opened = Home.open(home)
    if as_json and not yes:
        raise ArgumentError("with --json nobody can be asked", "add --yes")
    if not yes and not typer.confirm(f"Put the state of '{opened.settings.name}' back to rest?", err=True):
        print("Nothing was changed.")
        raise typer.Exit(1)
    record = reset(opened, time.time())
    if as_json:
        found = record and {
            "session": record.session,
            "turn": record.number,
            "before": record.state_before,
            "after": record.state_after,
        }
        print(json.dumps(found, ensure_ascii=False))
    elif record is None:
        print("Nothing was lived here yet: the state is at rest.")
    else:
        print(f"The state is at rest, as turn {record.number} of session {record.session} says.")


def _moves(found: Iterable[tuple[LivedTurn, StateChange]]) -> Table:
    """Changes of one session; its name holds the year."""
    table = _table("when", "turn", "axis", "by", "z", "before", "after")
    for turn, change in found:
        table.add_row(
            time.strftime("%m-%d %H:%M", time.localtime(turn.time)),
            str(turn.number),
            change.axis,
            _cause(change),
            "" if change.source in ("time", "reset") else f"{change.z:+.2f}",
            f"{change.before:+.3f}",
            f"{change.after:+.3f}",
        )
    return table


def _table(*columns: str) -> Table:
    """A table that keeps numbers, times and bars whole where there is little room: causes are cut, axes folded."""
    table = new_table(*columns)
    table.show_edge = False
    table.padding = (0, 1, 0, 0)
    for column in table.columns:
        column.no_wrap = column.header not in ("axis", "by")
        if column.header == "axis":
            column.overflow, column.min_width = "fold", _AXIS_WIDTH
        elif column.header == "by":
            column.min_width = _CAUSE_WIDTH
        elif column.header == "-cap to +cap":
            column.min_width = 2 * _HALF_BAR + 1
        elif column.header not in ("when", "half-life"):
            column.justify = "right"
    return table


def _cause(change: StateChange) -> Text:
    """What moved an axis, on one line, cut at the end where there is no room; what people wrote in it is no markup."""
    from rich.text import Text

    return Text(f"{change.source}: {change.cause}", no_wrap=True, overflow="ellipsis")


def _row(turn: LivedTurn, change: StateChange) -> dict[str, Any]:
    place = {"time": turn.time, "session": turn.session, "turn": turn.number, "kind": turn.kind}
    return place | change.__dict__


def _bar(value: float, cap: float) -> str:
    """A bar from the middle, 0, towards one of its ends, the caps."""
    filled = min(_HALF_BAR, round(abs(value) / cap * _HALF_BAR))
    left, right = (filled, 0) if value < 0 else (0, filled)
    return f"{'█' * left:·>{_HALF_BAR}}│{'█' * right:·<{_HALF_BAR}}"
