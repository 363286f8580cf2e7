"""The command line: one command for each thing people do with an agent, its home and its evidence."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from overlay.home import Home
    from overlay.memory import Memory

# Everything heavy is imported inside the commands: `overlay --help` has to answer at once.

app = typer.Typer(
    name="overlay",
    help="Influence an unchanged local language model, and measure what it did.",
    epilog="First steps: overlay init my-home · cd my-home · overlay chat",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
memory_app = typer.Typer(help="Add, search, import and forget notes.", no_args_is_help=True)
axes_app = typer.Typer(help="Build and list axes.", no_args_is_help=True)
adapters_app = typer.Typer(help="Train and list adapters.", no_args_is_help=True)
models_app = typer.Typer(help="List and fetch models.", invoke_without_command=True)
app.add_typer(memory_app, name="memory")
app.add_typer(axes_app, name="axes")
app.add_typer(adapters_app, name="adapters")
app.add_typer(models_app, name="models")

HomeOption = Annotated[Path, typer.Option("--home", help="The agent's home.", envvar="OVERLAY_HOME")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
DTypeOption = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
HERE = Path()

STOPPED = 130
"""The exit code after Ctrl-C: 128 + SIGINT, as in a shell."""


def main() -> NoReturn:
    """Run the command line; every error of ours ends in a message and an exit code, never in a traceback."""
    from overlay.errors import OverlayError

    try:
        code = app(standalone_mode=False)
    except OverlayError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("stopped; what was finished is saved", STOPPED)
    except typer.Abort:
        _fail("stopped", STOPPED)
    except BrokenPipeError:
        # The reader of a pipe left early (`| head`); that is no error of ours.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        # Errors in the command's own words and options are the only ones that carry their exit code.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))
    # Typer returns the code of an Exit, and 130 for Ctrl-C, instead of raising it.
    if code == STOPPED:
        _fail("stopped; what was finished is saved", STOPPED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"overlay: {message}", file=sys.stderr)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        from overlay import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Influence an unchanged local language model, and measure what it did."""


# --- living with an agent ------------------------------------------------------------------------


@app.command(epilog="Example: overlay init my-home")
def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Make a new home: the stock notes, frames, voices, axes, adapters and scenarios, yours to edit."""
    from overlay.home import create_home

    home = create_home(folder)
    print(f"A new home in {home.folder}. Next: overlay chat --home {folder}")


@app.command(epilog="Examples: overlay chat · echo 'What is volatility?' | overlay chat --plain")
def chat(
    home: HomeOption = HERE,
    plain: Annotated[bool, typer.Option("--plain", help="Line by line; also works through a pipe.")] = False,
    dtype: DTypeOption = "auto",
) -> None:
    """Talk to the agent. Esc stops a reply; every answered turn is saved."""
    from overlay.home import Home

    opened = Home.open(home)
    if plain or not sys.stdin.isatty() or not sys.stdout.isatty():
        from overlay.tui.plain import plain_chat

        plain_chat(opened, dtype=dtype)
    else:
        from overlay.tui import run_chat

        run_chat(opened, dtype=dtype)


@app.command(epilog="Examples: overlay run scenarios/shared_stores.yaml · overlay run scenarios/*.yaml --json")
def run(
    scripts: Annotated[list[Path], typer.Argument(metavar="SCENARIO...", help="Scenario scripts.")],
    home: HomeOption = HERE,
    out: Annotated[Path | None, typer.Option(help="Where to write; a stopped run goes on from there.")] = None,
    directions: Annotated[int, typer.Option(min=1, help="How many random directions.")] = 8,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Run scenarios with all their arms, and say what the evidence shows."""
    from overlay.home import Home
    from overlay.scenarios import read_scenario

    opened = Home.open(home)
    # All scripts are read before the first one runs: a mistake in the last is found at once.
    scenarios = [(path, read_scenario(path)) for path in scripts]
    names = [scenario.name for _, scenario in scenarios]
    if repeated := {name for name in names if names.count(name) > 1}:
        from overlay.errors import ArgumentError

        raise ArgumentError(f"two scripts are named '{min(repeated)}'", "give each scenario a name of its own")
    for name in {axis for _, scenario in scenarios for axis in scenario.axes}:
        opened.axes.contrast(name)
    results = _run_all(opened, scenarios, out, directions, dtype)
    if as_json:
        document = results[0] if len(results) == 1 else {"runs": results}
        print(json.dumps(document, ensure_ascii=False))
    else:
        for result in results:
            _print_result(result)


