"""Chat cost: the volatility of any treatment, prompts included, on neutral texts that stand as replies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from overlay.model import Intervention, Positions, Row, Treatment, Volatility, neutral_texts

if TYPE_CHECKING:
    from torch import Tensor

    from overlay.model import LanguageModel

QUERY = "Write a sentence or two about something that happened."
"""What the neutral texts stand as a reply to: a prompt can only be compared where its place is the same in base."""


class ChatGauge:
    """KL(base ‖ treated), nats per token, over the positions of neutral texts as replies to one and the same query.

    Only what a treatment says or does differs: base has the same system message and the same query.
    """

    def __init__(self, model: LanguageModel, base: Treatment, texts: Sequence[str] | None = None) -> None:
        self._model = model
        self._texts = tuple(texts or neutral_texts())
        self._base = dict(self._likelihoods(base))

    def measure(self, treatment: Treatment) -> Volatility:
        """Volatility of one treatment: mean and 95th percentile."""
        found = []
        for index, likely in self._likelihoods(treatment):
            base = self._base[index]
            # Rounding can leave a difference of a few 1e-7 below zero where nothing changed.
            found.append((base.exp() * (base - likely)).sum(-1).clamp(min=0).cpu().numpy())
        kl = np.concatenate(found)
        return Volatility(float(kl.mean()), float(np.quantile(kl, 0.95)))

    def _likelihoods(self, treatment: Treatment) -> Iterator[tuple[int, Tensor]]:
        """By text: log-probabilities (tokens, vocabulary) of what each of its tokens was drawn from."""
        row = treatment.row(QUERY, chat=True)
        prompt = self._model.encode(row)
        replies = [self._model.tokenize(text) for text in self._texts]
        tokens = [(*prompt.tokens, *reply) for reply in replies]
        rows = [_from(row, prompt.turn_start, len(one)) for one in tokens]
        longest = max(map(len, replies))
        for index, logits in self._model.logits(tokens, rows, last=longest + 1):
            yield index, logits[-len(replies[index]) - 1 : -1].log_softmax(-1)


def _from(row: Row, start: int, end: int) -> Row:
    """The same row, where what acts from the current turn on is said in positions: bare tokens have no turns."""
    places = Positions(tuple(range(start, end)))
    doses = tuple(replace(dose, span=places) if dose.span == "turn" else dose for dose in row.intervention.doses)
    changed: Intervention = replace(row.intervention, doses=doses)
    return replace(row, intervention=changed)
