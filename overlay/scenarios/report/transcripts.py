"""Transcripts side by side: the same chat in two arms, and the character from which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ARMS = ("base", "treated")


@dataclass(frozen=True)
class Spoken:
    """One message of one arm: `text` as in the other arm so far, `other` from the first difference on.

    `splits` is true for the message in which the two part.
    """

    role: str
    text: str
    other: str = ""
    splits: bool = False


@dataclass(frozen=True)
class SideBySide:
    """One episode in two arms: `shared` messages come first, then each arm's own."""

    item: str
    paraphrase: int | None
    shared: tuple[Spoken, ...]
    base: tuple[Spoken, ...]
    treated: tuple[Spoken, ...]

    @property
    def columns(self) -> dict[str, tuple[Spoken, ...]]:
        """The messages from the first difference on, by arm; both empty where the arms never differ."""
        return {"base": self.base, "treated": self.treated}


def side_by_side(transcript: Mapping[str, Any]) -> SideBySide:
    """Cut both chats at the first divergence that the result states.

    Where the stated place does not fit the texts (what comes before it differs), nothing is shown as shared: the
    texts are what was recorded, the place is only a help for the eye.
    """
    chats = [list(transcript.get(arm) or []) for arm in ARMS]
    divergence = transcript.get("divergence")
    message, character = len(chats[0]), 0
    if divergence is not None:
        message, character = max(0, int(divergence["message"])), max(0, int(divergence["character"]))
    elif chats[0] != chats[1]:
        message = 0
    if [_said(one) for one in chats[0][:message]] != [_said(one) for one in chats[1][:message]]:
        message, character = 0, 0
    starts = [_said(chat[message])[1][:character] if message < len(chat) else "" for chat in chats]
    if starts[0] != starts[1]:
        character = 0
    own = [_cut(chat[message:], character) for chat in chats]
    paraphrase = transcript.get("paraphrase")
    return SideBySide(
        item=str(transcript.get("item", "")),
        paraphrase=None if paraphrase is None else int(paraphrase),
        shared=tuple(Spoken(*_said(one)) for one in chats[0][:message]),
        base=own[0],
        treated=own[1],
    )


def _cut(chat: Sequence[Mapping[str, Any]], character: int) -> tuple[Spoken, ...]:
    spoken = []
    for order, message in enumerate(chat):
        role, text = _said(message)
        spoken.append(Spoken(role, text[:character], text[character:], True) if order == 0 else Spoken(role, text))
    return tuple(spoken)


def _said(message: Mapping[str, Any]) -> tuple[str, str]:
    return str(message.get("role", "")), str(message.get("text", ""))
