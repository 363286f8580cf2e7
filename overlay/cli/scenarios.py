"""Running scenarios: scripts in, a verdict and a report for each out, and one for all of them."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress, new_table

if TYPE_CHECKING:
    from overlay.scenarios import RunSettings, Scenario

app = typer.Typer()


@app.command(
    epilog="Examples: overlay run scenarios/shared_stores.yaml · overlay run scenarios/*.yaml --arms all --json · "
    "overlay run scenarios/*.yaml --out runs/mine (again, after a stop, to go on) · overlay run FILE --engine ray"
)
def run(
    scripts: Annotated[list[Path], typer.Argument(metavar="SCENARIO...", help="Scenario scripts.")],
    home: HomeOption = HERE,
    out: Annotated[Path | None, typer.Option(help="Where to write; a stopped run goes on from there.")] = None,
    arms: Annotated[str, typer.Option(help="core: base, treated, sham, reversed, random. all: every arm.")] = "core",
    directions: Annotated[
        int | None, typer.Option(min=1, help="Random directions; 8 for core arms, 39 for all.", show_default=False)
    ] = None,
    exploratory: Annotated[
        bool, typer.Option("--exploratory", help="Go on though the script was changed; the result says so.")
    ] = False,
    engine: Annotated[str, typer.Option(help="local, or ray: many processes or machines.")] = "local",
    actors: Annotated[int, typer.Option(min=1, help="Models that stay loaded, with --engine ray.")] = 2,
    address: Annotated[str | None, typer.Option(help="A Ray cluster; one is started here without it.")] = None,
    inspect: Annotated[bool, typer.Option("--inspect", help="Also write Inspect logs, one an arm.")] = False,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Run scenarios with their arms, and say what the evidence shows."""
    from overlay.errors import ArgumentError
    from overlay.home import Home
    from overlay.scenarios import RunSettings, read_scenario

    if arms not in ("core", "all"):
        raise ArgumentError(f"--arms {arms}", "use core or all")
    if engine not in ("local", "ray"):
        raise ArgumentError(f"--engine {engine}", "use local or ray")
    if engine == "local" and address is not None:
        raise ArgumentError("--address goes with --engine ray", "add it, or leave the address out")
    opened = Home.open(home)
    # All scripts are read before the first one runs: a mistake in the last is found at once.
    scenarios = [read_scenario(path) for path in scripts]
    written = [shlex.quote(str(path)) for path in scripts]
    settings = RunSettings(
        "all" if arms == "all" else "core",
        directions,
        exploratory,
        "ray" if engine == "ray" else "local",
        actors,
        address,
        " ".join(["overlay run", *written, "--arms", arms, *(["--directions", str(directions)] if directions else [])]),
    )
    folder = out or opened.runs / _name(scenarios)
    try:
        document = _run_all(opened, scenarios, folder, settings, dtype)
    except KeyboardInterrupt:
        print(f"\nFinished cells are in {folder}; add --out {folder} to go on from there.", file=sys.stderr)
        raise
    results = document["runs"]
    if inspect:
        for result in results:
            _write_inspect(result)
    if as_json:
        print(json.dumps(document if len(results) > 1 else results[0], ensure_ascii=False))
        return
    for result in results:
        _print_result(result)
    if len(results) > 1:
        _print_overall(document["overall"], folder)


