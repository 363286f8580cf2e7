"""Auditing: what of the state, of inner speech or of memory stood in a context where it may not stand."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from overlay.cli.console import HERE, HomeOption, JsonOption, new_table, print_table

if TYPE_CHECKING:
    from overlay.inner import Examination, Leak

app = typer.Typer()

LEAKED = 5
"""The exit code when something leaked."""


@app.command(
    epilog="Examples: overlay audit last · overlay audit 20260102-101500-9f2c --json · "
    "overlay audit .overlay/runs/shared_stores-20260102-101500"
)
def audit(
    session: Annotated[
        str, typer.Argument(metavar="SESSION", help="A session's name or journal, `last`, or the folder of a run.")
    ],
    home: HomeOption = HERE,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Similarity from which a sentence is a paraphrase, instead of the measured."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look through all contexts of a session for leaks; the exit code is 5 when something leaked.

    Leaks are words of the state in any inflection (English and Russian), sentences near to it in meaning,
    inner speech and notes where they may not stand, and text or tokens without a source.
    What the user wrote is no leak. Sentences near to the state in what the model itself said prove nothing: they
    are listed to be read, and don't change the exit code.
    """
    from overlay.audit import audit_lived
    from overlay.home import Home

    found = audit_lived(Home.open(home), session, threshold=threshold)
    if as_json:
        print(json.dumps({"session": session} | asdict(found), ensure_ascii=False))
    else:
        _print(found)
    if found.leaks:
        raise typer.Exit(LEAKED)


def _print(found: Examination) -> None:
    turns = f"{found.turns} turns, " if found.turns else ""
    read = f"{turns}{found.contexts} contexts, {found.segments} segments, {found.tokens} tokens"
    if found.leaks:
        _print_leaks(found.leaks)
        print(f"{len(found.leaks)} leak{'s' if len(found.leaks) > 1 else ''} in {read}; the same one is listed once.")
    else:
        print(f"No leak in {read}.")
    if found.doubtful:
        print("\nTo be read: what the model itself said, near to the state in meaning. It proves no leak.")
        _print_leaks(found.doubtful)
    for words in found.checked:
        print(f"  looked for: {words}")
    for words in found.unchecked:
        print(f"  NOT looked for: {words}")


def _print_leaks(found: tuple[Leak, ...]) -> None:
    table = new_table("turn", "context", "source", "leak", "what", "where", "times")
    for leaks in _grouped(found):
        first = leaks[0]
        table.add_row(
            str(first.turn or ""),
            f"{first.place} ({first.purpose})",
            first.source,
            first.kind,
            first.word if first.similarity is None else f"{first.similarity:.2f} to '{first.word}'",
            first.excerpt,
            str(len(leaks)),
        )
    print_table(table)


def _grouped(leaks: tuple[Leak, ...]) -> list[list[Leak]]:
    """Leaks that are one text met again in later contexts, together."""
    found: dict[tuple[str, str, str, str], list[Leak]] = {}
    for leak in leaks:
        found.setdefault((leak.kind, leak.source, leak.word, leak.excerpt), []).append(leak)
    return list(found.values())
