"""Writing all notes into files that people can read, and that a memory can be made from again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

from overlay.errors import ArgumentError, DocumentError
from overlay.memory.memory import Memory
from overlay.memory.vaults.kept_note import kept_notes
from overlay.progress import Progress, SilentProgress
from overlay.records import storage_errors, write_record

# The file at the root of an export of Markdown, by which an import knows it.
CONTENTS = "overlay-export.json"

_FORMAT = 1

# What Windows, macOS or Linux don't take in a name, or editors don't take in a link.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*#^\[\]\u2028\u2029\ufeff]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)", re.IGNORECASE)

# Bytes of one part of a path, and of a whole path: file systems take 255, and Windows 260 for both together.
_LONGEST_PART = 120
_LONGEST_PATH = 200

# Signs that YAML takes for the end of a line or doesn't take at all, which JSON leaves as they are.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def export_markdown(memory: Memory, folder: Path, *, progress: Progress | None = None) -> int:
    """Write every note but folds into a folder, one Markdown file each; the number of notes.

    The front matter of a file carries all that the memory keeps of its note. An earlier export in
    the folder is replaced: files of notes that are no longer there are removed.

    Raises:
        ArgumentError: the folder holds something else.
        StorageFull: the disk is full.
    """
    folder, progress = Path(folder), progress or SilentProgress()
    earlier = _earlier_files(folder)
    total = memory.truth.notes.count()
    files: dict[str, str] = {}
    for number, (kept, text) in enumerate(kept_notes(memory)):
        progress.step(f"writing to {folder.name}", number, total)
        file = _free_file(str(kept["id"]), files)
        files[_compared(file)] = file
        _write(folder / file, markdown_of(kept, text).encode())
    for file in sorted(earlier - set(files.values())):
        _remove(folder, file)
    contents = {"format": _FORMAT, "notes": list(files.values())}
    write_record(folder / CONTENTS, json.dumps(contents, ensure_ascii=False, indent=1) + "\n")
    return len(files)


def export_lines(memory: Memory, file: Path, *, progress: Progress | None = None) -> int:
    """Write every note but folds into one file, a JSON object a line; the number of notes.

    The file is replaced as a whole, or left as it was. Raises StorageFull.
    """
    file, progress = Path(file), progress or SilentProgress()
    total = memory.truth.notes.count()
    lines: list[str] = []
    for number, (kept, text) in enumerate(kept_notes(memory)):
        progress.step(f"writing {file.name}", number, total)
        lines.append(json.dumps({"id": kept["id"], "text": text, **kept}, ensure_ascii=False))
    try:
        write_record(file, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise ArgumentError(f"{file} can't be written: {error.strerror}", "choose another place") from None
    return len(lines)


def markdown_of(kept: dict[str, Any], text: str) -> str:
    """The contents of a note's file: front matter, and the text to the last character, with a line feed after it."""
    lines = [f"{name}: {_yaml(value)}" for name, value in kept.items()]
    return "\n".join(["---", *lines, "---", text]) + "\n"


def exported_files(folder: Path) -> list[str] | None:
    """The files of an export in the order in which they were written; None if the folder is none.

    Raises:
        DocumentError: its list of contents is damaged, or of a newer program.
    """
    path = folder / CONTENTS
    if not path.is_file():
        return None
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
        is_known = contents["format"] == _FORMAT
        notes = [str(file) for file in contents["notes"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DocumentError(
            path, None, f"this list of an export is damaged ({error})", "export the notes again"
        ) from None
    if not is_known:
        raise DocumentError(
            path,
            None,
            f"this export has the format {contents['format']}",
            "use the version of the program that wrote it",
        )
    return notes


def _earlier_files(folder: Path) -> set[str]:
    """The files of an earlier export; the folder is there afterwards."""
    try:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        files = exported_files(folder)
        if files is None and any(folder.iterdir()):
            raise ArgumentError(
                f"{folder} is not empty, and holds no earlier export", "give a new folder, or that of an earlier export"
            )
    except OSError as error:
        raise ArgumentError(f"{folder} can't be written: {error.strerror}", "choose another folder") from None
    return set(files or ())


def _write(path: Path, data: bytes) -> None:
    """Not forced to the disk one by one: the list of contents, written last, says that an export is whole."""
    try:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    except OSError as error:
        raise ArgumentError(f"{path} can't be written: {error.strerror}", "choose another folder") from None


def _remove(folder: Path, file: str) -> None:
    path = folder / file
    # The list may have been edited: nothing outside the folder is touched.
    if path.suffix != ".md" or not path.resolve().is_relative_to(folder.resolve()):
        return
    path.unlink(missing_ok=True)
    for parent in path.parents:
        if parent == folder or not parent.is_dir() or any(parent.iterdir()):
            break
        parent.rmdir()


def _free_file(note_id: str, taken: dict[str, str]) -> str:
    """A path for a note in the folder, close to its id: safe in every file system, and no other note's."""
    name, _, rest = note_id.partition(":")
    parts = [_safe(part) for part in ([name, *rest.split("/")] if rest else [name]) if part]
    # A folder may not have the name of another note's file.
    folders = [re.sub(r"\.md\Z", "_md", part, flags=re.IGNORECASE) for part in parts[:-1]]
    path = "/".join([*folders, parts[-1]]) if parts else "_"
    if len(path.encode()) > _LONGEST_PATH:
        digest = hashlib.sha256(note_id.encode()).hexdigest()[:16]
        path = f"{folders[0] if folders else '_'}/{_shortened(parts[-1], 60)}-{digest}"
    file, number = f"{path}.md", 1
    while _compared(file) in taken:
        number += 1
        file = f"{path}-{number}.md"
    return file


def _safe(part: str) -> str:
    part = _UNSAFE.sub("_", unicodedata.normalize("NFC", part)).strip(" ")
    part = _shortened(part, _LONGEST_PART).rstrip(". ")
    # Neither hidden, nor "." or "..", nor a device.
    return f"_{part}" if not part or part.startswith(".") or _RESERVED.match(part) else part


def _shortened(part: str, most: int) -> str:
    return part.encode()[:most].decode(errors="ignore")


def _compared(file: str) -> str:
    """How file systems that don't tell letter cases apart see a path."""
    return unicodedata.normalize("NFC", os.path.normcase(file).casefold())


def _yaml(value: Any) -> str:
    """A value as JSON that YAML reads as the same value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(str(name))}: {_yaml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(one) for one in value) + "]"
    if isinstance(value, float):
        written = repr(value)
        # For YAML 1e-05 is a word.
        return written if "." in written else written.replace("e", ".0e")
    written = json.dumps(value, ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", written)
