"""The keeper of the index: opens it, brings it up to the truth, and builds it anew."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from overlay.errors import NoteError, StorageFull
from overlay.memory.index import EmbeddedPlace, IndexPlace, ServerPlace, VectorIndex
from overlay.memory.recall import CANDIDATES
from overlay.memory.scope import STANDING
from overlay.memory.settings import MemorySettings
from overlay.memory.truth import Truth
from overlay.progress import Progress

# Vectors that go to the index in one step.
_FEED = 2_048

# Changes that wait for the index: told of each alone, it takes as long as all the rest of a write. Until
# then recall compares what waits one by one.
_WAITING = 128


class IndexKeeper:
    """The index of a memory, which follows the truth in steps; to be used by the memory's writer alone.

    index: None in a memory that is open for reading only, and until `mend`.
    """

    def __init__(self, folder: Path, truth: Truth, settings: MemorySettings) -> None:
        self._folder = folder
        self._truth = truth
        self._settings = settings
        self.index: VectorIndex | None = None

    def mend(self) -> None:
        """Open the index and bring it up to date, or build it anew if it is missing, damaged or not to be trusted."""
        if isinstance(place := self._place(), ServerPlace):
            place.check()
        if self._truth.meta("rebuild") is not None or not self._open():
            self.rebuild()

    def rebuild(self, progress: Progress | None = None) -> None:
        """Build the index anew from the truth."""
        if self.index:
            # It may be damaged, and then can't even be closed.
            with contextlib.suppress(NoteError):
                self.index.close()
            self.index = None
        place = self._place()
        index = place.create()
        keys = self._truth.passages.within(STANDING)
        for start in range(0, len(keys), _FEED):
            if progress is not None:
                progress.step("building the index", start, len(keys))
            self._put(index, keys[start : start + _FEED])
        with self._truth.transaction():
            self._truth.index_queue.clear()
            self._truth.write_meta({"rebuild": None})
        self.index = index
        place.drop_other_builds(index)

    def feed(self, *, least: int = _WAITING) -> None:
        """Bring the index up to the truth if at least so many changes wait; what fails here stays queued."""
        if self.index is None or len(self._truth.index_queue.first(least)) < least:
            return
        while queue := self._truth.index_queue.first(_FEED):
            current = self._truth.passages.owners(queue, STANDING)
            if gone := [passage for passage in queue if passage not in current]:
                self.index.remove(gone)
            self._put(self.index, sorted(current))
            self._truth.index_queue.drop(queue)

    def behind(self) -> tuple[VectorIndex, list[int]] | None:
        """The index and the passages of which it has not heard yet; None without an index, or if they are many."""
        index = self.index
        if index is None:
            return None
        waiting = self._truth.index_queue.first(_FEED)
        return (index, waiting) if len(waiting) < _FEED else None

    def close(self) -> None:
        """Tell the index what waits, and let go of it."""
        if self.index is None:
            return
        # If this fails, it is told when the memory is opened again.
        with contextlib.suppress(NoteError, StorageFull):
            self.feed(least=1)
        self.index.close()

    def _place(self) -> IndexPlace:
        if self._settings.index == "embedded":
            return EmbeddedPlace(self._folder / "index")
        return ServerPlace(self._settings.index, self._truth.memory_id(self._folder))

    def _open(self) -> bool:
        """Open the index and bring it up to date; False if it is missing or damaged in any way."""
        try:
            self.index = self._place().open()
            self.feed(least=1)
            return self._answers(self.index)
        except NoteError:
            # A derived thing isn't worth a diagnosis: it is built again from what it derives from.
            return False

    def _answers(self, index: VectorIndex) -> bool:
        """Whether the index has the right size and finds what is in it, as it doesn't when files of it are gone."""
        keys = self._truth.passages.within(STANDING)
        if index.count() != len(keys):
            return False
        if not keys:
            return True
        probe = self._truth.vectors.of(keys[:1])[keys[0]]
        wanted = min(CANDIDATES, len(keys))
        return len(index.nearest(probe, wanted)) == wanted

    def _put(self, index: VectorIndex, passages: Sequence[int]) -> None:
        vectors = self._truth.vectors.of(passages)
        if vectors:
            index.put(list(vectors), np.stack(list(vectors.values())))
