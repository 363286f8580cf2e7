"""Four levels of one state on the command line."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, DTypeOption, HomeOption, JsonOption, console_progress, new_table, print_table
from overlay.cli.written_files import require_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from overlay.levels import LevelSettings

app = typer.Typer()


@app.command(
    epilog="Examples: overlay levels tenderness · overlay levels tenderness --out docs/levels/tenderness.md · "
    "overlay levels tenderness --scenario scenarios/shared_stores.yaml --seeds 5 --json"
)
def levels(
    axis: Annotated[str, typer.Argument(metavar="AXIS", help="The axis of the state, such as tenderness.")],
    scenario: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A script whose choices are scored; again for more. The home's if not given."
        ),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Level 3's adapter; the one under `levels:` in the scripts if not given.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Replies to each everyday remark.")] = 3,
    directions: Annotated[int, typer.Option(min=1, help="Random directions beside the state.")] = 3,
    prompts: Annotated[int, typer.Option(min=1, help="Everyday remarks.")] = 20,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a reply, at the most.")] = 48,
    wordings: Annotated[int, typer.Option(min=1, help="Wordings of each item of a script.")] = 2,
    questions: Annotated[int, typer.Option(min=1, help="Of each kind of unrelated questions, at most.")] = 200,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md",
            help="Where to write the page; plot and numbers lie beside it. In .overlay/levels/AXIS if not given.",
        ),
    ] = None,
    home: HomeOption = HERE,
    dtype: DTypeOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Bring one state about in four ways, and write a page on what each does.

    The ways: write on a topic before, be told to be in the state, wear an adapter trained on texts of it, and let it
    build up unnamed. Adapter and state are scaled to one volatility. Asked again after a stop, it goes on.
    """

    require_page(out)
    from overlay.home import Home
    from overlay.levels import LevelSettings, compare_levels, write_page

    opened = Home.open(home)
    settings = LevelSettings(seeds, directions, prompts, tokens, wordings, questions)
    with console_progress() as progress:
        result = compare_levels(
            opened,
            axis,
            settings=settings,
            scripts=scenario or (),
            adapter=adapter,
            dtype=dtype,
            command=_command(axis, scenario or [], adapter, settings, dtype),
            progress=progress,
        )
        progress.step("writing the page", None, None)
        written = write_page(result, out or opened.levels / axis / "page.md")
    if as_json:
        print(json.dumps(result | {"files": [str(path) for path in written]}, ensure_ascii=False))
        return
    _print(result)
    print(f"Page: {written[0]}")


def _command(axis: str, scripts: list[Path], adapter: str | None, settings: LevelSettings, dtype: str) -> str:
    """How this comparison can be made again; what is as by default is left out."""
    from overlay.levels import LevelSettings

    usual = LevelSettings()
    words = ["overlay", "levels", axis]
    words += [word for script in scripts for word in ("--scenario", str(script))]
    words += ["--adapter", adapter] if adapter else []
    for name, value in asdict(settings).items():
        words += [f"--{name}", str(value)] if value != getattr(usual, name) else []
    words += ["--dtype", dtype] if dtype != "auto" else []
    return shlex.join(words)


def _print(result: Mapping[str, Any]) -> None:
    from overlay.levels.level import LABELS, LEVELS
    from overlay.levels.summary import PLANNED, in_words

    for sentence in result["summary"]:
        print(sentence)
    table = new_table("level", *PLANNED)
    for number, level in enumerate(LEVELS, start=1):
        table.add_row(f"{number}. {LABELS[level]}", *(in_words(result, section, level) for section in PLANNED))
    print_table(table)
