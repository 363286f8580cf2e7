"""Running scenarios: scripts in, a verdict and a report for each out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress, new_table

if TYPE_CHECKING:
    from overlay.home import Home

app = typer.Typer()


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
        opened.axes.source(name)
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
    with console_progress() as progress:
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
    if result["unproven_axes"]:
        console.print(f"[bold]Unproven axes:[/bold] {escape(', '.join(result['unproven_axes']))}")
    table = new_table("arm", "n", "chose it", "shift, nats/token", "p", "volatility")
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
