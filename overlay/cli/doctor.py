"""What is here, what is missing, and how to get it."""

from __future__ import annotations

import json

import typer

from overlay.cli.console import HERE, HomeOption, JsonOption, new_table, print_table

app = typer.Typer()


@app.command(epilog="Example: overlay doctor")
def doctor(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """Say what is here, what is missing, and how to get it."""
    from overlay.doctor import examine

    findings = examine(home)
    if as_json:
        print(json.dumps([finding.__dict__ for finding in findings], ensure_ascii=False))
    else:
        table = new_table("", "what", "found", "what to do")
        for finding in findings:
            table.add_row("ok" if finding.fine else "!!", finding.what, finding.found, finding.next_step)
        print_table(table)
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)
