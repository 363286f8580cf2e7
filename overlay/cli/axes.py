"""Axes: building and listing them, and control vectors in and out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from overlay.axes import Axis

EMERGENT_FACTS = ("name", "strength", "p", "stability", "born", "age", "missed", "loadings")

app = typer.Typer(help="Build, list, import and export axes.", no_args_is_help=True)

PoolOption = Annotated[
    str, typer.Option(help="Positions it is read over: ramp, mean, last, or from the end such as -1,-2.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Let it be used even if it is unproven; every result will say so.")
]


@app.command("build", epilog="Example: overlay axes build tenderness")
def axes_build(
    name: Annotated[str, typer.Argument(help="Which axis: a file of adapters/steering, without .yaml.")],
    method: Annotated[
        str | None,
        typer.Option(help="levelled (when not given), discriminant, difference, projected, pca or logistic."),
    ] = None,
    writes: Annotated[
        str | None, typer.Option(help="A dose acts along the gradient of likelihood (when not given), or the reading.")
    ] = None,
    pool: PoolOption = "ramp",
    force: ForceOption = False,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
) -> None:
    """Build an axis, check it on held-out texts, and calibrate its dose. Exit code 1 if it fails its checks."""
    from overlay.axes import read_method, read_pool, read_writes
    from overlay.home import Home
    from overlay.model import LanguageModel, VolatilityGauge

    opened = Home.open(home)
    opened.axes.source(name)
    chosen, method, writes = read_pool(pool), method and read_method(method), writes and read_writes(writes)
    with console_progress() as progress:
        progress.step(f"loading {opened.settings.model}", None, None)
        model = LanguageModel.load(opened.settings.model, dtype=dtype, pull=True, progress=progress)
        axis = opened.axes.build(
            name,
            model,
            VolatilityGauge(model),
            budget=opened.settings.budget,
            method=method,
            writes=writes,
            pool=chosen,
            force=force,
            progress=progress,
        )
    _print_axis(axis)
    axis.require_proof()


def _print_axis(axis: Axis) -> None:
    from overlay.axes import write_pool

    evidence = axis.evidence
    table = new_table("texts", "AUROC held out", "without telling words", "on fresh texts", "dose writes, nats/token")
    for group in ("positive", *evidence.auroc):
        columns = (evidence.auroc, evidence.auroc_ablated, evidence.confirmation)
        figures = [f"{column[group]:.2f}" if group in column else "" for column in columns]
        table.add_row(group, *figures, f"{evidence.writing[group]:+.3f}" if group in evidence.writing else "")
    if evidence.auroc:
        print_table(table)
    acts = "" if axis.writes == "reading" else " along the gradient of its texts' likelihood"
    print(
        f"made by {axis.method}, read over {write_pool(axis.pool)} at blocks {axis.reading_blocks[0]} to "
        f"{axis.reading_blocks[-1]}, acts at {axis.blocks[0]} to {axis.blocks[-1]}{acts}"
    )
    if evidence.halves_cosine is not None:
        print(f"halves of the data agree at cosine {evidence.halves_cosine:.2f}")
    if evidence.pairs_in_order is not None:
        print(f"{evidence.pairs_in_order:.0%} of its own texts read above their twins")
    if evidence.against_sign is not None:
        print(f"{evidence.against_sign:.0%} of its own texts read below neutral")
    if evidence.acts_against_sign is not None:
        print(f"{evidence.acts_against_sign:.0%} of its own fresh texts are made less likely by the dose")
    print(
        f"budget dose {axis.calibration.budget_dose:.4f} of the residual norm "
        f"for {axis.calibration.budget} nats per token"
        f"{'' if axis.calibration.spends_budget else ', which it does not spend: text falls apart before'}"
    )
    print(f"coherent up to {axis.reach:.2f} budget doses, {axis.calibration.limit:.4f} of the residual norm")
    if not axis.proven:
        print(f"unproven{', forced' if axis.forced else ''}: {'; '.join(evidence.failures)}")


@app.command("calibrate", epilog="Example: overlay axes calibrate tenderness --out docs/axes")
def axes_calibrate(
    name: Annotated[str, typer.Argument(help="Which axis; it is built first if need be.")],
    directions: Annotated[
        int | None, typer.Option(min=1, help="Random directions to compare with: 8, or 3 with --quick.")
    ] = None,
    doses: Annotated[int, typer.Option(min=7, help="Doses from -limit to +limit, an odd number.")] = 9,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer texts, prompts and windows of blocks.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where page, plot and JSON go; by default to the built axes.")
    ] = None,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure what doses of an axis do, against random directions, and up to where text stays coherent.

    About ten minutes on two cores with the embedded model. The axis is replaced at the very end: stopping
    early loses nothing.
    """
    import time

    from overlay.axes import calibration_record, calibration_tables, even_doses, findings, write_page
    from overlay.home import Home
    from overlay.model import LanguageModel, VolatilityGauge

    opened = Home.open(home)
    opened.axes.source(name)
    even_doses(1.0, doses)
    started = time.monotonic()
    with console_progress() as progress:
        progress.step(f"loading {opened.settings.model}", None, None)
        model = LanguageModel.load(opened.settings.model, dtype=dtype, pull=True, progress=progress)
        axis = opened.axes.calibrate(
            name,
            model,
            VolatilityGauge(model),
            budget=opened.settings.budget,
            doses=doses,
            directions=directions,
            quick=quick,
            progress=progress,
        )
    seconds = time.monotonic() - started
    command = f"overlay axes calibrate {name}{' --quick' if quick else ''}{f' --out {out}' if out else ''}"
    files = write_page(axis, out or opened.lived / "axes", command)
    if as_json:
        written = {"page": str(files.page), "svg": str(files.svg), "png": str(files.png), "json": str(files.record)}
        print(json.dumps(calibration_record(axis) | {"files": written, "seconds": seconds}, ensure_ascii=False))
        return
    for table in calibration_tables(axis):
        print(table.title)
        shown = new_table(*table.columns)
        for row in table.terminal_rows:
            shown.add_row(*row)
        print_table(shown)
        print(f"{table.note}\n")
    for sentence in findings(axis):
        print(f"- {sentence}")
    print(f"Page: {files.page}, plot: {files.svg} and {files.png.name}, numbers: {files.record}  ({seconds:.0f} s)")


