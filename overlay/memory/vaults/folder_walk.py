"""What lies in the folder of a vault."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from overlay.memory.vaults.report import Skipped

MARKDOWN = frozenset({".md", ".markdown"})
PLAIN = frozenset({".txt"})


@dataclass(frozen=True)
class FolderContents:
    """The pages of a vault by their paths in it ("/" between the parts, composed Unicode), and its other files."""

    pages: dict[str, Path] = field(default_factory=dict)
    attachments: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def walk(folder: Path) -> FolderContents:
    """Find the pages of a vault, in order. What is hidden is left out: editors keep settings and deleted notes there.

    Nothing outside the folder is followed: a symbolic link that leads out is reported, not read.
    """
    contents = FolderContents()
    root = folder.resolve()

    def unreadable(error: OSError) -> None:
        where = Path(error.filename or folder)
        contents.skipped.append(
            Skipped(_printable(where), None, f"this folder can't be read: {error.strerror}", "check its rights")
        )

    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*names, *(name for name in folders if (Path(place) / name).is_symlink())]):
            path = Path(place) / name
            if not name.startswith("."):
                _take(path, folder, root, contents)
    pages = dict(sorted(contents.pages.items()))
    return FolderContents(pages, contents.attachments, contents.skipped)


def _take(path: Path, folder: Path, root: Path, contents: FolderContents) -> None:
    try:
        file = path.relative_to(folder).as_posix()
        file.encode("utf-8")
    except UnicodeEncodeError:
        contents.skipped.append(
            Skipped(_printable(path), None, "the name of this file is not valid UTF-8", "rename it")
        )
        return
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        problem = f"this is a link to {path.resolve()}, outside the folder"
        contents.skipped.append(
            Skipped(path, None, problem, "put a copy into the folder, or import that place by itself")
        )
        return
    if path.is_dir():
        return
    file = unicodedata.normalize("NFC", file)
    if path.suffix.lower() not in MARKDOWN | PLAIN:
        contents.attachments.append(file)
    elif not path.is_file():
        contents.skipped.append(Skipped(path, None, "this is no file that can be read", "take it out of the folder"))
    elif file in contents.pages:
        problem = f"{contents.pages[file]} has the same name, written with other Unicode signs"
        contents.skipped.append(Skipped(path, None, problem, "rename one of them"))
    else:
        contents.pages[file] = path


def _printable(path: Path) -> Path:
    return Path(os.fsencode(path).decode("utf-8", "replace"))
