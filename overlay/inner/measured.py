"""Measured mixes: what states were found to cost, kept from one opening of an agent to the next.

Measuring a state takes as long as a sentence of the reply, and the same states come back day after day.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overlay.errors import RecordDamaged
from overlay.records import append_record, digest_of, read_journal

if TYPE_CHECKING:
    from overlay.model import Volatility

Found = tuple[float, "Volatility"]
"""The share of its mix that a state was left, and what that cost."""


class MeasuredMixes:
    """A table in a file of its own for all that measurements rest on: with anything else, another file.

    Args:
        folder: where the files lie.
        rests_on: all that decides what is measured, as JSON has it.
        writes: whether new measurements are kept; one process alone may.
    """

    def __init__(self, folder: Path, rests_on: Mapping[str, Any], *, writes: bool) -> None:
        digest = digest_of(rests_on)[:24]
        self._path = folder / f"{digest}.jsonl"
        self._writes = writes
        self._known: dict[str, tuple[float, float, float]] = {}
        try:
            self._known = {
                str(one["state"]): (one["share"], one["mean"], one["p95"]) for one in read_journal(self._path)
            }
        except (RecordDamaged, KeyError, TypeError):
            # It can all be measured again.
            if writes:
                self._path.unlink()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, state: str) -> Found | None:
        """What was measured of this state, if it was."""
        from overlay.model import Volatility  # brings torch

        found = self._known.get(state)
        return None if found is None else (found[0], Volatility(*found[1:]))

    def keep(self, state: str, share: float, volatility: Volatility) -> Found:
        """Keep one measurement, and give it back. Raises StorageFull."""
        self._known[state] = (share, volatility.mean, volatility.p95)
        if self._writes:
            found = {"state": state, "share": share, "mean": volatility.mean, "p95": volatility.p95}
            append_record(self._path, found)
        return share, volatility
