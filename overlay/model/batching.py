"""Batching by cost: which rows run together, so that little is padded and memory stays bounded."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

MAX_BATCH_ROWS = 32
"""More rows gain little on two CPU cores (64 rows give a third more tokens a second than 32) and cost memory."""

MAX_BATCH_TOKENS = 8192
"""Rows times padded length of one batch: bounds the memory of the key/value cache and logits."""


@dataclass(frozen=True)
class Load:
    """What running one row takes.

    Attributes:
        tokens: how many have to be encoded. length: how many positions it ends with. key: rows of different keys
            can't run together.
    """

    tokens: int
    length: int
    key: Hashable = ()


def batches(loads: Sequence[Load]) -> list[list[int]]:
    """Indexes of rows to run together, each index once: equal keys, similar cost, bounded rows and positions.

    The layout depends on lengths and keys alone, never on doses: arms are batched alike.
    """
    kinds: dict[Hashable, list[int]] = {}
    for index, load in enumerate(loads):
        kinds.setdefault(load.key, []).append(index)
    found: list[list[int]] = []
    for members in kinds.values():
        members.sort(key=lambda index: (loads[index].tokens, loads[index].length))
        current: list[int] = []
        longest = 0
        for index in members:
            longest = max(longest, loads[index].length)
            if current and (len(current) == MAX_BATCH_ROWS or longest * (len(current) + 1) > MAX_BATCH_TOKENS):
                found.append(current)
                current, longest = [], loads[index].length
            current.append(index)
        found.append(current)
    return found
