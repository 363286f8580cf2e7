"""Search: gathers from truth and index what is known of a query's candidates, and ranks them by recall's terms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from overlay.errors import NoteError
from overlay.memory.index import VectorIndex
from overlay.memory.note import Note
from overlay.memory.recall import (
    CANDIDATES,
    LINK_HOPS,
    NEIGHBOURS,
    Evidence,
    leaders,
    match_expression,
    query_words,
    rarity,
    score,
)
from overlay.memory.recalled import Recalled
from overlay.memory.reranker import RERANKED, Reranker
from overlay.memory.settings import MemorySettings
from overlay.memory.truth import Facts, Scope, Truth
from overlay.memory.words import stems

# Passages that full text and index are asked for, to each candidate that is wanted: filters, notes
# that hold no longer, and further passages of the same note take some of them away.
_SPARE = 2
_SPARE_FILTERED = 4

# Entries of the full-text index that one query reads at most, beginning with its rarest word: in a large
# memory the common words would take most of the time, and bring nothing that the rare ones don't.
_POSTINGS = 8_000

# Passages of a long note that are compared with a query when only its words have brought it up.
_PASSAGES_OF_ONE = 32

# The best notes by vector, and by words, whose neighbours in their streams are looked at too.
_CENTRES = 30

# Notes that are looked at because of their links alone.
_LINKED = 100

_DAY = 86_400.0


@dataclass
class _Found:
    """What has been gathered so far of each note: its best passage, that one's cosine and words of the query, facts."""

    passage: dict[int, int] = field(default_factory=dict)
    vector: dict[int, float] = field(default_factory=dict)
    words: dict[int, frozenset[str]] = field(default_factory=dict)
    facts: dict[int, Facts] = field(default_factory=dict)

    @property
    def places(self) -> dict[int, tuple[tuple[str, str], int]]:
        """(stream, place) of the notes that belong to a stream."""
        return {key: (one.stream, one.place) for key, one in self.facts.items() if one.stream[1]}


