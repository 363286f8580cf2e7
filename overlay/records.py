"""Records: the files that the program writes, whole or not at all.

A record file is replaced atomically; a journal grows line by line, each line with a checksum of its own, and
forgives one torn last line, which is what a killed process leaves behind.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from overlay.errors import ArgumentError, RecordDamaged, StorageFull

_CHECKED = re.compile(rb',?"crc32":"([0-9a-f]{8})"\}\Z')

Found = TypeVar("Found")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def digest_of(content: Any) -> str:
    """sha256 of plain values, as JSON has them: equal ones have equal digests, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn "no space left" into StorageFull, whoever writes below `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                f"the disk is full: {path} was not written (what was saved before is untouched)",
                f"free some space under {path.parent} and run the command again",
            ) from error
        raise


def write_record(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content`: after a crash it holds the old content or the new, never a part."""
    data = content.encode() if isinstance(content, str) else content
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                # mkstemp makes private files; records are as readable as the user's other files.
                os.fchmod(handle, 0o666 & ~_umask())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        _sync_folder(path.parent)


def parse_record(
    text: str, kind: type[Found], what: str, next_step: str, *, format: int | None = None, at: Path | None = None
) -> Found:
    """JSON that the program wrote, as a (pydantic) dataclass or model.

    Args:
        what: it should be, and `next_step`: what to do when it isn't, for the error.
        format: that its key `format` must have; the key is no part of `kind`.
        at: the file that it comes from.

    Raises:
        RecordDamaged: it can't be read, has another format, or isn't what was to be written.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        content = json.loads(text)
        if format is not None and (found := content.pop("format", None)) != format:
            raise ValueError(f"it has format {found}, and this program reads format {format}")
        # As JSON, in which tuples are lists.
        return TypeAdapter(kind).validate_json(json.dumps(content))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        reason: object = error
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            reason = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise RecordDamaged(f"{at or 'this'} can't be read as {what}: {reason}", next_step) from error


def read_record(path: Path, kind: type[Found], what: str, next_step: str, *, format: int | None = None) -> Found | None:
    """The JSON that was written to `path`; None where there is no such file. Raises as `parse_record` does."""
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RecordDamaged(f"{path} can't be read as {what}: {error}", next_step) from error
    return parse_record(text, kind, what, next_step, format=format, at=path)


def replace_folder(made: Path, final: Path, aside: Path) -> None:
    """Rename a finished folder to its place. What stood there goes to `aside`, and comes back if anything strikes."""
    try:
        if final.exists():
            final.rename(aside)
        made.rename(final)
    except BaseException:
        if aside.exists() and not final.exists():
            aside.rename(final)
        raise


def drop_unfinished(folder: Path) -> None:
    """Remove what killed writers left half-written in a folder that no other process writes to."""
    for path in folder.glob(".*.????????"):
        path.unlink(missing_ok=True)


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line to a journal and force it to disk; a torn line before it is cut off first.

    Raises:
        ArgumentError: the record has the key `crc32`, which holds the checksum.
    """
    if "crc32" in record:
        raise ArgumentError("the key 'crc32' of a record holds its checksum", "rename the key")
    content = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    comma = "," if record else ""
    line = f'{content[:-1]}{comma}"crc32":"{zlib.crc32(content.encode()):08x}"}}\n'
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        # Unbuffered: a buffer that could not be flushed would write the rest of the line when the file is closed.
        with open(path, "a+b", buffering=0) as file:
            end = _whole_lines_end(file.seek(0, os.SEEK_END), file)
            file.truncate(end)
            try:
                rest = memoryview(line.encode())
                while rest:
                    rest = rest[os.write(file.fileno(), rest) :]
                os.fsync(file.fileno())
            except BaseException:
                # Half a line must not stand between this record and the next one.
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), end)
                raise
        if is_new:
            _sync_folder(path.parent)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """All whole records of a journal, oldest first; a torn last line is not a record.

    Raises:
        RecordDamaged: a line isn't what was written.
    """
    records, damaged = _read_lines(path)
    if damaged:
        raise RecordDamaged(
            f"{path}:{damaged}: this line is not what was written",
            f"move {path.name} aside; other files are unaffected",
        )
    return records


def set_damage_aside(path: Path) -> str | None:
    """Where a line of a journal is damaged, keep the whole file as NAME.damaged and go on from the lines before it.

    Returns what happened, in words, or None when nothing was damaged.
    """
    records, damaged = _read_lines(path)
    if not damaged:
        return None
    aside = path.with_name(f"{path.name}.damaged")
    lines = path.read_bytes().split(b"\n")
    write_record(aside, b"\n".join(lines))
    write_record(path, b"".join(line + b"\n" for line in lines[: damaged - 1]))
    return (
        f"{path}:{damaged} was damaged: its last {len(lines) - damaged} records are set aside in {aside.name}, "
        f"and {len(records)} whole ones before them are used"
    )


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records up to the first damaged line, and its number; 0 when there is none."""
    if not path.exists():
        return [], 0
    records: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        checked = _CHECKED.search(line)
        content = line[: checked.start()] + b"}" if checked else b""
        if checked is None or int(checked[1], 16) != zlib.crc32(content):
            return records, number
        records.append(json.loads(content))
    return records, 0


def _whole_lines_end(size: int, file: Any) -> int:
    position = size
    while position > 0:
        step = min(4096, position)
        file.seek(position - step)
        chunk = file.read(step)
        newline = chunk.rfind(b"\n")
        if newline >= 0:
            return int(position - step + newline + 1)
        position -= step
    return 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
