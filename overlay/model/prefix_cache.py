"""The prefix cache: keys and values of what was encoded before, so that no history is encoded twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from overlay.model.growing_layer import GrowingLayer

SHORTEST = 24
"""Tokens. Shorter prefixes cost more to look up and copy than to encode again."""

DEFAULT_BYTES = 256 * 2**20
"""About eleven thousand tokens of the embedded model in bfloat16."""


@dataclass(frozen=True, eq=False)
class KeyValues:
    """Keys and values of one row's tokens from position 0 on, per block: (heads, tokens, width of a head)."""

    blocks: tuple[tuple[Tensor, Tensor], ...]

    @property
    def tokens(self) -> int:
        """How many tokens they encode."""
        return int(self.blocks[0][0].shape[1])

    @property
    def bytes(self) -> int:
        """Their size in memory."""
        return sum(part.numel() * part.element_size() for block in self.blocks for part in block)

    @classmethod
    def taken(cls, cache: Any, row: int, start: int, tokens: int) -> KeyValues:
        """A copy of columns `start` to `start + tokens` of one row of a transformers cache."""
        stop = start + tokens
        return cls(
            tuple(
                (layer.keys[row, :, start:stop].clone(), layer.values[row, :, start:stop].clone())
                for layer in cache.layers
            )
        )


def stack(rows: Sequence[tuple[KeyValues | None, int]], room: int = 0) -> DynamicCache:
    """A transformers cache for a batch: each row's first so many tokens, padded on the left to the longest.

    Every layer keeps all positions, also those beyond a sliding window: the mask leaves them out. `room` is how
    many positions will follow.
    """
    cache = DynamicCache()
    cache.layer_class_to_replicate = GrowingLayer
    lengths = [length for _, length in rows]
    sample = next((found for found, length in rows if found is not None and length), None)
    if sample is not None:
        for block in range(len(sample.blocks)):
            layer = GrowingLayer()
            layer.fill([found.blocks[block] if found is not None else None for found, _ in rows], lengths, room)
            cache.layers.append(layer)
    return cache


@dataclass(frozen=True, eq=False)
class _Entry:
    tokens: NDArray[np.int64]
    found: KeyValues


class PrefixCache:
    """Encoded prefixes by what influenced them and by their tokens, least recently used ones dropped first.

    A key stands for everything but the tokens that the encoding depends on: adapters with their weights and
    scales, and the part of an intervention that acts before the current turn. Each model has its own cache.
    """

    def __init__(self, limit: int = DEFAULT_BYTES) -> None:
        self.limit = limit
        self.tokens_reused = 0
        self.tokens_encoded = 0
        self._entries: OrderedDict[tuple[str, bytes], _Entry] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Memory of all entries."""
        return sum(entry.found.bytes for entry in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: str, tokens: Sequence[int]) -> tuple[KeyValues | None, int]:
        """The entry that shares the longest beginning with `tokens`, and how many tokens they share."""
        wanted = np.asarray(tokens, np.int64)
        best: tuple[tuple[str, bytes], int] | None = None
        for name, entry in self._entries.items():
            if name[0] == key:
                shared = shared_beginning(entry.tokens, wanted)
                if shared >= SHORTEST and (best is None or shared > best[1]):
                    best = name, shared
        if best is None:
            return None, 0
        self._entries.move_to_end(best[0])
        return self._entries[best[0]].found, best[1]

    def keep(self, key: str, tokens: Sequence[int], found: KeyValues) -> None:
        """Remember an encoding; shorter ones that it contains are dropped, and the oldest beyond the limit."""
        wanted = np.asarray(tokens, np.int64)
        if len(wanted) < SHORTEST or found.bytes > self.limit:
            return
        for name, entry in list(self._entries.items()):
            if name[0] == key and shared_beginning(entry.tokens, wanted) == len(entry.tokens):
                del self._entries[name]
        self._entries[key, wanted.tobytes()] = _Entry(wanted, found)
        while self.bytes > self.limit:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


def shared_beginning(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """How many first tokens two sequences have in common."""
    length = min(len(one), len(other))
    differing = np.flatnonzero(one[:length] != other[:length])
    return int(differing[0]) if len(differing) else length


def shared_groups(sequences: Sequence[NDArray[np.int64]], known: Sequence[int]) -> list[tuple[list[int], int]]:
    """Groups of sequences with a common beginning worth encoding once: (members, tokens in common).

    `known` says how much of each is encoded already. A group is split where taking in one more member
    would cost more than half of what its members have in common.
    """
    order = sorted(range(len(sequences)), key=lambda index: sequences[index].tobytes())
    groups: list[tuple[list[int], int]] = []
    members: list[int] = []
    common = 0
    for index in order:
        shared = min(common, shared_beginning(sequences[members[0]], sequences[index])) if members else 0
        if members and shared >= SHORTEST and shared * 2 >= min(common, len(sequences[index])):
            members.append(index)
            common = shared
            continue
        groups.append((members, common))
        members, common = [index], len(sequences[index])
    groups.append((members, common))
    return [
        (members, common)
        for members, common in groups
        if len(members) > 1 and common >= SHORTEST + max(known[index] for index in members)
    ]
