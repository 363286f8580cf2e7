"""Summaries: the few sentences that speak best for many. Pure functions of their inputs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from overlay.memory.words import stems, words

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# What a sentence gains by standing for all, against what it loses by repeating what was chosen: the
# lambda of maximal marginal relevance. Between 0.4 and 0.8 what folds of conversations found hardly changed.
RELEVANCE = 0.6


@dataclass(frozen=True)
class Sentence:
    """A sentence, and where it stands: characters `start` to `end` of the text of the note with this key.

    `title` is what the note is about; a sentence taken out of it would often not say so.
    """

    note: int
    start: int
    end: int
    text: str
    title: str = ""

    @property
    def said(self) -> str:
        """The sentence as it reads outside its note."""
        text = " ".join(self.text.split())
        return f"{self.title}: {text}" if self.title and self.title.casefold() not in text.casefold() else text


def count_words(text: str) -> int:
    """How many words a text has."""
    return len(words(text))


def summarise(
    sentences: Sequence[Sentence],
    frequency: Mapping[str, int],
    size: int,
    most_words: int,
    relevance: float = RELEVANCE,
) -> list[Sentence]:
    """Those sentences, in their own order, that are near the middle of all and far from each other.

    Maximal marginal relevance (Carbonell and Goldstein 1998) over the stems of the sentences, each
    weighted by its rarity: `frequency` says in how many of `size` passages a stem stands. Together
    they have at most `most_words` words; where even the best one is longer, it is cut at that many.
    The time grows with the number of sentences, not with its square.
    """
    lengths = np.array([count_words(sentence.said) for sentence in sentences], dtype=np.int64)
    is_open = lengths > 0
    if not is_open.any():
        return []
    vectors = _stem_vectors([sentence.said for sentence in sentences], frequency, size)
    middle = np.asarray(vectors.sum(axis=0)).reshape(-1)
    near = vectors @ (middle / (np.linalg.norm(middle) or 1.0))
    if not (is_open & (lengths <= most_words)).any():
        return [_cut(sentences[int(np.argmax(np.where(is_open, near, -np.inf)))], most_words)]
    repeated = np.zeros(len(sentences))
    chosen: list[int] = []
    left = most_words
    while (fits := is_open & (lengths <= left)).any():
        best = int(np.argmax(np.where(fits, relevance * near - (1 - relevance) * repeated, -np.inf)))
        chosen.append(best)
        left -= int(lengths[best])
        alike = vectors @ vectors[[best]].toarray().reshape(-1)
        repeated = np.maximum(repeated, alike)
        is_open &= alike < 1 - 1e-6  # the same words again add nothing
        is_open[best] = False
    return [sentences[row] for row in sorted(chosen)]


def _stem_vectors(texts: Sequence[str], frequency: Mapping[str, int], size: int) -> csr_array:
    """Unit vectors of shape (texts, stems): (1 + log count) times the inverse document frequency of BM25."""
    from scipy.sparse import coo_array

    columns: dict[str, int] = {}
    entries: list[tuple[int, int, float]] = []
    for row, text in enumerate(texts):
        weights = {
            stem: (1 + math.log(count)) * rarity
            for stem, count in Counter(stems(text)).items()
            if (rarity := _rarity(frequency.get(stem, 0), size)) > 0
        }
        length = math.sqrt(math.fsum(weight * weight for weight in weights.values()))
        entries.extend(
            (row, columns.setdefault(stem, len(columns)), weight / length) for stem, weight in weights.items()
        )
    rows = np.array([row for row, _, _ in entries], dtype=np.int64)
    places = np.array([place for _, place, _ in entries], dtype=np.int64)
    values = np.array([value for _, _, value in entries], dtype=np.float64)
    return coo_array((values, (rows, places)), shape=(len(texts), max(len(columns), 1))).tocsr()


def _rarity(frequency: int, size: int) -> float:
    """0 for a word of half of the passages or more; in a handful of passages every word counts."""
    return max(math.log((max(size, 2 * frequency + 1) - frequency + 0.5) / (frequency + 0.5)), 0.0)


def _cut(sentence: Sentence, most_words: int) -> Sentence:
    """As many of a sentence's first words as fit, with its title; at least one."""
    ends = [place for place in range(1, len(sentence.text) + 1) if _ends_word(sentence.text, place)]
    fitting = [end for end in ends[: most_words + 1] if count_words(_first(sentence, end).said) <= most_words]
    return _first(sentence, max(fitting, default=ends[0]))


def _first(sentence: Sentence, end: int) -> Sentence:
    return replace(sentence, end=sentence.start + end, text=sentence.text[:end])


def _ends_word(text: str, place: int) -> bool:
    return not text[place - 1].isspace() and (place == len(text) or text[place].isspace())
