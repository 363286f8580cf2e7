"""Detection: any detector over finished transcripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from overlay.scenarios.detectors.document import (
    MECHANICAL,
    Detector,
    JudgeDetector,
    PatternDetector,
    SimilarityDetector,
    TaskBreakDetector,
    WordsDetector,
)
from overlay.scenarios.detectors.finding import Finding
from overlay.scenarios.detectors.instruments import Instruments
from overlay.scenarios.detectors.isolation import measure_each
from overlay.scenarios.detectors.mechanical import fires
from overlay.scenarios.transcript import Transcript

NOTHING_WRITTEN = "nothing was written"
NOTHING_DONE = "nothing was done"
NO_TASK = "no task was given"


def detect(detector: Detector, transcripts: Sequence[Transcript], instruments: Instruments) -> list[Finding]:
    """What a detector finds in each transcript, in order.

    It fires where its score is above its margin. Whatever goes wrong for one transcript, in the world's expressions,
    the embedder or the model, excludes that transcript, with the reason.

    Raises:
        ScenarioError: the detector needs an instrument that isn't there.
    """
    instruments.require(detector)
    unreadable = [_unreadable(detector, transcript) for transcript in transcripts]
    readable = [transcript for transcript, why in zip(transcripts, unreadable, strict=True) if not why]
    found = iter(_findings(detector, readable, instruments))
    return [Finding.excluded(why) if why else next(found) for why in unreadable]


def _findings(detector: Detector, transcripts: Sequence[Transcript], instruments: Instruments) -> list[Finding]:
    if isinstance(detector, MECHANICAL):
        fired = measure_each(transcripts, lambda some: [fires(detector, transcript) for transcript in some])
        return [one if isinstance(one, Finding) else Finding(one) for one in fired]
    measure, margin = _measure(detector, instruments)
    scores = measure_each(transcripts, measure)
    return [one if isinstance(one, Finding) else Finding(one > margin, one) for one in scores]


def _measure(
    detector: Detector, instruments: Instruments
) -> tuple[Callable[[Sequence[Transcript]], list[float]], float]:
    """How a detector that reads texts scores transcripts, and the margin above which it fires."""
    # Each of these imports what only it needs: words an inflector, rubrics the model's rows.
    match detector:
        case WordsDetector():
            from overlay.scenarios.detectors.words import count_words

            return lambda some: count_words(detector, some), 0.0
        case PatternDetector():
            from overlay.scenarios.detectors.words import count_matches

            return lambda some: count_matches(detector, some), 0.0
        case SimilarityDetector() if (embedder := instruments.embedder) is not None:
            from overlay.scenarios.detectors.similarity import compare

            return lambda some: compare(detector, some, embedder), detector.margin
        case TaskBreakDetector() if (model := instruments.model) is not None:
            from overlay.scenarios.detectors.rubric import score_task_break

            return lambda some: score_task_break(detector, some, model), detector.margin
        case JudgeDetector() if (model := instruments.model) is not None:
            from overlay.scenarios.detectors.rubric import score_judgement

            return lambda some: score_judgement(detector, some, model), detector.margin
    raise TypeError(f"nothing reads texts for the {detector.kind} detector '{detector.name}'")


def _unreadable(detector: Detector, transcript: Transcript) -> str:
    """Why this detector can't read a transcript at all, or nothing."""
    if isinstance(detector, MECHANICAL):
        return ""
    if isinstance(detector, JudgeDetector):
        # A judge also reads acts.
        return "" if any(event.text.strip() for event in transcript.events) else NOTHING_DONE
    if not transcript.written.strip():
        return NOTHING_WRITTEN
    if isinstance(detector, TaskBreakDetector):
        from overlay.scenarios.detectors.trial_chat import task_of

        return "" if task_of(transcript) else NO_TASK
    return ""
