"""Progress: how far long work is, told to whoever wants to know."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class Progress(Protocol):
    """Who is told how far a pull is."""

    def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        """`done` of `total` of what is described, None where it isn't known; `detail` is how it goes right now."""


class SilentProgress:
    """Tells nobody."""

    def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        """Do nothing."""


class ConsoleProgress:
    """Bars on stderr inside a `with`; plain single lines where stderr is no terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._description: str | None = None

    def __enter__(self) -> ConsoleProgress:
        stream = self._stream or sys.stderr
        if stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            self._bars = Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[detail]}", markup=False, style="dim"),
                console=Console(file=stream),
            )
            self._bars.start()
        return self

    def __exit__(self, exception_type: type[BaseException] | None, *_: object) -> None:
        if self._bars is not None:
            if exception_type is None:
                self._finish_task(self._bars)
            self._bars.stop()
            self._bars = None
        self._task = None
        self._description = None

    def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        """Draw the bar, or print the line when a new step begins."""
        is_new = description != self._description
        self._description = description
        if self._bars is None:
            if is_new:
                print(description, file=self._stream or sys.stderr, flush=True)
            return
        if is_new:
            self._finish_task(self._bars)
            self._task = self._bars.add_task(description, total=total, detail=detail)
        if self._task is not None and done is not None:
            self._bars.update(self._task, completed=done, total=total, detail=detail)

    def _finish_task(self, bars: Bars) -> None:
        if self._task is not None:
            total = bars.tasks[bars.task_ids.index(self._task)].total or 1
            bars.update(self._task, total=total, completed=total)
            self._task = None
