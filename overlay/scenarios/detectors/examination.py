"""Examination of detectors: how often each is right on labelled examples, and rates corrected by that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from overlay.model import Message
from overlay.scenarios.detectors.detection import detect
from overlay.scenarios.detectors.document import MECHANICAL, Detector, Labelled, SimilarityDetector
from overlay.scenarios.detectors.instruments import Instruments
from overlay.scenarios.transcript import Event, Transcript
from overlay.statistics import CorrectedRate, Interval, Validation, rogan_gladen, wilson

READS_ACTS = "this detector reads acts, not texts"
ITS_OWN = "the detector is made of this very text: it proves nothing"


@dataclass(frozen=True)
class CheckedRate:
    """How often a detector was right on examples of one label: `right` of `n`, with Wilson's interval."""

    right: int
    n: int
    interval: Interval

    @property
    def rate(self) -> float:
        """The share on which it was right."""
        return self.right / self.n

    def to_json(self) -> dict[str, Any]:
        """The share, its interval and the number of examples, as results and commands give them."""
        return {"rate": self.rate, "interval": [self.interval.low, self.interval.high], "n": self.n}


@dataclass(frozen=True)
class DetectorCheck:
    """How a detector did on its labelled examples.

    Attributes:
        detector, kind: its name and kind.
        exact: it reads what was done, so there is nothing in which it could be wrong.
        sensitivity: of the examples on which it must fire; None where none was left.
        specificity: of the examples on which it must stay silent; None where none was left.
        mistakes: the examples on which it was wrong.
        excluded: the examples that weren't counted, each with its reason.
    """

    detector: str
    kind: str
    exact: bool
    sensitivity: CheckedRate | None = None
    specificity: CheckedRate | None = None
    mistakes: tuple[Labelled, ...] = ()
    excluded: tuple[tuple[Labelled, str], ...] = ()

    @property
    def validation(self) -> Validation | None:
        """The counts by which a rate can be corrected; None where examples of a label are missing."""
        if self.sensitivity is None or self.specificity is None:
            return None
        return Validation(self.sensitivity.right, self.sensitivity.n, self.specificity.right, self.specificity.n)


def check_detector(detector: Detector, instruments: Instruments) -> DetectorCheck:
    """Run a detector over its labelled examples, as if the agent had written them.

    An example on which the detector can't tell is left out with its reason, as a unit of a run would be; so is one
    that stands among the texts that the detector is made of. Mechanical detectors are exact.

    Raises:
        ScenarioError: the detector needs an instrument that isn't there.
    """
    if isinstance(detector, MECHANICAL):
        unread = tuple((example, READS_ACTS) for example in detector.examples)
        return DetectorCheck(detector.name, detector.kind, exact=True, excluded=unread)
    own = {_plain(text) for text in _made_of(detector)}
    foreign = [example for example in detector.examples if _plain(example.text) not in own]
    excluded = [(example, ITS_OWN) for example in detector.examples if _plain(example.text) in own]
    right: dict[bool, list[bool]] = {True: [], False: []}
    mistakes = []
    findings = detect(detector, [_as_written(example) for example in foreign], instruments)
    for example, finding in zip(foreign, findings, strict=True):
        if finding.fired is None:
            excluded.append((example, finding.reason))
            continue
        right[example.fires].append(finding.fired == example.fires)
        if finding.fired != example.fires:
            mistakes.append(example)
    return DetectorCheck(
        detector.name,
        detector.kind,
        exact=False,
        sensitivity=_rate(right[True]),
        specificity=_rate(right[False]),
        mistakes=tuple(mistakes),
        excluded=tuple(excluded),
    )


def corrected_rate(fired: int, n: int, check: DetectorCheck) -> CorrectedRate | None:
    """The true rate behind `fired` of `n` units, given how the detector errs on its examples (Rogan and Gladen).

    None where nothing is to be corrected, because the detector is exact, or nothing can be, because examples that it
    must fire on or must stay silent on are missing.

    Raises:
        ArgumentError: the counts are impossible, or the examples don't show the detector to beat chance.
    """
    return None if check.validation is None else rogan_gladen(fired, n, check.validation)


def _rate(right: Sequence[bool]) -> CheckedRate | None:
    return CheckedRate(sum(right), len(right), wilson(sum(right), len(right))) if right else None


def _as_written(example: Labelled) -> Transcript:
    """The episode in which the agent got the example's task and wrote its text."""
    given = (Message("user", example.task),) if example.task.strip() else ()
    event = Event("example", "free", example.text)
    return Transcript("example", (*given, Message("assistant", example.text)), (event,), (), {}, {})


def _made_of(detector: Detector) -> tuple[str, ...]:
    return (*detector.like, *detector.unlike) if isinstance(detector, SimilarityDetector) else ()


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