@app.command(epilog="Examples: overlay report .overlay/runs/shared_stores-20260101-120000 · overlay report RUN --json")
def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of several.")],
    inspect: Annotated[bool, typer.Option("--inspect", help="Also write Inspect logs, one an arm.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a finished run again: a page, tables as CSV and, if asked, Inspect logs."""
    from overlay.errors import RecordDamaged, ScenarioError

    folders = [run] if (run / "result.json").exists() else sorted(path.parent for path in run.glob("*/result.json"))
    if not folders:
        raise ScenarioError(f"{run} holds no finished run", "run it to its end: overlay run SCENARIO --out FOLDER")
    results = []
    for folder in folders:
        try:
            results.append(json.loads((folder / "result.json").read_text(encoding="utf-8")))
        except ValueError:
            raise RecordDamaged(f"{folder / 'result.json'} can't be read", "run the scenario again there") from None
    for result, folder in zip(results, folders, strict=True):
        result["records"] = str(folder / "records.jsonl")
        result["report"] = str(_write(result, folder))
        if inspect:
            result["inspect"] = _write_inspect(result)
    document: dict[str, Any] = {"runs": results}
    if (run / "overall.json").exists():
        document["overall"] = json.loads((run / "overall.json").read_text(encoding="utf-8"))
        document["report"] = str(_write_overview(document, run))
    if as_json:
        print(json.dumps(document, ensure_ascii=False))
        return
    for result in results:
        print(f"{result['scenario']}: {result['verdict']}. {result['report']}")
        for path in result.get("inspect", ()):
            print(f"  {path}")
    if "report" in document:
        print(f"All of them: {document['report']}")


def _name(scenarios: list[Scenario]) -> str:
    name = scenarios[0].name if len(scenarios) == 1 else f"{len(scenarios)}-scenarios"
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def _run_all(opened: Any, scenarios: list[Scenario], folder: Path, settings: RunSettings, dtype: str) -> dict[str, Any]:
    from overlay.scenarios import run_scenario, run_scenarios

    with console_progress() as progress:
        if len(scenarios) == 1:
            result = run_scenario(scenarios[0], opened, out=folder, settings=settings, dtype=dtype, progress=progress)
            document: dict[str, Any] = {"runs": [result]}
        else:
            document = run_scenarios(scenarios, opened, out=folder, settings=settings, dtype=dtype, progress=progress)
        progress.step("writing reports", None, None)
        for result in document["runs"]:
            result["report"] = str(_write(result, Path(result["records"]).parent))
        if "overall" in document:
            _write_overview(document, folder)
    return document


def _write(result: dict[str, Any], folder: Path) -> Path:
    from overlay.scenarios import write_report, write_tables

    write_report(result, folder / "report.html")
    write_tables(result, folder)
    return folder / "report.html"


def _write_overview(document: dict[str, Any], folder: Path) -> Path:
    from overlay.scenarios import write_overview

    links = {result["scenario"]: f"{result['scenario']}/report.html" for result in document["runs"]}
    write_overview(document, folder / "report.html", links)
    return folder / "report.html"


def _write_inspect(result: dict[str, Any]) -> list[str]:
    from overlay.scenarios import write_inspect_logs

    records = Path(result["records"])
    cells = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    return [str(path) for path in write_inspect_logs(result, cells, records.parent / "inspect")]


def _print_result(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    control = " (a negative control: nothing should change)" if result.get("control") else ""
    console.print(f"\n[bold]{escape(result['scenario'])}[/bold]{control}: [bold]{result['verdict']}[/bold]")
    console.print(escape(result["headline"]))
    for reason in result["reasons"]:
        console.print(f"  - {escape(reason)}")
    state = ", ".join(f"{name} {value:+.2f}" for name, value in result["state"].items())
    console.print(f"State after the exposure: {state}")
    if result["unproven_axes"]:
        console.print(f"[bold]Unproven axes:[/bold] {escape(', '.join(result['unproven_axes']))}")
    table = new_table("arm", "n", "base there", "did it", "shift, nats/token", "p", "volatility")
    for name, arm in result["arms"].items():
        rate, shift = arm["rate_interval"], arm["shift_interval"]
        moved = "" if arm["shift"] is None else f"{arm['shift']:+.3f}"
        table.add_row(
            name.replace("_", ", same ", 1) if name.startswith("random") else name.replace("_", " "),
            str(arm["n"]),
            "" if arm["rate_base"] is None else f"{arm['rate_base']:.0%}",
            "" if arm["rate"] is None else f"{arm['rate']:.0%} ({rate[0]:.0%}-{rate[1]:.0%})",
            moved if shift is None else f"{moved} ({shift[0]:+.3f} to {shift[1]:+.3f})",
            "" if arm["p"] is None else f"{arm['p']:.3f}",
            "" if arm["volatility_mean"] is None else f"{arm['volatility_mean']:.3f}",
        )
    console.print(table)
    for arm in result["arms"].values():
        if "directions" in arm:
            shifts = sorted(entry["shift"] for entry in arm["directions"] if entry["shift"] is not None)
            listed = " ".join(f"{shift:+.3f}" for shift in shifts)
            console.print(f"{arm['label']}: shifts {listed}", style="dim", highlight=False)
    if result.get("self_report"):
        said = result["self_report"]
        console.print(f"Asked about itself: [bold]{escape(said['verdict'])}[/bold]")
        for reason in said["reasons"]:
            console.print(f"  - {escape(reason)}")
    print(f"Report: {result['report']}  ({result['seconds']:.0f} s)")


def _print_overall(overall: dict[str, Any], folder: Path) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    console.print(f"\n[bold]All together: {overall['verdict']}[/bold]\n{escape(overall['headline'])}")
    for reason in overall["reasons"]:
        console.print(f"  - {escape(reason)}")
    table = new_table("scenario", "verdict", "shift, nats/token", "rate", "p", "Holm p")
    for one in overall["scenarios"]:
        table.add_row(
            one["scenario"] + (" (control)" if one["control"] else ""),
            one["verdict"],
            "" if one["shift"] is None else f"{one['shift']:+.3f}",
            "" if one["rate_difference"] is None else f"{one['rate_difference']:+.0%}",
            "" if one["p"] is None else f"{one['p']:.3f}",
            "" if one["holm_p"] is None else f"{one['holm_p']:.3f}",
        )
    console.print(table)
    print(f"Report: {folder / 'report.html'}")
