"""The vectors of a memory as one matrix, for exact scans."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from overlay.memory.vector_rows import VectorRows

# How many rows the first allocation holds; it doubles whenever it is full.
_FIRST_ROWS = 1_024


class VectorCache:
    """Vectors by passage, in the order of their keys; of what the file has, it reads only what was added.

    Four bytes a number stay in memory from the first question on: 1.5 kB a passage for 384 numbers.
    """

    def __init__(self, vectors: VectorRows) -> None:
        self._vectors = vectors
        self._guard = threading.Lock()
        self._clear("")

    def cosines(self, vector: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Keys of all passages, in order, and their cosines with a unit vector of shape (dimension,)."""
        with self._guard:
            self._catch_up()
            # Rows that are there are never changed: what is added meanwhile comes behind them, or into another matrix.
            keys, matrix = self._keys[: self._size], self._matrix[: self._size]
        return keys, matrix @ vector if len(keys) else np.zeros(0, dtype=np.float32)

    def _catch_up(self) -> None:
        generation = self._vectors.generation()
        if self._generation != generation:
            self._clear(generation)
        for passages, vectors in self._vectors.after(self._last):
            self._add(passages, vectors)

    def _clear(self, generation: str) -> None:
        self._generation = generation
        self._last = self._size = 0
        self._keys = np.zeros(0, dtype=np.int64)
        self._matrix = np.zeros((0, 0), dtype=np.float32)

    def _add(self, passages: Sequence[int], vectors: bytes) -> None:
        added = np.frombuffer(vectors, dtype="<f4").reshape(len(passages), -1)
        size = self._size + len(passages)
        if size > len(self._keys):
            room = max(_FIRST_ROWS, 2 * len(self._keys), size)
            matrix = np.empty((room, added.shape[1]), dtype=np.float32)
            keys = np.empty(room, dtype=np.int64)
            if self._size:
                matrix[: self._size], keys[: self._size] = self._matrix[: self._size], self._keys[: self._size]
            self._matrix, self._keys = matrix, keys
        self._matrix[self._size : size] = added
        self._keys[self._size : size] = passages
        self._size, self._last = size, int(passages[-1])
