"""Microvariants of a text on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from overlay.cli.adapters import app
from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress, new_table, print_table
from overlay.cli.written_files import require_writable


@app.command(
    "variants",
    epilog='Examples: overlay adapters variants "The bridge was closed for three weeks." --count 20 · '
    "overlay adapters variants note.txt --in-order --json · overlay adapters variants note.txt --drift drift.svg",
)
def adapters_variants(
    text: Annotated[str, typer.Argument(metavar="TEXT|FILE", help="The text, or a file that holds it.")],
    budget: Annotated[
        float | None, typer.Option(help="Nats per token that a variant may move what follows; 0.6 when not given.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many variants to find.")] = 50,
    in_order: Annotated[
        bool, typer.Option("--in-order", help="In the order of feeding, with the jump from one to the next.")
    ] = False,
    drift: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw, block by block, how far each moves the model, into this file, .png or .svg."
        ),
    ] = None,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find variants of a text that stay within a volatility budget of it, and show what each one costs."""
    from overlay.adapters import variant_drift
    from overlay.adapters.drift_plot import draw_drift
    from overlay.adapters.microvariants import BUDGET, arrange, collect
    from overlay.home import Home
    from overlay.model import LanguageModel
    from overlay.plots import format_of
    from overlay.records import write_record

    file_format = format_of(drift) if drift is not None else None
    if drift is not None:
        require_writable(drift)
    written = _written(text)
    opened = Home.open(home)
    with console_progress() as progress:
        model = LanguageModel.load(opened.settings.model, dtype=dtype, pull=True, progress=progress)
        progress.step("measuring variants", None, None)
        collection = collect(model, written, budget=BUDGET if budget is None else budget, count=count)
        order = arrange(model, collection) if in_order else None
        if drift is not None and file_format is not None:
            pairs = [(one.edit.kind.replace("_", " "), one.edit.text) for one in collection.variants]
            write_record(drift, draw_drift(variant_drift(model, written, pairs, progress), file_format))
    steps = (
        [(step.variant, step.jump) for step in order.steps] if order else [(one, None) for one in collection.variants]
    )
    rows = [
        {
            "kind": variant.edit.kind if variant else "the text itself",
            "text": variant.edit.text if variant else written,
            "edited_tokens": variant.divergence.edited_tokens if variant else 0,
            "aligned": round(variant.divergence.aligned, 4) if variant else 0.0,
            "aligned_p95": round(variant.divergence.aligned_p95, 4) if variant else 0.0,
            "probe": round(variant.divergence.probe, 4) if variant else 0.0,
            "probe_p95": round(variant.divergence.probe_p95, 4) if variant else 0.0,
            **({} if jump is None else {"jump": round(jump, 4)}),
        }
        for variant, jump in steps
    ]
    if as_json:
        yields = {
            kind: {"proposed": found.proposed, "accepted": found.accepted, "refused": dict(found.refused)}
            for kind, found in collection.yields.items()
        }
        left_out = [variant.edit.text for variant in order.left_out] if order else []
        document = {"text": written, "budget": collection.budget, "variants": rows, "yields": yields}
        print(json.dumps(document | ({"left_out": left_out} if order else {}), ensure_ascii=False))
        return
    table = new_table("kind", "text", "edited tokens", "aligned", "probe", *(("jump",) if order else ()))
    for row in rows:
        numbers = [f"{row[name]:.3f}" for name in ("aligned", "probe", *(("jump",) if order else ()))]
        table.add_row(str(row["kind"]), _plain(str(row["text"])), str(row["edited_tokens"]), *numbers)
    print_table(table)
    print(f"{len(collection.variants)} variants within {collection.budget:g} nats per token")
    if drift is not None:
        print(drift)
    if order and order.left_out:
        print(f"{len(order.left_out)} more can't be reached by jumps within the budget")


def _written(text: str) -> str:
    """What the file says where there is one of this name, else the text itself.

    Raises:
        ArgumentError: the file isn't UTF-8 text.
    """
    from overlay.errors import ArgumentError

    try:
        return Path(text).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{text} is not UTF-8 text ({error.reason})", "save it as UTF-8") from error
    except (OSError, ValueError):
        return text


def _plain(text: str) -> str:
    """A text for a table's cell: brackets are no markup there, and lines stay on one."""
    from rich.markup import escape

    return escape(text.replace("\n", " ⏎ "))
