"""Sessions: listing them, living one again, and going on differently from one of its turns."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from overlay.cli.console import HERE, HomeOption, JsonOption, console_progress, new_table, print_table

app = typer.Typer()

DIFFERS = 6
"""The exit code when a replay came out differently."""

LIVED = ("turn", "lived")
"""The kinds of records in which something was lived; the others say what became of the state or of its axes."""

SessionArgument = Annotated[
    str, typer.Argument(metavar="SESSION", help="A session's name, `last`, or the path of its journal.")
]
HowMany = Annotated[int | None, typer.Option(min=1, help="Only the newest so many.")]


@app.command(epilog="Example: overlay sessions --last 5")
def sessions(last: HowMany = None, home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """List the sessions of a home, oldest first."""
    from overlay.home import Home
    from overlay.records import read_journal
    from overlay.session import session_names

    opened = Home.open(home)
    names = session_names(opened.sessions)
    rows: list[dict[str, Any]] = []
    for name in names if last is None else names[-last:]:
        records = read_journal(opened.sessions / f"{name}.jsonl")
        first = next((record["user"] for record in records if record["user"]), "")
        rows.append(
            {
                "session": name,
                "turns": sum(record["kind"] in LIVED for record in records),
                "newest": records[-1]["time"] if records else None,
                "first": first,
            }
        )
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    table = new_table("session", "turns", "newest", "began with")
    for row in rows:
        newest = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["newest"])) if row["newest"] else ""
        table.add_row(row["session"], str(row["turns"]), newest, " ".join(row["first"].split())[:50])
    print_table(table)
    if not rows:
        print("Nothing was lived here yet: overlay chat")


@app.command(epilog="Examples: overlay replay last · overlay replay 20260102-101500-9f2c --json")
def replay(
    session: SessionArgument,
    dtype: Annotated[str | None, typer.Option(help="Another number format than the session's own.")] = None,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Live a session again and compare every token and every number; the exit code is 6 when one differs.

    Nothing is written. What was recalled is taken from the journal, so notes may have changed since.
    """
    from overlay.home import Home
    from overlay.replay import replay as run_again

    with console_progress() as progress:
        found = run_again(Home.open(home), session, dtype=dtype, progress=progress)
    if as_json:
        print(json.dumps({"identical": found.is_identical} | asdict(found), ensure_ascii=False))
    else:
        for words in found.changed:
            print(f"Since then: {words}.")
        turns = f"{found.turns} turn{'' if found.turns == 1 else 's'}"
        if found.difference is None:
            print(f"Identical: {turns}, {found.tokens} generated tokens, and the state after each.")
        else:
            one = found.difference
            token = f", token {one.token}" if one.token else ""
            print(f"{turns} came out the same; then, in turn {one.turn}, {one.where} differs{token}:")
            print(f"  was {one.was}\n  is  {one.now}")
            print(
                f"Likely because {'; '.join(one.reasons)}."
                if one.reasons
                else "Nothing that a turn is known to rest on has changed: something else used the model meanwhile, or "
                "this machine rounds differently than its description says."
            )
    if not found.is_identical:
        raise typer.Exit(DIFFERS)


@app.command(
    epilog="Examples: overlay fork last --turn 4 --to other · "
    "overlay fork last --turn 4 --to bare --without-state --relive"
)
def fork(
    session: SessionArgument,
    to: Annotated[Path, typer.Option(metavar="DIR", help="The fork's home: a new or empty folder.")],
    turn: Annotated[
        int | None, typer.Option(min=1, help="The last turn that both have in common; by default the newest.")
    ] = None,
    without_state: Annotated[
        bool, typer.Option("--without-state", help="Put every accumulator to rest: the counterfactual.")
    ] = False,
    relive: Annotated[
        bool, typer.Option("--relive", help="Say there what was said after that turn, and show both replies.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(help="With --relive: another number format than the session's own.")
    ] = None,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Go on differently from one turn of a session, in a home of its own; the original stays as it is."""
    from overlay.fork import fork as make_fork
    from overlay.fork import relive as live_again
    from overlay.home import Home

    with console_progress() as progress:
        made = make_fork(Home.open(home), session, turn, to, with_state=not without_state, progress=progress)
        relived = []
        for one in live_again(made, dtype=dtype, progress=progress) if relive and made.follows else ():
            relived.append(one)
            progress.step("reliving", len(relived), made.replies)
    if as_json:
        facts = {
            "home": str(made.home.folder),
            "session": made.session,
            "turn": made.turn,
            "with_state": made.with_state,
        }
        print(json.dumps(facts | {"relived": [asdict(one) for one in relived]}, ensure_ascii=False))
        return
    kept = "with the state as it was" if made.with_state else "with the state at rest"
    print(f"A fork of session {made.session} after turn {made.turn}, {kept}, in {made.home.folder}.")
    if relived and relived[0].doubt:
        print(f"Don't read `was` as a control: {relived[0].doubt}. Make a second fork with the state to compare with.")
    for one in relived:
        print(f"\n> {one.user}\n  was {_state(one.state_was)}: {one.was}")
        same = "the same" if one.was == one.now else one.now
        print(f"  is  {_state(one.state_now)}: {same}")
    if relive and not relived:
        print("Nothing was said after that turn.")
    print(f"Go on: overlay chat --home {to} --session {made.session}")


def _state(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:+.2f}" for name, value in values.items()) or "no state"
