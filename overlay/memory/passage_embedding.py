"""Embedding: texts become passages with vectors, and the memory knows whose vectors they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from overlay.errors import NoteError
from overlay.memory.embedder import Embedder
from overlay.memory.passage_text import embedded_text
from overlay.memory.passages import Passage, passages
from overlay.memory.settings import MemorySettings
from overlay.memory.truth import Truth
from overlay.progress import Progress

# Texts of like length share a forward pass, so larger groups waste less; what is lost when a machine stops
# in the middle is one group.
GROUP = 512
"""Notes that are embedded and committed together in long work."""


@dataclass(frozen=True)
class Pieces:
    """The passages of a text that is about to be written, and their vectors, shape (passages, dimension)."""

    passages: Sequence[Passage]
    vectors: NDArray[np.float32]


class PassageEmbedding:
    """The embedder of a memory, and what it is used for.

    Raises:
        NoteError: the embedder gives something else than finite vectors of its dimension.
    """

    def __init__(self, truth: Truth, embedder: Embedder, settings: MemorySettings) -> None:
        self._truth = truth
        self._embedder = embedder
        self._settings = settings

    def of_notes(self, texts: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Pieces]:
        """Passages and their vectors of notes, given and found by title and text."""
        pieces = [passages(text, self._settings.passage_words, self._settings.passage_overlap) for _, text in texts]
        to_embed = [
            embedded_text(title, piece.text, piece.position)
            for (title, _), parts in zip(texts, pieces, strict=True)
            for piece in parts
        ]
        vectors = self._embed(to_embed)
        found: dict[tuple[str, str], Pieces] = {}
        start = 0
        for name, parts in zip(texts, pieces, strict=True):
            found[name] = Pieces(parts, vectors[start : start + len(parts)])
            start += len(parts)
        return found

    def of_query(self, query: str) -> NDArray[np.float32]:
        """The vector of a query, shape (dimension,)."""
        vector = np.asarray(self._embedder.embed_query(query), dtype=np.float32)
        self._check_shape(vector.reshape(1, -1), 1)
        return vector

    def check_identity(self, folder: Path, *, can_write: bool) -> None:
        """The vectors in the truth must be this embedder's; a new memory's become so. Raises NoteError."""
        given = _identity(self._embedder)
        stored = {name: self._truth.meta(name) for name in given}
        if stored["embedder_digest"] is None and can_write:
            with self._truth.transaction():
                self._truth.write_meta(given)
        # Another name for the same weights changes no vector.
        elif any(stored[name] != given[name] for name in ("embedder_digest", "embedder_dimension")):
            raise NoteError(
                f"the memory in {folder} was made with the embedder {_phrase(stored)}, not with {_phrase(given)}",
                "run `overlay memory reembed` to compute its vectors again, or choose the embedder it was made with",
            )

    def embed_again(self, clock: Callable[[], float], progress: Progress) -> int:
        """Compute all vectors again, group by group, and exchange them together; the number of passages."""
        given = {f"next_{name}": value for name, value in _identity(self._embedder).items()}
        if {name: self._truth.meta(name) for name in given} != given:
            with self._truth.transaction():
                self._truth.next_vectors.drop()
                self._truth.write_meta(given)
        total = self._truth.passages.count()
        done = self._truth.next_vectors.count()
        while group := self._truth.next_vectors.missing(GROUP):
            progress.step("embedding again", done, total)
            vectors = self._embed([text for _, text in group])
            with self._truth.transaction():
                self._truth.next_vectors.write([passage for passage, _ in group], vectors)
            done += len(group)
        with self._truth.transaction():
            self._truth.next_vectors.take_over()
            self._truth.write_meta({**_identity(self._embedder), **dict.fromkeys(given), "rebuild": "yes"})
            self._truth.journal.write(clock(), "reembed", "")
        return total

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self._embedder.dimension), dtype=np.float32)
        vectors = np.asarray(self._embedder.embed(texts), dtype=np.float32)
        self._check_shape(vectors, len(texts))
        return vectors

    def _check_shape(self, vectors: NDArray[np.float32], rows: int) -> None:
        dimension = self._embedder.dimension
        if vectors.shape != (rows, dimension) or not np.isfinite(vectors).all():
            problem = "that aren't finite" if vectors.shape == (rows, dimension) else f"of shape {vectors.shape}"
            raise NoteError(
                f"the embedder {self._embedder.name} gave vectors {problem}, not ({rows}, {dimension})",
                "use an embedder whose stated dimension is that of its vectors",
            )


def _identity(embedder: Embedder) -> dict[str, str]:
    return {
        "embedder_name": embedder.name,
        "embedder_digest": embedder.digest,
        "embedder_dimension": str(embedder.dimension),
    }


def _phrase(identity: Mapping[str, str | None]) -> str:
    return (
        f"{identity['embedder_name']} "
        f"({identity['embedder_dimension']} wide, hash {str(identity['embedder_digest'])[:12]})"
    )
