"""Prompt equivalents on the command line: could a prompt have done the same?"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress, new_table, print_table
from overlay.cli.written_files import require_page

app = typer.Typer()


@app.command(
    "equivalence",
    epilog="Examples: overlay equivalence adapter:terse_style · "
    "overlay equivalence axis:tenderness --out tenderness.md · "
    "overlay equivalence state --queries mine.yaml --budget 300000 --json",
)
def equivalence(
    treatment: Annotated[
        str,
        typer.Argument(
            metavar="TREATMENT",
            help="adapter:NAME, adapter:NAME@SCALE (1: as trained), axis:NAME, axis:NAME@DOSE (in budget doses, below "
            "0 for its reverse), state (as it stands now), prompt:TEXT or prompt:@FILE.",
        ),
    ],
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A YAML file of queries; if not given, those shipped or the recipe's held-out ones."
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="TOKENS",
            help="Tokens that the model may read to search and train prompts, a trained one counting as three; "
            "120000 if not given.",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Samples of each query that are measured; prompts are chosen on one more.")
    ] = 3,
    length: Annotated[int, typer.Option(min=1, help="Tokens of a sampled continuation.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sampling, of the halves and of the search.")] = 0,
    anew: Annotated[
        bool, typer.Option("--anew", help="Begin anew, also where rungs of an earlier run are kept.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.md",
            help="Where to write the page; plot and record lie beside it. In .overlay/equivalence if not given.",
        ),
    ] = None,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure how closely a prompt can reproduce an adapter, an axis or the state, rung by rung.

    E is the share of the influence that a prompt leaves undone: 0 is as good as the treatment, 1 as the bare model,
    above 1 is harmful. Each finished rung is kept, and the same command goes on where it was stopped.
    """
    from overlay.equivalence import queries_for, read_modules, read_queries
    from overlay.errors import ArgumentError
    from overlay.home import Home
    from overlay.treatments import read_treatment, require_treatment

    require_page(out)
    opened = Home.open(home)
    if treatment == "base":
        raise ArgumentError("base does nothing that a prompt could stand in for", "name an adapter, an axis or state")
    require_treatment(treatment, opened)
    asked = read_queries(queries) if queries else queries_for(treatment, opened.adapters, opened.axes)
    modules = read_modules(opened.prompts)

    from overlay.equivalence import (
        COLUMNS,
        NOTE,
        LadderSettings,
        equivalence_record,
        ladder_folder,
        measure_equivalence,
        table_rows,
        verdict,
        write_page,
    )
    from overlay.model import LanguageModel

    given = {"draws": seeds, "length": length, "seed": seed} | ({} if budget is None else {"budget": budget})
    settings = LadderSettings(**given)
    material = tuple(module.text for module in modules if module.text)
    with console_progress() as progress:
        progress.step(f"loading {opened.settings.model}", None, None)
        model = LanguageModel.load(opened.settings.model, dtype=dtype, pull=True, progress=progress)
        with read_treatment(treatment, opened, model, progress=progress) as treated:
            place = ladder_folder(opened.equivalences, model, treated, asked, settings, material)
            if anew:
                shutil.rmtree(place, ignore_errors=True)
            found = measure_equivalence(
                model, treated, asked, settings=settings, material=material, folder=place, progress=progress
            )
    command = shlex.join(["overlay", *sys.argv[1:]])
    files = write_page(found, out or place / "page.md", command)
    if as_json:
        document = equivalence_record(found) | {"files": [str(path) for path in files]}
        print(json.dumps(document, ensure_ascii=False))
        return
    table = new_table(*COLUMNS)
    for row in table_rows(found):
        table.add_row(*row)
    print_table(table)
    print(NOTE, end="\n\n")
    for sentence in verdict(found).sentences:
        print(sentence)
    print(f"\n{files[0]}")
