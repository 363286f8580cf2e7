"""The prompt: one line to type in, which remembers what was sent."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import Input


class Prompt(Input):
    """An input whose up and down arrows walk through the earlier lines and back to the unsent one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "earlier", "Earlier", show=False),
        Binding("down", "later", "Later", show=False),
    ]

    def __init__(self, placeholder: str = "") -> None:
        super().__init__(placeholder=placeholder, select_on_focus=False, disabled=True)
        self._sent: list[str] = []
        self._place = 0
        self._draft = ""

    def take(self) -> str:
        """What was typed; it is remembered, and the line is empty afterwards."""
        text = self.value.strip()
        if text and self._sent[-1:] != [text]:
            self._sent.append(text)
        self._place = len(self._sent)
        self._draft = ""
        self.value = ""
        return text

    def action_earlier(self) -> None:
        """Show the line sent before the one that is shown."""
        if self._place == len(self._sent):
            self._draft = self.value
        self._show(max(0, self._place - 1))

    def action_later(self) -> None:
        """Show the line sent after the one that is shown, at last the unsent one."""
        self._show(min(len(self._sent), self._place + 1))

    def _show(self, place: int) -> None:
        if place != self._place:
            self._place = place
            self.value = self._sent[place] if place < len(self._sent) else self._draft
            self.cursor_position = len(self.value)

    def _on_paste(self, event: events.Paste) -> None:
        # The stock input keeps the first line of a paste and drops the rest without a word.
        event.prevent_default()
        event.stop()
        self.replace(" ".join(event.text.split()), *sorted(self.selection))
