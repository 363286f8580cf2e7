"""Maps of intervention: where in the model an aim is best taught."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress, print_table
from overlay.cli.written_files import require_writable

if TYPE_CHECKING:
    from overlay.mapping import InterventionMap


app = typer.Typer()


@app.command(
    "map",
    epilog="Examples: overlay map spelling · overlay map style --seeds 5 --out style.md · overlay map my_recipe --json",
)
def map_command(
    aim: Annotated[
        str,
        typer.Argument(
            metavar="AIM",
            help="spelling, errors, orthography, logic, style or tokens; or any adapter of the home that has a recipe.",
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Trainings in each place.")] = 3,
    null_seeds: Annotated[int, typer.Option(min=0, help="Of these, how many also on random labels.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 16,
    batch: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 4,
    p95: Annotated[
        float, typer.Option(help="Nats per token, 95th percentile on neutral text, to which each place is scaled.")
    ] = 0.5,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page (.md, its heatmap beside it) or the heatmap (.png, .svg)."),
    ] = None,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find where in the model to intervene for an aim, and which claims about its place stand.

    Every part of the model is taught the same with as many parameters, scaled to the same volatility and scored on
    held-out choices, beside random labels and what activations alone say. Each training is kept as soon as it is
    done: what was stopped goes on, and more seeds begin where fewer ended.
    """
    from overlay.home import Home
    from overlay.mapping import MapSettings, map_aim, map_table, read_aim
    from overlay.mapping.page import map_words
    from overlay.model import LanguageModel

    settings = MapSettings(seeds, min(null_seeds, seeds), steps, batch, p95)
    _check_out(out)
    opened = Home.open(home)
    chosen = read_aim(opened.adapters, aim)
    with console_progress() as progress:
        model = LanguageModel.load(opened.settings.model, dtype=dtype, pull=True, progress=progress)
        found = map_aim(model, chosen, opened.lived / "maps", settings, progress)
    if out is not None:
        _write(out, found)
    if as_json:
        print(json.dumps(map_facts(found), ensure_ascii=False))
        return
    print_table(map_table(found))
    for sentence in map_words(found):
        print(sentence)
    least = "0; no null was measured" if found.null_reach is None else "all that random labels brought"
    print(f"* the whole interval lies above {least}")
    if out is not None:
        print(out)


def map_facts(found: InterventionMap) -> dict[str, Any]:
    """The map as one JSON document: the cells as they were measured, with what they come to."""
    from overlay.mapping.verdict import verdict

    judged = verdict(found)
    places = [
        {
            **asdict(place),
            "gain": asdict(found.spreads[place.name]),
            "null_gain": found.null_gain(place.name),
            "beyond_null": found.is_beyond_null(place.name),
            "accuracy": found.accuracy(place.name),
        }
        for place in found.places
    ]
    return {
        **json.loads(found.to_json()),
        "places": places,
        "base_accuracy": found.base_accuracy,
        "verdict": asdict(judged) if judged else None,
    }


def _check_out(out: Path | None) -> None:
    """Raise ArgumentError for a file of another kind or in no place to write to, before anything is measured."""
    from overlay.errors import ArgumentError
    from overlay.plots import format_of

    if out is not None and out.suffix.lower() != ".md":
        try:
            format_of(out)
        except ArgumentError:
            raise ArgumentError(
                f"{out} ends in none of .md, .png and .svg", "give the file one of these endings"
            ) from None
    if out is not None:
        require_writable(out)


def _write(out: Path, found: InterventionMap) -> None:
    from overlay.mapping import draw_map, map_page
    from overlay.plots import format_of
    from overlay.records import write_record

    if out.suffix.lower() == ".md":
        picture = out.with_suffix(".svg")
        write_record(picture, draw_map(found, "svg"))
        write_record(out, map_page(found, picture.name))
    else:
        write_record(out, draw_map(found, format_of(out)))
