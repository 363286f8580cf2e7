"""The inner speech of the last turn, for the user who asks to see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from overlay.tui.printable import printable

if TYPE_CHECKING:
    from overlay.inner import Dialogue


class InnerSpeech(ModalScreen[None]):
    """What each voice was asked and said, round by round; Esc or Ctrl+O goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+o", "dismiss", "Back", show=False),
    ]

    def __init__(self, heard: str, dialogue: Dialogue) -> None:
        """Show the dialogue that followed on what was heard."""
        super().__init__()
        self._heard = heard
        self._dialogue = dialogue

    def compose(self) -> ComposeResult:
        """Lay out the utterances."""
        with VerticalScroll(id="inner-speech") as box:
            box.border_title = "Inner dialogue"
            box.border_subtitle = "Esc goes back"
            yield Static(f"Heard: {printable(self._heard)}", markup=False, classes="quiet")
            yield Static(
                "None of this stood in the reply's context: only the state carried it over.",
                markup=False,
                classes="quiet",
            )
            for utterance in self._dialogue.utterances:
                yield Static(
                    Content.assemble(
                        (f"{utterance.voice}", "bold $accent"),
                        (f"  round {utterance.round} · frame {utterance.frame}\n", "$foreground 55%"),
                        (printable(utterance.question) + "\n", "italic $foreground 75%"),
                        printable(utterance.text.strip()) or "(no words)",
                    ),
                    markup=False,
                    classes="utterance",
                )
            yield Static(f"Ended at the {self._dialogue.ended}.", markup=False, classes="quiet")
