"""The stage line: what goes on just now, with a spinner, the seconds it takes, and how far it is."""

from __future__ import annotations

import time

from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_BAR = 24
_COUNTED = 10_000
"""More than this are bytes, which a percentage tells better."""


class Stage(Static):
    """One line that turns while something goes on, and is empty otherwise."""

    def __init__(self) -> None:
        super().__init__(id="stage", markup=False)
        self.doing = ""
        self._done: int | None = None
        self._total: int | None = None
        self._since = 0.0
        self._frame = 0
        self._timer: Timer | None = None

    def on_mount(self) -> None:
        """Start the clock, at rest while there is nothing to show."""
        self._timer = self.set_interval(1 / 10, self._tick, pause=not self.doing)

    def show(self, doing: str, done: int | None = None, total: int | None = None) -> None:
        """Show what goes on and, where it is known, how much of it is done; "" shows nothing."""
        if not self.doing:
            self._since = time.monotonic()
        self.doing = doing
        self._done, self._total = done, total
        if self._timer is not None:
            (self._timer.resume if doing else self._timer.pause)()
        self._draw()

    def _tick(self) -> None:
        self._frame += 1
        self._draw()

    def _draw(self) -> None:
        if not self.doing:
            self.update("")
            return
        line: list[str | tuple[str, str]] = [(SPINNER[self._frame % len(SPINNER)], "$accent"), " "]
        if self._done is not None and self._total:
            filled = round(_BAR * min(1.0, self._done / self._total))
            line += [("━" * filled, "$accent"), ("─" * (_BAR - filled), "$foreground 30%")]
            line += [
                f" {self._done / self._total:.0%}  " if self._total > _COUNTED else f" {self._done} of {self._total}  "
            ]
        line += [f"{self.doing}…"]
        if (seconds := int(time.monotonic() - self._since)) > 0:
            line += [(f"  {seconds} s", "$foreground 50%")]
        self.update(Content.assemble(*line))
