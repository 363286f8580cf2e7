"""The order of batches: shuffled, decided by a seed alone, and able to go on from where it was."""

from __future__ import annotations

import torch
from torch import Tensor


class BatchOrder:
    """Endless batches of indexes: each item comes once before any comes again.

    Its random numbers are its own, so nothing else that draws some can change the order.
    """

    def __init__(self, items: int, size: int, seed: int) -> None:
        self._items = items
        self._size = min(size, items)
        self._random = torch.Generator().manual_seed(seed)
        self._waiting: list[int] = []

    def next(self) -> list[int]:
        """The indexes of the next batch."""
        while len(self._waiting) < self._size:
            self._waiting += torch.randperm(self._items, generator=self._random).tolist()
        batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
        return batch

    def state(self) -> tuple[Tensor, list[int]]:
        """The state of the random numbers, and the indexes that wait: `restore` goes on from there."""
        return self._random.get_state(), list(self._waiting)

    def restore(self, random: Tensor, waiting: list[int]) -> None:
        """Go on from a state that `state` gave."""
        self._random.set_state(random)
        self._waiting = list(waiting)
