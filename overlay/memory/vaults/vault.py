"""Bringing the memory up to a vault: a folder of pages that link to each other."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from overlay.errors import ArgumentError, DocumentError
from overlay.memory.memory import Memory
from overlay.memory.note import NewNote
from overlay.memory.vaults.claims import UNWRITTEN, Claim, Claims
from overlay.memory.vaults.folder_walk import MARKDOWN, FolderContents, walk
from overlay.memory.vaults.links import LinkResolver
from overlay.memory.vaults.page import Page, read_markdown, read_plain, stem_of
from overlay.memory.vaults.report import AmbiguousLink, BrokenLink, ImportReport, Moved, Skipped, reported_as
from overlay.memory.vaults.written_text import decode, read_bytes
from overlay.progress import Progress, SilentProgress

# Notes written together: what an interrupted import may have to do again.
_GROUP = 512


class _Read(NamedTuple):
    """A page of the vault as it is now: its claim (without targets), and what it says if that is new."""

    claim: Claim
    page: Page | None


class _Work(NamedTuple):
    """What is to be written of a page: its claim, its note if that is new, and when it happened if the page says so."""

    claim: Claim
    new: NewNote | None
    event_at: float | None


def import_vault(memory: Memory, folder: Path, *, progress: Progress | None = None) -> ImportReport:
    """Bring the memory up to a vault: all pages (.md, .txt) in a folder and its subfolders.

    A file PATH.md becomes the note "vault:PATH" of the kind "read", with title, tags, aliases and date
    from its front matter, the tags in its text, and a link for each link to another page. A changed
    file supersedes its note, a file that moved takes its note along, and the note of a file that is
    gone holds no longer. Files that have not changed are not read again, so what was done to their
    notes by other means stays. What is wrong with one file is reported and keeps no other from being
    imported; if it was imported before, its note stays as it is. An import that is cut short keeps
    what it has done, and the next one goes on.

    Raises:
        ArgumentError: there is no such folder.
        NoteError, StorageFull: the memory can't be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArgumentError(f"there is no folder {folder}", "check the path")
    progress = progress or SilentProgress()
    # Relative to the memory, so that a home can be moved as a whole.
    home = os.path.relpath(folder.resolve(), memory.folder.resolve())
    contents = walk(folder)
    claims = Claims(memory.truth)
    known = claims.all()
    skipped = list(contents.skipped)
    pages = _read_pages(memory, contents, home, known, skipped, progress)
    files = {claim.file: claim.note_id for claim in known.values() if claim.folder == home}
    gone = [
        known[note_id]
        for file, note_id in files.items()
        if file not in contents.pages and note_id not in {read.claim.note_id for read in pages.values()}
    ]
    moves = _moves(memory, gone, pages, known)
    for before, after in moves.items():
        claim = pages[after].claim
        claims.rename(before, claim.note_id, after, _source(after), time.time())
        known[claim.note_id] = dataclasses.replace(known.pop(before), note_id=claim.note_id, file=after)
    # A page that can't be read now has a name all the same, and what was imported of it before stands.
    resolver = LinkResolver(
        {file: pages[file].claim.aliases if file in pages else () for file in contents.pages}, contents.attachments
    )
    broken: list[BrokenLink] = []
    ambiguous: list[AmbiguousLink] = []
    work: list[_Work] = []
    for file, (claim, page) in pages.items():
        targets = _targets(claim, resolver, contents.pages[file], broken, ambiguous)
        claim = dataclasses.replace(claim, targets=targets)
        try:
            new = _new_note(memory, claim, page, known.get(claim.note_id))
        except ArgumentError as error:
            skipped.append(Skipped(contents.pages[file], None, error.problem, error.next_step))
            continue
        if new is not None or claim != known.get(claim.note_id):
            work.append(_Work(claim, new, page.event_at if page else None))
    outcomes = _write(memory, claims, work, known, f"importing {folder.name}", progress)
    removed = sorted(claim.note_id for claim in gone if claim.note_id not in moves)
    for note_id in removed:
        if note_id in memory:
            memory.retire(note_id)
    claims.drop(removed)
    moved_to = {pages[after].claim.note_id for after in moves.values()}
    by_outcome: dict[str, list[str]] = defaultdict(list)
    for claim, _ in pages.values():
        if claim.note_id not in moved_to:
            by_outcome[outcomes.get(claim.note_id, "unchanged")].append(claim.note_id)
    return ImportReport(
        added=tuple(by_outcome["added"]),
        changed=tuple(by_outcome["changed"]),
        unchanged=tuple(by_outcome["unchanged"]),
        moved=tuple(Moved(before, pages[after].claim.note_id) for before, after in sorted(moves.items())),
        removed=tuple(removed),
        broken=tuple(broken),
        ambiguous=tuple(ambiguous),
        skipped=tuple(skipped),
    )


def is_known_vault(memory: Memory, folder: Path) -> bool:
    """Whether this folder has been imported before."""
    home = os.path.relpath(folder.resolve(), memory.folder.resolve())
    return bool(memory.truth.rows("SELECT 1 FROM vault_files WHERE folder = ? LIMIT 1", (home,)))


def read_page(path: Path, data: bytes) -> Page:
    """What a Markdown or text file says. Raises DocumentError."""
    content = decode(data, path)
    return read_markdown(content, path) if path.suffix.lower() in MARKDOWN else read_plain(content, path)


def _source(file: str) -> str:
    return f"vault:{file}"