@app.command("export", epilog="Example: overlay axes export tenderness tenderness.gguf --dose 0.5")
def axes_export(
    name: Annotated[str, typer.Argument(help="Which axis; it must be built.")],
    file: Annotated[Path, typer.Argument(metavar="FILE.gguf", help="The file to write; it must not exist yet.")],
    dose: Annotated[float, typer.Option(help="How many budget doses llama.cpp's scale 1 is.")] = 1.0,
    home: HomeOption = HERE,
) -> None:
    """Write an axis as a control vector for llama.cpp."""
    from overlay.home import Home

    axis = Home.open(home).axes.export_vector(name, file, dose)
    print(
        f"{file}: blocks {axis.blocks[0]} to {axis.blocks[-1]}; llama.cpp's scale 1 is a dose of "
        f"{dose * axis.calibration.budget_dose:.4f} of the residual norm"
    )


@app.command("import", epilog="Example: overlay axes import calm.gguf --name calm --force")
def axes_import(
    file: Annotated[Path, typer.Argument(metavar="FILE.gguf", help="A control vector of llama.cpp.")],
    name: Annotated[str, typer.Option(help="What the axis will be called.")],
    pool: PoolOption = "ramp",
    force: ForceOption = False,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
) -> None:
    """Make an axis of a control vector. It has no texts, so it is unproven and is used only with --force."""
    from overlay.axes import read_pool
    from overlay.home import Home
    from overlay.model import LanguageModel, VolatilityGauge

    opened = Home.open(home)
    chosen = read_pool(pool)
    opened.axes.require_free(name, file)
    with console_progress() as progress:
        progress.step(f"loading {opened.settings.model}", None, None)
        model = LanguageModel.load(opened.settings.model, dtype=dtype, pull=True, progress=progress)
        axis = opened.axes.import_vector(
            file,
            name,
            model,
            VolatilityGauge(model),
            budget=opened.settings.budget,
            pool=chosen,
            force=force,
            progress=progress,
        )
    _print_axis(axis)


