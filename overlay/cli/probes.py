"""Probes: banks from their first line on, and the semantic map that is measured by them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress, print_table
from overlay.cli.mistakes import Mistake, mistakes_of, tell_checked
from overlay.cli.written_files import OutOption, begin_file, require_writable, write_file, write_or_print

if TYPE_CHECKING:
    from overlay.home import Home
    from overlay.model import LanguageModel, Treatment
    from overlay.probes import CheckReport, Doubt, ProbeBank, SemanticMap
    from overlay.progress import Progress

app = typer.Typer(help="Check banks of probes, and map what a treatment changed.", no_args_is_help=True)

TreatmentArgument = Annotated[
    str,
    typer.Argument(
        metavar="TREATMENT",
        help="adapter:NAME, adapter:NAME@SCALE (1: as trained), axis:NAME, axis:NAME@DOSE (in budget doses, below 0 "
        "for its reverse), state (as it stands now), prompt:TEXT, prompt:@FILE or base.",
    ),
]
AgainstOption = Annotated[
    str,
    typer.Option("--against", metavar="TREATMENT", help="What it is compared with; base is the unchanged model."),
]
BankOption = Annotated[
    str | None,
    typer.Option("--bank", metavar="NAME|FILE|FOLDER", help="A bank; all of the home's adapters/probes if not said."),
]
TopicOption = Annotated[list[str] | None, typer.Option("--topic", help="Only what has this tag; may be repeated.")]


@app.command("check", epilog="Examples: overlay probes check · overlay probes check adapters/probes/causality.yaml")
def probes_check(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|FOLDER|NAME", help="Banks; all of the home's when none is named."),
    ] = None,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List the mistakes of probe banks with file and line, and reasons to doubt a cell; loads no model.

    The exit code is 2 if there are mistakes. Doubts are told on standard error, and are no mistakes.
    """
    from overlay.errors import DocumentError
    from overlay.probes import doubts, read_bank
    from overlay.probes.schema import bank_schema

    places = [_bank_path(path, home) for path in paths or ()] or [_opened(home).probes]
    of_home = _opened(home).probes if (home / "agent.yaml").is_file() else None
    found: dict[str, list[Mistake]] = {}
    doubted: list[tuple[Path, Doubt]] = []
    for place in places:
        files = sorted(place.glob("*.yaml")) if place.is_dir() else [place]
        for file in files:
            found[str(file)] = []
            try:
                doubted += [(file, one) for one in doubts(read_bank(file))]
            except DocumentError as error:
                found[str(file)] = mistakes_of(error, bank_schema())
        # Banks that are measured together must be apart: those of a folder, and one of the home beside its others.
        folder = place if place.is_dir() else place.resolve().parent
        if (place.is_dir() or folder == of_home) and not any(found[str(file)] for file in files):
            try:
                read_bank(folder)
            except DocumentError as error:
                wrong = next((file for file in files if file.resolve() == error.path.resolve()), None)
                if wrong is None:
                    # Two files clash, and the one that is blamed was not asked about.
                    wrong = next((file for file in files if file.name in error.problem), None)
                if wrong is not None:
                    found[str(wrong)] = mistakes_of(error, bank_schema())
    for file, doubt in doubted:
        typer.echo(f"{file}: {doubt.cell}: {doubt.reason}", err=True)
    tell_checked(found, "probe banks", as_json=as_json)


@app.command("new", epilog="Example: overlay probes new tides")
def probes_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits and _.")], home: HomeOption = HERE
) -> None:
    """Write a bank to start from: explained line by line, and without mistakes as it stands."""
    from overlay.probes.template import new_bank

    path = _opened(home).probes / f"{name}.yaml"
    begin_file(path, new_bank(name))
    print(f"{path}: change it, then run `overlay probes check {name}`")


@app.command("schema", epilog="Example: overlay probes schema --out adapters/probes/bank.schema.json")
def probes_schema(out: OutOption = None) -> None:
    """Print the JSON Schema of probe banks, by which editors complete and check them.

    A bank names it in its first line: # yaml-language-server: $schema=bank.schema.json
    """
    from overlay.document_schema import schema_text
    from overlay.probes.schema import bank_schema

    write_or_print(schema_text(bank_schema()), out)