def _read_pages(
    memory: Memory,
    contents: FolderContents,
    home: str,
    known: Mapping[str, Claim],
    skipped: list[Skipped],
    progress: Progress,
) -> dict[str, _Read]:
    pages: dict[str, _Read] = {}
    owners: dict[str, Path] = {}
    for number, (file, path) in enumerate(contents.pages.items()):
        progress.step("reading the files", number, len(contents.pages), file)
        note_id = f"vault:{stem_of(file)}"
        present = known.get(note_id)
        try:
            if note_id in owners:
                raise DocumentError(path, None, f"{owners[note_id]} has this name too", "rename one of them")
            owners[note_id] = path
            if present is not None and present.folder != home:
                # Two vaults may not fight over one name, unless one of them is no longer there.
                other = (memory.folder / present.folder / present.file).resolve()
                if other.exists():
                    problem = f"{other} has this name too, and was imported first"
                    raise DocumentError(path, None, problem, "rename one of them")
            pages[file] = _read(path, Claim(note_id, home, file), present)
        except DocumentError as error:
            skipped.append(Skipped.of(error))
            is_imported = present is not None and present.digest != UNWRITTEN
            if present is not None and is_imported and (present.folder, present.file) == (home, file):
                pages[file] = _Read(present, None)
    return pages


def _read(path: Path, claim: Claim, present: Claim | None) -> _Read:
    """Read a page, unless what is known of it still stands."""
    try:
        status = path.stat()
    except OSError as error:
        raise DocumentError(path, None, f"this file can't be read: {error.strerror}", "check its rights") from None
    claim = dataclasses.replace(claim, size=status.st_size, mtime_ns=status.st_mtime_ns)
    if present is None or present.digest == UNWRITTEN:
        present = None
    elif (present.size, present.mtime_ns) == (claim.size, claim.mtime_ns):
        return _Read(dataclasses.replace(present, folder=claim.folder, file=claim.file), None)
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if present is not None and present.digest == digest:
        kept = dataclasses.replace(claim, digest=digest, aliases=present.aliases, links=present.links)
        return _Read(dataclasses.replace(kept, targets=present.targets, is_current=present.is_current), None)
    page = read_page(path, data)
    return _Read(dataclasses.replace(claim, digest=digest, aliases=page.aliases, links=page.links), page)


def _moves(
    memory: Memory, gone: Iterable[Claim], pages: Mapping[str, _Read], known: Mapping[str, Claim]
) -> dict[str, str]:
    """Note id before to the file now, for files that are gone from one place and stand unchanged in another."""
    arrived: dict[str, list[str]] = defaultdict(list)
    for file, (claim, page) in pages.items():
        if page is not None and claim.note_id not in known and claim.note_id not in memory:
            arrived[claim.digest].append(file)
    moves: dict[str, str] = {}
    # Of equal files those that kept their names are paired first.
    for same_name in (True, False):
        for claim in gone:
            if claim.note_id in moves or not claim.is_current:
                continue
            for file in arrived[claim.digest]:
                if not same_name or PurePosixPath(file).name == PurePosixPath(claim.file).name:
                    moves[claim.note_id] = file
                    arrived[claim.digest].remove(file)
                    break
    return moves


def _targets(
    claim: Claim,
    resolver: LinkResolver,
    path: Path,
    broken: list[BrokenLink],
    ambiguous: list[AmbiguousLink],
) -> tuple[str, ...]:
    targets: list[str] = []
    for link in claim.links:
        found = resolver.find(link, claim.file)
        if found.kind == "nothing":
            broken.append(BrokenLink(path, link.line, link.target))
        elif found.kind == "note":
            targets.append(f"vault:{stem_of(found.file)}")
            if found.others:
                others = tuple(f"vault:{stem_of(other)}" for other in found.others)
                ambiguous.append(AmbiguousLink(path, link.line, link.target, targets[-1], others))
    return tuple(dict.fromkeys(targets))


def _new_note(memory: Memory, claim: Claim, page: Page | None, present: Claim | None) -> NewNote | None:
    """What is to be written of a page: all of it if it is new, only its links if they lead elsewhere now."""
    source = _source(claim.file)
    if page is not None:
        return NewNote(
            page.text,
            "read",
            source,
            note_id=claim.note_id,
            title=page.title,
            tags=page.tags,
            links=claim.targets,
            # A newer text holds from now on, whatever the date on the page: what was known before stays known.
            event_at=None if claim.note_id in memory else page.event_at,
        )
    if present is None or present.targets == claim.targets or claim.note_id not in memory:
        return None
    note = memory.get(claim.note_id)
    if not note.is_current:
        return None
    return NewNote(note.text, note.kind, note.source, note_id=note.id, links=claim.targets, namespace=note.namespace)


def _write(
    memory: Memory,
    claims: Claims,
    work: list[_Work],
    known: Mapping[str, Claim],
    description: str,
    progress: Progress,
) -> dict[str, str]:
    """Write notes and claims in groups; note id to "added", "changed" or "unchanged"."""
    # Claimed first: if the import is cut short, the next one still knows whose notes these are.
    claims.write(
        dataclasses.replace(one.claim, digest=UNWRITTEN) for one in work if one.new and one.claim.note_id not in known
    )
    outcomes: dict[str, str] = {}
    for start in range(0, len(work), _GROUP):
        progress.step(description, start, len(work))
        group = work[start : start + _GROUP]
        written = memory.remember_many([one.new for one in group if one.new is not None])
        outcomes.update((one.note.id, reported_as(one.outcome)) for one in written)
        with memory.truth.transaction():
            for one in group:
                if one.event_at is not None:
                    memory.truth.run("UPDATE notes SET event_at = ? WHERE id = ?", (one.event_at, one.claim.note_id))
            claims.write(one.claim for one in group)
    if work:
        progress.step(description, len(work), len(work))
    return outcomes
