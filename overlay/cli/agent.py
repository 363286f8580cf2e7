"""Living with an agent: making its home, and talking to it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption

if TYPE_CHECKING:
    from overlay.home import Home

app = typer.Typer()


@app.command(epilog="Example: overlay init my-home")
def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Make a new home: the stock notes, frames, voices, axes, adapters and scenarios, yours to edit."""
    from overlay.home import create_home

    home = create_home(folder)
    print(f"A new home in {home.folder}. Next: overlay chat --home {folder}")


@app.command(epilog="Examples: overlay chat · echo 'What is volatility?' | overlay chat --plain")
def chat(
    home: HomeOption = HERE,
    plain: Annotated[bool, typer.Option("--plain", help="Line by line; also works through a pipe.")] = False,
    session: Annotated[
        str | None, typer.Option(help="Go on with the newest session instead of a new one: its name, or `last`.")
    ] = None,
    dtype: DTypeOption = "auto",
) -> None:
    """Talk to the agent. Esc stops a reply; every answered turn is saved."""
    from overlay.home import Home

    opened = Home.open(home)
    if session is not None:
        from overlay.session import session_path

        session = session_path(opened.sessions, session).stem
        _require_newest(opened, session)
    if plain or not sys.stdin.isatty() or not sys.stdout.isatty():
        from overlay.tui.plain import plain_chat

        plain_chat(opened, dtype=dtype, session=session)
    else:
        from overlay.tui import run_chat

        run_chat(opened, dtype=dtype, session=session)


def _require_newest(home: Home, session: str) -> None:
    """Refuse an older session as opening the agent would, but before anything slow is loaded."""
    from overlay.errors import ArgumentError, RecordDamaged
    from overlay.session import last_record

    # A damaged journal is set aside when the agent is opened; only then is it known which one is the newest.
    with contextlib.suppress(RecordDamaged):
        newest = last_record(home.sessions)
        if newest is not None and newest["session"] != session:
            raise ArgumentError(
                f"'{session}' is not the newest session",
                f"go on with {newest['session']}, or fork the older one: overlay fork {session} --turn N --to DIR",
            )
