"""Settings of a memory: the `memory:` block of agent.yaml."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field, field_validator

from overlay.documents import Document
from overlay.memory.passages import PASSAGE_OVERLAP, PASSAGE_WORDS
from overlay.memory.recall import RecallWeights

# Below so many passages recall compares the query with all vectors instead of asking the index. A scan of 50,000
# takes as long as a search of the index that finds 98% of the ten nearest, and finds all; they take 1.5 kB each in
# the memory of the process.
EXACT_BELOW = 60_000

# A score that a note about something else reaches easily: such notes would only mislead.
MINIMUM_SCORE = 0.1

_SERVER = re.compile(r"https?://[^/\s?#@]+/?")


class MemorySettings(Document):
    """How a memory stores and recalls.

    index: "embedded", or the URL of a Chroma server.
    weights: how much each term of a score counts; those left out keep their defaults.
    exact_below: so many passages are compared one by one, without the index.
    minimum_score: a note with less isn't recalled.
    reranker: a cross-encoder, by folder or name, that reads the best notes once more; None for none.
    reranker_weight: how much its term counts.
    passage_words: the longest passage; longer texts are divided. passage_overlap: sentences that
        neighbouring passages share.
    """

    index: str = "embedded"
    weights: RecallWeights = RecallWeights()
    exact_below: Annotated[int, Field(ge=0, le=1_000_000)] = EXACT_BELOW
    minimum_score: Annotated[float, Field(ge=-10, le=10)] = MINIMUM_SCORE
    reranker: Annotated[str, Field(min_length=1)] | None = None
    reranker_weight: Annotated[float, Field(ge=0, le=10)] = 1.0
    passage_words: Annotated[int, Field(ge=8, le=4_000)] = PASSAGE_WORDS
    passage_overlap: Annotated[int, Field(ge=0, le=10)] = PASSAGE_OVERLAP

    @field_validator("index")
    @classmethod
    def _check_index(cls, index: str) -> str:
        if index != "embedded" and not _SERVER.fullmatch(index):
            raise ValueError('neither "embedded" nor a server such as "http://localhost:8000"')
        return index

    @field_validator("weights", mode="before")
    @classmethod
    def _check_weights(cls, weights: Any) -> Any:
        if not isinstance(weights, dict):
            return weights
        known = [field.name for field in fields(RecallWeights)]
        for name, weight in weights.items():
            if name not in known:
                raise ValueError(f"'{name}' is no term of a score; there are {', '.join(known)}")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 10:
                raise ValueError(f"{name} is {weight!r}, not a number from 0 to 10")
        return weights
