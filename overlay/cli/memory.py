"""Notes: adding, searching, importing, replacing, forgetting, folding and serving them."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overlay.cli.console import HERE, HomeOption, JsonOption, console_progress, fail, new_table, print_table

if TYPE_CHECKING:
    from rich.tree import Tree

    from overlay.home import Home
    from overlay.memory import FoldNode, ImportReport, Memory, MemoryCheck, Note, Recalled, Written
    from overlay.progress import Progress

app = typer.Typer(help="Add, search, import, forget, fold and serve notes.", no_args_is_help=True)

NOT_WHOLE = 1
"""The exit code when the index doesn't fit the notes."""

SHOWN_LINKS = 20
"""Broken links, and ambiguous ones, that an import prints."""

SHOWN_IDS = 5
"""Ids of notes that a check prints for each fault; --json lists them all."""

WRITER_TASK = (
    "You condense notes. Write one short paragraph with what these notes say together: names, numbers and dates first, "
    "nothing that isn't in them."
)
WRITER_TOKENS = 120
WRITER_CHARACTERS = 4_000
"""What the local model reads and writes for one fold: some thousand tokens fit the smallest context."""

_UNITS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 365.25 * 86_400}
_LIFETIME = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdwy])")

NoteArgument = Annotated[str, typer.Argument(metavar="NOTE", help="A note's id, as search prints it.")]
NotesArgument = Annotated[list[str], typer.Argument(metavar="NOTE...", help="Ids of notes, as search prints them.")]
TextArgument = Annotated[str, typer.Argument(metavar="TEXT", help="The note's text; - reads standard input.")]


@contextmanager
def _memory(home: Path, progress: Progress, *, read_only: bool = False) -> Iterator[Memory]:
    """The memory of a home; one that is new learns the notes that people wrote first."""
    from overlay.agent import open_embedder
    from overlay.home import Home
    from overlay.memory import Memory, import_vault

    opened = Home.open(home)
    embedder = open_embedder(opened, progress=progress)
    settings = opened.settings.memory
    if not (opened.lived / "memory.db").exists():
        with Memory.open(opened.lived, embedder, settings=settings) as memory:
            if opened.notes.is_dir():
                import_vault(memory, opened.notes, progress=progress)
    with Memory.open(opened.lived, embedder, read_only=read_only, settings=settings) as memory:
        yield memory


# --- writing -------------------------------------------------------------------------------------


