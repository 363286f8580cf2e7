"""The terminal faces of the agent: a chat application, and a chat line by line.

A home goes in; the user's turns go to the agent, and what comes back is shown as it comes: the
reply, and beside it the state, its cost, what was recalled and which frames woke. Nothing is
decided here, no model runs in the thread that draws, and inner speech is never shown unasked.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from overlay.tui.plain import plain_chat

if TYPE_CHECKING:
    from overlay.agent import Agent
    from overlay.home import Home
    from overlay.progress import Progress

__all__ = ["plain_chat", "run_chat"]


def run_chat(home: Home, dtype: str = "auto", session: str | None = None) -> None:
    """Talk to the agent of a home in the terminal until the user leaves.

    The application draws on stderr; where that is no terminal, the chat goes line by line.

    Raises:
        OverlayError: the agent can't be opened; the terminal is as it was before.
        KeyboardInterrupt: the user left before the agent was open.
    """
    if not sys.stderr.isatty():
        plain_chat(home, dtype, session)
        return
    # Textual takes a third of a second to import, and the plain chat does without it.
    from overlay.tui.app import ChatApp

    def open_agent(progress: Progress) -> Agent:
        from overlay.agent import Agent

        return Agent.open(home, dtype=dtype, session=session, progress=progress)

    app = ChatApp(home, open_agent)
    try:
        app.run()
    finally:
        if app.agent is not None:
            app.agent.close()
    if app.failure is not None:
        raise app.failure
    if app.return_code:
        raise SystemExit(app.return_code)
