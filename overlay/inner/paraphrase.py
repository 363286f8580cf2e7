"""Paraphrases: sentences that say what a state is without any of its words, found by their nearness in meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from overlay.inner.inflection import is_latin

if TYPE_CHECKING:
    from overlay.memory import Embedder

DEFINING = "feeling {} toward others"
"""How a word of the lexicon becomes a definition of the state. Of a dozen ways to say it this one told paraphrases
best from ordinary sentences; sentences that begin with "The agent feels" are near everything said about the agent."""

THRESHOLDS: Mapping[str, float] = {"53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db": 0.48}
"""Cosine similarity from which a sentence counts as a paraphrase, by the digest of the embedder's weights.

Measured with minilm-l6-v2 on the stock axis "tenderness", on sentences without a word of its lexicon. Below it: all 757
of the stock handbook, frames, masks, scenarios, contrast sets and neutral texts (the highest is 0.41), all 890 from an
encyclopedia, 189 of 190 that the embedded model said in ten sessions, 782 of 783 on causes and effects, 1,360 of 1,390
of small talk between friends. At or above it: 20 of 40 paraphrases (median 0.49; AUROC 0.99; the way of defining was
chosen with their help) and 217 of 289 statements of agreeable people. Their opposites pass as well: they name the same
thing. The check finds leaks; as it misses half of such paraphrases, it can't prove that there is none.
"""

SHORTEST = 3
"""Words of a sentence that is compared; shorter ones are near everything."""

_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|\n+")


def define_state(description: str, lexicon: Sequence[str]) -> tuple[str, ...]:
    """Sentences that say what a state is: the first of its axis's description, and one for each English word."""
    first = sentences(_SENTENCE_END.split(description.strip())[0])
    return (*first, *(DEFINING.format(word) for word in lexicon if is_latin(word)))


def sentences(text: str) -> list[str]:
    """The sentences and lines of a text that are long enough to be compared."""
    parts = (part.strip() for part in _SENTENCE_END.split(text))
    return [part for part in parts if len(part.split()) >= SHORTEST]


def nearness(found: Sequence[str], definitions: Sequence[str], embedder: Embedder) -> list[tuple[float, str]]:
    """For each sentence the cosine similarity to the nearest definition, and that definition."""
    if not found or not definitions:
        return [(0.0, "")] * len(found)
    similarity = embedder.embed(found) @ embedder.embed(definitions).T
    nearest = np.argmax(similarity, axis=1)
    return [(float(row[place]), definitions[place]) for row, place in zip(similarity, nearest, strict=True)]
