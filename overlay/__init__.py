"""Overlay: an agent that wraps an unchanged local language model and measures what influences it.

from overlay import Agent

with Agent.open("my-home") as agent:
    reply = agent.turn("Good morning.")
    print(reply.text, reply.state, reply.volatility)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from overlay.agent import Agent, Reply
    from overlay.home import Home

__version__ = "0.1.0"

__all__ = ["Agent", "Home", "Reply", "__version__"]


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import: a program that only asks for the version must not wait for it.
    if name in ("Agent", "Reply"):
        from overlay import agent

        return getattr(agent, name)
    if name == "Home":
        from overlay.home import Home

        return Home
    raise AttributeError(f"module 'overlay' has no attribute '{name}'")
