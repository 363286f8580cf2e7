"""Interventions as values: everything that skews one generation, comparable and hashable."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from overlay.errors import InterventionError

Span = Literal["all", "turn", "generated"]
"""Which positions a dose touches: every one, those from the current turn on, or generated ones only."""


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
        lengths = np.linalg.norm(self.vectors, axis=1)
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


@dataclass(frozen=True)
class Dose:
    """A coefficient on a direction, as a fraction of each block's median residual norm."""

    direction: Direction
    coefficient: float
    blocks: tuple[int, ...]
    span: Span = "all"

    def __post_init__(self) -> None:
        if not math.isfinite(self.coefficient):
            raise InterventionError(
                f"the dose of '{self.direction.name}' is {self.coefficient}", "give a finite number"
            )
        if self.span not in get_args(Span):
            raise InterventionError(f"'{self.span}' is not a span", f"use one of {', '.join(get_args(Span))}")
        layers = len(self.direction.norms)
        if not self.blocks or not all(0 <= block < layers for block in self.blocks):
            raise InterventionError(
                f"blocks {self.blocks} of direction '{self.direction.name}'", f"give blocks from 0 to {layers - 1}"
            )


@dataclass(frozen=True)
class AdapterUse:
    """An attached adapter and how strongly it acts (1 is as trained)."""

    name: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise InterventionError(f"the scale of adapter '{self.name}' is {self.scale}", "give a finite number")


@dataclass(frozen=True)
class Intervention:
    """Steering doses and adapters of one row. `a + b` joins, `a * 0.5` scales both kinds."""

    doses: tuple[Dose, ...] = ()
    adapters: tuple[AdapterUse, ...] = field(default=())

    def __post_init__(self) -> None:
        names = [use.name for use in self.adapters]
        if len(set(names)) != len(names):
            raise InterventionError(f"adapters {names} name one twice", "name each adapter once, with one scale")

    def __add__(self, other: Intervention) -> Intervention:
        return Intervention(self.doses + other.doses, self.adapters + other.adapters)

    def __mul__(self, factor: float) -> Intervention:
        return Intervention(
            tuple(replace(dose, coefficient=dose.coefficient * factor) for dose in self.doses),
            tuple(replace(use, scale=use.scale * factor) for use in self.adapters),
        )

    __rmul__ = __mul__

    @cached_property
    def digest(self) -> str:
        """sha256 of what it does: equal digests act equally on equal tokens."""
        parts = [(d.direction.digest, d.coefficient, d.blocks, d.span) for d in self.doses]
        return hashlib.sha256(repr((parts, self.adapters)).encode()).hexdigest()


NOTHING = Intervention()
