"""What the memory's tests share: a small real embedder, and a memory whose clock a test can set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hashed_words import HashedWords

from overlay.memory import Memory, MemorySettings


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
def embedder() -> HashedWords:
    return HashedWords()


@pytest.fixture
def open_memory(tmp_path: Path, embedder: HashedWords, clock: Clock) -> Iterator[Callable[..., Memory]]:
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
