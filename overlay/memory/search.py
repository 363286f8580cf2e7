"""Search: gathers from truth and index what is known of a query's candidates, and ranks them by recall's terms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from overlay.errors import NoteError
from overlay.memory.cosines import Cosines, Hit, IndexedCosines, ScannedCosines
from overlay.memory.index import VectorIndex
from overlay.memory.note import Note
from overlay.memory.passage_rows import Facts
from overlay.memory.recall import (
    CANDIDATES,
    LINK_HOPS,
    NEIGHBOURS,
    Coverage,
    Evidence,
    leaders,
    match_expression,
    query_words,
    rarity,
    score,
)
from overlay.memory.recalled import Recalled
from overlay.memory.reranker import RERANKED, Reranker
from overlay.memory.scope import Scope
from overlay.memory.settings import MemorySettings
from overlay.memory.truth import Truth
from overlay.memory.vector_cache import VectorCache
from overlay.memory.words import stems

# Passages that are looked for by text and by vector, to each candidate that is wanted: further passages of the
# same note take some of them away.
_SPARE = 2

# Entries of the full-text index that one query reads at most, beginning with its rarest word: in a large
# memory the common words would take most of the time, and bring nothing that the rare ones don't.
_POSTINGS = 8_000

# How many times the passages that are wanted full text gives. If half of those wanted don't pass a filter,
# what is behind them is looked at; still further away, it shares so little with the query that words alone
# would not bring it up.
_TEXT_SPARE = 8

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

    behind: gives the vector index and the passages of which it has not heard yet, or None.
    """

    def __init__(
        self,
        truth: Truth,
        settings: MemorySettings,
        behind: Callable[[], tuple[VectorIndex, list[int]] | None],
    ) -> None:
        self._truth = truth
        self._settings = settings
        self._behind = behind
        self._cache = VectorCache(truth.vectors)
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
        size = self._truth.passages.count()
        frequencies = self._truth.text.frequencies(words)
        found = _Found()
        limit = max(CANDIDATES, count)
        cosines, near_hits = self._nearest(vector, limit * _SPARE, scope, size)
        text_hits = self._text_hits(match_expression(_affordable(words, frequencies)), limit * _SPARE, scope)
        asked = frozenset(words)
        near, by_text = _first(((passage, note) for passage, note, _ in near_hits), limit), _first(text_hits, limit)
        # The first passage of a note is its nearest one, and needs no second look.
        known = {note: (value, passage) for passage, note, value in reversed(near_hits)}
        self._add([*near, *by_text], cosines, asked, found, known)
        centres = [note for _, note in (*near[:_CENTRES], *by_text[:_CENTRES])]
        self._add_notes(self._truth.notes.beside(centres, NEIGHBOURS, scope), cosines, asked, found)
        spread = {word: rarity(frequencies.get(word, 0), size) for word in words}
        evidence = Evidence(spread, found.words, found.vector, found.places)
        coverage = Coverage.of(evidence)
        links, met = self._truth.links.around(leaders(evidence, weights, coverage), LINK_HOPS, scope)
        linked = self._truth.notes.within([key for key in met if key not in found.vector][:_LINKED], scope)
        self._add_notes(linked, cosines, asked, found)
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
        coverage = Coverage.of(evidence, coverage, linked)
        terms = score(evidence, weights, coverage=coverage, state=state, tag_boosts=tag_boosts)
        ranked = sorted(
            ((value, key) for key, value in weights.totals(terms).items()), key=lambda one: (-one[0], one[1])
        )
        if self._reranker is not None:
            ranked = self._rerank(query, ranked, terms, found)
        chosen = [(value, key) for value, key in ranked if value >= self._settings.minimum_score][:count]
        notes = self._truth.notes.of((key for _, key in chosen), scope.sequence)
        return [
            self._recalled(notes[key], value, terms[key], found.passage[key]) for value, key in chosen if key in notes
        ]

    def _nearest(self, vector: NDArray[np.float32], limit: int, scope: Scope, size: int) -> tuple[Cosines, list[Hit]]:
        """The cosines of a query, and the nearest passages of a scope, best first."""

        def scan() -> Cosines:
            return ScannedCosines(self._truth, self._cache, vector)

        behind = self._behind()
        # The index holds only what holds now; for what once held, the passages that left it since are few.
        if behind is None or scope.filters.as_of is not None or size < self._settings.exact_below:
            cosines = scan()
        else:
            index, waiting = behind
            if scope.sequence is not None:
                waiting = [*waiting, *self._truth.passages.closed_since(scope.sequence)]
            cosines = IndexedCosines(self._truth, index, waiting, vector, scan)
            try:
                return cosines, cosines.nearest(limit, scope)
            except NoteError:
                now = self._behind()
                if now is not None and now[0] is index:
                    raise
                # It was replaced by another thread while it was asked.
                cosines = scan()
        return cosines, cosines.nearest(limit, scope)

    def _text_hits(self, match: str, limit: int, scope: Scope) -> list[tuple[int, int]]:
        """(passage, note) of the best passages of a scope for an FTS5 expression, best first."""
        passages = [passage for passage, _ in self._truth.text.best(match, limit * _TEXT_SPARE)] if match else []
        # Joined to their notes at once, thousands of hits would be looked up of which a few hundred are kept.
        owners = self._truth.passages.owners(passages[:limit], scope)
        if len(owners) < limit // 2:
            owners |= self._truth.passages.owners(passages[limit:], scope)
        return [(passage, owners[passage]) for passage in passages if passage in owners][:limit]

    def _add(
        self,
        hits: Sequence[tuple[int, int]],
        cosines: Cosines,
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
            for passage, note, cosine in cosines.of_notes(far, far.values()):
                if note not in best or cosine > best[note][0]:
                    best[note] = (cosine, passage)
        looks = self._truth.passages.looks({*new.values(), *(passage for _, passage in best.values())})
        has = {passage: asked & look.stems for passage, look in looks.items()} if asked else {}
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

    def _add_notes(self, notes: Iterable[int], cosines: Cosines, asked: frozenset[str], found: _Found) -> None:
        wanted = [key for key in notes if key not in found.vector]
        self._add(self._truth.passages.first_of(wanted), cosines, asked, found)

    def _rerank(
        self, query: str, ranked: Sequence[tuple[float, int]], terms: dict[int, dict[str, float]], found: _Found
    ) -> list[tuple[float, int]]:
        """Let the cross-encoder read the best notes; its share of each becomes a term like the others."""
        assert self._reranker is not None
        head = [key for _, key in ranked[:RERANKED]]
        texts = self._truth.passages.texts([found.passage[key] for key in head])
        readable = [key for key in head if found.passage[key] in texts]
        shares = dict(
            zip(
                readable,
                self._reranker.shares(query, [texts[found.passage[key]] for key in readable]),
                strict=True,
            )
        )
        for key, one in terms.items():
            one["reranked"] = shares.get(key, 0.0)
        weight = self._settings.reranker_weight
        again = [(value + weight * shares.get(key, 0.0), key) for value, key in ranked]
        return sorted(again, key=lambda pair: (-pair[0], pair[1]))

    def _recalled(self, note: Note, value: float, terms: Mapping[str, float], passage: int) -> Recalled:
        before, here, after = self._truth.passages.around(passage)
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


def _first(hits: Iterable[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """(passage, note) of the first `limit` notes, each once."""
    best: dict[int, int] = {}
    for passage, note in hits:
        if note not in best:
            if len(best) == limit:
                break
            best[note] = passage
    return [(passage, note) for note, passage in best.items()]
