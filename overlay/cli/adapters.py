"""Adapters: recipes from their first line on, training that can be interrupted, and what it led to."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress, new_table, print_table
from overlay.cli.mistakes import Mistake, mistakes_of, tell_checked
from overlay.cli.written_files import begin_file, write_or_print

if TYPE_CHECKING:
    from overlay.adapters import Adapter, AdapterStatus, Recipe
    from overlay.adapters.checkpoint import Progressed
    from overlay.home import Home

_RANGE = re.compile(r"(\d+)-(\d+)")

app = typer.Typer(help="Write, train, check and list adapters.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Which adapter: a folder of adapters/lora.")]


@app.command(
    "new",
    epilog="Examples: overlay adapters new short_answers · overlay adapters new scottish_spelling --from-map spelling",
)
def adapters_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits and _.")],
    from_map: Annotated[
        str | None,
        typer.Option(metavar="AIM", help="Let it learn at the best place that `overlay map AIM` found."),
    ] = None,
    home: HomeOption = HERE,
) -> None:
    """Write a recipe to start from: explained line by line, and without mistakes as it stands."""
    from overlay.adapters.template import new_recipe
    from overlay.home import Home

    text = new_recipe(name)
    opened = Home.open(home)
    if from_map is not None:
        from overlay.mapping import map_path, placed_recipe, read_map
        from overlay.model import resolve_model

        digest = resolve_model(opened.settings.model).digest or ""
        text = placed_recipe(text, read_map(map_path(opened.lived / "maps", digest, from_map)))
    path = _written(opened, name) / "recipe.yaml"
    if not path.exists():
        opened.adapters.require_free(name)
    begin_file(path, text, "choose another name")
    print(f"{path}: change it, then run `overlay adapters check {name}`")


@app.command(
    "train",
    epilog="Examples: overlay adapters train british_spelling · overlay adapters train british_spelling --resume · "
    "overlay adapters train british_spelling --blocks 0-9 --steps 40",
)
def adapters_train(
    name: NameArgument,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted training was, to the same weights.")
    ] = False,
    blocks: Annotated[
        str | None, typer.Option(metavar="FIRST-LAST", help="Let only these blocks learn, counted from 0.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="So many steps, not the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    drift_every: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="STEPS", help="Measure the drift every so many steps; `overlay adapters drift` draws it."
        ),
    ] = None,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train an adapter by its recipe, inside its safe zone and under its anchor, and measure what came of it.

    Ctrl-C keeps the last state within the budget, and --resume goes on from there. What --blocks, --steps and
    --seed say otherwise than the recipe is written into the adapter's manifest.
    """
    from overlay.adapters import train
    from overlay.home import Home

    opened = Home.open(home)
    recipe, built = opened.adapters.recipe(name), opened.adapters.built
    given = {"blocks": _blocks(blocks), "steps": steps, "seed": seed}
    overrides = {key: value for key, value in given.items() if value is not None}
    # Whatever is wrong with them is better said before a model is loaded.
    recipe.overridden(overrides)
    begun = None if resume else _begun(built, name)
    if begun is not None:
        print(
            f"{name}: starting anew; the training that was interrupted at step {begun.step} is given up",
            file=sys.stderr,
        )
    try:
        with console_progress() as progress:
            progress.step(f"loading {opened.settings.model}", None, None)
            adapter = train(
                recipe,
                opened.settings.model,
                built,
                dtype=dtype,
                overrides=overrides,
                resume=resume,
                drift_every=drift_every,
                progress=progress,
            )
    except KeyboardInterrupt:
        stopped = _begun(built, name)
        if stopped is not None:
            again: dict[str, Any] = dict(stopped.overrides)
            if drift_every is not None:
                again["drift-every"] = drift_every
            if dtype != "auto":
                again["dtype"] = dtype
            if home != HERE:
                again["home"] = home
            options = "".join(f" --{key} {shlex.quote(_option(value))}" for key, value in again.items())
            print(
                f"{name}: stopped after step {stopped.step}; to go on: overlay adapters train {name} --resume{options}",
                file=sys.stderr,
            )
        raise
    if as_json:
        print(json.dumps(_facts(adapter), ensure_ascii=False))
        return
    print(
        f"{adapter.name}: held-out accuracy {_accuracy(adapter)}, "
        f"{adapter.volatility_mean:.3f} nats per token on neutral text (95%: {adapter.volatility_p95:.3f}), "
        f"{_number(adapter.replay_kl)} on replay text, {adapter.steps} steps, {adapter.seconds:.0f} s"
    )
    if adapter.ended == "budget":
        print("it left the budget after that; what is kept is the last state within it", file=sys.stderr)