@app.command(
    "map",
    epilog="Examples: overlay probes map adapter:causes · "
    "overlay probes map axis:tenderness@1 --against axis:tenderness@-1 · "
    'overlay probes map "prompt:Think of the causes." --bank causality --out map.md --out map.png',
)
def probes_map(
    treatment: TreatmentArgument,
    against: AgainstOption = "base",
    bank: BankOption = None,
    level: Annotated[
        list[str] | None, typer.Option("--level", help="Only this level, such as causality; may be repeated.")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Only this layer, such as logical; may be repeated.")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option("--language", help="Only this language, such as en; may be repeated.")
    ] = None,
    topic: TopicOption = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Ask as chat messages, not as plain text to go on with.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write a page (.md), a heatmap (.png, .svg) or the record (.json); may be repeated.",
        ),
    ] = None,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Map what a treatment strengthened, let sag or made possible, level by level and layer by layer."""
    from overlay.probes import map_table, semantic_map
    from overlay.probes.shift import counted

    opened, files = _opened(home), list(out or ())
    for file in files:
        _require_ending(file)
        require_writable(file)
    _require_treatments(opened, against, treatment)
    asked = _read(opened, bank).picked(
        levels=level or (), layers=layer or (), languages=language or (), topics=topic or ()
    )
    with _treated(opened, against, treatment, dtype) as (model, before, after, progress):
        found = semantic_map(model, asked, before, after, chat=chat, seed=seed, progress=progress)
    for file in files:
        _write_map(file, found)
    if as_json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
        return
    print_table(map_table(found))
    print("; ".join(f"{count} {verdict}" for verdict, count in counted(found.cells.values()).items()))
    for file in files:
        print(file)


@app.command(
    "answers",
    epilog="Examples: overlay probes answers adapter:causes · "
    "overlay probes answers adapter:causes --bank causality --judge",
)
def probes_answers(
    treatment: TreatmentArgument,
    against: AgainstOption = "base",
    bank: BankOption = None,
    topic: TopicOption = None,
    judge: Annotated[
        bool, typer.Option("--judge", help="Let the unchanged model judge each answer, blind to what wrote it.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap, and of the order in which answers are judged.")] = 0,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Check what a treatment lets the model say: in other words, of another field, by analogy, and of unrelated things.

    Choices come first, then what the model writes itself, under both treatments.
    """
    from overlay.agent import open_embedder
    from overlay.errors import ArgumentError
    from overlay.probes import check_generations
    from overlay.probes.judge import model_judge
    from overlay.probes.map_table import check_table

    opened = _opened(home)
    _require_treatments(opened, against, treatment)
    read = _read(opened, bank)
    checks = [check for check in read.checks if not topic or set(topic) & set(check.topic)]
    if not checks:
        raise ArgumentError(
            f"the bank '{read.name}' has no such checks", "write some under `checks:`, or name another bank"
        )
    compares = any(check.expect and check.expect.like for check in checks)
    with _treated(opened, against, treatment, dtype) as (model, before, after, progress):
        report: CheckReport = check_generations(
            model,
            checks,
            before,
            after,
            embedder=open_embedder(opened, progress=progress) if compares else None,
            judge=model_judge(model) if judge else None,
            seed=seed,
            progress=progress,
        )
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        print_table(check_table(report))


@contextmanager
def _treated(
    home: Home, before: str, after: str, dtype: str
) -> Iterator[tuple[LanguageModel, Treatment, Treatment, Progress]]:
    """The home's model, with both treatments ready."""
    from overlay.model import LanguageModel
    from overlay.treatments import read_treatment

    with console_progress() as progress:
        progress.step(f"loading {home.settings.model}", None, None)
        model = LanguageModel.load(home.settings.model, dtype=dtype, pull=True, progress=progress)
        with (
            read_treatment(before, home, model, progress=progress) as first,
            read_treatment(after, home, model, progress=progress) as second,
        ):
            yield model, first, second, progress


def _require_treatments(home: Home, *texts: str) -> None:
    """Say what is wrong with treatments before anything is read or loaded for them."""
    from overlay.treatments import require_treatment

    for text in texts:
        require_treatment(text, home)


def _opened(home: Path) -> Home:
    from overlay.home import Home

    return Home.open(home)


def _bank_path(written: str, home: Path) -> Path:
    """A file or folder as it is written, and otherwise the bank of the home that has this name."""
    from overlay.errors import ArgumentError

    path = Path(written)
    if path.exists() or path.suffix:
        return path
    folder = _opened(home).probes
    named = folder / f"{written}.yaml"
    if not named.is_file():
        known = ", ".join(sorted(bank.stem for bank in folder.glob("*.yaml"))) or "none"
        raise ArgumentError(f"there is no bank '{written}' in {folder}", f"known: {known}; or name a file or a folder")
    return named


def _read(home: Home, bank: str | None) -> ProbeBank:
    from overlay.probes import read_bank

    return read_bank(home.probes if bank is None else _bank_path(bank, home.folder))


def _require_ending(path: Path) -> None:
    from overlay.plots import format_of

    if path.suffix.lower() not in (".md", ".json"):
        format_of(path)


def _write_map(path: Path, found: SemanticMap) -> None:
    from overlay.plots import format_of
    from overlay.probes import draw_map
    from overlay.probes.map_table import map_page
    from overlay.records import write_record

    ending = path.suffix.lower()
    if ending == ".md":
        write_file(path, map_page(found))
    elif ending == ".json":
        write_file(path, json.dumps(found.to_json(), ensure_ascii=False, indent=1) + "\n")
    else:
        write_record(path, draw_map(found, format_of(path)))
