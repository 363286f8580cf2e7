"""The vector index: Chroma, built from the truth and as often as needed built again.

It is given vectors and keys and nothing else: no text ever enters it, no metadata, and no embedding
function. What a question filters by is asked of the truth, which is faster than Chroma's filters.
An embedded build lives in a folder of its own below the index folder, because Chroma keeps what it
once opened alive for the rest of the process, by path, also when it failed to open. On a server a
build is a collection whose name begins with the memory's own id, so that memories don't mix.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from overlay.errors import NoteError, StorageFull
from overlay.records import storage_errors

_COLLECTION = "notes"

# `get` fails beyond 32,766 rows.
_PAGE = 10_000

# The effort of a search. Of the ten nearest of 50,000 vectors it found .975 with 200, .995 with 400 and .997 with 600,
# and took 3, 5 and 8 ms. Chroma takes a change of it into account only when a build is opened again.
_EFFORT = 500

# Neighbours that the index's graph keeps of each vector. With Chroma's 16 it found .978 of the ten nearest
# of 10,000 vectors, at any effort; with 32 it found .999, and took a tenth longer to build.
_NEIGHBOURS = 32

# The effort of finding these neighbours when a vector is added: with Chroma's 100 a search misses some of what is near,
# whatever effort it makes.
_CARE = 400

# How the header of hnswlib's files begins: its version, the offset of the lowest level, the vectors that there
# is room for, and those that there are.
_HNSW_HEADER = "header.bin"
_HNSW_FIELDS = struct.Struct("<iQQQ")

_DISK_FULL_SIGNS = ("disk is full", "disk full", "os error 28", "no space left", "code: 13)")


class IndexPlace(Protocol):
    """Where builds of an index are kept."""

    def open(self) -> VectorIndex:
        """The build that is there. Raises NoteError unless there is exactly one."""
        ...

    def create(self) -> VectorIndex:
        """A new, empty build beside what is there."""
        ...

    def drop_other_builds(self, index: VectorIndex) -> None:
        """Remove everything but this build."""
        ...


class VectorIndex:
    """One build of the index. Keys are those of passages; vectors have shape (keys, dimension).

    where: how errors name it. advice: what to do when it fails. begun: called when its files have been made, which
    Chroma does when it is given the first vector.

    Raises:
        NoteError: Chroma fails; the index is damaged or can't be reached.
        StorageFull: the disk is full.
    """

    def __init__(
        self, client: Any, collection: Any, where: str, advice: str, begun: Callable[[], None] | None = None
    ) -> None:
        self.name = where
        self._begun = begun
        self._advice = advice
        self._client = client
        self._collection = collection
        with self._errors():
            self._batch = int(client.get_max_batch_size())

    def put(self, keys: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Add these vectors, or replace them."""
        with self._errors():
            if self._begun is not None and keys:
                self._collection.upsert(ids=[str(keys[0])], embeddings=vectors[:1])
                self._begun()
                self._begun = None
            for start in range(0, len(keys), self._batch):
                part = slice(start, start + self._batch)
                self._collection.upsert(ids=[str(key) for key in keys[part]], embeddings=vectors[part])

    def remove(self, keys: Sequence[int]) -> None:
        """Take these out of every later answer. Their bytes stay in the build: see `Memory.forget`."""
        with self._errors():
            for start in range(0, len(keys), self._batch):
                self._collection.delete(ids=[str(key) for key in keys[start : start + self._batch]])

    def nearest(self, vector: NDArray[np.float32], count: int) -> list[int]:
        """Keys of up to `count` nearest vectors, nearest first; approximate."""
        with self._errors():
            found = self._collection.query(query_embeddings=vector.reshape(1, -1), n_results=count, include=[])
        return [int(key) for key in found["ids"][0]]

    def keys(self) -> set[int]:
        """All keys in the index."""
        keys: set[int] = set()
        with self._errors():
            while page := self._collection.get(limit=_PAGE, offset=len(keys), include=[])["ids"]:
                keys.update(int(key) for key in page)
        return keys

    def count(self) -> int:
        """How many vectors the index holds."""
        with self._errors():
            return int(self._collection.count())

    def close(self) -> None:
        """Let go of the files, or of the server."""
        with self._errors():
            self._client.close()

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return _chroma_errors(self.name, self._advice)


