"""Recall: how the terms of a score come about. Pure functions of their inputs.

Who gathers the evidence does this, in order:

1. the best CANDIDATES by full text (`match_expression` of the `query_words`) and by vector;
2. the notes within NEIGHBOURS places of these in their streams;
3. for all of them words, cosines and the rest of Evidence, without links;
4. the links within LINK_HOPS of the `leaders`, and the linked notes with their words and cosines;
5. `score`, and `RecallWeights.total` of each note's terms.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

# How many of the best notes by text, and by vector, are scored. Far more than are ever returned,
# so that a note which is middling by both still meets itself.
CANDIDATES = 100

# A question shares its words with the turns around its answer: places on either side that count,
# and how much a word that stands there counts, by distance (the weight of the term comes on top).
NEIGHBOURS = 2
_BESIDE = (1.0, 0.8)

# Links are followed this far from a leader: what is three steps away is about something else.
LINK_HOPS = 2

# Only the best notes pass something on over their links: a middling one would pass on noise.
LEADERS = 3

# The share of a note's rank that passes on over its links; HippoRAG (arXiv:2405.14831) uses one half.
LINK_DAMPING = 0.5

# After so many steps less than a thousandth of the rank is still on its way.
_LINK_STEPS = 10

# Days after which the recency of a note is half of what it was.
_HALF_LIFE = 30.0

# So many better notes of the same stream crowd a note as far as it goes; fewer by their logarithm.
_CROWD = 10

# Words of a query that are searched for; SQLite refuses endless expressions, and nobody asks so much.
MOST_WORDS = 256

# Words that carry a question's grammar and not what it is about; also what "don't" and "she's" fall into.
_FUNCTION_WORDS = """
    a an the this that these those each every either neither some any all both no none such i me my mine myself you
    your yours yourself he him his himself she her hers herself it its itself we us our ours ourselves they them their
    theirs themselves one ones someone something anyone anything am is are was were be been being do does did doing
    done have has had having can could may might must shall should will would of in on at by for from to into onto
    with without within about against between among through during before after above below over under up down out
    off than as per via and or but nor so if then else because while though although until unless whether who whom
    whose which what when where why how not only just also too very there here again once ever d s t ll m re ve don
    didn doesn isn wasn aren weren hasn haven hadn won wouldn couldn shouldn

    и в во не что он на я с со как а то все она так его но да ты к у же вы за бы по только ее мне было вот от меня еще
    нет о об из ему ли если или ни быть был него до вас нибудь уж вам ведь там потом себя ничего ей они тут где есть
    надо ней для мы тебя их чем была сам чтоб чтобы без будто чего тоже себе под будет тогда кто этот того потому
    этого какой какая какое какие который которая которое которые ним здесь этом почему мой моя мое мои твой тем чтобы
    нее были куда зачем всех при об другой хоть после над через эти нас про них эта это этих когда сколько чей
