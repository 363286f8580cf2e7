"""Records: the files that the program writes, whole or not at all.

A record file is replaced atomically; a journal grows line by line and forgives one torn last
line, which is what a killed process leaves behind.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from overlay.errors import RecordDamaged, StorageFull

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line to a journal and force it to disk; a torn line before it is cut off first."""
    line = json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
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
        RecordDamaged: a line other than the last isn't JSON.
    """
    if not path.exists():
        return []
    records: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise RecordDamaged(
                f"{path}:{number}: this line is not a record", f"move {path.name} aside; other sessions are unaffected"
            ) from None
    return records


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
