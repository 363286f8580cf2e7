"""The vector index: Chroma, built from the truth and as often as needed built again.

It is given vectors and keys and nothing else: no text ever enters it, and no embedding function.
Each build lives in a folder of its own below the index folder, because Chroma keeps what it once
opened alive for the rest of the process, by path, also when it failed to open.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlay.errors import NoteError, StorageFull
from overlay.records import storage_errors

_COLLECTION = "notes"

# `get` fails beyond 32,766 rows.
_PAGE = 10_000

# The effort of a search, above the number of candidates that recall asks for.
_EFFORT = 200

_DISK_FULL_SIGNS = ("disk is full", "disk full", "os error 28", "no space left", "code: 13)")


class VectorIndex:
    """One build of the index. Keys are those of the truth; vectors have shape (keys, dimension).

    Raises:
        NoteError: Chroma fails; the index is damaged or can't be reached.
        StorageFull: the disk is full.
    """

    def __init__(self, build: Path) -> None:
        self._build = build
        with _chroma_errors(build):
            import chromadb
            from chromadb.config import Settings

            self._client = chromadb.PersistentClient(path=str(build), settings=Settings(anonymized_telemetry=False))
            self._collection: Any = self._client.get_or_create_collection(
                _COLLECTION,
                embedding_function=None,
                # Chroma's default is l2; recall speaks of cosines.
                configuration={"hnsw": {"space": "cosine", "ef_search": _EFFORT}},
            )
            self._batch = int(self._client.get_max_batch_size())

    @classmethod
    def open(cls, folder: Path) -> VectorIndex:
        """The build that `folder` holds. Raises NoteError unless there is exactly one."""
        builds = list(folder.iterdir()) if folder.is_dir() else []
        if len(builds) != 1 or not (builds[0] / "chroma.sqlite3").is_file():
            raise NoteError(f"{folder} holds no whole index", "build it again from memory.db")
        return cls(builds[0])

    @classmethod
    def create(cls, folder: Path) -> VectorIndex:
        """A new, empty build beside whatever `folder` holds."""
        with storage_errors(folder):
            if folder.exists() and not folder.is_dir():
                folder.unlink()
            build = folder / secrets.token_hex(4)
            build.mkdir(parents=True)
        return cls(build)

    def drop_other_builds(self) -> None:
        """Remove from the index folder everything but this build."""
        for path in self._build.parent.iterdir():
            if path == self._build:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def put(self, keys: Sequence[int], vectors: NDArray[np.float32], kinds: Sequence[str]) -> None:
        """Add these vectors, or replace them."""
        with _chroma_errors(self._build):
            for start in range(0, len(keys), self._batch):
                part = slice(start, start + self._batch)
                self._collection.upsert(
                    ids=[str(key) for key in keys[part]],
                    embeddings=vectors[part],
                    metadatas=[{"kind": kind} for kind in kinds[part]],
                )

    def remove(self, keys: Sequence[int]) -> None:
        """Take these out of every later answer. Their bytes stay in the build: see `Memory.forget`."""
        with _chroma_errors(self._build):
            for start in range(0, len(keys), self._batch):
                self._collection.delete(ids=[str(key) for key in keys[start : start + self._batch]])

    def nearest(self, vector: NDArray[np.float32], count: int, kinds: Iterable[str] | None = None) -> list[int]:
        """Keys of up to `count` nearest vectors, nearest first; approximate."""
        with _chroma_errors(self._build):
            found = self._collection.query(
                query_embeddings=vector.reshape(1, -1),
                n_results=count,
                where=None if kinds is None else {"kind": {"$in": list(kinds)}},
                include=[],
            )
        return [int(key) for key in found["ids"][0]]

    def keys(self) -> set[int]:
        """All keys in the index."""
        keys: set[int] = set()
        with _chroma_errors(self._build):
            while page := self._collection.get(limit=_PAGE, offset=len(keys), include=[])["ids"]:
                keys.update(int(key) for key in page)
        return keys

    def count(self) -> int:
        """How many vectors the index holds."""
        with _chroma_errors(self._build):
            return int(self._collection.count())

    def close(self) -> None:
        """Let go of the files."""
        with _chroma_errors(self._build):
            self._client.close()


@contextlib.contextmanager
def _chroma_errors(build: Path) -> Iterator[None]:
    try:
        with storage_errors(build):
            yield
    except (NoteError, StorageFull):
        raise
    except BaseException as error:
        # A panic in Chroma's Rust part is a BaseException and no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if any(sign in str(error).lower() for sign in _DISK_FULL_SIGNS):
            raise StorageFull(
                f"the disk is full: the index {build} was not written (the notes themselves are safe)",
                f"free some space under {build.parent} and open the memory again",
            ) from error
        raise NoteError(
            f"the vector index {build} fails: {error}",
            "open the memory again: the index is then built anew from memory.db",
        ) from error
