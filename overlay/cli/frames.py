"""Reasoning frames: checking and starting them, drawing them with their energies, and tracing what wakes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, HomeOption, JsonOption, console_progress, new_table, print_table
from overlay.cli.mistakes import Mistake, mistakes_of, tell_checked
from overlay.cli.written_files import OutOption, begin_file, write_file, write_or_print

if TYPE_CHECKING:
    from overlay.frames import CueMatch, Effects, FrameGraph, FrameTurn, LearnedWeights
    from overlay.home import Home

SHOWN_LEFT_OUT = 5
"""Notes and frames left out that `weigh` prints; --json lists them all."""

SHOWN = 0.05
"""A trace leaves out frames with less energy that no cue woke."""

app = typer.Typer(help="Check, start, draw and trace reasoning frames.", no_args_is_help=True)


@app.command("check", epilog="Examples: overlay frames check · overlay frames check memory/frames/ledger.yaml --json")
def frames_check(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE...]", help="Frames; those of the home when none is named.")
    ] = None,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List the mistakes of frames with file and line; the exit code is 2 if there are any.

    Links are followed within a file's folder. Without FILE all frames of the home are checked, and whether the voices,
    axes and adapters that they name are there.
    """
    from overlay.documents import read_document
    from overlay.errors import DocumentError
    from overlay.frames import Frame, read_frames
    from overlay.frames.schema import frame_schema

    known: dict[str, Any] = {}
    if files:
        paths = list(files)
    else:
        paths, known = _of_home(home)
    found: dict[str, list[Mistake]] = {str(path): [] for path in paths}
    for path in paths:
        try:
            read_document(path, Frame)
        except DocumentError as error:
            found[str(path)] = mistakes_of(error, frame_schema())
    if not any(found.values()):
        for folder in dict.fromkeys(path.parent for path in paths):
            try:
                read_frames(folder, **known)
            except DocumentError as error:
                found.setdefault(str(error.path), []).extend(mistakes_of(error, frame_schema()))
    tell_checked(found, "frames", as_json=as_json)


def _of_home(folder: Path) -> tuple[list[Path], dict[str, Any]]:
    """The files of a home's frames, and the names that they may use."""
    from overlay.documents import read_document
    from overlay.home import Home
    from overlay.inner import Voice

    home = Home.open(folder)
    voices = [read_document(path, Voice).name for path in sorted(home.voices.glob("*.yaml"))]
    known = {"voices": voices, "axes": list(home.settings.state.axes), "adapters": list(home.adapters.names)}
    return sorted(home.frames.glob("*.yaml")), known


@app.command("new", epilog="Example: overlay frames new shorter_way")
def frames_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, - and _.")],
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write it; the home's frames when left out.")
    ] = None,
    home: HomeOption = HERE,
) -> None:
    """Write a frame to start from: explained line by line, and without mistakes as it stands."""
    from overlay.frames.template import new_frame
    from overlay.home import Home

    text = new_frame(name)
    path = (Home.open(home).frames if to is None else to) / f"{name}.yaml"
    begin_file(path, text)
    print(f"{path}: change it, then run `overlay frames check`")


@app.command("schema", epilog="Example: overlay frames schema --out memory/frame.schema.json")
def frames_schema(out: OutOption = None) -> None:
    """Print the JSON Schema of frames, by which editors complete and check them.

    A frame names it in its first line: # yaml-language-server: $schema=../frame.schema.json
    """
    from overlay.document_schema import schema_text
    from overlay.frames.schema import frame_schema

    write_or_print(schema_text(frame_schema()), out)


