"""Instruments: what detectors look through, and which of them a detector needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from overlay.errors import ScenarioError
from overlay.scenarios.detectors.document import Detector, JudgeDetector, SimilarityDetector, TaskBreakDetector

if TYPE_CHECKING:
    from overlay.memory import Embedder
    from overlay.model import LanguageModel

Instrument = Literal["model", "embedder"]


@dataclass(frozen=True)
class Instruments:
    """What detectors look through.

    Attributes:
        model: scores rubrics and judges, always without an intervention.
        embedder: compares texts by meaning.
        forbidden: the words by which an answer is said to name the state (the script's and those of its axes).
    """

    model: LanguageModel | None = None
    embedder: Embedder | None = None
    forbidden: tuple[str, ...] = ()

    def require(self, detector: Detector) -> None:
        """See that what `detector` needs is here. Raises ScenarioError."""
        needed = needs(detector)
        if needed is not None and getattr(self, needed) is None:
            raise ScenarioError(
                f"the {detector.kind} detector '{detector.name}' needs {'a' if needed == 'model' else 'an'} {needed}, "
                "and there is none",
                f"name one in agent.yaml under `{needed}`, or use a detector that reads acts, words or patterns",
            )


def needs(detector: Detector) -> Instrument | None:
    """Which instrument a detector looks through; most need none."""
    match detector:
        case TaskBreakDetector() | JudgeDetector():
            return "model"
        case SimilarityDetector():
            return "embedder"
    return None
