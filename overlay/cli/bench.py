"""The benchmarks of a source checkout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from overlay.cli.console import JsonOption, console_progress, new_table, print_table

app = typer.Typer()


@app.command(
    epilog="Examples: overlay bench engine --json · overlay bench bans --replies 200 · overlay bench focus · "
    "overlay bench inner · overlay bench kills --kills 20 · overlay bench carryover · overlay bench emergent · "
    "overlay bench sweep · overlay bench nulls · overlay bench resumes --kills 5 · overlay bench memory --notes 5000 · "
    "overlay bench memory_kills --kills 10 · overlay bench recall --data locomo.json · overlay bench folds · "
    "overlay bench frames · overlay bench teaching --kills 10"
)
def bench(
    name: Annotated[
        str,
        typer.Argument(
            help="engine: speed and memory, as ratios within one run. bans: whether banned text stays out of a "
            "thousand replies, and what that costs. focus: which of two contradicting sentences the model follows. "
            "inner: what thinking before a reply costs a turn. kills: whether an agent that is killed at random "
            "moments keeps every turn that it answered. carryover: whether the state that texts build up bends choices "
            "that share no word with them. emergent: whether an axis is born in a life on one theme, and what it does. "
            "sweep: how fast scenarios are played. nulls: what verdicts random directions get in place of a state. "
            "resumes: whether a run that is killed at random moments ends with the records of one that wasn't. "
            "memory: how fast notes are written and found. memory_kills: whether a memory that is killed while it is "
            "written to keeps every note. recall: how much of what a question needs is recalled, and what each term "
            "brings. folds: how much of it is found through folds. frames: how often the right frame wakes. "
            "adapters: what training inside the safe zone and under an anchor learns and costs, beside plain LoRA. "
            "forgetting: what adapters cost in grammar and in causes. swaps: whether faults in a swap leave anything "
            "behind. microvariants: fifty small variants of each of twenty texts. anchoring: whether a concept that "
            "is fed becomes one stable vector. vault: how long a vault of linked notes takes to import, and again "
            "unchanged. probes: whether a semantic map finds what one cell was taught, and how often it speaks where "
            "nothing was. teaching: whether a curriculum teaches more than its shuffled twin, steps back, and outlives "
            "kills."
        ),
    ] = "engine",
    replies: Annotated[
        int | None, typer.Option(min=1, help="For bans: how many replies to each list; 1000 when not given.")
    ] = None,
    kills: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="For kills, memory_kills, resumes and teaching: how many processes are killed; "
            "200, 100, 20 and 10 when not given.",
        ),
    ] = None,
    notes: Annotated[
        int | None, typer.Option(min=100, help="For memory: how many notes are searched; 50000 when not given.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="For recall and folds: a file of LoCoMo or MuSiQue; both beside the sources if not given."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="For anchoring: draw the curve into this file, a .png or .svg. "
            "For microvariants: keep them in this file, as JSON lines."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what the engine, the inner life and the memory cost, and what they keep to."""
    import inspect
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
    measure = runpy.run_path(str(folder / f"{name}.py"))["measure"]
    takes = inspect.signature(measure).parameters
    given = {
        "replies": replies,
        "kills": kills,
        "notes": notes,
        "data": None if data is None else str(data),
        "out": out,
    }
    options: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
    for option in options:
        if option not in takes:
            raise ArgumentError(f"the benchmark '{name}' knows no --{option}", f"leave --{option} away")
    with console_progress() as progress:
        figures = measure(**options, **({"progress": progress} if "progress" in takes else {}))
    if as_json:
        print(json.dumps(figures))
    else:
        table = new_table("figure", "value")
        for figure, value in _flat(figures):
            table.add_row(figure, str(value))
        print_table(table)


def _flat(figures: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Figures of figures, each under its whole name."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value
