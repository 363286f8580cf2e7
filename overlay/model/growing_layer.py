"""A cache layer with room to grow: a decoded token is written into place, and nothing before it is copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Positions that are kept free. The library's own layer copies all keys and values for every token: with a thousand
tokens of history and four rows that was a fifth of a decoding step."""


class GrowingLayer(DynamicLayer):
    """`keys` and `values`, (rows, heads, tokens, width), are views of two buffers that have some room left."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: Tensor
        self.values: Tensor
        self._buffers: list[Tensor] = []

    def fill(self, rows: Sequence[tuple[Tensor, Tensor] | None], lengths: Sequence[int], room: int) -> None:
        """Begin with each row's first so many (keys, values), (heads, tokens, width), padded on the left."""
        longest = max(lengths)
        sample = next(found for found in rows if found is not None)
        self.lazy_initialization(*sample)
        self._buffers = [
            part.new_empty(len(rows), part.shape[0], longest + room + ROOM, part.shape[2]) for part in sample
        ]
        for row, (found, length) in enumerate(zip(rows, lengths, strict=True)):
            for place, buffer in enumerate(self._buffers):
                # What is masked is still multiplied, by zero: it must be a number.
                buffer[row, :, : longest - length] = 0
                if found is not None and length:
                    buffer[row, :, longest - length : longest] = found[place][:, :length]
        self.keys, self.values = (buffer[:, :, :longest] for buffer in self._buffers)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append new positions; returns all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used = self.get_seq_length()
        stop = used + key_states.shape[-2]
        if not self._fits(stop):
            rows, heads = key_states.shape[:2]
            self._buffers = [
                like.new_empty(rows, heads, stop + ROOM, like.shape[-1]) for like in (key_states, value_states)
            ]
            if used:
                self._buffers[0][:, :, :used] = self.keys
                self._buffers[1][:, :, :used] = self.values
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, used:stop] = new
        self.keys, self.values = (buffer[:, :, :stop] for buffer in self._buffers)
        return self.keys, self.values

    def _fits(self, stop: int) -> bool:
        """Whether the buffers hold what the layer holds (other methods replace it) and have room up to `stop`."""
        return (
            bool(self._buffers)
            and self._buffers[0].shape[-2] >= stop
            and self.keys.shape[0] == self._buffers[0].shape[0]
            and self.keys.data_ptr() == self._buffers[0].data_ptr()
        )
