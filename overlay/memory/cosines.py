"""Cosines of one query with passages: all of them by a scan, or the nearest by the index.

A scan is exact, and up to some ten thousands of passages it is faster too. What the index gives is
only which passages may be near; their cosines are always those of the vectors in the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from overlay.memory.index import VectorIndex
from overlay.memory.scope import Scope
from overlay.memory.truth import Truth
from overlay.memory.vector_cache import VectorCache

# Passages of a long note that are compared with a query when only its words have brought it up.
_PASSAGES_OF_ONE = 32

# A filter seldom lets through the same share of what is near as of what was seen: so many times more are looked at.
_MARGIN = 1.3

# Where nothing of what was seen passed, so many times more are looked at.
_GROWTH = 8

# How many times the passages that are wanted are looked at, nearest first, before all that pass the filter are listed.
_MOST_SEEN = 16

# As many as the index may be asked for at once: its search takes longer than a scan of them.
_MOST_ASKED = 2_000

# Passages whose vectors are read one by one sooner than all are read into memory.
_FEW = 4_000

Hit = tuple[int, int, float]
"""A passage, its note, and its cosine with the query."""


class Cosines(Protocol):
    """What one query is near to."""

    def nearest(self, limit: int, scope: Scope) -> list[Hit]:
        """The nearest passages of a scope, best first."""
        ...

    def of_notes(self, notes: Iterable[int], also: Iterable[int]) -> list[Hit]:
        """The first passages of these notes, and these passages, in the order of the notes."""
        ...


class ScannedCosines:
    """Exact cosines with all passages.

    vector: of the query, unit length, shape (dimension,).
    """

    def __init__(self, truth: Truth, cache: VectorCache, vector: NDArray[np.float32]) -> None:
        self._truth = truth
        self._keys, self._cosines = cache.cosines(vector)

    def nearest(self, limit: int, scope: Scope) -> list[Hit]:
        """The nearest passages of a scope, best first; equal ones in the order of their keys."""
        if not len(self._keys):
            return []
        everything = np.arange(len(self._keys))
        known: dict[int, float] = {}

        def ranked(count: int) -> Sequence[int]:
            rows = self._best(everything, count)
            keys: list[int] = self._keys[rows].tolist()
            known.update(zip(keys, self._cosines[rows].tolist(), strict=True))
            return keys

        fitting = _fitting(self._truth, ranked, limit, min(_MOST_SEEN * limit, len(self._keys)), scope)
        if len(fitting) < limit and len(known) < len(self._keys):
            within = self._rows(self._truth.passages.within(scope))
            keys = self._keys[rows := self._best(within, limit)].tolist()
            known.update(zip(keys, self._cosines[rows].tolist(), strict=True))
            owners = self._truth.passages.owners(keys, scope)
            fitting = {key: owners[key] for key in keys if key in owners}
        return [(key, note, known[key]) for key, note in fitting.items()][:limit]

    def of_notes(self, notes: Iterable[int], also: Iterable[int]) -> list[Hit]:
        """The first passages of these notes, and these passages, in the order of the notes."""
        pairs = dict(self._truth.passages.of_notes(notes, _PASSAGES_OF_ONE, also))
        rows = self._rows(list(pairs))
        keys = self._keys[rows].tolist()
        return [(key, pairs[key], value) for key, value in zip(keys, self._cosines[rows].tolist(), strict=True)]

    def _best(self, rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """The rows of the highest cosines among these, best first."""
        far = -self._cosines[rows]
        if count < len(rows):
            near = np.argpartition(far, count - 1)[:count]
            rows, far = rows[near], far[near]
        return rows[np.lexsort((rows, far))]

    def _rows(self, passages: Sequence[int]) -> NDArray[np.int64]:
        """Rows of these passages; another thread may have written some that have none yet."""
        wanted = np.asarray(passages, dtype=np.int64)
        rows = np.searchsorted(self._keys, wanted)
        rows = np.minimum(rows, len(self._keys) - 1)
        return rows[self._keys[rows] == wanted] if len(self._keys) else rows[:0]


class IndexedCosines:
    """Cosines with what the index gives for a query.

    waiting: passages of which the index hasn't heard, or hasn't any longer, that are compared as well.
    scan: gives exact cosines where the index has too little of a scope.
    """

    def __init__(
        self,
        truth: Truth,
        index: VectorIndex,
        waiting: Sequence[int],
        vector: NDArray[np.float32],
        scan: Callable[[], Cosines],
    ) -> None:
        self._truth = truth
        self._index = index
        self._waiting = waiting
        self._vector = vector
        self._scan = scan

    def nearest(self, limit: int, scope: Scope) -> list[Hit]:
        """The nearest passages of a scope that the index gives, best first."""
        size = self._truth.passages.count()
        most = min(max(limit, _MOST_ASKED), size)
        near = _fitting(self._truth, lambda count: self._index.nearest(self._vector, count), limit, most, scope)
        found = self._compared([*near, *self._waiting], limit, scope)
        if len(found) >= min(limit // 2, size):
            return found
        # Few pass the filters, or Chroma answers with less, and no error, because files of its index are gone.
        within = self._truth.passages.within(scope)
        if len(within) <= len(found):
            return found
        return self._compared(within, limit, scope) if len(within) <= _FEW else self._scan().nearest(limit, scope)

    def of_notes(self, notes: Iterable[int], also: Iterable[int]) -> list[Hit]:
        """The first passages of these notes, and these passages, in the order of the notes."""
        passages, owners, vectors = self._truth.vectors.of_notes(notes, _PASSAGES_OF_ONE, also)
        return list(zip(passages, owners, (vectors @ self._vector).tolist(), strict=True)) if passages else []

    def _compared(self, passages: Sequence[int], limit: int, scope: Scope) -> list[Hit]:
        owners = self._truth.passages.owners(passages, scope)
        vectors = self._truth.vectors.of(owners)
        if not vectors:
            return []
        keys = sorted(vectors)
        cosines = np.stack([vectors[key] for key in keys]) @ self._vector
        best = np.argsort(-cosines, kind="stable")[:limit]
        return [(keys[row], owners[keys[row]], float(cosines[row])) for row in best]


def _fitting(
    truth: Truth, ranked: Callable[[int], Sequence[int]], limit: int, most: int, scope: Scope
) -> dict[int, int]:
    """Passage to note of the nearest passages that are in a scope, best first: `limit`, unless `most` have fewer.

    ranked: gives the nearest passages, best first, as many as it is asked for.
    """
    found: dict[int, int] = {}
    seen: set[int] = set()
    wanted = min(limit, most)
    while True:
        keys = ranked(wanted)
        new = [key for key in keys if key not in seen]
        owners = truth.passages.owners(new, scope)
        found.update((key, owners[key]) for key in new if key in owners)
        seen.update(new)
        if len(found) >= limit or len(keys) < wanted or wanted >= most:
            return found
        missing = (limit - len(found)) * len(seen) / len(found) * _MARGIN if found else len(seen) * _GROWTH
        wanted = min(wanted + int(missing) + 1, most)
