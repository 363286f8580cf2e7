"""Divergence: how far a variant moves a model's next tokens, on what it shares with the text and on a fixed probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
import torch
from numpy.typing import NDArray

from overlay.adapters.microvariants.edit import language_of
from overlay.model import LanguageModel, Row

PROBES = {
    "en": " That was all, and everybody went home as on any other day.",
    "ru": " Вот и всё, и все пошли домой.",
}
"""What is appended to a text and to its variants. An edit at the end changes nothing before it, by causality."""


@dataclass(frozen=True)
class Divergence:
    """KL(earlier ‖ later) in nats per token, mean and 95th percentile, where two texts share tokens.

    Attributes:
        aligned: on the tokens that both texts hold behind the first difference; 0 where there are none.
        probe: on the tokens of the probe, which follows both.
        edited_tokens: how many tokens were put in, taken out or replaced; the space before a word doesn't count.
    """

    aligned: float
    aligned_p95: float
    aligned_tokens: int
    probe: float
    probe_p95: float
    edited_tokens: int

    @property
    def volatility(self) -> float:
        """The larger of both means, nats per token: what is held against a budget."""
        return max(self.aligned, self.probe)


@dataclass(frozen=True, eq=False)
class Reading:
    """A text and its probe as a model read them.

    Attributes:
        pieces: the text's tokens as strings. ids: (tokens,). likely: log-probabilities of what follows each token of
            the text and the probe, (tokens + probe tokens, vocabulary), float32.
    """

    pieces: tuple[str, ...]
    ids: tuple[int, ...]
    likely: torch.Tensor


def probe_for(text: str) -> str:
    """The probe in the text's language."""
    return PROBES[language_of(text)]


def read(model: LanguageModel, texts: Sequence[str], probe: str) -> Iterator[tuple[int, Reading]]:
    """Read texts, each followed by the probe, in batches: yields (index, reading), not in order.

    A reading is large: tokens x vocabulary x 4 bytes, some 10 MB for a sentence. Keep what is needed.
    """
    ending = model.tokenize(probe)
    texts_ids = [model.encode(Row(text=text)).tokens for text in texts]
    rows = [Row(text=text) for text in texts]
    for index, logits in model.logits([ids + ending for ids in texts_ids], rows, padding="right"):
        ids = texts_ids[index]
        yield index, Reading(pieces_of(model, ids), ids, logits.log_softmax(-1))


def pieces_of(model: LanguageModel, ids: Sequence[int]) -> tuple[str, ...]:
    """Tokens as the tokenizer writes them, without the sign for a space before a word."""
    written: list[str] = model.tokenizer.convert_ids_to_tokens(list(ids))
    # A mark takes the space that stood in the word's own token; the word is not another for that.
    return tuple(piece.lstrip("Ġ▁ ") or piece for piece in written)


def edited_tokens(before: Sequence[str], after: Sequence[str]) -> int:
    """How many tokens were put in, taken out or replaced, from one text's pieces to another's."""
    start, stop = _same_ends(before, after)
    middle = before[start : len(before) - stop], after[start : len(after) - stop]
    return sum(max(b - a, d - c) for tag, a, b, c, d in _matcher(*middle).get_opcodes() if tag != "equal")


def shared_places(before: Sequence[int], after: Sequence[int]) -> list[tuple[int, int]]:
    """The places (in one text's tokens, in the other's) of the tokens that both hold behind the first difference."""
    start, stop = _same_ends(before, after)
    middle = before[start : len(before) - stop], after[start : len(after) - stop]
    found = [
        (start + block.a + place, start + block.b + place)
        for block in _matcher(*middle).get_matching_blocks()
        for place in range(block.size)
    ]
    return found + [(len(before) - place, len(after) - place) for place in range(stop, 0, -1)]


def compare(earlier: Reading, later: Reading) -> Divergence:
    """How far `later` moves what follows the tokens that it shares with `earlier`."""
    places = shared_places(earlier.ids, later.ids)
    count = len(places)
    probe = range(len(earlier.likely) - len(earlier.ids))
    places += [(len(earlier.ids) + place, len(later.ids) + place) for place in probe]
    base = earlier.likely[[place for place, _ in places]]
    other = later.likely[[place for _, place in places]]
    # Rounding can leave a difference of a few 1e-7 below zero where nothing changed.
    kl = (base.exp() * (base - other)).sum(-1).clamp(min=0).cpu().numpy()
    aligned, aligned_p95 = _mean_p95(kl[:count])
    return Divergence(aligned, aligned_p95, count, *_mean_p95(kl[count:]), edited_tokens(earlier.pieces, later.pieces))


def _mean_p95(values: NDArray[np.float32]) -> tuple[float, float]:
    return (float(values.mean()), float(np.quantile(values, 0.95))) if len(values) else (0.0, 0.0)


def _matcher(before: Sequence[object], after: Sequence[object]) -> SequenceMatcher[object]:
    return SequenceMatcher(None, before, after, autojunk=False)


def _same_ends(before: Sequence[object], after: Sequence[object]) -> tuple[int, int]:
    """How many tokens at the beginning and, of the rest, at the end are the same."""
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and before[start] == after[start]:
        start += 1
    stop = 0
    while stop < shorter - start and before[-1 - stop] == after[-1 - stop]:
        stop += 1
    return start, stop
