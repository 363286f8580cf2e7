"""What the memory's tests share: a small real embedder, and a memory whose clock a test can set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from overlay.memory import Memory, MemorySettings


class WordEmbedder:
    """Hashed bags of words, of unit length: notes are near if they share words."""

    def __init__(self, name: str = "words", dimension: int = 64) -> None:
        self.name = name
        self.dimension = dimension
        self.embedded: list[str] = []

    @property
    def digest(self) -> str:
        return f"digest-of-{self.name}-{self.dimension}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded.extend(texts)
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row, 0] = 0.1  # a text without words has a direction too
            for word in re.findall(r"\w+", text.lower()):
                number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
                vectors[row, 1 + number % (self.dimension - 1)] += 1 if number >> 60 & 1 else -1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        return self.embed([text])[0]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def open_memory(tmp_path: Path, embedder: WordEmbedder, clock: Clock) -> Iterator[Callable[..., Memory]]:
    """Opens the memory of this test, with some of its settings; whatever is still open at the end is closed."""
    opened: list[Memory] = []

    def open_it(folder: str = "home", **settings: Any) -> Memory:
        opening = {name: settings.pop(name) for name in ("embedder", "clock", "read_only") if name in settings}
        given = {"embedder": embedder, "clock": clock, **opening}
        memory = Memory.open(tmp_path / folder, settings=MemorySettings(**settings), **given)
        opened.append(memory)
        return memory

    yield open_it
    for memory in opened:
        memory.close()


@pytest.fixture
def memory(open_memory: Callable[..., Memory]) -> Memory:
    return open_memory()
