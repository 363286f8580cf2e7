"""Recall: how the terms of a score come about. Pure functions of their inputs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import networkx as nx

from overlay.memory.note import Note

# How many of the best notes by text, and by vector, are scored. Far more than are ever returned,
# so that a note which is middling by both still meets itself.
CANDIDATES = 100

# Links are followed this far from a candidate: what is three steps away is about something else.
LINK_HOPS = 2

# The share of a note's rank that passes on over its links; HippoRAG (arXiv:2405.14831) uses one half.
LINK_DAMPING = 0.5

# SQLite gives a word that more than half of the notes contain the weight 1e-6: a best hit below
# this limit shares only such words with the query, and must not count as a full hit.
COMMON_WORDS_ONLY = 1e-3

# In a handful of notes every word is common, and the limit above would silence the text.
HANDFUL = 8

# Words of a query that are searched for; SQLite refuses endless expressions, and nobody asks so much.
MOST_WORDS = 256


@dataclass(frozen=True)
class RecallWeights:
    """How much each term counts; a score is the weighted sum of the terms.

    text: full-text match (BM25 with stemming), as a share of the best hit of this query, in [0, 1].
    vector: cosine between query and note, in [-1, 1].
    links: what a note receives over links from notes that match (personalised PageRank), in [0, 1].

    Text and vector count alike because half and half was the best mix on held-out conversations;
    the weight of links is a modest default that no measurement has tuned.
    """

    text: float = 0.5
    vector: float = 0.5
    links: float = 0.3

    def score(self, terms: Mapping[str, float]) -> float:
        """The weighted sum of the terms."""
        return self.text * terms["text"] + self.vector * terms["vector"] + self.links * terms["links"]


@dataclass(frozen=True)
class Recalled:
    """A note, its score, and the terms ("text", "vector", "links") that the score is the weighted sum of."""

    note: Note
    score: float
    terms: Mapping[str, float]


def match_expression(query: str) -> str:
    """An FTS5 expression that finds notes with any word of `query`; empty if it has no word.

    Every word is quoted, so that nothing a person types can act as an operator. English function
    words are left out unless there is nothing else: in a small memory they are rare enough to win.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    every = dict.fromkeys(re.findall(r"\w+", query))
    words = [word for word in every if word.lower() not in ENGLISH_STOP_WORDS] or every
    return " OR ".join(f'"{word}"' for word in list(words)[:MOST_WORDS])


def text_shares(hits: Mapping[int, float], notes: int) -> dict[int, float]:
    """BM25 values as shares of the best one, in [0, 1]; `notes` is the size of the memory."""
    best = max(hits.values(), default=0.0)
    if notes >= HANDFUL:
        best = max(best, COMMON_WORDS_ONLY)
    return {key: max(value, 0.0) / best for key, value in hits.items()} if best > 0 else {}


def link_shares(links: Iterable[tuple[int, int]], seeds: Mapping[int, float]) -> dict[int, float]:
    """What each linked note receives over its links, in [0, 1].

    Personalised PageRank (Haveliwala 2002) over the undirected links, restarting at the seeds in
    proportion to their strength, in [0, 1]. A seed's own restart is taken off, for the text and
    vector terms have counted it already; the rest is a share of the highest rank, times the
    strength of the strongest linked seed, so that weak seeds pass on little.
    """
    graph: nx.Graph[int] = nx.Graph((one, other) for one, other in links if one != other)
    restart = {key: strength for key, strength in seeds.items() if key in graph and strength > 0}
    if not restart:
        return {}
    rank = nx.pagerank(graph, alpha=LINK_DAMPING, personalization=restart)
    total, strongest, highest = sum(restart.values()), max(restart.values()), max(rank.values())
    received = {key: rank[key] - (1 - LINK_DAMPING) * restart.get(key, 0.0) / total for key in graph}
    return {key: strongest * max(share, 0.0) / highest for key, share in received.items()}
