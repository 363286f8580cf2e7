"""Batching by cost: which rows run together, so that little is padded and memory stays bounded."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

MAX_BATCH_ROWS = 64
"""On two CPU cores 64 rows give a third more tokens a second than 32; more gain little and cost memory."""

MAX_BATCH_TOKENS = 16384
"""Rows times padded length of one batch: bounds the memory of the key/value cache."""

MAX_LOGITS = 2**27
"""Logits computed in one batch, half a gigabyte of float32: vocabularies go from 50,000 to 260,000 tokens."""


@dataclass(frozen=True)
class Load:
    """What running one row takes.

    Attributes:
        tokens: how many have to be encoded. length: how many positions it ends with. logits: how many are computed
            and kept. key: rows of different keys can't run together.
    """

    tokens: int
    length: int
    key: Hashable = ()
    logits: int = 0


def batches(loads: Sequence[Load], rows: int = MAX_BATCH_ROWS) -> list[list[int]]:
    """Indexes of rows to run together, each index once: equal keys, similar cost, at most so many `rows`.

    The layout depends on lengths and keys alone, never on doses: arms are batched alike.
    """
    kinds: dict[Hashable, list[int]] = {}
    for index, load in enumerate(loads):
        kinds.setdefault(load.key, []).append(index)
    found: list[list[int]] = []
    for members in kinds.values():
        members.sort(key=lambda index: (loads[index].tokens, loads[index].length))
        current: list[int] = []
        longest = widest = 0
        for index in members:
            longest, widest = max(longest, loads[index].length), max(widest, loads[index].logits)
            count = len(current) + 1
            if current and (count > rows or longest * count > MAX_BATCH_TOKENS or widest * count > MAX_LOGITS):
                found.append(current)
                current, longest, widest = [], loads[index].length, loads[index].logits
            current.append(index)
        found.append(current)
    return found