def _run_all(opened: Home, scenarios: list[Any], out: Path | None, directions: int, dtype: str) -> list[dict[str, Any]]:
    import shlex
    import time

    from overlay.scenarios import run_scenario, write_report

    results = []
    with _progress() as progress:
        from overlay.model import LanguageModel

        progress.step(f"loading {opened.settings.model}", None, None)
        model = LanguageModel.load(opened.settings.model, dtype=dtype, pull=True, progress=progress)
        for path, scenario in scenarios:
            folder = opened.runs / f"{scenario.name}-{time.strftime('%Y%m%d-%H%M%S')}"
            if out is not None:
                folder = out if len(scenarios) == 1 else out / scenario.name
            try:
                result = run_scenario(
                    scenario,
                    opened,
                    model=model,
                    out=folder,
                    random_directions=directions,
                    command=f"overlay run {shlex.quote(str(path))} --directions {directions}",
                    progress=progress,
                )
            except KeyboardInterrupt:
                print(f"\nFinished cells are in {folder}; add --out {folder} to go on from there.", file=sys.stderr)
                raise
            report = folder / "report.html"
            write_report(result, report)
            results.append(result | {"report": str(report)})
    return results


def _print_result(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(f"\n[bold]{escape(result['scenario'])}[/bold]: [bold]{result['verdict']}[/bold]")
    console.print(escape(result["headline"]))
    for reason in result["reasons"]:
        console.print(f"  - {escape(reason)}")
    state = ", ".join(f"{name} {value:+.2f}" for name, value in result["state"].items())
    console.print(f"State after the exposure: {state}")
    table = _table("arm", "n", "chose it", "shift, nats/token", "p", "volatility")
    for name, arm in result["arms"].items():
        rate, shift = arm["rate_interval"], arm["shift_interval"]
        table.add_row(
            name.replace("_", ", same "),
            str(arm["n"]),
            f"{arm['rate']:.0%} ({rate[0]:.0%}-{rate[1]:.0%})",
            "" if shift is None else f"{arm['shift']:+.3f} ({shift[0]:+.3f} to {shift[1]:+.3f})",
            "" if arm["p"] is None else f"{arm['p']:.3f}",
            f"{arm['volatility_mean']:.3f}",
        )
    console.print(table)
    for arm in result["arms"].values():
        if "directions" in arm:
            shifts = sorted(entry["shift"] for entry in arm["directions"])
            listed = " ".join(f"{shift:+.3f}" for shift in shifts)
            console.print(f"{arm['label']}: shifts {listed}", style="dim", highlight=False)
    print(f"Report: {result['report']}  ({result['seconds']:.0f} s)")


@app.command(epilog="Example: overlay doctor")
def doctor(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """Say what is here, what is missing, and how to get it."""
    from overlay.doctor import examine

    findings = examine(home)
    if as_json:
        print(json.dumps([finding.__dict__ for finding in findings], ensure_ascii=False))
    else:
        table = _table("", "what", "found", "what to do")
        for finding in findings:
            table.add_row("ok" if finding.fine else "!!", finding.what, finding.found, finding.next_step)
        _print(table)
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: overlay demo")
def demo(home: HomeOption = HERE) -> None:
    """One chat turn, one adapter swap and one scenario, on the real model."""
    from overlay.demo import run_demo
    from overlay.home import Home

    with _progress() as progress:
        run_demo(Home.open(home), progress)


@app.command(epilog="Example: overlay bench engine --json")
def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark: engine.")] = "engine", as_json: JsonOption = False
) -> None:
    """Measure speed and memory, as ratios within one run."""
    import runpy

    import overlay
    from overlay.errors import ArgumentError

    folder = Path(overlay.__file__).parent.parent / "benchmarks"
    known = sorted(path.stem for path in folder.glob("*.py"))
    if name not in known:
        raise ArgumentError(
            f"there is no benchmark '{name}'",
            f"known: {', '.join(known)}" if known else "benchmarks are part of the source checkout only",
        )
    figures = runpy.run_path(str(folder / f"{name}.py"))["measure"]()
    if as_json:
        print(json.dumps(figures))
    else:
        table = _table("figure", "value")
        for figure, value in figures.items():
            table.add_row(figure, str(value))
        _print(table)


# --- notes ---------------------------------------------------------------------------------------


@contextmanager
def _memory(home: Path, *, read_only: bool = False) -> Iterator[Memory]:
    from overlay.agent import open_embedder
    from overlay.home import Home
    from overlay.memory import Memory, import_vault

    opened = Home.open(home)
    with _progress() as progress:
        embedder = open_embedder(opened, progress=progress)
    fresh = not (opened.lived / "memory.db").exists()
    if fresh or not read_only:
        with Memory.open(opened.lived, embedder) as memory:
            if fresh and opened.notes.is_dir():
                import_vault(memory, opened.notes)
            yield memory
    else:
        with Memory.open(opened.lived, embedder, read_only=True) as memory:
            yield memory


@memory_app.command("add", epilog="Example: overlay memory add 'The key is under the third stone.' --tag home")
def memory_add(
    text: Annotated[str, typer.Argument(help="The note's text.")],
    title: Annotated[str, typer.Option(help="A title.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be repeated.")] = None,
    home: HomeOption = HERE,
) -> None:
    """Remember one note."""
    with _memory(home) as memory:
        note = memory.remember(text, kind="fact", source="command line", title=title, tags=tuple(tag or ()))
    print(f"Remembered as {note.id}")


@memory_app.command("search", epilog="Example: overlay memory search 'How is volatility measured?' --count 3")
def memory_search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    count: Annotated[int, typer.Option(min=1, max=100)] = 5,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Recall notes, each with the terms of its score."""
    with _memory(home, read_only=True) as memory:
        found = memory.recall(query, count)
    if as_json:
        rows = [
            {"id": f.note.id, "title": f.note.title, "text": f.note.text, "score": f.score, "terms": dict(f.terms)}
            for f in found
        ]
        print(json.dumps(rows, ensure_ascii=False))
        return
    for entry in found:
        terms = " ".join(f"{name} {value:.2f}" for name, value in entry.terms.items())
        print(f"{entry.score:.2f}  {entry.note.id}  ({terms})\n      {entry.note.title or entry.note.text[:100]}")
    if not found:
        print("Nothing is near enough to that.")


@memory_app.command("import", epilog="Examples: overlay memory import notes/ · overlay memory import facts.jsonl")
def memory_import(
    path: Annotated[Path, typer.Argument(help="A folder of .md notes, or one .md, .txt or .jsonl file.")],
    home: HomeOption = HERE,
) -> None:
    """Import notes; doing it again changes only what changed."""
    from overlay.memory import import_path

    with _memory(home) as memory:
        done = import_path(memory, path)
    print(
        f"{len(done.added)} added, {len(done.changed)} changed, {len(done.unchanged)} unchanged, "
        f"{len(done.removed)} removed"
    )
    for link in done.broken:
        print(f"{link.file}:{link.line}: no note is called '{link.target}'", file=sys.stderr)


@memory_app.command("forget", epilog="Example: overlay memory forget vault:four-levels")
def memory_forget(
    note: Annotated[list[str], typer.Argument(metavar="NOTE...", help="Ids of notes, as search prints them.")],
    home: HomeOption = HERE,
) -> None:
    """Forget notes for good: text, vectors, index, journal."""
    from overlay.errors import NoteError

    with _memory(home) as memory:
        missing = [one for one in note if one not in memory]
        if missing:
            raise NoteError(f"there is no note '{missing[0]}'", "`overlay memory search` prints the ids of notes")
        memory.forget(*note)
    print(f"Forgotten: {', '.join(note)}")


@memory_app.command("check", epilog="Example: overlay memory check --repair")
def memory_check(
    repair: Annotated[bool, typer.Option("--repair", help="Build the index anew from the notes.")] = False,
    home: HomeOption = HERE,
) -> None:
    """Compare the notes with their index."""
    with _memory(home) as memory:
        if repair:
            memory.rebuild_index()
        check = memory.check()
    print(f"{check.notes} notes, {check.vectors} vectors, {check.indexed} in the index")
    if not check.is_whole:
        _fail("the index does not match the notes\n  -> run `overlay memory check --repair`", 1)


@memory_app.command("reembed", epilog="Example: overlay memory reembed")
def memory_reembed(home: HomeOption = HERE) -> None:
    """Compute all vectors again, after the embedder in agent.yaml changed."""
    from overlay.agent import open_embedder
    from overlay.home import Home
    from overlay.memory import Memory

    opened = Home.open(home)
    with _progress() as progress:
        embedder = open_embedder(opened, progress=progress)
        progress.step("embedding all notes", None, None)
        count = Memory.reembed(opened.lived, embedder)
    print(f"{count} notes embedded with {embedder.name}")


# --- axes, adapters, models ----------------------------------------------------------------------


@axes_app.command("build", epilog="Example: overlay axes build tenderness")
def axes_build(
    name: Annotated[str, typer.Argument(help="Which axis: a file of adapters/steering, without .yaml.")],
    method: Annotated[str, typer.Option(help="discriminant, difference or projected.")] = "discriminant",
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
) -> None:
    """Build an axis, check it on held-out texts, and calibrate its dose. Exit code 1 if it fails its checks."""
    from overlay.home import Home
    from overlay.model import LanguageModel, VolatilityGauge

    opened = Home.open(home)
    opened.axes.contrast(name)
    with _progress() as progress:
        progress.step(f"loading {opened.settings.model}", None, None)
        model = LanguageModel.load(opened.settings.model, dtype=dtype, pull=True, progress=progress)
        axis = opened.axes.build(
            name, model, VolatilityGauge(model), budget=opened.settings.budget, method=method, progress=progress
        )
    evidence = axis.evidence
    table = _table("texts", "AUROC held out", "without telling words", "on fresh texts", "dose writes, nats/token")
    for group in ("positive", *evidence.auroc):
        columns = (evidence.auroc, evidence.auroc_ablated, evidence.confirmation)
        figures = [f"{column[group]:.2f}" if group in column else "" for column in columns]
        table.add_row(group, *figures, f"{evidence.writing[group]:+.3f}" if group in evidence.writing else "")
    _print(table)
    print(
        f"read at blocks {axis.reading_blocks[0]} to {axis.reading_blocks[-1]}, acts at {axis.blocks[0]} to "
        f"{axis.blocks[-1]}; halves of the data agree at cosine "
        f"{axis.evidence.halves_cosine:.2f}, {axis.evidence.against_sign:.0%} of its own texts read below neutral"
    )
    print(
        f"budget dose {axis.calibration.budget_dose:.4f} of the residual norm "
        f"for {axis.calibration.budget} nats per token"
    )
    axis.require_proof()


@axes_app.command("list", epilog="Example: overlay axes list --json")
def axes_list(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """List the axes of a home and whether they may be used."""
    from overlay.home import Home

    found = Home.open(home).axes.status()
    if as_json:
        print(json.dumps([{"name": s.name, "built": s.axis is not None, "problem": s.problem} for s in found]))
        return
    table = _table("axis", "made on", "lowest AUROC", "budget dose", "state")
    for status in found:
        axis = status.axis
        table.add_row(
            status.name,
            axis.model_name if axis else "",
            f"{min(axis.evidence.auroc.values()):.2f}" if axis else "",
            f"{axis.calibration.budget_dose:.4f}" if axis else "",
            status.problem or "ready",
        )
    _print(table)


@adapters_app.command("train", epilog="Example: overlay adapters train british_spelling")
def adapters_train(
    name: Annotated[str, typer.Argument(help="Which adapter: a folder of adapters/lora.")],
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
) -> None:
    """Train an adapter by its recipe, under its anchor, and measure what it learned and what it cost."""
    from overlay.home import Home

    opened = Home.open(home)
    with _progress() as progress:
        adapter = opened.adapters.train(name, opened.settings.model, dtype=dtype, progress=progress)
    print(
        f"{adapter.name}: held-out accuracy {adapter.accuracy_before:.2f} -> {adapter.accuracy_after:.2f}, "
        f"{adapter.volatility_mean:.3f} nats per token on neutral text (95%: {adapter.volatility_p95:.3f}), "
        f"{adapter.steps} steps, {adapter.seconds:.0f} s"
    )


@adapters_app.command("list", epilog="Example: overlay adapters list --json")
def adapters_list(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """List the adapters of a home and what they were measured to do."""
    from overlay.home import Home

    found = Home.open(home).adapters.status()
    if as_json:
        rows = [{"name": s.name, "trained": s.adapter is not None, "problem": s.problem} for s in found]
        print(json.dumps(rows))
        return
    table = _table("adapter", "made on", "held-out accuracy", "nats/token", "state")
    for status in found:
        adapter = status.adapter
        table.add_row(
            status.name,
            adapter.base_model if adapter else "",
            f"{adapter.accuracy_before:.2f} -> {adapter.accuracy_after:.2f}" if adapter else "",
            f"{adapter.volatility_mean:.3f}" if adapter else "",
            status.problem or "ready",
        )
    _print(table)


@models_app.callback()
def models(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the models that are known by name, and whether they are on this machine."""
    if context.invoked_subcommand:
        return
    from overlay.model.catalog import known_models

    found = known_models()
    if as_json:
        rows = [{"name": m.name, "kind": m.kind, "cached": m.cached, "path": str(m.path or "")} for m in found]
        print(json.dumps(rows))
        return
    table = _table("model", "kind", "licence", "download", "on this machine")
    for model in found:
        table.add_row(
            model.name,
            model.kind,
            model.licence,
            f"{model.download_size / 1e6:.0f} MB",
            f"{model.size_on_disk / 1e6:.0f} MB" if model.cached else "no",
        )
    _print(table)
    print("Any folder with config.json and safetensors, .gguf file or hub id works as well, in agent.yaml.")


@models_app.command("pull", epilog="Examples: overlay models pull smollm2-135m · overlay models pull --missing")
def models_pull(
    name: Annotated[str | None, typer.Argument(help="Which model; all known ones by default.")] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only fetch what isn't there; say nothing else.")] = False,
) -> None:
    """Fetch a model once and check it; what is there already is checked for damage."""
    from overlay.model.catalog import KNOWN, known_models
    from overlay.model.pull import pull

    cached = {model.name for model in known_models() if model.cached}
    with _progress() as progress:
        for one in [name] if name else list(KNOWN):
            if not (missing and one in cached):
                print(f"{one}: {pull(one, progress)}")


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(*columns, box=box.SIMPLE_HEAD)


def _print(table: Table) -> None:
    from rich.console import Console

    Console().print(table)


def _progress() -> Any:
    from overlay.progress import ConsoleProgress

    return ConsoleProgress()


if __name__ == "__main__":
    main()
