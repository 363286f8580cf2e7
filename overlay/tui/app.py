"""The chat application: the conversation, a prompt below it, and a panel beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Footer, Static

from overlay.errors import OverlayError
from overlay.tui.inner_speech import InnerSpeech
from overlay.tui.panel import Panel
from overlay.tui.printable import printable
from overlay.tui.prompt import Prompt
from overlay.tui.stage import Stage
from overlay.tui.status import status_line

if TYPE_CHECKING:
    from overlay.agent import Agent, Reply
    from overlay.home import Home
    from overlay.progress import Progress

PANEL_FROM = 90
"""Columns of a terminal from which the panel is shown unless the user decides otherwise."""

WELCOME = (
    "The model's weights stay as they are. What is said here moves a state that stands in no text; "
    "the panel shows where it is, and what its influence costs."
)


class Said(Static):
    """One thing said in the conversation; it can grow while it is being said."""

    def __init__(self, text: str = "", role: str = "note") -> None:
        self.text = printable(text)
        super().__init__(self.text, markup=False, classes=f"said {role}")

    def say(self, text: str) -> None:
        """Replace what was said."""
        self.text = printable(text)
        self.update(self.text)

    def add(self, piece: str) -> None:
        """Say on."""
        self.say(self.text + piece)


class ChatApp(App[None], inherit_bindings=False):
    """Talk to one agent. The agent is opened, and answers, in threads of its own.

    Attributes:
        agent: the open agent; whoever runs the app closes it afterwards.
        failure: why the app left, when it was not the user's wish.
    """

    CSS_PATH = "style.tcss"
    TITLE = "overlay chat"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        # Before the prompt, which takes these keys to scroll itself.
        Binding("pageup", "scroll('up')", "Scroll", key_display="PgUp/PgDn", priority=True),
        Binding("pagedown", "scroll('down')", "Scroll", show=False, priority=True),
        Binding("escape", "stop", "Stop the reply"),
        Binding("ctrl+b", "panel", "Panel"),
        Binding("ctrl+o", "inner_speech", "Inner speech"),
        Binding("ctrl+q", "leave", "Quit", priority=True),
        Binding("ctrl+c", "copy_or_leave", "Quit", priority=True, show=False),
    ]

    def __init__(self, home: Home, open_agent: Callable[[Progress], Agent]) -> None:
        """Show the chat with the agent of `home`, which `open_agent` opens in a thread of its own."""
        super().__init__()
        self.agent: Agent | None = None
        self.failure: BaseException | None = None
        self._home = home
        self._open_agent = open_agent
        self._panel_wanted: bool | None = None
        self._leaving = False
        self._cancelled: threading.Event | None = None
        self._reply: Said | None = None
        self._last: Reply | None = None
        self._heading = Static(self._title(), id="heading", markup=False)
        self._turns = Vertical(Said(WELCOME), id="turns")
        self._conversation = VerticalScroll(self._turns, id="conversation", can_focus=False)
        self._stage = Stage()
        self._prompt = Prompt("getting ready")
        self._panel = Panel(home.settings)

    @property
    def is_answering(self) -> bool:
        """Whether a turn runs."""
        return self._cancelled is not None

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield self._heading
        with Horizontal():
            with Vertical():
                yield self._conversation
                yield self._stage
                yield self._prompt
            yield self._panel
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Open the agent, while the screen already shows."""
        self._conversation.anchor()
        self._show_stage("opening the home")
        self.run_worker(self._open, thread=True)

    def on_resize(self, event: events.Resize) -> None:
        """Show the panel where there is room for it."""
        self._place_panel(event.size.width)

    # --- opening ---------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            agent = self._open_agent(_AppProgress(self))
        except (Exception, KeyboardInterrupt) as error:
            self.call_from_thread(self._fail, error)
        else:
            self.call_from_thread(self._opened, agent)

    def _opened(self, agent: Agent) -> None:
        self.agent = agent
        if self._leaving:
            self.exit()
            return
        self._heading.update(self._title())
        self._panel.show_state(agent.state.values, agent.state.values)
        for notice in agent.notices:
            self.notify(notice, severity="warning", timeout=30)
        self._listen()

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self.exit(return_code=1)

    # --- a turn ----------------------------------------------------------------------------------

    def on_input_submitted(self) -> None:
        """Give what was typed to the agent."""
        prompt = self._prompt
        if self.agent is None or self.is_answering or self._leaving or not prompt.value.strip():
            return
        text = prompt.take()
        prompt.disabled = True
        prompt.placeholder = "Esc stops the reply"
        # Whoever scrolled back wants to see the answer to what they send now.
        self._conversation.anchor()
        self._say(text, "user")
        self._reply = None
        self._cancelled = threading.Event()
        self._show_stage("reading")
        self.refresh_bindings()
        self.run_worker(partial(self._take_turn, self.agent, text, self._cancelled), thread=True)

    def _take_turn(self, agent: Agent, text: str, cancelled: threading.Event) -> None:
        from overlay.agent import Listener

        before = dict(agent.state.values)

        def hear(function: Callable[..., None], *more: object) -> Callable[[Any], None]:
            return lambda heard: self.call_from_thread(function, heard, *more)

        listener = Listener(
            stage=hear(self._show_stage),
            recalled=hear(self._panel.show_recalled),
            state=hear(self._panel.show_state, before),
            piece=hear(self._hear_piece),
        )
        try:
            reply = agent.turn(text, listener=listener, cancelled=cancelled)
        except OverlayError as error:
            self.call_from_thread(self._turn_failed, error, text, before)
        except Exception as error:
            self.call_from_thread(self._fail, error)
        else:
            self.call_from_thread(self._answered, reply)

    def _hear_piece(self, piece: str) -> None:
        if self._reply is None:
            self._reply = self._say("", "reply")
        self._reply.add(piece)

    def _answered(self, reply: Reply) -> None:
        self._last = reply
        said = self._reply or self._say("", "reply")
        said.say(reply.text or "(no words)")
        panel = self._panel
        panel.show_state(reply.state, reply.record.state_before)
        panel.show_volatility(reply.volatility)
        panel.show_recalled(reply.recalled)
        panel.show_frames(reply.frames)
        panel.show_dialogue(reply.dialogue)
        ended = {"cancelled": "stopped here · ", "length": "cut at max_tokens · "}.get(reply.record.ended, "")
        self._say(ended + status_line(reply, self._home.settings.budget), "status")
        self._listen()

    def _turn_failed(self, error: OverlayError, text: str, before: Mapping[str, float]) -> None:
        if self._reply is not None:
            self._reply.add_class("lost")
        next_step = f"\n→ {error.next_step}" if error.next_step else ""
        self._say(f"This turn was not kept: {error.problem}{next_step}", "error")
        self._panel.show_state(before, before)
        prompt = self._prompt
        prompt.value = text
        prompt.cursor_position = len(text)
        self._listen()

    def _listen(self) -> None:
        """Be ready for the next turn, or leave when that was asked for meanwhile."""
        self._cancelled = None
        self._reply = None
        if self._leaving:
            self.exit()
            return
        self._show_stage("")
        self.refresh_bindings()
        prompt = self._prompt
        prompt.placeholder = "Say something; Enter sends it"
        prompt.disabled = False
        prompt.focus()

    # --- keys ------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Stop and inner speech are dim while there is nothing to stop or to show; a modal scrolls itself."""
        if action == "stop":
            return True if self.is_answering else None
        if action == "inner_speech":
            return True if self._last is not None and self._last.dialogue is not None else None
        if action == "scroll":
            return not isinstance(self.screen, InnerSpeech)
        return True

    def action_stop(self) -> None:
        """Stop the reply; what was said so far is kept."""
        if self._cancelled is not None:
            self._cancelled.set()
            self._show_stage("stopping")

    def action_panel(self) -> None:
        """Show or hide the panel, whatever the width."""
        self._panel_wanted = not self._panel.display
        self._place_panel(self.size.width)

    def action_inner_speech(self) -> None:
        """Show what the voices said in the last turn."""
        if self._last is not None and self._last.dialogue is not None:
            self.push_screen(InnerSpeech(self._last.record.user, self._last.dialogue))

    def action_scroll(self, where: str) -> None:
        """Scroll the conversation by a page."""
        if where == "up":
            self._conversation.scroll_page_up()
        else:
            self._conversation.scroll_page_down()

    def action_copy_or_leave(self) -> None:
        """Copy what is selected; without a selection, leave."""
        selected = self.screen.get_selected_text() or self._prompt.selected_text
        if selected:
            self.copy_to_clipboard(selected)
            self.screen.clear_selection()
            self.notify("Copied")
        else:
            self.action_leave()

    async def action_quit(self) -> None:
        """Leave as any other key that leaves does."""
        self.action_leave()

    def action_leave(self) -> None:
        """Leave; a turn that runs is stopped and kept first."""
        if self._leaving:
            return
        if self.agent is not None and self._cancelled is None:
            self.exit()
            return
        self._leaving = True
        if self._cancelled is not None:
            self._cancelled.set()
        self._show_stage("leaving")

    # --- drawing ---------------------------------------------------------------------------------

    def _title(self) -> Content:
        settings = self._home.settings
        model = f"{settings.model} · {self.agent.model.dtype}" if self.agent is not None else settings.model
        folder = self._home.folder
        if folder.is_relative_to(Path.home()):
            folder = "~" / folder.relative_to(Path.home())
        return Content.assemble((f" {settings.name} ", "bold reverse"), f"  {model}  ·  {folder}")

    def _show_stage(self, stage: str) -> None:
        if self._leaving:
            stage = "leaving when this step is done"
        elif self._cancelled is not None and self._cancelled.is_set():
            stage = "stopping"
        self._stage.show(stage)

    def show_progress(self, description: str, done: int | None, total: int | None) -> None:
        """Show how far the opening is."""
        if not self._leaving:
            self._stage.show(description, done, total)

    def _say(self, text: str, role: str) -> Said:
        said = Said(text, role)
        self._turns.mount(said)
        return said

    def _place_panel(self, width: int) -> None:
        wanted = self._panel_wanted
        self._panel.display = width >= PANEL_FROM if wanted is None else wanted

    @property
    def is_leaving(self) -> bool:
        """Whether the user asked to leave."""
        return self._leaving


class _AppProgress:
    """Tells the app how far the opening is, and stops the opening once the user wants to leave."""

    def __init__(self, app: ChatApp) -> None:
        self._app = app

    def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        """Show the step. Raises KeyboardInterrupt when the user is leaving."""
        if self._app.is_leaving:
            raise KeyboardInterrupt
        doing = f"{description}, {detail}" if detail else description
        self._app.call_from_thread(self._app.show_progress, doing, done, total)
