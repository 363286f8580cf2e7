"""Importing what people wrote: a vault of linked Markdown files, single texts, lines of JSON.

Every file is read and checked before the first note is written, so that a mistake in one of them
leaves the memory as it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import ConfigDict, ValidationError, field_validator

from overlay.documents import Document, parse_document
from overlay.errors import ArgumentError, DocumentError
from overlay.memory.memory import Memory, Written
from overlay.memory.note import NewNote

# [[note]], [[folder/note]], [[note#heading]], [[note|as it reads]]
_LINK = re.compile(r"\[\[([^\[\]|#\n]+)(?:#[^\[\]|\n]*)?(?:\|[^\[\]\n]*)?\]\]")
_CODE = re.compile(r"`[^`\n]*`")
_FENCE = re.compile(r"\s*(```|~~~)")
_HEADING = re.compile(r"#\s+(.+?)\s*#*$", re.MULTILINE)


class BrokenLink(NamedTuple):
    """A wiki link to a file that the vault doesn't have; the line counts from 1."""

    file: Path
    line: int
    target: str


@dataclass(frozen=True)
class VaultImport:
    """Ids of the notes that an import added, changed, found unchanged, or whose validity it ended."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    broken: tuple[BrokenLink, ...] = ()


class _FrontMatter(Document):
    # A vault may come from another editor, which has keys of its own.
    model_config = ConfigDict(extra="ignore", frozen=True)

    title: str = ""
    tags: tuple[str, ...] = ()

    @field_validator("tags", mode="before")
    @classmethod
    def _split(cls, tags: object) -> object:
        """Tags may stand in one line, with or without number signs."""
        if tags is None:
            return ()
        if isinstance(tags, str):
            tags = re.split(r"[,\s]+", tags)
        if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
            return tuple(tag.strip().lstrip("#") for tag in tags if tag.strip("# \t"))
        return tags


class _TextLine(Document):
    text: str
    id: str | None = None
    title: str | None = None
    tags: tuple[str, ...] | None = None
    event_at: float | None = None


class _Page(NamedTuple):
    """A Markdown or text file: `links` are (line, target) pairs, not yet looked up."""

    path: Path
    text: str
    title: str
    tags: tuple[str, ...]
    links: tuple[tuple[int, str], ...]


def import_path(memory: Memory, path: Path) -> VaultImport:
    """Import a vault (a folder), one text (.md, .txt), or texts (.jsonl: one {"text": …} a line).

    A line of JSON may also have id, title, tags and event_at (epoch seconds). A text's id is
    "file:PATH"; importing it again supersedes what it said. All become notes of the kind "read".

    Raises:
        ArgumentError: there is nothing at `path`, or it is of none of these kinds.
        DocumentError: a file is wrong; its line is named and nothing is imported.
    """
    path = Path(path)
    if path.is_dir():
        return import_vault(memory, path)
    if not path.exists():
        raise ArgumentError(f"there is nothing at {path}", "check the path")
    if path.suffix in {".md", ".txt"}:
        page = _read_page(path, is_markdown=path.suffix == ".md")
        name = f"file:{path.resolve().as_posix()}"
        return _report(memory.remember_many([NewNote(page.text, "read", name, name, page.title, page.tags)]))
    if path.suffix == ".jsonl":
        return _report(memory.remember_many(_read_lines(path)))
    raise ArgumentError(
        f"{path} is no kind of file that can be imported", "give a folder, or a .md, .txt or .jsonl file"
    )


def import_vault(memory: Memory, folder: Path) -> VaultImport:
    """Bring the memory up to a vault: all *.md files in a folder and its subfolders.

    A file STEM.md becomes the note "vault:STEM", with title and tags from its front matter and a
    link for each [[other]]. A changed file supersedes its note; the note of a file that is gone
    holds no longer. Importing an unchanged vault again changes nothing.

    Raises:
        DocumentError: a file is wrong, or two files have one name; nothing is imported.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArgumentError(f"there is no folder {folder}", "check the path")
    # Relative to the memory, so that a home can be moved as a whole.
    home = os.path.relpath(folder.resolve(), memory.folder.resolve())
    pages = _read_pages(folder)
    files = {f"vault:{page.path.stem}": page.path.relative_to(folder).as_posix() for page in pages}
    for page in pages:
        _check_owner(memory, f"vault:{page.path.stem}", home, page.path)

    # Editors find a link's target in any letter case; an exact name comes first.
    targets = {page.path.stem.casefold(): page.path.stem for page in pages}
    stems = set(targets.values())
    broken: list[BrokenLink] = []
    notes: list[NewNote] = []
    for page in pages:
        links: list[str] = []
        for line, target in page.links:
            stem = target if target in stems else targets.get(target.casefold())
            if stem is None:
                broken.append(BrokenLink(page.path, line, target))
            else:
                links.append(f"vault:{stem}")
        name = f"vault:{page.path.stem}"
        source = f"vault:{files[name]}"
        notes.append(NewNote(page.text, "read", source, name, page.title, page.tags, tuple(dict.fromkeys(links))))

    gone = sorted(memory.truth.vault_files(home).keys() - files.keys())
    # Written first: if the import is cut short, the next one still knows whose notes these are.
    memory.claim_vault_files(home, files)
    report = _report(memory.remember_many(notes))
    for note_id in gone:
        memory.retire(note_id)
    return VaultImport(report.added, report.changed, report.unchanged, tuple(gone), tuple(broken))


