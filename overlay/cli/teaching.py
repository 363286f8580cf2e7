"""Teaching on the command line: a curriculum is checked, measured, and walked to an adapter with a verdict."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress
from overlay.cli.written_files import require_page

if TYPE_CHECKING:
    from overlay.home import Home
    from overlay.teaching import Curriculum, Taught

app = typer.Typer()

SUFFIXES = (".yaml", ".yml", ".jsonl")


@app.command(
    "teach",
    epilog="Examples: overlay teach causes_and_rules · overlay teach my_graph.jsonl --check · "
    "overlay teach causes_and_rules --map causes --out causes.md · overlay teach causes_and_rules --learn-edges",
)
def teach(
    graph: Annotated[
        str | None, typer.Argument(metavar="GRAPH", help="A curriculum of the home by its name, or a file.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="List its mistakes with their lines (or those of all), and teach nothing.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of curricula.")] = False,
    learn_edges: Annotated[
        bool, typer.Option("--learn-edges", help="Measure what examples do for each other, keep it, and stop there.")
    ] = False,
    name: Annotated[str, typer.Option("--name", help="Of the adapter; that of the curriculum when not given.")] = "",
    seed: Annotated[int | None, typer.Option(help="Another seed than the curriculum's.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps of the walk, at the most.")] = None,
    aim: Annotated[
        str | None,
        typer.Option("--map", metavar="AIM", help="Try the best blocks of this map where an example can't be learned."),
    ] = None,
    twin: Annotated[
        bool, typer.Option("--twin/--no-twin", help="Feed the shuffled twin as well; without it: no verdict.")
    ] = True,
    anew: Annotated[bool, typer.Option("--anew", help="Begin anew, also where one is under way or done.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the page there, in Markdown.")
    ] = None,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Walk a graph of examples and probes: teach, check, adapt, step back, and compare with the same shuffled.

    Interrupted (Ctrl-C, or a kill), it goes on where it was when it is called again, to the same bits.
    """
    from overlay.errors import ArgumentError
    from overlay.home import Home

    if schema:
        from overlay.document_schema import schema_text
        from overlay.teaching.schema import curriculum_schema

        print(schema_text(curriculum_schema()), end="")
        return
    opened = Home.open(home)
    if check:
        _tell_mistakes(opened, graph, as_json)
        return
    if graph is None:
        known = ", ".join(sorted(path.stem for path in _curricula(opened))) or "none"
        raise ArgumentError("no curriculum is named", f"name one of {known}, or a file")
    require_page(out)
    path = _path(opened, graph)
    if learn_edges:
        unused = {"--name": name, "--steps": steps, "--map": aim, "--no-twin": not twin, "--anew": anew, "--out": out}
        if given := [option for option, value in unused.items() if value]:
            raise ArgumentError(
                f"--learn-edges teaches nothing, and {given[0]} is about what is taught", "leave it out"
            )
        _learn_edges(opened, path, seed, dtype, as_json)
        return
    try:
        curriculum, taught = _taught(
            opened, path, name, _set(seed=seed, steps=steps), aim, with_twin=twin, anew=anew, dtype=dtype
        )
    except KeyboardInterrupt:
        same = "the same command without --anew" if anew else "the same command"
        print(f"{path.stem}: stopped; {same} goes on from there", file=sys.stderr)
        raise
    place = _page(opened, curriculum, taught, out)
    if as_json:
        facts = {"adapter": json.loads(taught.adapter.manifest()), "page": str(place), **taught.result}
        print(json.dumps(facts, ensure_ascii=False))
        return
    _print(taught)
    print(f"journal and page: {place.parent if out is None else place}")


def _taught(
    home: Home,
    path: Path,
    name: str,
    settings: dict[str, Any],
    aim: str | None,
    *,
    with_twin: bool,
    anew: bool,
    dtype: str,
) -> tuple[Curriculum, Taught]:
    from overlay.agent import open_embedder
    from overlay.model import LanguageModel
    from overlay.teaching import Teaching, read_curriculum, read_learned_edges
    from overlay.teaching.learned_edges import FILE

    curriculum, questions = read_curriculum(path, home.probes)
    compares = any(check.expect and check.expect.like for check in questions.checks)
    curriculum = curriculum.with_settings(settings)
    folder = home.teaching / (name or curriculum.name)
    with console_progress() as progress:
        model = LanguageModel.load(home.settings.model, dtype=dtype, pull=True, progress=progress)
        learned = read_learned_edges(folder.with_name(curriculum.name) / FILE)
        if learned is not None and not learned.fits(curriculum, model.digest):
            print(
                "the learned edges are of other examples, settings or another model, and aren't used", file=sys.stderr
            )
            learned = None
        teaching = Teaching(
            curriculum,
            questions,
            model,
            folder,
            home.adapters,
            name=name,
            learned=learned,
            blocks=_blocks(home, model.digest, aim) if aim else (),
            with_twin=with_twin,
            embedder=open_embedder(home, progress=progress) if compares else None,
            progress=progress,
        )
        return curriculum, teaching.run(anew=anew)


