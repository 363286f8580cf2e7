"""The vectors of a memory as one matrix, for exact scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

# How many rows the first allocation holds; it doubles whenever it is full.
_FIRST_ROWS = 1_024

# A round that found too few asks for so many times more.
_GROWTH = 8


class VectorCache:
    """Vectors by passage, in the order of their keys; rows are only ever added.

    generation: what the file says about its vectors; with another one the cache is to be thrown away.
    """

    def __init__(self, generation: str = "") -> None:
        self.generation = generation
        self.last = 0
        self._size = 0
        self._passages = np.zeros(0, dtype=np.int64)
        self._vectors = np.zeros((0, 0), dtype=np.float32)

    def __len__(self) -> int:
        return self._size

    def add(self, passages: Sequence[int], vectors: bytes) -> None:
        """Add vectors, given as little-endian floats, of passages with higher keys than all before."""
        added = np.frombuffer(vectors, dtype="<f4").reshape(len(passages), -1)
        size = self._size + len(passages)
        if size > len(self._passages):
            room = max(_FIRST_ROWS, 2 * len(self._passages), size)
            grown = np.empty((room, added.shape[1]), dtype=np.float32)
            keys = np.empty(room, dtype=np.int64)
            if self._size:
                grown[: self._size], keys[: self._size] = self._vectors[: self._size], self._passages[: self._size]
            self._vectors, self._passages = grown, keys
        self._vectors[self._size : size] = added
        self._passages[self._size : size] = passages
        self._size, self.last = size, int(passages[-1])

    def nearest(self, vector: NDArray[np.float32], limit: int) -> Iterator[tuple[list[int], list[float]]]:
        """Passages and cosines, nearest first: more of them with each round, at last all."""
        if not self._size:
            yield [], []
            return
        cosines = self._vectors[: self._size] @ vector
        wanted = limit
        while True:
            wanted = min(wanted * _GROWTH, self._size)
            rows = np.argpartition(-cosines, wanted - 1)[:wanted]
            # Equal cosines in the order of their keys, so that the same question has the same answer.
            rows = rows[np.lexsort((rows, -cosines[rows]))]
            yield self._passages[rows].tolist(), cosines[rows].tolist()
            if wanted == self._size:
                return