def _report(written: Iterable[Written]) -> VaultImport:
    ids: dict[str, list[str]] = {"added": [], "changed": [], "unchanged": []}
    for one in written:
        field = {"added": "added", "superseded": "changed", "described": "changed"}.get(one.outcome, "unchanged")
        ids[field].append(one.note.id)
    return VaultImport(tuple(ids["added"]), tuple(ids["changed"]), tuple(ids["unchanged"]))


def _check_owner(memory: Memory, note_id: str, home: str, path: Path) -> None:
    """Two vaults may not fight over one name, unless one of them is no longer there."""
    owner = memory.truth.vault_file(note_id)
    if owner is None or owner[0] == home:
        return
    other = (memory.folder / owner[0] / owner[1]).resolve()
    if other.exists():
        raise DocumentError(path, None, f"{other} has this name too, and was imported first", "rename one of them")


def _read_pages(folder: Path) -> list[_Page]:
    pages: dict[str, _Page] = {}
    for path in sorted(folder.rglob("*.md")):
        # Editors keep their settings, and deleted notes, in hidden folders.
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        if path.stem in pages:
            raise DocumentError(path, None, f"{pages[path.stem].path} has this name too", "rename one of them")
        pages[path.stem] = _read_page(path)
    return list(pages.values())


def _read_page(path: Path, *, is_markdown: bool = True) -> _Page:
    content = _read_text(path)
    head, body, first_line = _split_front_matter(path, content) if is_markdown else (_FrontMatter(), content, 1)
    heading = _HEADING.search(body) if is_markdown else None
    title = head.title or (heading[1] if heading else path.stem)
    links = tuple(_find_links(body, first_line)) if is_markdown else ()
    # A note that is only a name, as editors make them, says at least that name.
    return _Page(path, body.strip() or title, title, tuple(dict.fromkeys(head.tags)), links)


def _split_front_matter(path: Path, content: str) -> tuple[_FrontMatter, str, int]:
    """Front matter, body, and the line of the file on which the body begins."""
    lines = content.split("\n")
    if lines[0].rstrip() != "---":
        return _FrontMatter(), content, 1
    for number, line in enumerate(lines[1:], start=2):
        if line.rstrip() in {"---", "..."}:
            head = "\n".join(lines[1 : number - 1])
            body = "\n".join(lines[number:])
            if all(not text.strip() or text.lstrip().startswith("#") for text in lines[1 : number - 1]):
                return _FrontMatter(), body, number + 1
            # The empty first line keeps the lines of mistakes those of the file.
            return parse_document("\n" + head, _FrontMatter, path), body, number + 1
    raise DocumentError(path, 1, "the front matter that begins here doesn't end", "close it with a line of ---")


def _find_links(body: str, first_line: int) -> Iterable[tuple[int, str]]:
    fence = ""
    for number, line in enumerate(body.split("\n"), start=first_line):
        if mark := _FENCE.match(line):
            fence = mark[1] if not fence else "" if mark[1] == fence else fence
        elif not fence:
            for link in _LINK.finditer(_CODE.sub("", line)):
                yield number, link[1].strip().removesuffix(".md").rsplit("/", 1)[-1]


def _read_lines(path: Path) -> list[NewNote]:
    notes: list[NewNote] = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _TextLine.model_validate_json(line)
            notes.append(
                NewNote(
                    record.text,
                    "read",
                    f"file:{path.name}:{number}",
                    note_id=record.id,
                    title=record.title,
                    tags=record.tags,
                    event_at=record.event_at,
                )
            )
        except ValidationError as error:
            mistake = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in mistake["loc"])
            problem = f"{where}: {mistake['msg']}" if where else str(mistake["msg"])
            raise DocumentError(path, number, problem, 'write one {"text": "…"} a line') from None
        except ArgumentError as error:
            raise DocumentError(path, number, error.problem, error.next_step) from None
    return notes


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(path, None, f"this file is not UTF-8 text ({error.reason})", "save it as UTF-8") from None
    except OSError as error:
        raise DocumentError(path, None, f"this file can't be read: {error.strerror}", "check the path") from None
