"""Measures: what is asked under every level, each as units that can be paired with base's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from overlay.levels.level import Level
from overlay.scenarios import Record

Values = Mapping[str, float | None]
"""What one unit shows, by quantity; None where it couldn't be read."""


class Measure(Protocol):
    """One set of questions, the same under every level.

    Attributes:
        kind: what a level's `measures` call it.
        name: what it is called beside others of its kind.
        weight: about how much work it is, in rows of one question.
    """

    kind: str
    name: str
    weight: int

    @property
    def digest(self) -> str:
        """A hash of all that is asked and how it is read."""
        ...

    def ask(self, level: Level) -> list[Record]:
        """One record a unit: `cluster` (units of one cluster aren't independent), `unit` and `values`.

        Whatever else a record holds is for people to read.
        """
        ...


def unit(cluster: str, name: str, values: Values, **more: Any) -> Record:
    """One unit's record."""
    return {"cluster": cluster, "unit": name, "values": dict(values), **more}