def _learn_edges(home: Home, path: Path, seed: int | None, dtype: str, as_json: bool) -> None:
    from overlay.model import LanguageModel
    from overlay.teaching import learn_edges, read_curriculum
    from overlay.teaching.learned_edges import FILE

    curriculum, _ = read_curriculum(path, home.probes)
    curriculum = curriculum.with_settings(_set(seed=seed))
    file = home.teaching / curriculum.name / FILE
    with console_progress() as progress:
        model = LanguageModel.load(home.settings.model, dtype=dtype, pull=True, progress=progress)
        found = learn_edges(model, curriculum, file, progress=progress)
    if as_json:
        print(json.dumps({"file": str(file), "loss": found.loss, "lowered": found.lowered}, ensure_ascii=False))
        return
    pairs = [(gain, one, other) for one, row in found.lowered.items() for other, gain in row.items() if one != other]
    for gain, one, other in [*sorted(pairs, reverse=True)[:5], *sorted(pairs)[:5][::-1]]:
        print(f"{one} -> {other}: {gain:+.3f} nats per token")
    print(f"{len(found.lowered)} examples, {found.steps} steps each: {file}")


def _tell_mistakes(home: Home, graph: str | None, as_json: bool) -> None:
    from overlay.cli.mistakes import Mistake, mistakes_of, tell_checked
    from overlay.errors import ArgumentError, DocumentError
    from overlay.teaching import read_curriculum
    from overlay.teaching.schema import curriculum_schema

    paths = _curricula(home) if graph is None else [_path(home, graph)]
    if not paths:
        raise ArgumentError(f"there is no curriculum in {home.curricula}", "name a file")
    found: dict[str, list[Mistake]] = {}
    for path in paths:
        try:
            read_curriculum(path, home.probes)
            found[str(path)] = []
        except DocumentError as error:
            found[str(path)] = mistakes_of(error, curriculum_schema())
    tell_checked(found, "curricula", as_json=as_json)


def _page(home: Home, curriculum: Curriculum, taught: Taught, out: Path | None) -> Path:
    from overlay.records import write_record
    from overlay.teaching.page import teaching_page

    place = out or home.teaching / taught.adapter.name / "page.md"
    write_record(place, teaching_page(curriculum, taught))
    return place


def _print(taught: Taught) -> None:
    from overlay.teaching.page import walk_summary

    adapter, result, counts = taught.adapter, taught.result, walk_summary(taught.journal)
    if taught.was_done:
        print(f"{adapter.name}: taught already; --anew teaches it again")
    print(
        f"{adapter.name}: {adapter.steps} steps kept, {counts.get('checked', 0)} checks, "
        f"{counts.get('stepped back', 0)} steps back, {len(result['given_up'])} examples given up; "
        f"{adapter.volatility_mean:.3f} nats per token on neutral text (95%: {adapter.volatility_p95:.3f})"
    )
    for one in result["given_up"]:
        print(f"  given up: {one}")
    if "words" in result:
        print(result["words"])


def _blocks(home: Home, digest: str, aim: str) -> list[tuple[int, int]]:
    """Where the map of an aim found it best to teach, the best blocks first."""
    from overlay.mapping import map_path, places_by_gain, read_map

    found = read_map(map_path(home.maps, digest, aim))
    ranges = [place.where.get("blocks") for place in places_by_gain(found)]
    return list(dict.fromkeys((int(one[0]), int(one[1])) for one in ranges if isinstance(one, list | tuple)))


def _set(**settings: int | None) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _curricula(home: Home) -> list[Path]:
    return sorted(path for path in home.curricula.glob("*") if path.suffix in SUFFIXES)


def _path(home: Home, graph: str) -> Path:
    """The file of a curriculum: the one that is named, or the home's of this name."""
    from overlay.errors import ArgumentError

    if Path(graph).suffix in SUFFIXES:
        return Path(graph)
    for path in _curricula(home):
        if path.stem == graph:
            return path
    known = ", ".join(path.stem for path in _curricula(home)) or "none"
    raise ArgumentError(f"there is no curriculum '{graph}' in {home.curricula}", f"known: {known}; or name a file")
