"""Importing what lies at a path: a vault, an export, a text, lines of JSON, chats."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from overlay.documents import parse_document
from overlay.errors import ArgumentError, DocumentError
from overlay.memory.memory import Memory
from overlay.memory.note import NewNote
from overlay.memory.vaults.chats import read_chats
from overlay.memory.vaults.exporting import CONTENTS, exported_files
from overlay.memory.vaults.folder_walk import MARKDOWN, PLAIN, walk
from overlay.memory.vaults.kept_note import KeptNote
from overlay.memory.vaults.page import front_matter_of
from overlay.memory.vaults.report import ImportReport, Skipped
from overlay.memory.vaults.restoring import Incoming, take_in
from overlay.memory.vaults.vault import import_vault, is_known_vault, read_page
from overlay.memory.vaults.written_text import decode, decode_exactly, read_bytes
from overlay.progress import Progress, SilentProgress


class _Line(KeptNote):
    text: str


def import_path(memory: Memory, path: Path, *, progress: Progress | None = None) -> ImportReport:
    """Import what lies at `path`; doing it again changes only what has changed.

    - A folder of Markdown and text files: see `import_vault`. A folder that `export_markdown` wrote:
      its notes, as they were.
    - A text (.md, .txt): the note "file:PATH" of the kind "read".
    - Lines of JSON (.jsonl), one {"text": …} each, with what else is known of the note (`KeptNote`).
    - Chats (.json) of a data export of ChatGPT or Claude: a note for each message that isn't there yet.

    Raises:
        ArgumentError: there is nothing at `path`, or nothing of these kinds.
        DocumentError: the file is wrong; its line is named and nothing is imported.
        NoteError, StorageFull: the memory can't be written.
    """
    path, progress = Path(path), progress or SilentProgress()
    if path.is_dir():
        if (path / CONTENTS).is_file():
            return _import_export(memory, path, progress)
        if not is_known_vault(memory, path) and not walk(path).pages:
            raise ArgumentError(
                f"{path} holds no Markdown or text file", "give a folder of .md files, or a .jsonl or .json file itself"
            )
        return import_vault(memory, path, progress=progress)
    if not path.exists():
        raise ArgumentError(f"there is nothing at {path}", "check the path")
    kind = path.suffix.lower()
    if kind in MARKDOWN | PLAIN:
        return _import_text(memory, path, progress)
    if kind == ".jsonl":
        return take_in(memory, _read_lines(path), f"importing {path.name}", progress)
    if kind == ".json":
        return _import_chats(memory, path, progress)
    raise ArgumentError(
        f"{path} is no kind of file that can be imported",
        "give a folder, a .md or .txt file, lines of JSON (.jsonl), or exported chats (.json)",
    )


def _import_text(memory: Memory, path: Path, progress: Progress) -> ImportReport:
    page = read_page(path, read_bytes(path))
    name = f"file:{path.resolve().as_posix()}"
    new = NewNote(page.text, "read", name, note_id=name, title=page.title, tags=page.tags, event_at=page.event_at)
    return take_in(memory, [Incoming(new, None, path, None)], f"importing {path.name}", progress)


def _read_lines(path: Path) -> list[Incoming]:
    incoming: list[Incoming] = []
    for number, line in enumerate(decode(read_bytes(path, is_one_note=False), path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = _Line.model_validate_json(line)
            new = record.new_note(record.text, f"file:{path.name}:{number}")
        except ValidationError as error:
            mistake = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in mistake["loc"])
            problem = f"{where}: {mistake['msg']}" if where else str(mistake["msg"])
            raise DocumentError(path, number, problem, 'write one {"text": "…"} a line') from None
        except ArgumentError as error:
            raise DocumentError(path, number, error.problem, error.next_step) from None
        incoming.append(Incoming(new, record, path, number))
    return incoming


def _import_chats(memory: Memory, path: Path, progress: Progress) -> ImportReport:
    chats = read_chats(path)
    fresh, known = [], []
    for new in chats.notes:
        if new.note_id is not None and new.note_id in memory:
            known.append(new.note_id)
        else:
            fresh.append(Incoming(new, None, path, None))
    report = take_in(memory, fresh, f"importing {path.name}", progress)
    return ImportReport(report.added, report.changed, (*known, *report.unchanged), skipped=chats.skipped)


def _import_export(memory: Memory, folder: Path, progress: Progress) -> ImportReport:
    """Put back what an export wrote, in its order; then files that were added to the folder since."""
    contents = walk(folder)
    skipped = list(contents.skipped)
    listed = exported_files(folder) or []
    present = {file: path for file, path in contents.pages.items() if path.suffix.lower() in MARKDOWN}
    for file in listed:
        if file not in present:
            skipped.append(
                Skipped(folder / file, None, "this file of the export is not there", "export the notes again")
            )
    incoming: list[Incoming] = []
    for file in dict.fromkeys([*(file for file in listed if file in present), *present]):
        path = present[file]
        try:
            incoming.append(_read_exported(path))
        except DocumentError as error:
            skipped.append(Skipped.of(error))
        except ArgumentError as error:
            skipped.append(Skipped(path, None, error.problem, error.next_step))
    report = take_in(memory, incoming, f"importing {folder.name}", progress)
    return ImportReport(report.added, report.changed, report.unchanged, skipped=(*skipped, *report.skipped))


def _read_exported(path: Path) -> Incoming:
    head, body, _ = front_matter_of(path, decode_exactly(read_bytes(path), path))
    kept = None if head is None else parse_document(head, KeptNote, path)
    if kept is None or kept.id is None:
        raise DocumentError(path, 1, "'id' is missing in its front matter", "give it one, or take the file out")
    return Incoming(kept.new_note(body.removesuffix("\n"), f"file:{path.name}"), kept, path, None)
