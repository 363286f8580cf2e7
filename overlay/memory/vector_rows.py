"""Vectors of passages, of unit length."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from overlay.memory.database import Database
from overlay.memory.keys import key_list

# Notes whose vectors are averaged in one step.
_PAGE = 500

# Vectors that are read in one step.
_READ = 4_096


class VectorRows:
    """The vectors of all passages."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, passage: int, vector: NDArray[np.float32]) -> None:
        """Write the vector of a new passage, shape (dimension,)."""
        self._database.run("INSERT INTO vectors VALUES (?, ?)", (passage, as_blob(vector)))

    def of(self, passages: Iterable[int]) -> dict[int, NDArray[np.float32]]:
        """Passage to unit vector."""
        rows = self._database.rows(
            "SELECT passage, vector FROM vectors WHERE passage IN (SELECT value FROM json_each(?))",
            (key_list(passages),),
        )
        return {row["passage"]: np.frombuffer(row["vector"], dtype="<f4") for row in rows}

    def of_notes(
        self, keys: Iterable[int], most: int, also: Iterable[int] = ()
    ) -> tuple[list[int], list[int], NDArray[np.float32]]:
        """Passages, their notes, and their vectors, shape (passages, dimension): `most` of each note, and some more."""
        rows = self._database.rows(
            """SELECT passages.key, passages.note, vector FROM passages JOIN vectors ON passage = passages.key
                WHERE passages.note IN (SELECT value FROM json_each(:keys)) AND position < :most
                UNION ALL
                SELECT passages.key, passages.note, vector FROM passages JOIN vectors ON passage = passages.key
                WHERE passages.key IN (SELECT value FROM json_each(:also)) AND position >= :most
                ORDER BY 2, 1""",
            {"keys": key_list(keys), "most": most, "also": key_list(also)},
        )
        matrix = np.frombuffer(b"".join(row["vector"] for row in rows), dtype="<f4")
        width = len(rows[0]["vector"]) // 4 if rows else 0
        return [row["key"] for row in rows], [row["note"] for row in rows], matrix.reshape(len(rows), width)

    def means(self, keys: Iterable[int]) -> dict[int, NDArray[np.float32]]:
        """Note to the mean of its passages' vectors, of unit length."""
        wanted, found = sorted(set(keys)), {}
        for start in range(0, len(wanted), _PAGE):
            part = wanted[start : start + _PAGE]
            _, notes, vectors = self.of_notes(part, 2**31)
            owners = np.array(notes, dtype=np.int64)
            for key in dict.fromkeys(notes):
                mean = vectors[owners == key].mean(axis=0)
                found[key] = (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
        return found

    def generation(self) -> str:
        """Another one after vectors were deleted or exchanged, the same while they are only added."""
        return self._database.meta("vectors") or ""

    def changed(self) -> None:
        """Vectors were deleted or exchanged: what others keep of them is no longer good."""
        self._database.write_meta(new_generation())

    def after(self, passage: int) -> Iterator[tuple[list[int], bytes]]:
        """Passages above this key and their vectors, one after the other, in steps; nobody writes meanwhile."""
        with self._database.guard:
            cursor = self._database.run(
                "SELECT passage, vector FROM vectors WHERE passage > ? ORDER BY passage", (passage,)
            )
            while rows := self._database.fetch(cursor, _READ):
                yield [row["passage"] for row in rows], b"".join(row["vector"] for row in rows)


def new_generation() -> dict[str, str]:
    """The fact about the memory which says that its vectors aren't those that were there before."""
    return {"vectors": secrets.token_hex(8)}


def as_blob(vector: NDArray[np.float32]) -> bytes:
    """A vector as little-endian floats."""
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()
