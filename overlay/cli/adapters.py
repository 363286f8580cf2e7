"""Adapters: training and listing them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from overlay.cli.console import (
    HERE,
    DTypeOption,
    HomeOption,
    JsonOption,
    console_progress,
    new_table,
    print_table,
)

app = typer.Typer(help="Train and list adapters.", no_args_is_help=True)


@app.command("train", epilog="Example: overlay adapters train british_spelling")
def adapters_train(
    name: Annotated[str, typer.Argument(help="Which adapter: a folder of adapters/lora.")],
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
) -> None:
    """Train an adapter by its recipe, under its anchor, and measure what it learned and what it cost."""
    from overlay.home import Home

    opened = Home.open(home)
    with console_progress() as progress:
        adapter = opened.adapters.train(name, opened.settings.model, dtype=dtype, progress=progress)
    print(
        f"{adapter.name}: held-out accuracy {adapter.accuracy_before:.2f} -> {adapter.accuracy_after:.2f}, "
        f"{adapter.volatility_mean:.3f} nats per token on neutral text (95%: {adapter.volatility_p95:.3f}), "
        f"{adapter.steps} steps, {adapter.seconds:.0f} s"
    )


@app.command("list", epilog="Example: overlay adapters list --json")
def adapters_list(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """List the adapters of a home and what they were measured to do."""
    from overlay.home import Home

    found = Home.open(home).adapters.status()
    if as_json:
        rows = [{"name": s.name, "trained": s.adapter is not None, "problem": s.problem} for s in found]
        print(json.dumps(rows))
        return
    table = new_table("adapter", "made on", "held-out accuracy", "nats/token", "state")
    for status in found:
        adapter = status.adapter
        table.add_row(
            status.name,
            adapter.base_model if adapter else "",
            f"{adapter.accuracy_before:.2f} -> {adapter.accuracy_after:.2f}" if adapter else "",
            f"{adapter.volatility_mean:.3f}" if adapter else "",
            status.problem or "ready",
        )
    print_table(table)