@app.command(
    "show",
    epilog="Examples: overlay frames show · overlay frames show --html frames.html · "
    "overlay frames show --dot frames.dot && dot -Tsvg frames.dot",
)
def frames_show(
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Draw it on a page of its own.")] = None,
    dot: Annotated[Path | None, typer.Option("--dot", metavar="FILE", help="Write it for Graphviz.")] = None,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """The frames of a home with their links and the energies that its last turn left."""
    from overlay.frames.drawing import as_dot, as_page
    from overlay.home import Home

    opened = Home.open(home)
    graph, learned, record = _graph(opened), _learned(opened), _last(opened)
    energies = {name: float(record["energies"].get(name, 0.0)) for name in graph.frames}
    causes = {one["name"]: one["cause"] for one in record["frames"] if one["cause"]}
    when = f"turn {record['number']} of {record['session']}" if "number" in record else ""
    if html is not None:
        write_file(html, as_page(graph, energies, learned, causes=causes, when=when))
    if dot is not None:
        write_file(dot, as_dot(graph, energies, learned))
    links = graph.links(learned)
    active = [one.frame.name for one in graph.active(energies)]
    if as_json:
        rows = [
            {
                "name": name,
                "description": frame.description,
                "energy": energies[name],
                "threshold": frame.threshold,
                "active": name in active,
                "cause": causes.get(name, ""),
                "cues": list(frame.cues),
                "links": [{"to": goal, **link} for _, goal, link in links.out_edges(name, data=True)],
            }
            for name, frame in graph.frames.items()
        ]
        print(json.dumps({"when": when, "learned_turns": learned.turns, "frames": rows}, ensure_ascii=False))
        return
    for path in (html, dot):
        if path is not None:
            print(path)
    if html is None and dot is None:
        table = new_table("frame", "energy", "links")
        for name in sorted(graph.frames, key=lambda name: (-energies[name], name)):
            leads = ", ".join(f"{goal} {link['weight']:+.2f}" for _, goal, link in links.out_edges(name, data=True))
            table.add_row(name, f"{energies[name]:.2f}{' *' if name in active else '  '}", leads)
        print_table(table)
        print(f"* active. Energies of {when}." if when else "Nothing was said yet: all frames are at rest.")


def _graph(home: Home) -> FrameGraph:
    """The frames of a home without an embedder: nothing can be matched with it."""
    from overlay.frames import FrameGraph, read_frames

    class _Unneeded:
        def embed(self, texts: Any) -> Any:
            raise AssertionError("drawing embeds nothing")

    return FrameGraph(read_frames(home.frames), _Unneeded())


def _learned(home: Home) -> LearnedWeights:
    from overlay.frames import read_learned

    return read_learned(home.learned_frames)


def _last(home: Home) -> dict[str, Any]:
    from overlay.session import last_record

    return last_record(home.sessions) or {"energies": {}, "frames": []}


@app.command(
    "trace",
    epilog="Examples: overlay frames trace 'It worked until we moved the shelf.' · "
    "overlay frames trace --rest --json 'Who pays for this?'",
)
def frames_trace(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Something that could be said to the agent.")],
    rest: Annotated[
        bool, typer.Option("--rest", help="Begin with all frames at rest, not as the last turn left them.")
    ] = False,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Which cues a text would wake, how energy would spread, what would be active, and what that would do.

    Nothing changes by it.
    """
    from overlay.agent import open_embedder
    from overlay.frames import FrameGraph, effects_of, read_frames, ready_calibration
    from overlay.home import Home

    opened = Home.open(home)
    with console_progress() as progress:
        embedder = open_embedder(opened, progress=progress)
        progress.step("reading the frames", None, None)
        frames = read_frames(opened.frames)
        calibration = ready_calibration(opened.calibrated_frames, frames, embedder)
        graph = FrameGraph(frames, embedder, calibration=calibration)
        matches = graph.match(text)
        before = {} if rest else _last(opened)["energies"]
        turn = graph.turn(before, text, learned=_learned(opened))
    effects = effects_of(turn.active)
    if as_json:
        print(json.dumps(_trace_document(matches, turn, effects), ensure_ascii=False))
    else:
        _print_trace(matches, turn, effects)


def _trace_document(matches: dict[str, CueMatch], turn: FrameTurn, effects: Effects) -> dict[str, Any]:
    from dataclasses import asdict

    active = [one.frame.name for one in turn.active]
    frames: list[dict[str, Any]] = [
        {"name": name, "energy": turn.energies[name], "active": name in active}
        | {"match": asdict(matches[name]), "cause": asdict(cause)}
        for name, cause in turn.causes.items()
    ]
    frames.sort(key=lambda one: -one["energy"])
    return {"frames": frames, "active": active, "effects": asdict(effects)}


def _print_trace(matches: dict[str, CueMatch], turn: FrameTurn, effects: Effects) -> None:
    active = {one.frame.name for one in turn.active}
    table = new_table("frame", "woken by", "cosine", "standing", "woken", "by links", "kept", "energy")
    shown = [name for name, energy in turn.energies.items() if energy >= SHOWN or matches[name].energy]
    for name in sorted(shown, key=lambda name: (-turn.energies[name], name)):
        match, cause = matches[name], turn.causes[name]
        table.add_row(
            name,
            match.cue if match.energy else "",
            f"{match.cosine:.2f}" if match.energy else "",
            "" if match.standing is None else f"{match.standing:+.1f}",
            f"{cause.woken:.2f}",
            f"{sum(amount for _, amount in cause.contributions):+.2f}",
            f"{cause.kept:.2f}",
            f"{turn.energies[name]:.2f}{' *' if name in active else '  '}",
        )
    if not shown:
        print("No frame is near to that, and none is awake.")
        return
    print_table(table)
    print("* active. Standing: how far above everyday sentences, in their deviations.")
    for one in turn.active:
        print(f"{one.frame.name}: {one.cause}")
    for what, words in _in_words(effects):
        print(f"  {what}: {words}")


def _in_words(effects: Effects) -> list[tuple[str, str]]:
    """What active frames would do, line by line; what they don't ask for is left out."""
    found = [
        ("asks", " ".join(question for _, question in effects.questions[:6])),
        ("calls", ", ".join(effects.voices)),
        ("recalls rather", ", ".join(f"#{tag} {boost:+.2f}" for tag, boost in effects.tag_boosts.items())),
        ("recalls only", ", ".join(effects.kinds or ())),
        ("wears", f"{effects.adapter.name} at {effects.adapter.scale:g}" if effects.adapter else ""),
        ("forbids", ", ".join(effects.forbids)),
        ("pushes", ", ".join(f"{push.axis} {push.amount:+.2f}" for push in effects.pushes)),
    ]
    return [(what, words) for what, words in found if words]


@app.command("weigh", epilog="Example: overlay frames weigh 'Bring everybody through the winter.' --items 4")
def frames_weigh(
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What is to be reached, in a sentence.")],
    items: Annotated[int, typer.Option(min=1, max=100, help="How many notes and frames are chosen at most.")] = 5,
    words: Annotated[int, typer.Option(min=1, max=100_000, help="How many words they may take together.")] = 200,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Which notes and frames serve a goal: weighed by meaning, strength and what is chosen already, and why."""
    from dataclasses import asdict

    from overlay.agent import open_embedder
    from overlay.frames import read_frames
    from overlay.goal import weigh_for
    from overlay.home import Home
    from overlay.memory import Memory

    opened = Home.open(home)
    with console_progress() as progress:
        embedder = open_embedder(opened, progress=progress)
        with Memory.open(opened.lived, embedder, read_only=True, settings=opened.settings.memory) as memory:
            energies = _last(opened)["energies"]
            frames = read_frames(opened.frames)
            found = weigh_for(goal, memory, frames, energies, embedder, items=items, words=words)
    if as_json:
        rows = [asdict(one) | {"value": one.value, "why": str(one)} for one in (*found.chosen, *found.left_out)]
        for row in rows:
            del row["offer"]["vector"]
        print(json.dumps(rows, ensure_ascii=False))
        return
    table = new_table("", "name", "words", "why")
    for one in (*found.chosen, *found.left_out[:SHOWN_LEFT_OUT]):
        table.add_row(one.offer.kind, one.offer.name, str(one.offer.words), str(one))
    print_table(table)


@app.command("reset", epilog="Example: overlay frames reset")
def frames_reset(home: HomeOption = HERE) -> None:
    """Forget what links have learned: all weights are again as they are written."""
    from overlay.frames import NOTHING_LEARNED, write_learned
    from overlay.home import Home
    from overlay.memory import WriterLock

    opened = Home.open(home)
    path = opened.learned_frames
    if not path.exists():
        print("Nothing was learned yet.")
        return
    lock = WriterLock(opened.lived / "memory.lock")
    try:
        write_learned(path, NOTHING_LEARNED)
    finally:
        lock.release()
    print("All links weigh what is written.")
