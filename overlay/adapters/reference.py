"""The reference: what the base model says of the texts of a training, computed once for all its steps."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from overlay.adapters.sequences import Batch, pad
from overlay.adapters.sequences import Sequence as Tokens

ROWS = 6
"""Texts that run together: enough for a steady gradient on replay texts, in a third of a step's time."""

KEPT_BYTES = 2**30
"""Base logits kept in memory; what would go beyond is computed again at each use, to the same bits."""


class Reference:
    """The base model's surprisals on examples, and its logits on replay texts, in groups of one fixed layout.

    The base never changes, so nothing is computed twice; and as a group is always laid out the same way, the
    divergence of an adapter that does nothing is exactly 0, and a resumed training sees the same bits.

    Args:
        tuned: the PEFT model; it is asked with its adapter switched off.
        replay: the replay texts, at least one.
    """

    def __init__(self, tuned: Any, replay: Sequence[Tokens], device: torch.device) -> None:
        self._tuned = tuned
        self._device = device
        # Texts of similar length share a group, and all groups are about as large.
        ordered = sorted(range(len(replay)), key=lambda index: (len(replay[index].tokens), index))
        count = -(-len(replay) // ROWS)
        edges = [len(replay) * edge // count for edge in range(count + 1)]
        self.groups: tuple[Batch, ...] = tuple(
            pad([replay[index] for index in ordered[start:stop]], device) for start, stop in itertools.pairwise(edges)
        )
        self._kept: dict[int, Tensor] = {}
        self._bytes = 0

    def surprisals(self, examples: Mapping[int, Tokens]) -> dict[int, Tensor]:
        """−ln p of each token to be predicted, nats, one array of shape (tokens,) an example."""
        found: dict[int, Tensor] = {}
        ordered = sorted(examples, key=lambda index: (len(examples[index].tokens), index))
        for start in range(0, len(ordered), ROWS):
            chosen = ordered[start : start + ROWS]
            batch = pad([examples[index] for index in chosen], self._device)
            nats = functional.cross_entropy(self._base(batch).float(), batch.answers, reduction="none")
            lengths = [int(row.sum()) for row in batch.counted]
            found.update(zip(chosen, torch.split(nats, lengths), strict=True))
        return found

    def divergence(self, group: int) -> Tensor:
        """KL(base ‖ tuned) at each counted position of a group, nats, (positions,)."""
        texts = self.groups[group]
        base = self._kept.get(group)
        if base is None:
            base = self._base(texts)
            if self._bytes + base.nbytes <= KEPT_BYTES:
                self._kept[group] = base
                self._bytes += base.nbytes
        found = counted_logits(self._tuned, texts).float().log_softmax(-1)
        return functional.kl_div(found, base.float().log_softmax(-1), reduction="none", log_target=True).sum(-1)

    @torch.no_grad()
    def whole_divergence(self) -> float:
        """Mean KL(base ‖ tuned) over all replay texts, nats per token."""
        return float(torch.cat([self.divergence(group) for group in range(len(self.groups))]).mean())

    @torch.no_grad()
    def _base(self, texts: Batch) -> Tensor:
        with self._tuned.disable_adapter():
            return counted_logits(self._tuned, texts)


def counted_logits(tuned: Any, texts: Batch) -> Tensor:
    """Logits of the positions that count, (positions, vocabulary), in the model's own number format."""
    logits: Tensor = tuned(input_ids=texts.ids, attention_mask=texts.mask).logits[:, :-1]
    return logits[texts.counted]
