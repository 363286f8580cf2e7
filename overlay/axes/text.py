"""Texts: what an axis is made from and checked on, plain text or a chat whose last message is what counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from overlay.documents import MistakeAt
from overlay.errors import ArgumentError
from overlay.model import Message, Row

Text = str | tuple[Message, ...]
"""Plain text, or the messages of a chat, oldest first. Activations are read over its last message."""

ROLES = ("system", "user", "assistant")

OPENING_WORDS = 3
"""Words of a plain text that are given before the likelihood of the rest is scored."""


def parse_text(value: Any) -> Text:
    """A text as people write it in YAML: a string, or a list of messages with `role` and `text`.

    Raises:
        MistakeAt: what is wrong with which message.
    """
    if isinstance(value, str):
        return _filled(value, (), "text")
    if not isinstance(value, list | tuple):
        raise MistakeAt((), "expected a text, or a chat: a list of messages with role and text")
    if not value:
        raise MistakeAt((), "a chat needs at least one message")
    chat = tuple(_parse_message(message, place) for place, message in enumerate(value))
    for place, message in enumerate(chat):
        if message.role == "system" and place > 0:
            raise MistakeAt((place, "role"), "a system message can only stand first")
    if chat[-1].role == "system":
        raise MistakeAt(
            (len(chat) - 1, "role"), "the last message is what is read: let it be the user's or assistant's"
        )
    return chat


def _parse_message(value: Any, place: int) -> Message:
    if isinstance(value, Message):
        value = {"role": value.role, "text": value.text}
    if not isinstance(value, Mapping):
        raise MistakeAt((place,), "a message of a chat has the keys role and text")
    for key in value:
        if key not in ("role", "text"):
            raise MistakeAt((place, str(key)), f"'{key}' is not a known key: a message has role and text")
    for key in ("role", "text"):
        if key not in value:
            raise MistakeAt((place,), f"this message has no {key}")
    if value["role"] not in ROLES:
        raise MistakeAt((place, "role"), f"'{value['role']}' is not a role: use {', '.join(ROLES)}")
    if not isinstance(value["text"], str):
        raise MistakeAt((place, "text"), "a message's text is a string: put it in quotes")
    return Message(value["role"], _filled(value["text"], (place, "text"), "message"))


def _filled(text: str, place: tuple[str | int, ...], what: str) -> str:
    if not text.strip():
        raise MistakeAt(place, f"this {what} is empty")
    return text


def text_parts(text: Text) -> tuple[str, ...]:
    """All that is written in it: the text itself, or the text of each message."""
    return (text,) if isinstance(text, str) else tuple(message.text for message in text)


def change_text(text: Text, change: Callable[[str], str]) -> Text:
    """The same text with every part changed; roles stay."""
    if isinstance(text, str):
        return change(text)
    return tuple(replace(message, text=change(message.text)) for message in text)


def text_row(text: Text) -> Row:
    """The row that a model observes it by."""
    return Row(text=text) if isinstance(text, str) else Row(messages=text)


def text_content(text: Text) -> Any:
    """The text as JSON can hold it, as it stands in a file; different texts have different content."""
    return text if isinstance(text, str) else [{"role": message.role, "text": message.text} for message in text]


def likelihood_row(text: Text) -> Row:
    """The row whose single option's likelihood is that of the text.

    An assistant's last message is scored as the reply to what came before it. Of any other text the
    first words are given and the rest is scored, without a chat around it.

    Raises:
        ArgumentError: nothing is left to score after the first words.
    """
    if not isinstance(text, str) and len(text) > 1 and text[-1].role == "assistant":
        return Row(messages=text[:-1], options=(text[-1].text,))
    words = text_parts(text)[-1].split()
    if len(words) <= OPENING_WORDS:
        raise ArgumentError(
            f"the text '{' '.join(words)}' is too short for its likelihood to be measured",
            f"write more than {OPENING_WORDS} words",
        )
    return Row(text=" ".join(words[:OPENING_WORDS]), options=(" " + " ".join(words[OPENING_WORDS:]),))
