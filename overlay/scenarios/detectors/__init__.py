"""Detectors: whether a behaviour shows in an episode, and how far that can be trusted.

In go a detector as it is written, finished transcripts and the instruments that it needs; out come findings, one a
transcript, and for a detector its sensitivity and specificity on labelled examples. What a detector couldn't read, or
stumbled over, is excluded with its reason and never counted as "no". No detector is told the arm.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.scenarios.detectors.document import (
    MECHANICAL,
    ChoiceDetector,
    Detector,
    JudgeDetector,
    Labelled,
    LedgerDetector,
    PatternDetector,
    SimilarityDetector,
    TaskBreakDetector,
    VolunteeredDetector,
    WordsDetector,
)

if TYPE_CHECKING:
    from overlay.scenarios.detectors.detection import detect
    from overlay.scenarios.detectors.examination import CheckedRate, DetectorCheck, check_detector, corrected_rate
    from overlay.scenarios.detectors.finding import Finding
    from overlay.scenarios.detectors.instruments import Instrument, Instruments, needs
    from overlay.scenarios.detectors.mechanical import fires
    from overlay.scenarios.detectors.words import names_state

__all__ = [
    "MECHANICAL",
    "CheckedRate",
    "ChoiceDetector",
    "Detector",
    "DetectorCheck",
    "Finding",
    "Instrument",
    "Instruments",
    "JudgeDetector",
    "Labelled",
    "LedgerDetector",
    "PatternDetector",
    "SimilarityDetector",
    "TaskBreakDetector",
    "VolunteeredDetector",
    "WordsDetector",
    "check_detector",
    "corrected_rate",
    "detect",
    "fires",
    "names_state",
    "needs",
]

# Scripts read the documents through this door, and transcripts read nothing of detectors: a script needs no instrument.
_LATER = {
    "CheckedRate": "examination",
    "DetectorCheck": "examination",
    "Finding": "finding",
    "Instrument": "instruments",
    "Instruments": "instruments",
    "check_detector": "examination",
    "corrected_rate": "examination",
    "detect": "detection",
    "fires": "mechanical",
    "names_state": "words",
    "needs": "instruments",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
