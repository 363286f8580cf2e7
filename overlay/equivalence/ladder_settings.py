"""Settings: how a ladder is measured, and what its budget goes to."""

from __future__ import annotations

from dataclasses import dataclass

from overlay.errors import ArgumentError

SHARES: dict[str, float] = {"searched": 0.35, "own": 0.35, "soft": 0.3}
"""Of the budget: one prompt for all queries, one for each, and the soft prompt."""


@dataclass(frozen=True)
class LadderSettings:
    """How a ladder is measured.

    Attributes:
        budget: tokens that the model may read (a trained one counts as three) for searching and training together;
            120,000 take about six minutes of two cores with the embedded model, the fixed part about as long.
        draws: samples of each query that are measured; one more is drawn for choosing by.
        length: tokens of a sample at most.
    """

    budget: int = 120_000
    draws: int = 3
    length: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        if self.budget < 0 or self.draws < 1 or self.length < 1 or not 0 <= self.seed < 2**31:
            raise ArgumentError(
                f"settings out of range: {self}", "budget from 0, draws and length from 1, seed from 0 to 2**31 - 1"
            )


QUICK = LadderSettings()