@app.command("check", epilog="Examples: overlay adapters check · overlay adapters check british_spelling --json")
def adapters_check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Adapters; all of the home when none is named.")
    ] = None,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List the mistakes of recipes with file and line, and what is wrong with trained adapters; loads no model.

    The exit code is 2 if there are any.
    """
    from overlay.adapters.schema import recipe_schema
    from overlay.errors import DocumentError, OverlayError
    from overlay.home import Home

    library = Home.open(home).adapters
    for name in names or ():
        library.require(name)
    found: dict[str, list[Mistake]] = {}
    for name in names or library.names:
        found[name] = []
        try:
            if (library.built / name).exists():
                library.load(name)
            else:
                library.recipe(name)
        except DocumentError as error:
            found[name] = mistakes_of(error, recipe_schema())
        except OverlayError as error:
            found[name] = [Mistake(str(library.built / name), None, error.problem, next_step=error.next_step)]
    tell_checked(found, "adapters", key="name", as_json=as_json)


@app.command("list", epilog="Example: overlay adapters list --json")
def adapters_list(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """List the adapters of a home and what they were measured to do."""
    from overlay.home import Home

    found = _status(Home.open(home))
    if as_json:
        rows = [
            {
                "name": status.name,
                "trained": status.adapter is not None,
                "problem": status.problem,
                "stale": list(status.stale),
                "adapter": _facts(status.adapter),
            }
            for status in found
        ]
        print(json.dumps(rows, ensure_ascii=False))
        return
    table = new_table("adapter", "made on", "held-out accuracy", "nats/token", "state")
    for status in found:
        adapter = status.adapter
        table.add_row(
            status.name,
            adapter.base_model if adapter else "",
            _accuracy(adapter) if adapter else "",
            f"{adapter.volatility_mean:.3f}" if adapter else "",
            status.problem or "; ".join(["ready", *(f"stale: {reason}" for reason in status.stale)]),
        )
    print_table(table)


@app.command(
    "show", epilog="Examples: overlay adapters show british_spelling · overlay adapters show terse_style --json"
)
def adapters_show(name: NameArgument, home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """Show one adapter: what it was measured to do, how it was trained, on which blocks, and from which sources."""
    from overlay.errors import OverlayError
    from overlay.home import Home

    opened = Home.open(home)
    opened.adapters.require(name)
    (status,) = (one for one in _status(opened) if one.name == name)
    recipe: Recipe | None = None
    with suppress(OverlayError):
        recipe = opened.adapters.recipe(name)
    begun = _begun(opened.adapters.built, name)
    if as_json:
        document = {
            "name": name,
            "trained": status.adapter is not None,
            "problem": status.problem,
            "stale": list(status.stale),
            "adapter": _facts(status.adapter),
            "recipe": recipe.model_dump(mode="json", exclude={"examples", "held_out", "replay", "generator"})
            | {"generator": recipe.generator.name if recipe.generator else None}
            | {"examples": len(recipe.examples), "held_out": len(recipe.held_out), "replay": len(recipe.replay)}
            if recipe
            else None,
            "interrupted": asdict(begun) if begun else None,
        }
        print(json.dumps(document, ensure_ascii=False))
        return
    for what, words in _described(status, recipe, begun):
        print(f"{what + ':':<20} {words}")


@app.command(
    "remove",
    epilog="Examples: overlay adapters remove terse_style · overlay adapters remove short_answers --recipe --yes",
)
def adapters_remove(
    name: NameArgument,
    recipe: Annotated[bool, typer.Option("--recipe", help="Remove its recipe too, with the texts beside it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    home: HomeOption = HERE,
) -> None:
    """Remove a trained adapter, and an interrupted training of it; its recipe stays unless --recipe is given."""
    from overlay.adapters.checkpoint import checkpoint_folder, drop_checkpoint
    from overlay.errors import AdapterError
    from overlay.home import Home

    opened = Home.open(home)
    opened.adapters.require(name)
    opened.require_unworn(name)
    built = opened.adapters.built / name
    if (built / "curriculum.json").is_file():
        raise AdapterError(f"'{name}' is an adapter that the agent trained itself", "run `overlay reprogram undo`")
    interrupted = checkpoint_folder(opened.adapters.built, name)
    folders = [folder for folder in (built, interrupted) if folder.exists()]
    if recipe and _written(opened, name).exists():
        folders.append(_written(opened, name))
    if not folders:
        raise AdapterError(f"'{name}' isn't trained: there is only its recipe", "add --recipe to remove that")
    if not yes:
        typer.confirm(f"Remove {', '.join(map(str, folders))}?", abort=True)
    for folder in folders:
        if folder == interrupted:
            drop_checkpoint(folder)
        else:
            shutil.rmtree(folder)
        print(f"{folder}: removed")


@app.command("schema", epilog="Example: overlay adapters schema --out adapters/lora/recipe.schema.json")
def adapters_schema(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it there, don't print it.")] = None,
) -> None:
    """Print the JSON Schema of recipes, by which editors complete and check them.

    A recipe names it in its first line: # yaml-language-server: $schema=../recipe.schema.json
    """
    from overlay.adapters.schema import recipe_schema
    from overlay.document_schema import schema_text

    write_or_print(schema_text(recipe_schema()), out)


def _written(home: Home, name: str) -> Path:
    """The folder of an adapter's recipe."""
    return home.folder / "adapters" / "lora" / name


