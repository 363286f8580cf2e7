"""The plain chat: lines in, replies out; works in any terminal and through a pipe."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from overlay.errors import ArgumentError, OverlayError
from overlay.progress import ConsoleProgress
from overlay.tui.printable import printable
from overlay.tui.status import note_words, state_words, status_line

if TYPE_CHECKING:
    from types import FrameType

    from overlay.agent import Agent, Reply
    from overlay.home import Home

PROMPT = "you> "

HELP = """\
/state     where the state is
/recalled  the notes that the last turn recalled, with their scores
/help      this list
/quit      leave (so does Ctrl-D)
Ctrl-C stops a reply; what was said so far is kept."""

_COMMAND = re.compile(r"/[a-z]+")


def plain_chat(home: Home, dtype: str = "auto", session: str | None = None) -> None:
    """Answer each line of stdin on stdout until it ends or says /quit; progress goes to stderr.

    Raises:
        OverlayError: the agent can't be opened or, unless a person types the lines, a turn failed.
        KeyboardInterrupt: Ctrl-C before the agent was open, or a second one during a reply.
    """
    from overlay.agent import Agent

    with ConsoleProgress() as progress:
        agent = Agent.open(home, dtype=dtype, session=session, progress=progress)
    with agent:
        for notice in agent.notices:
            print(notice, file=sys.stderr, flush=True)
        _Chat(agent).run()


class _Chat:
    """One chat over the process's own streams."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._last: Reply | None = None
        self._is_typed = sys.stdin.isatty()
        self._is_seen = sys.stdout.isatty()
        # Where nobody watches, stdout carries the answers alone, so that a program can read them.
        self._status = sys.stdout if self._is_seen else sys.stderr

    def run(self) -> None:
        """Read and answer until the input ends."""
        if self._is_typed:
            with suppress(ImportError):
                import readline  # noqa: F401 - input() then recalls and edits lines
            self._say_status("/help lists the commands, /quit leaves")
        for line in _lines(self._is_typed):
            text = line.strip()
            if text == "/quit":
                return
            if _COMMAND.fullmatch(text):
                self._obey(text)
            elif text:
                self._answer(text)

    def _obey(self, command: str) -> None:
        if command == "/help":
            print(HELP, flush=True)
        elif command == "/state":
            print(state_words(self._agent.state.values), flush=True)
        elif command == "/recalled":
            recalled = self._last.recalled if self._last else ()
            lines = [f"{entry.score:.2f}  {note_words(entry)}  [{entry.note.id}]" for entry in recalled]
            print("\n".join(lines) or "nothing was recalled", flush=True)
        else:
            print(f"there is no command {command}; /help lists them", file=sys.stderr, flush=True)

    def _answer(self, text: str) -> None:
        from overlay.agent import Listener

        pieces: list[str] = []

        def write(piece: str) -> None:
            pieces.append(piece)
            sys.stdout.write(printable(piece) if self._is_seen else piece)
            sys.stdout.flush()

        try:
            with _interrupt_sets(threading.Event()) as cancelled:
                reply = self._agent.turn(text, listener=Listener(piece=write), cancelled=cancelled)
        except OverlayError as error:
            if pieces:
                print(flush=True)
            # A person reads the message and goes on; a program must see the exit code.
            if not self._is_typed:
                raise
            print(f"{error}", file=sys.stderr, flush=True)
            return
        self._last = reply
        print(flush=True)
        stopped = {"cancelled": "stopped · ", "length": "cut at max_tokens · "}.get(reply.record.ended, "")
        self._say_status(stopped + status_line(reply, self._agent.home.settings.budget))

    def _say_status(self, line: str) -> None:
        is_dim = self._status.isatty() and "NO_COLOR" not in os.environ
        print(f"\x1b[2m{line}\x1b[0m" if is_dim else line, file=self._status, flush=True)


def _lines(is_typed: bool) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        try:
            # Bytes, line by line: a text stream decodes ahead, and would blame the wrong line.
            line = _ask() if is_typed else sys.stdin.buffer.readline().decode(sys.stdin.encoding, "strict")
        except UnicodeDecodeError as error:
            raise ArgumentError(
                f"line {number} of the input is not {error.encoding} text", "convert the input to UTF-8"
            ) from None
        except (EOFError, KeyboardInterrupt):
            line = ""
        if not line:
            if is_typed:
                print(file=_prompt_stream())
            return
        yield line


def _ask() -> str:
    """One typed line with its end, or nothing at the end of the input."""
    if _prompt_stream() is sys.stdout:
        return input(PROMPT) + "\n"
    print(PROMPT, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _prompt_stream() -> TextIO:
    return sys.stdout if sys.stdout.isatty() else sys.stderr


@contextmanager
def _interrupt_sets(cancelled: threading.Event) -> Iterator[threading.Event]:
    """Ctrl-C sets the event while this is open; a second one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield cancelled  # only the main thread may handle signals
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if cancelled.is_set():
            raise KeyboardInterrupt
        cancelled.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield cancelled
    finally:
        signal.signal(signal.SIGINT, before)