class Search:
    """Answers queries over one memory; reads only, and may be used while another thread writes.

    index: gives the vector index, or None where there is none or it is behind the truth.
    """

    def __init__(
        self,
        truth: Truth,
        settings: MemorySettings,
        index: Callable[[], VectorIndex | None],
    ) -> None:
        self._truth = truth
        self._settings = settings
        self._index = index
        self._reranker = Reranker(settings.reranker) if settings.reranker else None

    def recall(
        self,
        query: str,
        vector: NDArray[np.float32],
        count: int,
        scope: Scope,
        state: Mapping[str, float] | None,
        tag_boosts: Mapping[str, float] | None,
    ) -> list[Recalled]:
        """The notes of a scope that matter most for a query; see `Memory.recall`."""
        weights = self._settings.weights
        words = query_words(stems(query))
        size = self._truth.count_passages()
        frequencies = self._truth.frequencies(words)
        found = _Found()
        limit = max(CANDIDATES, count)
        passages = limit * (_SPARE if scope.is_present and scope.filters.lets_all_through else _SPARE_FILTERED)
        near_hits = self._nearest(vector, passages, scope, size)
        match = match_expression(_affordable(words, frequencies))
        text_hits = self._truth.text_hits(match, limit * _SPARE, scope)
        asked = frozenset(words)
        near, by_text = _first(near_hits, limit), _first(text_hits, limit)
        # The first passage of a note is its nearest one, and needs no second look.
        cosines = {note: (value, passage) for passage, note, value in reversed(near_hits)}
        self._add([*near, *by_text], vector, asked, found, cosines)
        centres = [note for _, note in (*near[:_CENTRES], *by_text[:_CENTRES])]
        self._add_notes(self._truth.beside(centres, NEIGHBOURS, scope), vector, asked, found)
        spread = {word: rarity(frequencies.get(word, 0), size) for word in words}
        evidence = Evidence(spread, found.words, found.vector, found.places)
        links, met = self._truth.links_around(leaders(evidence, weights), LINK_HOPS, scope)
        linked = self._truth.eligible([key for key in met if key not in found.vector][:_LINKED], scope)
        self._add_notes(linked, vector, asked, found)
        facts = found.facts
        evidence = Evidence(
            rarity=spread,
            words=found.words,
            vector=found.vector,
            places=found.places,
            links=links,
            age={key: (scope.moment - one.event_at) / _DAY for key, one in facts.items() if not one.pinned},
            importance={key: one.importance for key, one in facts.items()},
            tags={key: one.tags for key, one in facts.items()} if tag_boosts else {},
            state={key: one.state for key, one in facts.items()} if state else {},
        )
        terms = score(evidence, weights, state=state, tag_boosts=tag_boosts)
        ranked = sorted(((weights.total(one), key) for key, one in terms.items()), key=lambda pair: (-pair[0], pair[1]))
        if self._reranker is not None:
            ranked = self._rerank(query, ranked, terms, found)
        chosen = [(value, key) for value, key in ranked if value >= self._settings.minimum_score][:count]
        notes = self._truth.notes_of((key for _, key in chosen), scope.sequence)
        return [
            self._recalled(notes[key], value, terms[key], found.passage[key]) for value, key in chosen if key in notes
        ]

    def _nearest(
        self, vector: NDArray[np.float32], limit: int, scope: Scope, size: int
    ) -> list[tuple[int, int, float]]:
        """(passage, note, cosine) of the nearest passages of a scope, best first."""
        index = self._index()
        # The index holds only what holds now; for what once held, the passages that left it since are few.
        if index is None or scope.filters.as_of is not None or size < self._settings.exact_below:
            return self._truth.nearest(vector, limit, scope)
        try:
            keys = index.nearest(vector, min(limit, size))
        except NoteError:
            if self._index() is index:
                raise
            # It was replaced by another thread while it was asked.
            return self._truth.nearest(vector, limit, scope)
        if scope.sequence is not None:
            keys = [*keys, *self._truth.passages_closed_since(scope.sequence)]
        found = self._truth.nearest_of(keys, vector, limit, scope)
        if len(found) >= min(CANDIDATES, size):
            return found
        # Few pass the filters, or Chroma answers with less, and no error, because files of its index are gone.
        fitting = self._truth.passages_in(scope)
        if len(fitting) <= len(found):
            return found
        if len(fitting) < self._settings.exact_below:
            return self._truth.nearest_of(fitting, vector, limit, scope)
        return self._truth.nearest(vector, limit, scope)

    def _add(
        self,
        hits: Sequence[tuple[int, int]],
        vector: NDArray[np.float32],
        asked: frozenset[str],
        found: _Found,
        known: Mapping[int, tuple[float, int]] = MappingProxyType({}),
    ) -> None:
        """Add the notes of these (passage, note) pairs that aren't there yet; a long one counts by its best passage.

        known: (cosine, passage) of notes whose nearest passage is known already.
        """
        new = {note: passage for passage, note in reversed(hits) if note not in found.vector}
        best = {note: known[note] for note in new if note in known}
        far = {note: passage for note, passage in new.items() if note not in known}
        if far:
            passages, notes, vectors = self._truth.passage_vectors_of_notes(far, _PASSAGES_OF_ONE, far.values())
            for passage, note, cosine in zip(passages, notes, (vectors @ vector).tolist(), strict=True):
                if note not in best or cosine > best[note][0]:
                    best[note] = (cosine, passage)
        looks = self._truth.looks_of({*new.values(), *(passage for _, passage in best.values())})
        has = {passage: asked.intersection(stems(look.text)) for passage, look in looks.items()} if asked else {}
        nothing: frozenset[str] = frozenset()
        for note, (cosine, near) in best.items():
            if near not in looks:
                continue  # forgotten by another thread in the meantime
            other = new[note] if len(has.get(new[note], nothing)) > len(has.get(near, nothing)) else near
            found.vector[note] = cosine
            # What shares more words with the query is shown rather than what is nearest to it.
            found.passage[note] = other
            found.facts[note] = looks[other].facts
            if words := has.get(other, nothing):
                found.words[note] = words

    def _add_notes(
        self, notes: Iterable[int], vector: NDArray[np.float32], asked: frozenset[str], found: _Found
    ) -> None:
        wanted = [key for key in notes if key not in found.vector]
        self._add(self._truth.first_passages(wanted), vector, asked, found)

    def _rerank(
        self, query: str, ranked: Sequence[tuple[float, int]], terms: dict[int, dict[str, float]], found: _Found
    ) -> list[tuple[float, int]]:
        """Let the cross-encoder read the best notes; its share of each becomes a term like the others."""
        assert self._reranker is not None
        head = [key for _, key in ranked[:RERANKED]]
        looks = self._truth.looks_of([found.passage[key] for key in head])
        readable = [key for key in head if found.passage[key] in looks]
        shares = dict(
            zip(
                readable,
                self._reranker.shares(query, [looks[found.passage[key]].text for key in readable]),
                strict=True,
            )
        )
        for key, one in terms.items():
            one["reranked"] = shares.get(key, 0.0)
        weight = self._settings.reranker_weight
        again = [(value + weight * shares.get(key, 0.0), key) for value, key in ranked]
        return sorted(again, key=lambda pair: (-pair[0], pair[1]))

    def _recalled(self, note: Note, value: float, terms: Mapping[str, float], passage: int) -> Recalled:
        before, here, after = self._truth.passages_around(passage)
        return Recalled(note, value, terms, here, tuple(one.text for one in (before, after) if one is not None))


def _affordable(words: Sequence[str], frequencies: Mapping[str, int]) -> list[str]:
    """The rarest of these words, as many as one query may look up; the rarest one in any case."""
    chosen: list[str] = []
    total = 0
    for word in sorted(frequencies, key=lambda word: (frequencies[word], word)):
        total += frequencies[word]
        if chosen and total > _POSTINGS:
            break
        chosen.append(word)
    # In the order of the query, whatever it is in the table.
    return [word for word in words if word in set(chosen)]


def _first(hits: Sequence[tuple[int, int, float]], limit: int) -> list[tuple[int, int]]:
    """(passage, note) of the first `limit` notes, each once."""
    best: dict[int, int] = {}
    for passage, note, _ in hits:
        if note not in best:
            if len(best) == limit:
                break
            best[note] = passage
    return [(passage, note) for note, passage in best.items()]
