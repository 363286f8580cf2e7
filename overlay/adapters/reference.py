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
        module: the model. Only `divergence` is asked for while an adapter acts on it.
        replay: the replay texts; they may be none.
    """

    def __init__(self, module: Any, replay: Sequence[Tokens], device: torch.device) -> None:
        self._module = module
        self._device = device
        # Texts of similar length share a group, and all groups are about as large.
        ordered = sorted(range(len(replay)), key=lambda index: (len(replay[index].tokens), index))
        count = -(-len(replay) // ROWS)
        edges = [len(replay) * edge // count for edge in range(count + 1)] if replay else []
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

    def expected(self, group: int) -> Tensor:
        """The base's logits at the counted positions of a group, (positions, vocabulary); no adapter may act now."""
        base = self._kept.get(group)
        if base is None:
            base = self._base(self.groups[group])
            if self._bytes + base.nbytes <= KEPT_BYTES:
                self._kept[group] = base
                self._bytes += base.nbytes
        return base

    def divergence(self, group: int, base: Tensor) -> Tensor:
        """KL(base ‖ tuned) at each counted position of a group, nats, (positions,), of what acts on the model now.

        `base` is what `expected` gave.
        """
        found = counted_logits(self._module, self.groups[group]).float().log_softmax(-1)
        return functional.kl_div(found, base.float().log_softmax(-1), reduction="none", log_target=True).sum(-1)

    @torch.no_grad()
    def _base(self, texts: Batch) -> Tensor:
        return counted_logits(self._module, texts)


def counted_logits(module: Any, texts: Batch) -> Tensor:
    """Logits of the positions that count, (positions, vocabulary), in the model's own number format."""
    logits: Tensor = module(input_ids=texts.ids, attention_mask=texts.mask).logits[:, :-1]
    return logits[texts.counted]