def _blocks(written: str | None) -> list[int] | None:
    from overlay.errors import ArgumentError

    if written is None:
        return None
    found = _RANGE.fullmatch(written)
    if found is None:
        raise ArgumentError(f"'{written}' is no range of blocks", "write FIRST-LAST, such as 0-9, or 4-4 for one block")
    return [int(found[1]), int(found[2])]


def _begun(built: Path, name: str) -> Progressed | None:
    """A training that was interrupted; one that can't be read is none."""
    from overlay.adapters.checkpoint import checkpoint_folder, find_checkpoint
    from overlay.errors import RecordDamaged

    try:
        return find_checkpoint(checkpoint_folder(built, name))
    except RecordDamaged:
        return None


def _status(home: Home) -> list[AdapterStatus]:
    """All adapters; if any came from notes and there is a memory, also whether those still hold."""
    found = home.adapters.status()
    if not any(one.adapter and one.adapter.notes for one in found) or not (home.lived / "memory.db").exists():
        return found
    from overlay.agent import open_embedder
    from overlay.memory import Memory

    with console_progress() as progress:
        embedder = open_embedder(home, progress=progress)
    with Memory.open(home.lived, embedder, read_only=True, settings=home.settings.memory) as memory:
        return home.adapters.status(memory)


def _facts(adapter: Adapter | None) -> dict[str, Any] | None:
    """An adapter's manifest, with the digests of its examples counted: nobody reads them one by one."""
    if adapter is None:
        return None
    return {"folder": str(adapter.folder), **json.loads(adapter.manifest()), "examples": len(adapter.examples)}


def _described(status: AdapterStatus, recipe: Recipe | None, begun: Progressed | None) -> list[tuple[str, str]]:
    adapter = status.adapter
    lines = [("adapter", status.name), ("state", status.problem or "ready")]
    lines += [("stale", reason) for reason in status.stale]
    if begun is not None:
        lines.append(
            ("interrupted", f"after step {begun.step}, at {begun.replay_kl:.3f} nats per token on replay text")
        )
    aim = adapter.aim if adapter else recipe.aim if recipe else ""
    lines.append(("aim", aim))
    if adapter is not None:
        lines += [
            ("made on", f"{adapter.base_model} ({adapter.base_digest[:12]}), {adapter.dtype}"),
            ("held-out accuracy", f"{_accuracy(adapter) or 'not measured'} of {adapter.held_out} choices"),
            (
                "volatility",
                f"{adapter.volatility_mean:.3f} nats per token on neutral text (95%: {adapter.volatility_p95:.3f})",
            ),
            ("replay KL", f"{_number(adapter.replay_kl)} nats per token"),
            ("steps", f"{adapter.steps}, ended by {adapter.ended}, {adapter.seconds:.0f} s, seed {adapter.seed}"),
        ]
        if adapter.overrides:
            given = ", ".join(f"{key} {_option(value)}" for key, value in adapter.overrides.items())
            lines.append(("beside the recipe", given))
        if adapter.parts:
            lines.append(("mixed of", ", ".join(f"{weight:g} {name}" for name, weight in adapter.parts.items())))
        if adapter.remark:
            lines.append(("note", adapter.remark))
    if recipe is not None:
        blocks = (adapter.overrides if adapter else {}).get("blocks", recipe.where.blocks)
        parts = [*recipe.where.modules, *(["head"] if recipe.where.head else [])]
        parts += [f"rows of {', '.join(recipe.where.tokens)}"] if recipe.where.tokens else []
        zone = recipe.safe_zone
        lines += [
            ("learns in", f"blocks {_option(blocks)}: {', '.join(parts)}, rank {recipe.rank}"),
            ("safe zone", f"{zone.quantile:g} to {zone.widens_to:g}, {recipe.exempt} exempt" if zone else "none"),
            ("anchor", f"{recipe.anchor:g}, budget {recipe.budget:g} nats per token"),
            ("sources", _sources(recipe)),
        ]
        if recipe.licence:
            lines.append(("licence", recipe.licence))
    if adapter is not None and adapter.notes:
        lines.append(("notes", ", ".join(adapter.notes)))
    return lines


def _sources(recipe: Recipe) -> str:
    made = f" made by {recipe.generator.name}" if recipe.generator else ""
    return f"{len(recipe.examples)} examples{made}, {len(recipe.held_out)} choices, {len(recipe.replay)} replay texts"


def _option(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _accuracy(adapter: Adapter) -> str:
    if adapter.accuracy_before is None or adapter.accuracy_after is None:
        return ""
    return f"{adapter.accuracy_before:.2f} -> {adapter.accuracy_after:.2f}"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"
