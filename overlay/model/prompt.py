"""Prompts: a row's messages or text as tokens, and where in them a piece of text stands."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from overlay.errors import ArgumentError, InterventionError
from overlay.model.row import Encoded, Message, Row

REMEMBERED = 4096
"""Encoded prompts that are kept: each row is encoded when it is batched and again when it is run."""

_MARK = "[what the system says]"


class Prompts:
    """Encodes rows with one tokenizer; without a chat template, messages are written as "Role: text" lines."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._encoded = lru_cache(REMEMBERED)(self._encode)
        self._own_system = lru_cache(1)(self._find_own_system)

    def encode(self, row: Row) -> Encoded:
        """A row's prompt as tokens, with the position at which its current turn begins."""
        return self._encoded(row.messages, row.text)

    def own_system(self) -> str:
        """What the chat template says as the system where nobody does; empty for most."""
        return self._own_system(getattr(self._tokenizer, "chat_template", None))

    def _find_own_system(self, template: object) -> str:
        asked = Message("user", "?")
        try:
            bare, _ = self._render((asked,), reply=True)
            told, _ = self._render((Message("system", _MARK), asked), reply=True)
        except ArgumentError:
            return ""
        before, _, after = told.partition(_MARK)
        if not (bare.startswith(before) and bare.endswith(after) and len(bare) > len(before) + len(after)):
            return ""
        return bare[len(before) : len(bare) - len(after)].strip()

    def locate(self, row: Row, text: str) -> tuple[int, ...]:
        """The positions of all tokens that overlap `text`, wherever it stands in the row's prompt.

        Raises:
            InterventionError: the text doesn't stand in the prompt, or the tokenizer can't say where its tokens are.
        """
        whole, special = (row.text, True) if row.text is not None else self._render(row.messages, reply=True)
        if not getattr(self._tokenizer, "is_fast", False):
            raise InterventionError("this tokenizer doesn't say where its tokens stand", "name positions instead")
        offsets = self._tokenizer(whole, add_special_tokens=special, return_offsets_mapping=True)["offset_mapping"]
        places: set[int] = set()
        wanted = text.strip()
        start = whole.find(wanted)
        while start >= 0:
            stop = start + len(wanted)
            places |= {index for index, (begin, end) in enumerate(offsets) if begin < stop and end > max(start, begin)}
            start = whole.find(wanted, start + 1)
        if not places:
            raise InterventionError(
                f"a focus on '{_shorten(wanted)}', which doesn't stand in the prompt",
                "copy it from the prompt as it is",
            )
        return tuple(sorted(places))

    def _encode(self, messages: tuple[Message, ...], text: str | None) -> Encoded:
        if text is not None:
            return Encoded(tuple(self._tokenizer(text)["input_ids"]), 0)
        tokens = self._tokens(messages, reply=True)
        earlier = self._tokens(messages[:-1], reply=False) if len(messages) > 1 else ()
        shared = 0
        while shared < min(len(earlier), len(tokens)) and earlier[shared] == tokens[shared]:
            shared += 1
        return Encoded(tokens, shared)

    def _tokens(self, messages: Sequence[Message], reply: bool) -> tuple[int, ...]:
        text, special = self._render(messages, reply)
        return tuple(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def _render(self, messages: Sequence[Message], reply: bool) -> tuple[str, bool]:
        """The chat as text, and whether the tokenizer has to add its special tokens to it."""
        chat = [{"role": message.role, "content": message.text} for message in messages]
        if getattr(self._tokenizer, "chat_template", None):
            try:
                return self._tokenizer.apply_chat_template(chat, add_generation_prompt=reply, tokenize=False), False
            except TemplateError as error:
                roles = ", ".join(message.role for message in messages)
                raise ArgumentError(
                    f"this model's chat template refuses messages of {roles}: {error}",
                    "some models know no system role, or want user and assistant to take turns",
                ) from error
        text = "".join(f"{turn['role'].capitalize()}: {turn['content']}\n" for turn in chat)
        return text + ("Assistant:" if reply else ""), True


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