@app.command("list", epilog="Example: overlay axes list --json")
def axes_list(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """List the axes of a home and whether they may be used."""
    from overlay.axes import write_pool
    from overlay.home import Home

    found = Home.open(home).axes.status()
    if as_json:
        listed = [
            {
                "name": status.name,
                "built": status.axis is not None,
                "proven": status.proven,
                "forced": status.forced,
                "method": status.axis.method if status.axis else None,
                "writes": status.axis.writes if status.axis else None,
                "pool": write_pool(status.axis.pool) if status.axis else None,
                "problem": status.problem,
            }
            for status in found
        ]
        print(json.dumps(listed, ensure_ascii=False))
        return
    table = new_table("axis", "made on", "lowest AUROC", "budget dose", "state")
    for status in found:
        axis = status.axis
        table.add_row(
            status.name,
            axis.model_name if axis else "",
            f"{min(axis.evidence.auroc.values()):.2f}" if axis and axis.evidence.auroc else "",
            f"{axis.calibration.budget_dose:.4f}" if axis else "",
            status.problem or "ready",
        )
    print_table(table)


@app.command("emergent", epilog="Example: overlay axes emergent --json")
def axes_emergent(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """Axes that nobody named: how strong and how old they are, and which turns load most on them."""
    from overlay.emergent import living, outlook
    from overlay.home import Home
    from overlay.records import read_journal
    from overlay.state import present

    opened = Home.open(home)
    found = outlook(opened)
    now = {one.axis: one.value for one in present(opened, time.time())}
    said = {
        f"{record['session']}:{record['number']}": record["user"]
        for path in opened.sessions.glob("*.jsonl")
        for record in read_journal(path)
    }
    if as_json:
        axes = [
            {key: value for key, value in vars(axis).items() if key in EMERGENT_FACTS}
            | {"state": now.get(axis.name), "in_force": living(opened).get(axis.name)}
            for axis in found.axes
        ]
        facts = {"on": found.on, "turns": found.turns, "looks": found.looks, "next_look": found.next_look}
        print(json.dumps(facts | {"axes": axes}, ensure_ascii=False))
        return
    if not found.on:
        print("Nothing emerges here: agent.yaml has no `emergent` under `state`.")
        return
    # Names of sessions fill a line: with one session alone, its turns have numbers enough.
    sessions = {label.rpartition(":")[0] for label in said}
    labels = {label: f"turn {label.rpartition(':')[2]}" if len(sessions) == 1 else label for label in said}
    table = new_table("axis", "strength", "p", "stability", "born", "looks", "state")
    for column in table.columns:
        column.no_wrap = True
    for axis in found.axes:
        table.add_row(
            axis.name,
            f"{axis.strength:.3f}",
            f"{axis.p:.3f}",
            "" if axis.stability is None else f"{axis.stability:.2f}",
            labels.get(axis.born, axis.born),
            f"{axis.age}" + (f", missed {axis.missed}" if axis.missed else ""),
            f"{now.get(axis.name, 0.0):+.2f}",
        )
    if found.axes:
        print_table(table)
    else:
        print("No axis has emerged.")
    for axis in found.axes:
        print(f"Most of {axis.name} lies in")
        for label, load in axis.loadings[:3]:
            print(f"  {load:+.3f} {labels.get(label, label)}: {_shortened(said.get(label, ''), 40)}")
    turns = f"{found.turns} turn{'' if found.turns == 1 else 's'} of inner speech"
    when = "after the next turn" if found.next_look <= 1 else f"in {found.next_look} turns"
    print(f"{turns}, {found.looks} looks so far; the next one {when}.\nStrength is in residual norms.")


def _shortened(text: str, length: int = 48) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= length else one_line[: length - 1] + "…"
