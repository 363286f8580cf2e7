"""Directions: one vector of the residual stream per block."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from overlay.errors import InterventionError


@dataclass(frozen=True, eq=False)
class Direction:
    """One direction of the residual stream per block; two directions are equal when their numbers are.

    Attributes:
        name: what people call it.
        vectors: (layers, width), float32; unit length, or zero where the direction isn't defined.
        norms: (layers,), the median residual norm behind each block: the unit of a dose.
    """

    name: str
    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.norms.shape != self.vectors.shape[:1]:
            raise InterventionError(
                f"direction '{self.name}' has vectors {self.vectors.shape} and norms {self.norms.shape}",
                "give vectors of shape (layers, width) and norms of shape (layers,)",
            )
        if not (np.isfinite(self.vectors).all() and np.isfinite(self.norms).all()):
            raise InterventionError(f"direction '{self.name}' holds values that aren't finite", "build it anew")
        lengths = np.linalg.norm(self.vectors.astype(np.float64), axis=1)
        if not np.all((np.abs(lengths - 1) < 1e-3) | (lengths == 0)):
            raise InterventionError(f"direction '{self.name}' isn't of unit length", "divide each row by its length")
        self.vectors.setflags(write=False)
        self.norms.setflags(write=False)

    @cached_property
    def digest(self) -> str:
        """sha256 over vectors and norms."""
        return hashlib.sha256(self.vectors.tobytes() + self.norms.tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Direction) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)
