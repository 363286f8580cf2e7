"""The writer lock: one process at a time may write a memory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from overlay.errors import HomeLocked
from overlay.records import storage_errors


class WriterLock:
    """Held from construction until `release`, or until the process ends, however it ends.

    Raises:
        HomeLocked: another process, or another part of this one, holds it; its process id is named.
    """

    def __init__(self, path: Path) -> None:
        with storage_errors(path):
            self._file = open(path, "a+", encoding="ascii")  # noqa: SIM115 (held open as long as the lock)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.seek(0)
                holder = self._file.read().strip() or "unknown"
                self._file.close()
                raise HomeLocked(
                    f"process {holder} has {path.parent} open for writing",
                    "close it first, or open the memory for reading only",
                ) from None
            try:
                self._file.truncate(0)
                self._file.write(f"{os.getpid()}\n")
                self._file.flush()
            except OSError:
                # A full disk: closing tries to flush again, and the first error is the one to tell.
                with contextlib.suppress(OSError):
                    self._file.close()
                raise

    def release(self) -> None:
        """Let the next writer in; a second call changes nothing."""
        self._file.close()
