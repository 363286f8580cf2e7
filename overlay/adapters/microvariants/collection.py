"""The collection: the variants of one text that stay within a volatility budget, and how every kind fared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from overlay.adapters.microvariants.divergence import (
    Divergence,
    Reading,
    compare,
    edited_tokens,
    pieces_of,
    probe_for,
    read,
)
from overlay.adapters.microvariants.edit import Edit
from overlay.adapters.microvariants.proposal import KINDS, Kind, Proposer
from overlay.errors import ArgumentError
from overlay.model import LanguageModel, Row

BUDGET = 0.6
"""Nats per token that a variant may move what follows. On the embedded model the median summary costs .57, a marked
word .09, a shift marker .16: these pass; a JSON form (1.0) and a dropped last word (.71) pass only where mild."""

COUNT = 50

ROUND = 5
"""Edits of a kind measured at a time: kinds that offer hundreds must not crowd out the others."""

RESERVE = 0.01
"""Share of the budget kept back, so that the same sums in another order don't land above it."""

WHOLE_WORDS = 2.0
"""Tokens per word above which a tokenizer spells this text's words in pieces: no word can be replaced in two then."""


@dataclass(frozen=True)
class Variant:
    """An accepted edit, and how far it moves the model from the text."""

    edit: Edit
    divergence: Divergence


@dataclass
class Yield:
    """How one kind fared on a text.

    Attributes:
        proposed: edits looked at. accepted: those within all limits. refused: reasons, and how often each.
    """

    proposed: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Collection:
    """A text's accepted variants, kinds mixed, and the yields of all that was looked at for them."""

    text: str
    probe: str
    budget: float
    variants: tuple[Variant, ...]
    yields: dict[str, Yield]


def collect(
    model: LanguageModel,
    text: str,
    *,
    budget: float = BUDGET,
    count: int = COUNT,
    proposer: Proposer | None = None,
) -> Collection:
    """Find up to `count` variants of a text within `budget` nats per token; fewer where the kinds give no more.

    Args:
        proposer: keep one for many texts on one model.

    Raises:
        ArgumentError: the text is empty, or budget or count isn't above 0.
    """
    if not text.strip() or not budget > 0 or count < 1:
        raise ArgumentError(
            f"{count} variants within {budget} nats of {text[:40]!r}",
            "give some text, and a budget and a count above 0",
        )
    proposer = proposer or Proposer(model)
    probe = probe_for(text)
    ((_, original),) = read(model, [text], probe)
    whole_words = len(original.ids) <= WHOLE_WORDS * len(text.split())
    waiting = {kind: _spread(edits) for kind, edits in proposer.edits(text).items()}
    yields = {kind.name: Yield() for kind in KINDS}
    accepted: dict[str, list[Variant]] = {kind.name: [] for kind in KINDS}
    while any(waiting.values()) and sum(map(len, accepted.values())) < count:
        chosen: list[Edit] = []
        for kind in KINDS:
            allowed = _allowed(kind, whole_words)
            taken = 0
            while waiting[kind.name] and taken < ROUND:
                edit = waiting[kind.name].pop(0)
                yields[kind.name].proposed += 1
                pieces = pieces_of(model, model.encode(Row(text=edit.text)).tokens)
                if allowed is not None and edited_tokens(original.pieces, pieces) > allowed:
                    yields[kind.name].refused[f"more than {allowed} tokens"] += 1
                else:
                    chosen.append(edit)
                    taken += 1
        for edit, found in zip(chosen, _measured(model, original, chosen, probe), strict=True):
            reason = _over(found, budget * (1 - RESERVE))
            if reason:
                yields[edit.kind].refused[reason] += 1
            else:
                yields[edit.kind].accepted += 1
                accepted[edit.kind].append(Variant(edit, found))
    return Collection(text, probe, budget, tuple(_mixed(accepted)[:count]), yields)


def _measured(model: LanguageModel, original: Reading, edits: list[Edit], probe: str) -> list[Divergence]:
    found: dict[int, Divergence] = {}
    for index, reading in read(model, [edit.text for edit in edits], probe):
        found[index] = compare(original, reading)
    return [found[index] for index in range(len(edits))]


def _allowed(kind: Kind, whole_words: bool) -> int | None:
    return None if kind.by_words and not whole_words else kind.most_tokens


def _over(found: Divergence, budget: float) -> str:
    over = [name for name, cost in (("aligned", found.aligned), ("probe", found.probe)) if cost > budget]
    return " and ".join(over) + " over the budget" if over else ""


def _spread(edits: list[Edit]) -> list[Edit]:
    """The same edits in a fixed order in which neighbours come far apart: steps of the golden section."""
    order = sorted(range(len(edits)), key=lambda place: place * 0.6180339887498949 % 1)
    return [edits[place] for place in order]


def _mixed(accepted: dict[str, list[Variant]]) -> list[Variant]:
    """One of each kind in turn, so that a count holds as many kinds as there are."""
    found: list[Variant] = []
    for place in range(max(map(len, accepted.values()))):
        found += [variants[place] for variants in accepted.values() if place < len(variants)]
    return found
