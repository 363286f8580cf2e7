"""Proposals: every edit of a text that the kinds know, for the tokenizer and the embeddings of one model."""

from __future__ import annotations

from dataclasses import dataclass

from overlay.adapters.microvariants.continuation import continuations
from overlay.adapters.microvariants.contraction import contractions
from overlay.adapters.microvariants.edit import Edit, content_words, ending_of
from overlay.adapters.microvariants.hedge import hedges
from overlay.adapters.microvariants.json_form import json_forms
from overlay.adapters.microvariants.marking import (
    ANCHORS,
    SHIFTS,
    anchors,
    marked_words,
    shifts,
    single_pairs,
    single_tokens,
)
from overlay.adapters.microvariants.neighbour import Neighbourhood
from overlay.adapters.microvariants.number_word import number_words
from overlay.adapters.microvariants.omission import omissions
from overlay.adapters.microvariants.punctuation import repunctuations
from overlay.adapters.microvariants.summary import summaries
from overlay.adapters.microvariants.synonym import synonyms
from overlay.adapters.microvariants.word_order import reorderings
from overlay.model import LanguageModel, Row, Sampling

ARROWS = ("→", "->", "=>")
LIKELY = 6
"""How many of the model's own next words are proposed as a continuation."""

LIKELY_TOKENS = 10
"""Tokens that may follow until a word that carries a topic is complete; longer ones are left out."""


@dataclass(frozen=True)
class Kind:
    """One kind of edit.

    Attributes:
        most_tokens: how many tokens an edit may touch; None where the kind is made of more.
        by_words: it replaces or moves whole words, so the limit holds only where tokens are whole words.
    """

    name: str
    most_tokens: int | None = None
    by_words: bool = False


KINDS = (
    Kind("marked_word", 2),
    Kind("anchor", 2),
    Kind("shift", 2),
    Kind("summary"),
    Kind("dropped"),
    Kind("json"),
    Kind("synonym", 2, by_words=True),
    Kind("word_order"),
    Kind("neighbour", 2),
    Kind("continuation"),
    Kind("punctuation", 2),
    Kind("contraction", 2, by_words=True),
    Kind("number", 2, by_words=True),
    Kind("hedge"),
)


class Proposer:
    """Proposes edits of texts; what depends on the model alone is worked out once."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._pairs = single_pairs(model.tokenizer)
        self._anchors = single_tokens(model.tokenizer, ANCHORS)
        self._shifts = single_tokens(model.tokenizer, SHIFTS)
        self._arrows = single_tokens(model.tokenizer, ARROWS) or (">",)
        self._neighbours = Neighbourhood(model)

    def edits(self, text: str) -> dict[str, list[Edit]]:
        """Edits by kind, in the order of KINDS; no two give the same text, and none gives the text itself."""
        proposed = {
            "marked_word": marked_words(text, self._pairs),
            "anchor": anchors(text, self._anchors),
            "shift": shifts(text, self._shifts),
            "summary": summaries(text, self._arrows),
            "dropped": omissions(text),
            "json": json_forms(text),
            "synonym": synonyms(text),
            "word_order": reorderings(text),
            "neighbour": self._neighbours.edits(text),
            "continuation": continuations(text, self._likely(text)),
            "punctuation": repunctuations(text),
            "contraction": contractions(text),
            "number": number_words(text),
            "hedge": hedges(text),
        }
        seen = {text, ""}
        found: dict[str, list[Edit]] = {}
        for kind in KINDS:
            kept = [edit for edit in proposed[kind.name] if edit.text.strip()]
            found[kind.name] = [edit for edit in kept if not (edit.text in seen or seen.add(edit.text))]  # type: ignore[func-returns-value]
        return found

    def _likely(self, text: str) -> list[str]:
        """What the model would go on with behind the text's last word: its likeliest next words, greedily completed."""
        stem = text[: ending_of(text)]
        ids = self.model.encode(Row(text=stem)).tokens
        if not ids:
            return []
        ((_, logits),) = self.model.logits([ids], [Row(text=stem)], last=1)
        order = logits[-1].argsort(descending=True)[: 20 * LIKELY].tolist()
        written = {token: self.model.tokenizer.decode([token]) for token in order}
        begun = [token for token in order if written[token][:1] == " " and written[token][1:].isalpha()][:LIKELY]
        rows = [Row(text=stem + written[token], sampling=Sampling(max_tokens=LIKELY_TOKENS)) for token in begun]
        done = self.model.generate(rows)
        tails = [_first_topic(self.model.decode([token, *one.tokens])) for token, one in zip(begun, done, strict=True)]
        return list(dict.fromkeys(tail for tail in tails if tail))


def _first_topic(written: str) -> str:
    """Words up to the first that carries a topic, so that no sentence ends with an article; nothing without one."""
    words = content_words(written)
    # The last word may have been cut off.
    return written[: words[0].end()] if words and words[0].end() < len(written) else ""