"""


@dataclass(frozen=True)
class Evidence:
    """What is known of the candidates of one query; keys are note keys, and `vector` has every candidate.

    rarity: of each query word, see `rarity`.
    words: which of them a note's best passage (or title) has; missing for none.
    vector: cosine of its best passage.
    places: (stream, place) of the notes that belong to a stream; the stream in whatever form tells streams apart.
    links: links among the candidates and around them, either way.
    age: days since the event, missing (or 0) for pinned notes, which don't age.
    importance: in [0, 1], 0.5 where missing. tags: of the notes that have any.
    state: what each note read on the axes when it was written (measured z), by axis name.
    """

    rarity: Mapping[str, float]
    words: Mapping[int, Set[str]]
    vector: Mapping[int, float]
    places: Mapping[int, tuple[Hashable, int]] = field(default_factory=dict)
    links: Set[tuple[int, int]] = frozenset()
    age: Mapping[int, float] = field(default_factory=dict)
    importance: Mapping[int, float] = field(default_factory=dict)
    tags: Mapping[int, Sequence[str]] = field(default_factory=dict)
    state: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class RecallWeights:
    """How much each term counts; a score is the weighted sum of the terms.

    text: how much of the query's words the note has, by their rarity, in [0, 1].
    vector: cosine between query and note, in [-1, 1].
    neighbours: what the notes beside it in its stream have of the words that it lacks, in [0, 1].
    links: what it receives over links from the best notes (personalised PageRank), in [0, 1].
    recency: halves every 30 days, in [0, 1]; 1 for pinned notes.
    importance: in [-1, 1], 0 for a note of middling importance.
    congruence: how far the present state and that of the note agree, in [-1, 1]; 0 without a state.
    tags: what is asked for at present, in [-1, 1].
    crowding: in [-1, 0], lower the more notes of its stream are better, so that one session doesn't fill everything.

    One set for everything: chosen on conversations (short turns in streams, LoCoMo's development part) and
    an encyclopedia (long linked passages, MuSiQue) together, as round numbers in the middle of where both stay
    good; `overlay bench recall` shows what each term brings. Importance, congruence and tags are judgements.
    """

    text: float = 0.35
    vector: float = 0.5
    neighbours: float = 0.3
    links: float = 0.3
    recency: float = 0.02
    importance: float = 0.05
    congruence: float = 0.1
    tags: float = 0.2
    crowding: float = 0.1

    def total(self, terms: Mapping[str, float]) -> float:
        """The weighted sum of the terms."""
        shares = self._shares
        return sum(shares[term] * value for term, value in terms.items() if value)

    @functools.cached_property
    def _shares(self) -> dict[str, float]:
        return {term: float(getattr(self, term)) for term in TERMS}

    def totals(self, terms: Mapping[int, Mapping[str, float]]) -> dict[int, float]:
        """The totals of many notes, each to the last bit what `total` gives."""
        columns = np.array([_IN_ORDER(one) for one in terms.values()], dtype=np.float64).reshape(-1, len(TERMS)).T
        summed = np.zeros(len(terms))
        for term, column in zip(TERMS, columns, strict=True):
            summed += self._shares[term] * column
        return dict(zip(terms, summed.tolist(), strict=True))


TERMS = tuple(one.name for one in fields(RecallWeights))
_IN_ORDER = operator.itemgetter(*TERMS)


def query_words(stems: Sequence[str]) -> list[str]:
    """The stems of a query that are searched for, each once.

    English and Russian function words are left out unless there is nothing else.
    """
    every = dict.fromkeys(stems)
    return ([word for word in every if word not in function_stems()] or list(every))[:MOST_WORDS]


def match_expression(words: Sequence[str]) -> str:
    """An FTS5 expression that finds passages with any of these stems; empty if there is none.

    Every word is quoted, so that nothing a person types can act as an operator.
    """
    return " OR ".join('"' + word.replace('"', '""') + '"' for word in words)


def rarity(frequency: int, size: int) -> float:
    """How much a word that stands in `frequency` of `size` passages tells: BM25's idf as Lucene has it, above 0.

    A word that stands nowhere tells most: what shares only the common words of a question doesn't answer it.
    """
    return math.log1p((size - frequency + 0.5) / (frequency + 0.5))


@dataclass(frozen=True)
class Coverage:
    """How much of a query the candidates cover, by note.

    own: the share that a note's own words cover. beside: what those beside it add.
    """

    own: Mapping[int, float]
    beside: Mapping[int, float]

    @classmethod
    def of(cls, evidence: Evidence, before: Coverage | None = None, added: Iterable[int] = ()) -> Coverage:
        """What the evidence says; where that is known `before` some notes were added, only what these change."""
        whole = math.fsum(evidence.rarity.values())
        if whole <= 0:
            return cls({}, {})
        places = evidence.places
        near: Iterable[int] = places
        if before is None:
            before, words = cls({}, {}), evidence.words
        else:
            new = list(added)
            words = {key: evidence.words[key] for key in new if key in evidence.words}
            distances = range(-len(_BESIDE), len(_BESIDE) + 1)
            reached = [places[key] for key in new if key in places]
            touched = {(stream, place + distance) for stream, place in reached for distance in distances}
            near = {key for key, place in places.items() if place in touched}
        own = {key: math.fsum(map(evidence.rarity.__getitem__, has)) / whole for key, has in words.items()}
        return cls({**before.own, **own}, {**before.beside, **_beside(evidence, near, whole)})


def leaders(evidence: Evidence, weights: RecallWeights, coverage: Coverage | None = None) -> list[int]:
    """The best notes as far as is known without links, best first: those whose links are worth following."""
    base = _matches(evidence, weights, coverage or Coverage.of(evidence))
    return sorted(base, key=lambda key: (-base[key], key))[:LEADERS]


def score(
    evidence: Evidence,
    weights: RecallWeights,
    *,
    coverage: Coverage | None = None,
    state: Mapping[str, float] | None = None,
    tag_boosts: Mapping[str, float] | None = None,
) -> dict[int, dict[str, float]]:
    """The terms of every candidate (see RecallWeights); `weights.total` makes a score of them.

    coverage: of this evidence, where it is known already. state: of the agent now, by axis.
    tag_boosts: how welcome notes with a tag are, in [-1, 1].
    """
    coverage = coverage or Coverage.of(evidence)
    text, beside = coverage.own, coverage.beside
    links = _received(evidence.links, weights, _matches(evidence, weights, coverage)) if evidence.links else {}
    felt = {axis: value for axis, value in (state or {}).items() if value}
    presence = math.fsum(map(abs, felt.values()))
    boosts = tag_boosts or {}
    found: dict[int, dict[str, float]] = {}
    for key, cosine in evidence.vector.items():
        agreement = boost = 0.0
        if felt:
            reading = evidence.state.get(key, {})
            agreement = math.fsum(value * math.tanh(reading.get(axis, 0.0) / 2) for axis, value in felt.items())
        if boosts:
            boost = math.fsum(boosts.get(tag, 0.0) for tag in set(evidence.tags.get(key, ())))
        found[key] = {
            "text": text.get(key, 0.0),
            "vector": cosine,
            "neighbours": beside.get(key, 0.0),
            "links": links.get(key, 0.0),
            "recency": 2.0 ** (-max(evidence.age.get(key, 0.0), 0.0) / _HALF_LIFE),
            "importance": 2 * evidence.importance.get(key, 0.5) - 1,
            "congruence": agreement / max(1.0, presence),
            "tags": min(max(boost, -1.0), 1.0),
            "crowding": 0.0,
        }
    for key, better in _better_in_stream(found, evidence, weights).items():
        found[key]["crowding"] = -math.log1p(min(better, _CROWD)) / math.log1p(_CROWD)
    return found


def _beside(evidence: Evidence, keys: Iterable[int], whole: float) -> dict[int, float]:
    """What the notes beside each of these add to its own share of the query, where they add something."""
    # Only a note that has words of the query has something for those beside it.
    giving = {evidence.places[key]: words for key, words in evidence.words.items() if key in evidence.places and words}
    found: dict[int, float] = {}
    nothing: Set[str] = frozenset()
    for key in keys:
        stream, place = evidence.places[key]
        gained: dict[str, float] = {}
        has = evidence.words.get(key, nothing)
        for distance, share in enumerate(_BESIDE, 1):
            for other in (giving.get((stream, place - distance)), giving.get((stream, place + distance))):
                for word in other - has if other else nothing:
                    gained[word] = max(share, gained.get(word, 0.0))
        if gained:
            found[key] = math.fsum(evidence.rarity[word] * share for word, share in gained.items()) / whole
    return found


def _matches(evidence: Evidence, weights: RecallWeights, coverage: Coverage) -> dict[int, float]:
    """How well each note matches the query, without links or anything that isn't in the query."""
    text, beside = coverage.own, coverage.beside
    return {
        key: weights.text * text.get(key, 0.0) + weights.vector * cosine + weights.neighbours * beside.get(key, 0.0)
        for key, cosine in evidence.vector.items()
    }


def _received(given: Set[tuple[int, int]], weights: RecallWeights, base: Mapping[int, float]) -> dict[int, float]:
    """What each linked note receives over its links, in [0, 1].

    Personalised PageRank (Haveliwala 2002) over the undirected links, restarting at the leaders in
    proportion to how far each stands out from the last of them. A leader's own restart is taken off, for the
    other terms have counted it already; the rest is a share of what the best leader would pass on to its only
    neighbour, times the strength of that leader, so that a poor match passes on little.
    """
    links = {(min(link), max(link)) for link in given if link[0] != link[1]}
    if not links or not base:
        return {}
    ranked = sorted(base.values(), reverse=True)
    best, floor = ranked[0], max(ranked[LEADERS], 0.0) if len(ranked) > LEADERS else 0.0
    keys = sorted({key for link in links for key in link})
    restart = np.array([max(base.get(key, 0.0) - floor, 0.0) for key in keys])
    if best <= floor or not restart.any():
        return {}
    row = {key: place for place, key in enumerate(keys)}
    ends = np.array([(row[one], row[other]) for one, other in links])
    rank = page_rank(ends, restart / (best - floor)) - (1 - LINK_DAMPING) * restart / (best - floor)
    whole = (1 - LINK_DAMPING) * LINK_DAMPING
    most = weights.text + weights.vector
    strength = min(best / most, 1.0) if most > 0 else 1.0
    return {key: strength * min(max(float(rank[row[key]]) / whole, 0.0), 1.0) for key in keys}


def page_rank(ends: NDArray[np.int64], restart: NDArray[np.float64]) -> NDArray[np.float64]:
    """Personalised PageRank over undirected links, by power iteration; its sum is that of `restart`.

    ends: rows of the two notes of each link, (links, 2), each link once. restart: (notes,), not negative; every note
    has a link.
    """
    origin, goal = np.concatenate([ends, ends[:, ::-1]]).T
    degree = np.bincount(origin, minlength=len(restart))
    rank = restart
    for _ in range(_LINK_STEPS):
        passed = np.bincount(goal, weights=(rank / degree)[origin], minlength=len(restart))
        rank = (1 - LINK_DAMPING) * restart + LINK_DAMPING * passed
    return rank


def _better_in_stream(
    found: Mapping[int, Mapping[str, float]], evidence: Evidence, weights: RecallWeights
) -> dict[int, int]:
    """How many notes of its own stream are better than each note."""
    total = weights.totals({key: found[key] for key in evidence.places if key in found})
    before: dict[Hashable, int] = {}
    better: dict[int, int] = {}
    for key in sorted(total, key=lambda key: (-total[key], key)):
        stream = evidence.places[key][0]
        better[key] = before.get(stream, 0)
        before[stream] = better[key] + 1
    return better


@functools.cache
def function_stems() -> frozenset[str]:
    """The stems of English and Russian function words."""
    from overlay.memory.words import stems

    return frozenset(stems(_FUNCTION_WORDS))
