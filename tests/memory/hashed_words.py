"""An embedder without weights, for what has nothing to do with meaning."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class HashedWords:
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
