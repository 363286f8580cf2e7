"""Adapters: where in the model one changes something."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overlay.cli.adapters import app
from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress, print_table
from overlay.cli.written_files import require_writable


@app.command(
    "drift",
    epilog="Examples: overlay adapters drift british_spelling --out drift.png · "
    "overlay adapters drift terse_style --texts my_texts.yaml --json",
)
def adapters_drift(
    name: Annotated[str, typer.Argument(help="Which adapter; it must be trained.")],
    out: Annotated[Path | None, typer.Option(help="Draw the map into this file, .png or .svg.")] = None,
    texts: Annotated[
        Path | None,
        typer.Option(help="Measure on these texts, a YAML list, and don't keep the map beside the adapter."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure anew, also if this was done before.")] = False,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Show, block by block, what an adapter does to attention, hidden states and logits beside a mere paraphrase.

    Measured once on what it was taught and on neutral texts, and kept beside the adapter.
    """
    from overlay.adapters.drift import adapter_drift
    from overlay.adapters.drift_plot import draw_drift, drift_table
    from overlay.home import Home
    from overlay.plots import format_of
    from overlay.records import write_record

    file_format = format_of(out) if out is not None else None
    if out is not None:
        require_writable(out)
    opened = Home.open(home)
    with console_progress() as progress:
        found = adapter_drift(
            opened.adapters, name, opened.settings.model, texts=texts, again=again, dtype=dtype, progress=progress
        )
    if out is not None and file_format is not None:
        write_record(out, draw_drift(found, file_format))
    if as_json:
        print(found.to_json(), end="")
    else:
        print_table(drift_table(found))
