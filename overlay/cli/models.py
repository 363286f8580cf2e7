"""Models: listing the known ones, and fetching them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from overlay.cli.console import JsonOption, console_progress, new_table, print_table

app = typer.Typer(help="List and fetch models.", invoke_without_command=True)


@app.callback()
def models(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the models that are known by name, and whether they are on this machine."""
    if context.invoked_subcommand:
        return
    from overlay.model.catalog import known_models

    found = known_models(optional=True)
    if as_json:
        rows = [
            {
                "name": m.name,
                "kind": m.kind,
                "licence": m.licence,
                "optional": m.optional,
                "cached": m.cached,
                "path": str(m.path or ""),
            }
            for m in found
        ]
        print(json.dumps(rows))
        return
    table = new_table("model", "kind", "licence", "download", "on this machine")
    for model in found:
        table.add_row(
            model.name,
            model.kind,
            model.licence,
            f"{model.download_size / 1e6:.0f} MB",
            f"{model.size_on_disk / 1e6:.0f} MB" if model.cached else "no, optional" if model.optional else "no",
        )
    print_table(table)
    print("Any folder with config.json and safetensors, .gguf file or hub id works as well, in agent.yaml.")


@app.command("pull", epilog="Examples: overlay models pull smollm2-135m · overlay models pull --missing")
def models_pull(
    name: Annotated[str | None, typer.Argument(help="Which model; all but the optional ones by default.")] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only fetch what isn't there; say nothing else.")] = False,
) -> None:
    """Fetch a model once and check it; what is there already is checked for damage."""
    from overlay.model.catalog import known_models
    from overlay.model.pull import pull

    cached = {model.name for model in known_models(optional=True) if model.cached}
    with console_progress() as progress:
        for one in [name] if name else [model.name for model in known_models()]:
            if not (missing and one in cached):
                print(f"{one}: {pull(one, progress)}")
