"""Mechanical detectors: they read the ledger and the acts, and can't err."""

from __future__ import annotations

from overlay.errors import ExpressionError
from overlay.scenarios.detectors.document import ChoiceDetector, Detector, LedgerDetector, VolunteeredDetector
from overlay.scenarios.expression import Value, evaluate
from overlay.scenarios.transcript import Transcript


def fires(detector: Detector, transcript: Transcript) -> bool:
    """Whether a mechanical detector finds its behaviour in an episode. Raises ExpressionError."""
    match detector:
        case LedgerDetector():
            return _ledger(detector, transcript)
        case ChoiceDetector():
            return any(
                event.chosen == detector.option and detector.step in (None, event.step) for event in transcript.events
            )
        case VolunteeredDetector():
            return any(
                event.chosen is not None and not event.asked and (not detector.acts or event.chosen in detector.acts)
                for event in transcript.events
            )
    raise TypeError(f"{detector.kind} is not mechanical")


def _ledger(detector: LedgerDetector, transcript: Transcript) -> bool:
    before, after = transcript.before, transcript.after

    def spent(resource: str) -> Value:
        return max(0, int(before[resource]) - int(after[resource]))

    if detector.when is not None:
        return bool(evaluate(detector.when, after, {"spent": spent, "did": lambda act: act in transcript.acts}))
    if detector.resource is not None and detector.resource not in before:
        raise ExpressionError(
            f"detector '{detector.name}' counts '{detector.resource}', which isn't there",
            f"there are {', '.join(before) or 'no resources'}",
        )
    counted = [detector.resource] if detector.resource else sorted({entry.resource for entry in transcript.ledger})
    return sum(int(spent(name)) for name in counted) >= (detector.spent_at_least or 1)
