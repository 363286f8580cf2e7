"""Doses as hooks written by hand, position by position: what the engine's own are compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from overlay.model import Dose, Positions, When


def bent(hidden: torch.Tensor, given: Dose, block: int, turn_start: int, generated_start: int) -> torch.Tensor:
    """(1, tokens, width) with the dose applied as its definition says, position by position."""
    norm = float(given.direction.norms[block])
    vector = torch.tensor(given.direction.vectors[block])
    hidden = hidden.clone()
    for position in range(hidden.shape[1]):
        along = float(hidden[0, position] @ vector)
        if isinstance(given.span, Positions):
            acts = position in given.span.within(generated_start)
        else:
            stretch = given.span.within if isinstance(given.span, When) else given.span
            acts = position >= {"all": 0, "turn": turn_start, "generated": generated_start}[stretch]
            if isinstance(given.span, When):
                acts = acts and given.span.above < along / norm < given.span.below
        if acts and given.operator == "add":
            hidden[0, position] += given.coefficient * norm * vector
        elif acts:
            hidden[0, position] += given.coefficient * (given.target * norm - along) * vector
    return hidden


@contextlib.contextmanager
def by_hand(model: Any, given: Dose, turn_start: int, generated_start: int) -> Iterator[None]:
    def hook(block: int) -> Any:
        def bend(module: Any, args: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = bent(hidden, given, block, turn_start, generated_start)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return bend

    handles = [model.blocks.modules[block].register_forward_hook(hook(block)) for block in given.blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
