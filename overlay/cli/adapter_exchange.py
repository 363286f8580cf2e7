"""Adapters from elsewhere, for elsewhere, and mixed of others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overlay.cli.adapters import app
from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress

if TYPE_CHECKING:
    from overlay.adapters import Adapter
    from overlay.home import Home
    from overlay.model import LanguageModel


@app.command(
    "import",
    epilog="Examples: overlay adapters import ~/downloads/my-lora --name formal · "
    "overlay adapters import someone/formal-lora",
)
def adapters_import(
    source: Annotated[str, typer.Argument(help="A folder as PEFT saves it, or OWNER/NAME on the model hub.")],
    name: Annotated[str | None, typer.Option(help="What it is called here; without it, as its source.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take it although it names another base model, if its shapes fit this one.")
    ] = False,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Take in an ordinary PEFT adapter: checked, measured on neutral text, and with no recipe.

    Only safetensors weights of plain LoRA are read. A hub id downloads two files; nothing is
    downloaded unless you ask for one.
    """
    from overlay.adapters.exchange import import_adapter, locate
    from overlay.home import Home

    opened = Home.open(home)
    if name is not None:
        opened.adapters.require_free(name)
    # Before the model is loaded, which takes seconds.
    locate(source)
    model = _loaded(opened, dtype)
    _say(import_adapter(source, opened.adapters, model, name=name, force=force), as_json)


@app.command("export", epilog="Example: overlay adapters export british_spelling ~/british-spelling-lora")
def adapters_export(
    name: Annotated[str, typer.Argument(help="Which adapter.")],
    folder: Annotated[Path, typer.Argument(help="Where to write it; the folder must not exist or be empty.")],
    home: HomeOption = HERE,
) -> None:
    """Write an adapter as an ordinary PEFT folder, which PEFT loads on the same base without this program."""
    from overlay.adapters.exchange import export_adapter
    from overlay.home import Home

    adapter = Home.open(home).adapters.load(name)
    export_adapter(adapter, folder.expanduser())
    print(f"{name}: written to {folder}, for '{adapter.base_model}'")


@app.command(
    "mix", epilog="Example: overlay adapters mix british_spelling=0.5 terse_style=0.5 --name british_and_terse"
)
def adapters_mix(
    parts: Annotated[list[str], typer.Argument(metavar="NAME=WEIGHT…", help="Two adapters or more, with weights.")],
    name: Annotated[str, typer.Option(help="What the mixture is called.")],
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write a mixture of adapters as one adapter: exactly their weighted sum, measured on neutral text."""
    from overlay.adapters.mixture import mix
    from overlay.home import Home

    weights = _weights(parts)
    opened = Home.open(home)
    opened.adapters.require_free(name)
    for part in weights:
        opened.adapters.load(part)
    model = _loaded(opened, dtype)
    _say(mix(opened.adapters, model, weights, name), as_json)


def _weights(parts: list[str]) -> dict[str, float]:
    from overlay.errors import ArgumentError

    found: dict[str, float] = {}
    for part in parts:
        name, _, weight = part.partition("=")
        try:
            number = float(weight)
        except ValueError:
            raise ArgumentError(f"'{part}' is no adapter with its weight", "write NAME=0.5") from None
        if name in found:
            raise ArgumentError(f"'{name}' stands here twice", "name each adapter once")
        found[name] = number
    return found


def _loaded(home: Home, dtype: str) -> LanguageModel:
    from overlay.model import LanguageModel

    with console_progress() as progress:
        progress.step(f"loading {home.settings.model}", None, None)
        return LanguageModel.load(home.settings.model, dtype=dtype, progress=progress)


def _say(adapter: Adapter, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"folder": str(adapter.folder), **json.loads(adapter.manifest())}, ensure_ascii=False))
        return
    print(
        f"{adapter.name}: {adapter.volatility_mean:.3f} nats per token on neutral text "
        f"(95%: {adapter.volatility_p95:.3f})"
    )
    if adapter.remark:
        print(f"note: {adapter.remark}", file=sys.stderr)
