"""The trial: a candidate is built from own texts and checked on those that were kept out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overlay.axes import Axis, Text, text_row
from overlay.home import Home
from overlay.progress import Progress
from overlay.reprogramming.decision import Decision
from overlay.reprogramming.own_texts import Pair
from overlay.reprogramming.proposal import Proposal
from overlay.reprogramming_settings import ReprogrammingSettings

if TYPE_CHECKING:
    from overlay.model import LanguageModel, VolatilityGauge

HELD_OUT = 3
"""Of so many pairs one is kept out to be measured on: the newest ones, for neighbours in time are much alike."""


@dataclass(frozen=True)
class Trial:
    """What a candidate is built and checked with.

    Attributes:
        place: a folder for what is built, which is gone once the decision is carried out.
    """

    home: Home
    settings: ReprogrammingSettings
    proposal: Proposal
    model: LanguageModel
    gauge: VolatilityGauge
    progress: Progress
    place: Path

    @property
    def learned(self) -> list[Pair]:
        """What is learned from."""
        return list(self.proposal.pairs[self._kept_out :])

    @property
    def held(self) -> list[Pair]:
        """What is kept out of it."""
        return list(self.proposal.pairs[: self._kept_out])

    @property
    def _kept_out(self) -> int:
        return len(self.proposal.pairs) // HELD_OUT

    def readings(self, axis: Axis, texts: Sequence[Text]) -> list[float]:
        """How strongly each text lies along an axis, in deviations of neutral text."""
        rows = [text_row(text) for text in texts]
        return [axis.project(seen.activations) for seen in self.model.observe(rows, pool=axis.pool)]


@dataclass(frozen=True)
class Candidate:
    """What a trial came to; `put` puts it in force with one atomic step at its end, if it is adopted."""

    decision: Decision
    put: Callable[[], None] = lambda: None


def judged(decision: Decision, reasons: Sequence[str], words: str = "", **found: Any) -> Decision:
    """The decision with what was found: rolled back for any reason, else adopted, which means what `words` say."""
    if reasons:
        words = "what was in force stays in force, unchanged"
    return replace(
        decision, outcome="rolled back" if reasons else "adopted", reasons=tuple(reasons), words=words, **found
    )
