"""A scope: which notes a question is about, as a condition of SQL."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from overlay.memory.note import Filters


@dataclass(frozen=True)
class Scope:
    """Which notes a question is about: those that hold at `now`, or held at `filters.as_of`.

    With `sequence`, nothing that was written or closed after that number of the journal has happened.
    """

    now: float
    filters: Filters = field(default_factory=Filters)
    sequence: int | None = None

    @property
    def moment(self) -> float:
        """The time that is asked about."""
        return self.now if self.filters.as_of is None else self.filters.as_of

    @property
    def is_present(self) -> bool:
        """Whether only what holds now is asked for, which is what the vector index has."""
        return self.filters.as_of is None and self.sequence is None

    def held(self, alias: str = "notes") -> str:
        """An SQL condition: the note held then; filters aside. Its values are those of `values`."""
        conditions = [f"({alias}.pinned OR {alias}.expires_at IS NULL OR {alias}.expires_at > :moment)"]
        if self.filters.as_of is not None:
            conditions.append(f"{alias}.valid_from <= :moment")
            ended = f"{alias}.valid_to > :moment"
        else:
            ended = "FALSE"
        if self.sequence is not None:
            conditions.append(f"{alias}.written <= :sequence")
            ended = f"({ended} OR {alias}.closed > :sequence)"
        return " AND ".join([*conditions, f"({alias}.valid_to IS NULL OR {ended})"])

    def matches(self, alias: str = "notes") -> str:
        """An SQL condition: the note held then, and passes the filters."""
        conditions = [self.held(alias)]
        if self.filters.kinds is not None:
            conditions.append(f"{alias}.kind IN (SELECT value FROM json_each(:kinds))")
        if self.filters.namespaces is not None:
            conditions.append(f"{alias}.namespace IN (SELECT value FROM json_each(:namespaces))")
        if self.filters.height is not None:
            conditions.append(f"{alias}.height = :height")
        if self.filters.tags is not None:
            conditions.append(
                f"{alias}.key IN (SELECT key FROM tags WHERE tag IN (SELECT value FROM json_each(:tags)))"
            )
        return " AND ".join(conditions)

    def values(self) -> dict[str, Any]:
        """The values of the conditions."""
        lists = {name: getattr(self.filters, name) for name in ("kinds", "namespaces", "tags")}
        return {
            "moment": self.moment,
            "sequence": self.sequence,
            "height": self.filters.height,
            **{name: None if names is None else json.dumps(list(names)) for name, names in lists.items()},
        }


STANDING = Scope(float("-inf"))
"""What the index holds: notes whose validity hasn't ended, also those that have expired since the last sweep."""
