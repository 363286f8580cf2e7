"""Notes: adding, searching, importing, forgetting and checking them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overlay.cli.console import HERE, HomeOption, JsonOption, console_progress, fail

if TYPE_CHECKING:
    from overlay.memory import Memory

app = typer.Typer(help="Add, search, import and forget notes.", no_args_is_help=True)


@contextmanager
def _memory(home: Path, *, read_only: bool = False) -> Iterator[Memory]:
    from overlay.agent import open_embedder
    from overlay.home import Home
    from overlay.memory import Memory, import_vault

    opened = Home.open(home)
    with console_progress() as progress:
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


@app.command("add", epilog="Example: overlay memory add 'The key is under the third stone.' --tag home")
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


@app.command("search", epilog="Example: overlay memory search 'How is volatility measured?' --count 3")
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


@app.command("import", epilog="Examples: overlay memory import notes/ · overlay memory import facts.jsonl")
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


@app.command("forget", epilog="Example: overlay memory forget vault:four-levels")
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


@app.command("check", epilog="Example: overlay memory check --repair")
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
        fail("the index does not match the notes\n  -> run `overlay memory check --repair`", 1)


@app.command("reembed", epilog="Example: overlay memory reembed")
def memory_reembed(home: HomeOption = HERE) -> None:
    """Compute all vectors again, after the embedder in agent.yaml changed."""
    from overlay.agent import open_embedder
    from overlay.home import Home
    from overlay.memory import Memory

    opened = Home.open(home)
    with console_progress() as progress:
        embedder = open_embedder(opened, progress=progress)
        progress.step("embedding all notes", None, None)
        count = Memory.reembed(opened.lived, embedder)
    print(f"{count} notes embedded with {embedder.name}")
