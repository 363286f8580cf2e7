"""Vectors of the next embedder, kept aside until all are there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from overlay.memory.database import Database
from overlay.memory.passage_text import PASSAGE_TEXTS, embedded_text
from overlay.memory.vector_rows import as_blob, new_generation


class NextVectors:
    """What another embedder has computed so far."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def missing(self, limit: int) -> list[tuple[int, str]]:
        """(passage, what is embedded of it) of passages that have no vector of the next embedder yet."""
        rows = self._database.rows(
            f"""{PASSAGE_TEXTS} LEFT JOIN vectors_next ON vectors_next.passage = passages.key
                WHERE vectors_next.passage IS NULL ORDER BY passages.key LIMIT ?""",
            (limit,),
        )
        return [(row["key"], embedded_text(row["title"], row["text"], row["position"])) for row in rows]

    def count(self) -> int:
        """How many passages have a vector of the next embedder."""
        return int(self._database.rows("SELECT count(*) AS n FROM vectors_next")[0]["n"])

    def write(self, passages: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Write vectors of the next embedder, shape (passages, dimension)."""
        self._database.run_many(
            "INSERT INTO vectors_next VALUES (?, ?)",
            ((passage, as_blob(vector)) for passage, vector in zip(passages, vectors, strict=True)),
        )

    def drop(self) -> None:
        """Forget what a next embedder has computed."""
        self._database.run("DELETE FROM vectors_next")

    def take_over(self) -> None:
        """The next embedder's vectors take the place of the present ones."""
        self._database.run("DELETE FROM vectors")
        self._database.run("INSERT INTO vectors SELECT passage, vector FROM vectors_next ORDER BY passage")
        self._database.run("DELETE FROM vectors_next")
        self._database.write_meta(new_generation())
