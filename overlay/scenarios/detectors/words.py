"""Words and patterns in what the agent wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence

from overlay.inner import WordFinder
from overlay.scenarios.detectors.document import PatternDetector, WordsDetector
from overlay.scenarios.detectors.instruments import Instruments
from overlay.scenarios.transcript import Transcript


def count_words(detector: WordsDetector, transcripts: Sequence[Transcript]) -> list[float]:
    """How many places of each transcript's free text have one of the words, in any inflection. A negation counts."""
    find = WordFinder(detector.words)
    return [float(sum(len(find(text)) for text in free_texts(transcript))) for transcript in transcripts]


def count_matches(detector: PatternDetector, transcripts: Sequence[Transcript]) -> list[float]:
    """How many places of each transcript's free text match the pattern."""
    pattern = re.compile(detector.pattern, re.IGNORECASE)
    return [
        float(sum(1 for text in free_texts(transcript) for _ in pattern.finditer(text))) for transcript in transcripts
    ]


def free_texts(transcript: Transcript) -> list[str]:
    """What the agent wrote freely, one text a step, blank ones left out: nothing may be found across two of them."""
    return [event.text for event in transcript.events if event.kind == "free" and event.text.strip()]


def names_state(text: str, instruments: Instruments) -> bool | None:
    """Whether a text has a word of the state, in any inflection; None where no words of the state are known."""
    return bool(WordFinder(instruments.forbidden)(text)) if instruments.forbidden else None
