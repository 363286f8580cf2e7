"""Streams: pieces of a text as its tokens come, none of which is ever taken back."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

from transformers.generation.streamers import BaseStreamer

from overlay.errors import GenerationFailed
from overlay.model.ban import BanList
from overlay.model.decoding import first_step
from overlay.model.row import Completion, Row

POLL = 0.2
"""Seconds between two looks at whether the worker is still alive."""


class PieceStream(BaseStreamer):
    """Follows a row through the library's own `generate` in one thread and gives pieces of text in another.

    What was given is always a beginning of the completion's text, so that the pieces joined are that text.
    """

    def __init__(self, tokenizer: Any, row: Row) -> None:
        self._tokenizer = tokenizer
        self._stops = row.sampling.stop
        self._held_back = max((len(stop) for stop in self._stops), default=1) - 1
        self._bans = BanList(row.intervention.bans) if row.intervention.bans else None
        self._kept: list[int] = []
        self._given = ""
        self._queue: queue.SimpleQueue[str | Completion | BaseException] = queue.SimpleQueue()

    def begin(self, kept: list[int]) -> None:
        """A pass begins. The row's own list of tokens is followed: it shrinks where the row turns back."""
        self._kept = kept

    def put(self, value: Any) -> None:
        """The prompt passed, or a step; what it brought is in the row's list unless the row turned back."""
        # A character of which only some bytes have come may yet be one of a stop string.
        text = self._text(self._kept).rstrip("\ufffd")
        text = text[: min((text.find(stop) for stop in self._stops if stop in text), default=len(text))]
        text = text[: len(text) - self._held_back] if self._held_back else text
        if self._bans is not None:
            step = first_step(self._tokenizer, self._kept, self._bans.settled(text))
            text = self._text(self._kept[:step])
        self._give(text.rstrip("\ufffd").strip())

    def end(self) -> None:
        """The library's own end of a pass; ours comes with `finish`."""

    def finish(self, outcome: Completion | BaseException) -> None:
        """Nothing more comes."""
        self._queue.put(outcome)

    def _give(self, text: str) -> None:
        if len(text) > len(self._given):
            self._queue.put(text[len(self._given) :])
            self._given = text

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def pieces(self, worker: threading.Thread) -> Iterator[str | Completion]:
        """What comes, last the completion; raises what the worker raised, or that it was killed."""
        while True:
            try:
                item = self._queue.get(timeout=POLL)
            except queue.Empty:
                if worker.is_alive():
                    continue
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    raise GenerationFailed("the generating thread was killed") from None
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, Completion):
                if rest := item.text[len(self._given) :]:
                    yield rest
                yield item
                return
            yield item
