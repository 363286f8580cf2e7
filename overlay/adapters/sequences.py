"""Sequences: texts as tokens, with what of them counts, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass

import torch
from torch import Tensor

from overlay.adapters.example import Example
from overlay.errors import AdapterError, ArgumentError
from overlay.model import LanguageModel


@dataclass(frozen=True)
class Sequence:
    """Tokens of one text.

    Attributes:
        prompt: how many of the first tokens are only read; the others are to be predicted.
        exempt: for each token to be predicted, whether it lies in what was declared as the thing to be learned.
    """

    tokens: tuple[int, ...]
    prompt: int
    exempt: tuple[bool, ...]


@dataclass(frozen=True)
class Batch:
    """Padded tokens (rows, tokens), their mask, and which positions predict a token that counts (rows, tokens - 1).

    What a selection by `counted` holds stands row by row, in the order of each row's tokens.
    """

    ids: Tensor
    mask: Tensor
    counted: Tensor

    @property
    def answers(self) -> Tensor:
        """The tokens that count, (counted,)."""
        return self.ids[:, 1:][self.counted]


def encode(model: LanguageModel, example: Example, *, whole: bool = False) -> Sequence:
    """An example as tokens, encoded as `score` encodes a prompt and its option; with `whole`, all of it is exempt.

    Raises:
        AdapterError: the example has spans, and the tokenizer doesn't say where its tokens lie.
        ArgumentError: nothing stands before its only token.
    """
    spans = ((0, len(example.target)),) if whole else example.spans
    if spans and not whole and not model.tokenizer.is_fast:
        raise AdapterError(
            f"the tokenizer of '{model.name}' doesn't say where its tokens lie, so no span can be found",
            "write `exempt: targets` into the recipe",
        )
    locate = bool(spans) and not whole
    target = model.tokenizer(example.target, add_special_tokens=not example.prompt, return_offsets_mapping=locate)
    own = list(target["input_ids"])
    if locate:
        exempt = [any(begin < stop and start < end for start, stop in spans) for begin, end in target["offset_mapping"]]
    else:
        exempt = [whole] * len(own)
    if example.prompt:
        head = list(model.tokenizer(example.prompt)["input_ids"])
        return Sequence((*head, *own), len(head), tuple(exempt))
    # The first token has nothing before it to be predicted from.
    if len(own) < 2:
        raise ArgumentError(f"{example.target!r} is too short to be learned from", "write a longer text")
    return Sequence(tuple(own), 1, tuple(exempt[1:]))


def pad(sequences: Several[Sequence], device: torch.device) -> Batch:
    """Right-padded: with causal attention nothing sees the padding, and positions count from 0."""
    longest = max(len(sequence.tokens) for sequence in sequences)
    ids = torch.zeros((len(sequences), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    counted = torch.zeros((len(sequences), longest - 1), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        length = len(sequence.tokens)
        ids[row, :length] = torch.tensor(sequence.tokens)
        mask[row, :length] = 1
        counted[row, sequence.prompt - 1 : length - 1] = True
    return Batch(ids.to(device), mask.to(device), counted.to(device))