class EmbeddedPlace:
    """Builds below a folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> VectorIndex:
        """The build that the folder holds. Raises NoteError unless there is exactly one."""
        builds = list(self._folder.iterdir()) if self._folder.is_dir() else []
        if len(builds) != 1 or not (builds[0] / "chroma.sqlite3").is_file():
            raise NoteError(f"{self._folder} holds no whole index", "build it again from memory.db")
        return self._index(builds[0])

    def create(self) -> VectorIndex:
        """A new, empty build beside whatever the folder holds."""
        with storage_errors(self._folder):
            if self._folder.exists() and not self._folder.is_dir():
                self._folder.unlink()
            build = self._folder / secrets.token_hex(4)
            build.mkdir(parents=True)
        return self._index(build)

    def drop_other_builds(self, index: VectorIndex) -> None:
        """Remove from the folder everything but this build."""
        for path in self._folder.iterdir():
            if str(path) == index.name:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _index(self, build: Path) -> VectorIndex:
        advice = "open the memory again: the index is then built anew from memory.db"
        with _chroma_errors(str(build), advice):
            import chromadb

            client = chromadb.PersistentClient(path=str(build), settings=_settings())
            collection = client.get_or_create_collection(_COLLECTION, **_options())
            # Where there is something in it, this makes the files, if Chroma has to make them anew.
            is_empty = collection.count() == 0
            _wipe_unused(build)
        return VectorIndex(
            client, collection, str(build), advice, begun=(lambda: _wipe_unused(build)) if is_empty else None
        )


class ServerPlace:
    """Builds on a Chroma server, named after the memory they are of."""

    def __init__(self, url: str, memory_id: str) -> None:
        self._url = url.rstrip("/")
        self._prefix = f"overlay-{memory_id}-"
        self._advice = f"start it (chroma run --host HOST --port PORT), or correct `index` in agent.yaml: {self._url}"

    def open(self) -> VectorIndex:
        """The memory's build. Raises NoteError unless there is exactly one."""
        client = self._client()
        with self._errors():
            names = self._builds(client)
            if len(names) != 1:
                raise NoteError(f"{self._url} holds no whole index of this memory", "build it again from memory.db")
            collection = client.get_or_create_collection(names[0], **_options())
        return VectorIndex(client, collection, self._name(names[0]), self._advice)

    def create(self) -> VectorIndex:
        """A new, empty build beside whatever the server holds."""
        client = self._client()
        name = self._prefix + secrets.token_hex(4)
        with self._errors():
            collection = client.create_collection(name, **_options())
        return VectorIndex(client, collection, self._name(name), self._advice)

    def drop_other_builds(self, index: VectorIndex) -> None:
        """Remove from the server every build of this memory but this one; other memories' stay."""
        client = self._client()
        with self._errors():
            for name in self._builds(client):
                if self._name(name) != index.name:
                    client.delete_collection(name)

    def check(self) -> None:
        """Raise NoteError unless the server answers."""
        with self._errors():
            self._client().heartbeat()

    def _client(self) -> Any:
        parts = urlsplit(self._url)
        is_secure = parts.scheme == "https"
        with self._errors():
            import chromadb

            return chromadb.HttpClient(
                host=parts.hostname or "",
                port=parts.port or (443 if is_secure else 80),
                ssl=is_secure,
                settings=_settings(),
            )

    def _builds(self, client: Any) -> list[str]:
        names: list[str] = []
        while page := client.list_collections(limit=_PAGE, offset=len(names)):
            names.extend(collection.name for collection in page)
            if len(page) < _PAGE:
                break
        return [name for name in names if name.startswith(self._prefix)]

    def _name(self, collection: str) -> str:
        return f"{self._url}/{collection}"

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return _chroma_errors(self._url, self._advice)


def _settings() -> Any:
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False)


def _options() -> dict[str, Any]:
    # Chroma's default space is l2; recall speaks of cosines.
    build = {"space": "cosine", "ef_search": _EFFORT, "ef_construction": _CARE, "max_neighbors": _NEIGHBOURS}
    return {"embedding_function": None, "configuration": {"hnsw": build}}


def _wipe_unused(build: Path) -> None:
    """Overwrite the room for vectors in files that hold none yet.

    hnswlib writes that room as it got it from the allocator: with whatever this process had there before, which
    may be a piece of a forgotten text. It does so whenever it is loaded, until a thousand vectors have been
    added; files that hold vectors have no more room than these need.
    """
    for header in build.glob(f"*/{_HNSW_HEADER}"):
        content = header.read_bytes()
        if len(content) < _HNSW_FIELDS.size or _HNSW_FIELDS.unpack_from(content)[3] > 0:
            continue
        for name in ("data_level0.bin", "length.bin"):
            path = header.with_name(name)
            if path.is_file():
                with open(path, "r+b") as file:
                    file.write(bytes(path.stat().st_size))


@contextlib.contextmanager
def _chroma_errors(where: str, advice: str) -> Iterator[None]:
    try:
        with storage_errors(Path(where)):
            yield
    except (NoteError, StorageFull):
        raise
    except BaseException as error:
        # A panic in Chroma's Rust part is a BaseException and no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if any(sign in str(error).lower() for sign in _DISK_FULL_SIGNS):
            raise StorageFull(
                f"the disk is full: the index {where} was not written (the notes themselves are safe)",
                "free some space and open the memory again",
            ) from error
        raise NoteError(f"the vector index {where} fails: {error}", advice) from error
