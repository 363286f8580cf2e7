"""Streams: pieces of a text as its tokens come, none of which is ever taken back."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator
from typing import Any

from transformers.generation.streamers import BaseStreamer

from overlay.errors import GenerationFailed
from overlay.model.row import Completion, Row

POLL = 0.2
"""Seconds between two looks at whether the worker is still alive."""

_UNFINISHED_WORD = re.compile(r"\w+\Z")


class PieceStream(BaseStreamer):
    """Takes tokens from the library's own `generate` in one thread and gives pieces of text in another."""

    def __init__(self, tokenizer: Any, row: Row) -> None:
        self._tokenizer = tokenizer
        self._row = row
        self._held_back = max((len(stop) for stop in row.sampling.stop), default=1) - 1
        self._tokens: list[int] = []
        self._prompt_passed = False
        self._given = ""
        self._queue: queue.SimpleQueue[str | Completion | BaseException] = queue.SimpleQueue()

    def begin(self, kept: list[int]) -> None:
        """Another pass begins, with these tokens; a row that bans text goes back and forth."""
        self._tokens = list(kept)
        self._prompt_passed = False

    def put(self, value: Any) -> None:
        """New tokens, (rows,) or (rows, tokens); the first call brings the prompt, and only the first row counts."""
        if not self._prompt_passed:
            self._prompt_passed = True
            return
        self._tokens.append(int(value.flatten()[0]))
        text = str(self._tokenizer.decode(self._tokens, skip_special_tokens=True)).rstrip("\ufffd")
        if self._row.intervention.bans:
            # A banned word is undone back to its first letter.
            text = _UNFINISHED_WORD.sub("", text)
        self._give(text[: len(text) - self._held_back] if self._held_back else text)

    def end(self) -> None:
        """The library's own end of a pass; ours comes with `finish`."""

    def finish(self, outcome: Completion | BaseException) -> None:
        """Nothing more comes."""
        self._queue.put(outcome)

    def _give(self, text: str) -> None:
        if len(text) > len(self._given) and text.startswith(self._given):
            self._queue.put(text[len(self._given) :])
            self._given = text

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
                rest = item.text.removeprefix(self._given.lstrip())
                if rest and item.text.startswith(self._given.strip()):
                    yield rest
                yield item
                return
            yield item
