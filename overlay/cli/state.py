"""The state: what it is, how it came to be, its plot, and back to rest."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, HomeOption, JsonOption, new_table, print_table

if TYPE_CHECKING:
    from overlay.inner import LivedTurn, StateChange

app = typer.Typer(help="Show, plot and reset the agent's state; no model is loaded.", no_args_is_help=True)

_HALF_BAR = 10


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
    table = new_table("axis", "now", "-cap to +cap", "rest", "cap", "half-life", "moved last by")
    for one in found:
        causes = [f"{change.after - change.before:+.3f} {change.source}: {change.cause}" for _, change in one.last]
        table.add_row(
            one.axis,
            f"{one.value:+.3f}",
            _bar(one.value, one.cap),
            f"{one.rest:g}",
            f"{one.cap:g}",
            one.half_life,
            "\n".join(causes) or "nothing yet",
        )
    print_table(table)
    if not found:
        print("agent.yaml names no axes under state.")


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
    table = new_table("when", "session", "turn", "axis", "source", "cause", "z", "before", "after")
    for turn, change in found:
        table.add_row(
            time.strftime("%Y-%m-%d %H:%M", time.localtime(turn.time)),
            turn.session,
            str(turn.number),
            change.axis,
            change.source,
            change.cause,
            "" if change.source in ("time", "reset") else f"{change.z:+.2f}",
            f"{change.before:+.3f}",
            f"{change.after:+.3f}",
        )
    print_table(table)
    if not found:
        print("Nothing has moved the state yet.")


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


def _row(turn: LivedTurn, change: StateChange) -> dict[str, Any]:
    place = {"time": turn.time, "session": turn.session, "turn": turn.number, "kind": turn.kind}
    return place | change.__dict__


def _bar(value: float, cap: float) -> str:
    """A bar from the middle, 0, towards one of its ends, the caps."""
    filled = min(_HALF_BAR, round(abs(value) / cap * _HALF_BAR))
    left, right = (filled, 0) if value < 0 else (0, filled)
    return f"{'█' * left:·>{_HALF_BAR}}│{'█' * right:·<{_HALF_BAR}}"
