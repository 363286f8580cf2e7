"""Similarity: whether what the agent wrote is nearer to texts with the behaviour than to texts without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from overlay.scenarios.detectors.document import SimilarityDetector
from overlay.scenarios.detectors.words import free_texts
from overlay.scenarios.transcript import Transcript

if TYPE_CHECKING:
    from overlay.memory import Embedder

WINDOW = 100
"""Words that are compared at once: embedders silently read only the beginning of a text, often 256 tokens."""


def compare(detector: SimilarityDetector, transcripts: Sequence[Transcript], embedder: Embedder) -> list[float]:
    """By how much the nearest of `like` is nearer than the nearest of `unlike`, as a difference of cosines.

    Of several texts, or windows of a long one, the one that is most like the behaviour counts.
    """
    windows = [[part for text in free_texts(transcript) for part in _windows(text)] for transcript in transcripts]
    texts = [*detector.like, *detector.unlike, *(part for parts in windows for part in parts)]
    vectors = np.asarray(embedder.embed(texts), dtype=np.float64)
    if vectors.shape[:1] != (len(texts),):
        raise ValueError(f"the embedder gave vectors of shape {vectors.shape} for {len(texts)} texts")
    ends = np.cumsum([len(detector.like), len(detector.unlike), *(len(parts) for parts in windows)])[:-1]
    like, unlike, *written = np.split(vectors, ends)
    # A vector that isn't finite gives a score that isn't, which excludes its unit without a warning.
    with np.errstate(invalid="ignore"):
        return [float(np.max((parts @ like.T).max(axis=1) - (parts @ unlike.T).max(axis=1))) for parts in written]


def _windows(text: str) -> list[str]:
    words = text.split()
    if len(words) <= WINDOW:
        return [text]
    return [" ".join(words[start : start + WINDOW]) for start in range(0, len(words), WINDOW)]