@app.command(
    "add",
    epilog="Examples: overlay memory add 'The key is under the third stone.' --tag home · "
    "overlay memory add 'The road is closed.' --ttl 3d · fortune | overlay memory add -",
)
def memory_add(
    text: TextArgument,
    kind: Annotated[str, typer.Option(help="said, thought, read or fact.")] = "fact",
    tag: Annotated[list[str] | None, typer.Option(help="A tag; may be repeated.")] = None,
    title: Annotated[str | None, typer.Option(help="A title.")] = None,
    importance: Annotated[float | None, typer.Option(min=0, max=1, help="From 0 to 1; 0.5 if it isn't given.")] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Never expires, and isn't dimmed by age.")] = False,
    ttl: Annotated[
        str | None, typer.Option(metavar="TIME", help="Forgotten by recall after that: 90m, 12h, 30d, 2w, 1y.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Whose note it is; the home's own without it.")] = "",
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Remember one note; what a note says already is merged into it."""
    expires_at = None if ttl is None else time.time() + _lifetime(ttl)
    said = _text(text)
    with console_progress() as progress, _memory(home, progress) as memory:
        written = memory.remember(
            said,
            kind=_writable(kind),
            source="command line",
            title=title,
            tags=None if tag is None else tuple(tag),
            importance=importance,
            pinned=True if pin else None,
            expires_at=expires_at,
            namespace=namespace,
        )
    if as_json:
        print(json.dumps({"id": written.note.id, "outcome": written.outcome}, ensure_ascii=False))
    else:
        print(_told(written))


def _told(written: Written) -> str:
    if written.outcome in ("added", "superseded"):
        return f"Remembered as {written.note.id}"
    more = {"merged": "; where it also comes from was added", "described": "; what was new about it was added"}
    return f"{written.note.id} says this already{more.get(written.outcome, '')}"


@app.command("supersede", epilog="Example: overlay memory supersede NOTE 'The key is with the neighbour now.'")
def memory_supersede(
    note: NoteArgument,
    text: TextArgument,
    home: HomeOption = HERE,
) -> None:
    """Replace what a note says; the old text stays as what held until now."""
    said = _text(text)
    with console_progress() as progress, _memory(home, progress) as memory:
        new = memory.supersede(note, said, source="command line")
    print(f"{new.id} says so now; what it said before is kept")


@app.command("forget", epilog="Example: overlay memory forget vault:four-levels")
def memory_forget(note: NotesArgument, home: HomeOption = HERE) -> None:
    """Forget notes for good, each with its older versions: text, vectors, index, folds, journal."""
    with console_progress() as progress, _memory(home, progress) as memory:
        memory.forget(*dict.fromkeys(note))
    print(f"Forgotten: {', '.join(dict.fromkeys(note))}")


@app.command("pin", epilog="Example: overlay memory pin vault:budget")
def memory_pin(note: NotesArgument, home: HomeOption = HERE) -> None:
    """Keep notes from expiring, and from being dimmed by age."""
    _pin(note, True, home)


@app.command("unpin", epilog="Example: overlay memory unpin vault:budget")
def memory_unpin(note: NotesArgument, home: HomeOption = HERE) -> None:
    """Let pinned notes age again."""
    _pin(note, False, home)


def _pin(notes: Sequence[str], pinned: bool, home: Path) -> None:
    with console_progress() as progress, _memory(home, progress) as memory:
        for note_id in notes:
            memory.get(note_id)  # all of them are there, or none is touched
        for note_id in notes:
            memory.pin(note_id, pinned)
    print(f"{'Pinned' if pinned else 'No longer pinned'}: {', '.join(notes)}")


# --- reading -------------------------------------------------------------------------------------


@app.command(
    "search",
    epilog="Examples: overlay memory search 'How is volatility measured?' --count 3 --explain · "
    "overlay memory search 'who has the key' --kind said --as-of 2026-03-01",
)
def memory_search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    count: Annotated[int, typer.Option(min=1, max=100, help="At most so many notes.")] = 5,
    kind: Annotated[list[str] | None, typer.Option(help="said, thought, read, fold or fact; may be repeated.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="With this tag; may be repeated, any of them will do.")] = None,
    namespace: Annotated[
        list[str] | None, typer.Option(help="Only notes of this namespace; may be repeated, '' is the home's own.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="What held then: 2026-03-01 (its end) or 2026-03-01T09:30, here or with Z."),
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=0, help="0: plain notes; 1: folds of notes; 2: folds of folds; and so on.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the terms of each score.")] = False,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Recall notes, best first; each score is the weighted sum of its terms."""
    from overlay.memory import Filters

    filters = Filters(
        kinds=kind or None,
        tags=tag or None,
        namespaces=namespace or None,
        as_of=None if as_of is None else _moment(as_of),
        height=height,
    )
    with console_progress() as progress, _memory(home, progress, read_only=True) as memory:
        found = memory.recall(query, count, filters=filters)
        settings = memory.settings
    if as_json:
        print(json.dumps([_hit(entry) for entry in found], ensure_ascii=False))
        return
    for entry in found:
        print(_line(f"{entry.score:.2f}  {entry.note.id}", entry.note.title))
        print(_line("     ", entry.passage.text))
    if not found:
        print("Nothing is near enough to that.")
    elif explain:
        weights = {field.name: getattr(settings.weights, field.name) for field in fields(settings.weights)}
        _print_terms(found, weights | {"reranked": settings.reranker_weight})


def _hit(entry: Recalled) -> dict[str, Any]:
    return _document(entry.note) | {
        "score": entry.score,
        "terms": dict(entry.terms),
        "passage": asdict(entry.passage),
        "beside": list(entry.beside),
    }


def _print_terms(found: Sequence[Recalled], weights: Mapping[str, float]) -> None:
    """The terms below their weights; those that are 0 everywhere are left out."""
    shown = [name for name in found[0].terms if any(entry.terms[name] for entry in found)]
    table = new_table("note", "score", *shown)
    table.add_row("weight", "", *(f"{weights[name]:g}" if name in weights else "" for name in shown))
    for entry in found:
        table.add_row(_plain(entry.note.id), f"{entry.score:.3f}", *(f"{entry.terms[name]:.3f}" for name in shown))
    print_table(table)


@app.command("show", epilog="Example: overlay memory show vault:volatility")
def memory_show(note: NoteArgument, home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """Show one note: its text, where it comes from, what it links to and when it held."""
    with console_progress() as progress, _memory(home, progress, read_only=True) as memory:
        shown, sources = memory.get(note), memory.sources(note)
        titles = {link: memory.get(link).title for link in shown.links if link in memory}
    if as_json:
        print(json.dumps(_document(shown) | {"sources": list(sources)}, ensure_ascii=False))
        return
    print(_plain(shown.title or shown.id))
    print(f"\n{_plain(shown.text)}\n")
    kind = shown.kind if not shown.height else f"{shown.kind} of height {shown.height}"
    facts = {
        "id": shown.id,
        "kind": kind + (", to be folded anew" if shown.is_stale else ""),
        "from": ", ".join(sources),
        "tags": ", ".join(shown.tags),
        "namespace": shown.namespace,
        "place": f"{shown.place} of {shown.stream}" if shown.stream else "",
        "happened": _date(shown.event_at),
        "written": _date(shown.written_at),
        "held": "" if shown.valid_to is None else f"{_date(shown.valid_from)} to {_date(shown.valid_to)}",
        "replaced by": shown.superseded_by or "",
        "expires": "" if shown.expires_at is None else _date(shown.expires_at),
        "importance": f"{shown.importance:g}{', pinned' if shown.pinned else ''}",
        "state": ", ".join(f"{axis} {z:+.2f}" for axis, z in shown.state.items()),
    }
    for name, value in facts.items():
        if value:
            print(_plain(f"{name:<12}{value}"))
    for link in shown.links:
        title = titles.get(link)
        print(_plain(f"{'links to':<12}{link}" + (f"  {title}" if title else "" if link in titles else "  (missing)")))


@app.command("stats", epilog="Example: overlay memory stats --json")
def memory_stats(home: HomeOption = HERE, as_json: JsonOption = False) -> None:
    """Count the notes and folds, and say what they take on disk and what embeds and finds them."""
    from overlay.home import Home

    opened = Home.open(home)
    with console_progress() as progress, _memory(home, progress, read_only=True) as memory:
        counted = _counted(memory.notes())
        where = memory.settings.index
    counted |= {
        "embedder": opened.settings.embedder,
        "index": where,
        "bytes": {
            "memory.db": sum(path.stat().st_size for path in opened.lived.glob("memory.db*")),
            "index": sum(path.stat().st_size for path in (opened.lived / "index").rglob("*") if path.is_file()),
        },
    }
    if as_json:
        print(json.dumps(counted, ensure_ascii=False))
        return
    table = new_table("kind", "hold", "held once")
    for kind, (hold, once) in counted["kinds"].items():
        table.add_row(kind, f"{hold:,}", f"{once:,}")
    table.add_row("all", f"{counted['hold']:,}", f"{counted['held_once']:,}")
    print_table(table)
    folds = ", ".join(f"{count:,} of height {height}" for height, count in counted["folds"].items())
    stale = f"; {counted['stale_folds']:,} to be folded anew" if counted["stale_folds"] else ""
    spaces = ", ".join(f"{name or 'its own'}: {count:,}" for name, count in counted["namespaces"].items())
    for name, value in {
        "folds": folds + stale or "none yet: overlay memory fold",
        "namespaces": spaces,
        "pinned": f"{counted['pinned']:,}",
        "embedder": counted["embedder"],
        "index": counted["index"],
        "on disk": ", ".join(f"{what} {size / 1e6:,.1f} MB" for what, size in counted["bytes"].items()),
    }.items():
        print(_plain(f"{name:<12}{value}"))


def _counted(notes: Iterator[Note]) -> dict[str, Any]:
    now = time.time()
    kinds: dict[str, list[int]] = {}
    heights: Counter[int] = Counter()
    namespaces: Counter[str] = Counter()
    pinned = stale = 0
    for note in notes:
        holds = note.is_current and (note.expires_at is None or note.expires_at > now)
        kinds.setdefault(note.kind, [0, 0])[not holds] += 1
        if holds:
            namespaces[note.namespace] += 1
            pinned += note.pinned
            if note.height:
                heights[note.height] += 1
                stale += note.is_stale
    return {
        "hold": sum(hold for hold, _ in kinds.values()),
        "held_once": sum(once for _, once in kinds.values()),
        "kinds": {kind: tuple(kinds[kind]) for kind in sorted(kinds)},
        "folds": {str(height): heights[height] for height in sorted(heights)},
        "stale_folds": stale,
        "namespaces": dict(sorted(namespaces.items())),
        "pinned": pinned,
    }


# --- in and out ----------------------------------------------------------------------------------


@app.command(
    "import",
    epilog="Examples: overlay memory import ~/vault · overlay memory import facts.jsonl · "
    "overlay memory import conversations.json --json",
)
def memory_import(
    path: Annotated[
        Path, typer.Argument(help="A folder of Markdown, or a .md, .txt, .jsonl or chat export (.json) file.")
    ],
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Import notes; doing it again changes only what changed. What a vault has wrong is told with file and line.

    One bad file doesn't stop a vault: it is skipped and told. Stopped by Ctrl-C, the next import goes on from there.
    """
    from overlay.memory import import_path

    with console_progress() as progress, _memory(home, progress) as memory:
        report = import_path(memory, path, progress=progress)
    if as_json:
        lists = {
            field.name: [entry if isinstance(entry, str) else entry._asdict() for entry in getattr(report, field.name)]
            for field in fields(report)
        }
        print(json.dumps(lists, ensure_ascii=False, default=str))
        return
    named = ("added", "changed", "unchanged", "moved", "removed")
    print(", ".join(f"{len(getattr(report, name)):,} {name}" for name in named))
    _print_mistakes(report)


def _print_mistakes(report: ImportReport) -> None:
    """What was wrong with what was read, each with its place, on standard error."""
    broken = [f"{link.file}:{link.line}: no note is called '{link.target}'" for link in report.broken]
    ambiguous = [
        f"{link.file}:{link.line}: '{link.target}' was taken for {link.chosen}, and may be {', '.join(link.others)}"
        for link in report.ambiguous
    ]
    for skipped in report.skipped:
        print(_plain(f"skipped {skipped}"), file=sys.stderr)
    for what, told in (("broken", broken), ("ambiguous", ambiguous)):
        for line in told[:SHOWN_LINKS]:
            print(_plain(line), file=sys.stderr)
        if len(told) > SHOWN_LINKS:
            print(f"and {len(told) - SHOWN_LINKS:,} more {what} links: --json lists them all", file=sys.stderr)


@app.command("export", epilog="Examples: overlay memory export vault · overlay memory export notes.jsonl")
def memory_export(
    path: Annotated[Path, typer.Argument(help="A folder for Markdown files, or a .jsonl file.")],
    home: HomeOption = HERE,
) -> None:
    """Write all notes as Markdown files, or as one line of JSON each; importing them gives the same notes."""
    from overlay.memory import export_lines, export_markdown

    with console_progress() as progress, _memory(home, progress, read_only=True) as memory:
        count = (export_lines if path.suffix == ".jsonl" else export_markdown)(memory, path, progress=progress)
    print(f"{count:,} notes in {path}")


# --- upkeep --------------------------------------------------------------------------------------


@app.command("check", epilog="Example: overlay memory check --repair")
def memory_check(
    repair: Annotated[bool, typer.Option("--repair", help="Build the index anew from the notes.")] = False,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Compare the notes with their index, entry by entry; the exit code is 1 if they differ."""
    with console_progress() as progress, _memory(home, progress) as memory:
        if repair:
            memory.rebuild_index(progress=progress)
        check = memory.check()
    if as_json:
        print(json.dumps({"is_whole": check.is_whole} | asdict(check), ensure_ascii=False))
    else:
        print(
            f"{check.notes:,} notes, {check.passages:,} passages, {check.vectors:,} vectors, {check.indexed:,} indexed"
        )
    if not check.is_whole:
        wrong = "\n".join(f"  {what}: {found}" for what, found in _faults(check).items())
        fail(f"the notes can't be found by every path\n{wrong}\n  -> run `overlay memory check --repair`", NOT_WHOLE)


def _faults(check: MemoryCheck) -> dict[str, str]:
    """What is wrong, each with the first ids that show it."""
    faults = {}
    for field in fields(check):
        found = getattr(check, field.name)
        if isinstance(found, tuple) and found:
            more = f" and {len(found) - SHOWN_IDS:,} more" if len(found) > SHOWN_IDS else ""
            faults[field.name.replace("_", " ")] = _plain(", ".join(found[:SHOWN_IDS])) + more
    return faults | ({"strange words": f"{check.strange_words:,}"} if check.strange_words else {})


@app.command("reembed", epilog="Example: overlay memory reembed")
def memory_reembed(home: HomeOption = HERE) -> None:
    """Compute all vectors again, after the embedder in agent.yaml changed.

    Until it is complete the old ones serve; stopped by Ctrl-C, it goes on from there when it is run again.
    """
    from overlay.agent import open_embedder
    from overlay.home import Home
    from overlay.memory import Memory

    opened = Home.open(home)
    with console_progress() as progress:
        embedder = open_embedder(opened, progress=progress)
        count = Memory.reembed(opened.lived, embedder, settings=opened.settings.memory, progress=progress)
    print(f"{count:,} passages embedded with {embedder.name}")


@app.command("fold", epilog="Examples: overlay memory fold · overlay memory fold --write")
def memory_fold(
    write: Annotated[
        bool, typer.Option("--write", help="Let the home's language model write the texts; slow.")
    ] = False,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Compress the memory: likely notes become a fold, folds fold again, up to one root a namespace.

    Only what is new or has changed is folded. Without --write a fold is made of its notes' own sentences.
    """
    from overlay.home import Home
    from overlay.memory import fold

    opened = Home.open(home)
    with console_progress() as progress, _memory(home, progress) as memory:
        if write:
            writer, written_by = _local_writer(opened, progress), opened.settings.model
            report = fold(memory, writer=writer, written_by=written_by, progress=progress)
        else:
            report = fold(memory, progress=progress)
    if as_json:
        print(json.dumps(asdict(report) | {"ratios": report.ratios}, ensure_ascii=False))
        return
    print(
        f"{report.made:,} folds made, {report.refolded:,} made anew, {report.kept:,} kept, {report.emptied:,} emptied; "
        f"{report.depth} high over {report.notes:,} notes"
    )
    for height, (words, ratio) in enumerate(zip(report.words[1:], report.ratios, strict=True), 1):
        print(f"  height {height}: {words:,} words, {ratio:.0%} of what is below")
    for fold_id, reason in report.unwritten:
        print(_plain(f"{fold_id} quotes its notes, for the model failed: {reason}"), file=sys.stderr)


def _local_writer(home: Home, progress: Progress) -> Callable[[Sequence[str]], str]:
    from overlay.model import LanguageModel, Message, Row, Sampling

    progress.step(f"loading {home.settings.model}", None, None)
    model = LanguageModel.load(home.settings.model, pull=True, progress=progress)

    def write(texts: Sequence[str]) -> str:
        share = WRITER_CHARACTERS // max(len(texts), 1)
        listed = "\n".join(f"- {textwrap.shorten(text, share, placeholder=' …')}" for text in texts)
        chat = (Message("system", WRITER_TASK), Message("user", listed))
        return model.generate([Row(chat, sampling=Sampling(max_tokens=WRITER_TOKENS))])[0].text.strip()

    return write


@app.command("tree", epilog="Examples: overlay memory tree --depth 2 · overlay memory tree --notes")
def memory_tree(
    depth: Annotated[int | None, typer.Option(min=1, help="Only so many levels from the root.")] = None,
    notes: Annotated[bool, typer.Option("--notes", help="With the notes below the folds.")] = False,
    home: HomeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Draw the folds, each with the share that its words are of those below it."""
    from rich.console import Console
    from rich.tree import Tree

    from overlay.memory import tree

    with console_progress() as progress, _memory(home, progress, read_only=True) as memory:
        roots = tree(memory, down_to=0 if notes else 1)
    if as_json:
        print(json.dumps([asdict(root) for root in roots], ensure_ascii=False))
        return
    console = Console()
    for root in roots:
        drawn = Tree(_label(root, console.width))
        _grow(drawn, root, depth or root.height + 1, console.width)
        console.print(drawn)
    if not roots:
        print("Nothing is folded yet: overlay memory fold")


def _grow(drawn: Tree, node: FoldNode, depth: int, width: int) -> None:
    """Draw what is below a node, in `depth` levels with its own."""
    for child in node.children if depth > 1 else ():
        _grow(drawn.add(_label(child, width)), child, depth - 1, width)


def _label(node: FoldNode, width: int) -> Any:
    from rich.text import Text

    ratio = f"  {node.ratio:.0%}{', to be folded anew' if node.is_stale else ''}" if node.height else ""
    # What stands before the text: lines of the tree, id, share.
    room = max(width - 4 * node.height - len(node.id) - len(ratio) - 8, 30)
    return Text(f"{_plain(node.id)}{ratio}  {textwrap.shorten(_plain(node.text), room, placeholder=' …')}")


# --- serving -------------------------------------------------------------------------------------


@app.command(
    "serve",
    epilog="Examples: overlay memory serve --home ~/my-home · overlay memory serve --http 8765 --read-only",
)
def memory_serve(
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Offer search and get alone; another process may write meanwhile.")
    ] = False,
    http: Annotated[
        int | None,
        typer.Option("--http", min=0, max=65535, metavar="PORT", help="Over HTTP, to this machine alone; 0: any port."),
    ] = None,
    home: HomeOption = HERE,
) -> None:
    """Serve the memory to other agents by the Model Context Protocol, over standard input and output.

    The tools are search, get, add, supersede and forget. It runs until the client leaves, or until Ctrl-C.
    """
    from overlay.errors import ArgumentError, HomeLocked

    try:
        from overlay.serve import listen, memory_server, serve_http, serve_stdio
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise ArgumentError("the package mcp isn't installed", "pip install 'overlay-agent[mcp]'") from error
    with ExitStack() as stack:
        listening = None if http is None else stack.enter_context(listen(http))
        try:
            with console_progress() as progress:
                memory = stack.enter_context(_memory(home, progress, read_only=read_only))
        except HomeLocked as error:
            raise HomeLocked(
                error.problem, "end that process first, or run `overlay memory serve --read-only` beside it"
            ) from error
        server = memory_server(memory, read_only=read_only)
        if listening is None:
            serve_stdio(server)
        else:
            # A program that asked for any port reads this line to learn which one it is.
            print(f"Serving at http://127.0.0.1:{listening.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
            serve_http(server, listening)


# --- what was typed, and how it is shown ---------------------------------------------------------


def _text(given: str) -> str:
    if given != "-":
        return given
    from overlay.errors import ArgumentError

    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ArgumentError("standard input is not UTF-8 text", "convert it first, or import a file") from error


def _writable(kind: str) -> Any:
    """A kind that a person may write; the memory itself refuses what is no kind at all."""
    if kind == "fold":
        from overlay.errors import ArgumentError

        raise ArgumentError("folds aren't added but made", "run `overlay memory fold`, or choose another kind")
    return kind


def _moment(written: str) -> float:
    """Epoch seconds of a date (its end) or of a date with a time, here unless it has an offset."""
    from overlay.errors import ArgumentError

    try:
        moment = datetime.fromisoformat(written.strip())
        if re.fullmatch(r"[\d-]+", written.strip()):
            moment += timedelta(days=1)
        return moment.timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ArgumentError(
            f"'{written}' is no date", "write it as 2026-03-01, 2026-03-01T09:30 or 2026-03-01T09:30Z"
        ) from error


def _lifetime(written: str) -> float:
    """Seconds of a time such as 30d."""
    match = _LIFETIME.fullmatch(written.strip())
    if match is None or float(match[1]) == 0:
        from overlay.errors import ArgumentError

        raise ArgumentError(f"'{written}' is no time to live", "write a number and its unit: 90m, 12h, 30d, 2w or 1y")
    return float(match[1]) * _UNITS[match[2]]


def _date(moment: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
    except (ValueError, OverflowError, OSError):
        # Imported notes may be of any time, also of one that no calendar has.
        return f"{moment:g} seconds after 1970"


def _document(note: Note) -> dict[str, Any]:
    return {field.name: getattr(note, field.name) for field in fields(note)} | {"state": dict(note.state)}


def _line(head: str, text: str) -> str:
    """One line as wide as the terminal."""
    head, width = _plain(head), shutil.get_terminal_size().columns
    room = max(width - len(head) - 2, 30)
    return f"{head}  {textwrap.shorten(_plain(text), room, placeholder=' …')}".rstrip()


def _plain(text: str) -> str:
    """What a terminal shows without obeying it."""
    from overlay.tui.printable import printable

    return printable(text)
