"""Trial chats: the part of an episode's chat that all arms share, up to what the agent itself did."""

from __future__ import annotations

from overlay.model import Message
from overlay.scenarios.transcript import Transcript


def trial_chat(transcript: Transcript) -> tuple[Message, ...]:
    """What was said in the trial, without system messages and without the turns that an arm had before the trial.

    An instruction stands in the system message and a text on a topic in earlier turns: who read them would know the
    arm. Where a chat doesn't hold a reply for each event, nothing can be said of where the trial begins, and only
    what the agent did is given.
    """
    start = _start(transcript)
    if start is None:
        return tuple(Message("assistant", event.text) for event in transcript.events)
    return tuple(message for message in transcript.messages[start:] if message.role != "system")


def task_of(transcript: Transcript) -> str:
    """What the agent was given to do: the setting, and the trial's turns."""
    if _start(transcript) is None:
        return transcript.task.strip()
    setting = [message.text for message in transcript.messages if message.role == "system"]
    turns = [message.text for message in trial_chat(transcript) if message.role != "assistant"]
    return "\n\n".join([*setting, *turns]).strip()


def _start(transcript: Transcript) -> int | None:
    """Where the trial begins: with what stands before the reply that the first event made."""
    messages = transcript.messages
    replies = [place for place, message in enumerate(messages) if message.role == "assistant"]
    done = len(transcript.events)
    if not 0 < done <= len(replies):
        return None
    start = replies[-done]
    while start > 0 and messages[start - 1].role != "assistant":
        start -= 1
    return start
