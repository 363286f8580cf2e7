"""Sampling that a row can't share: Gumbel-max noise keyed by (row seed, step, token).

With noise from a counter-based generator, the sampled token is a pure function of the row's own
logits and seed, so batch mates can't change it (Gumbel-max trick: argmax(logits + Gumbel noise)
is a draw from softmax(logits); Maddison et al. 2014, arXiv 1411.0030).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from overlay.model.row import Sampling

# splitmix64 (Steele, Lea and Flood 2014), as signed 64-bit numbers.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _MIX_1
    value = (value ^ _shift(value, 27)) * _MIX_2
    return value ^ _shift(value, 31)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own keeps the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def gumbel_noise(seeds: Tensor, step: int, vocabulary: int) -> Tensor:
    """Standard Gumbel noise, (rows, vocabulary) float32, from `seeds` (rows,) int64 and the step."""
    tokens = torch.arange(vocabulary, device=seeds.device)
    keys = _mix(_mix(seeds + _GOLDEN) + _mix(torch.tensor(step, device=seeds.device) + _MIX_2))
    bits = _shift(_mix(keys[:, None] ^ (tokens[None, :] * _GOLDEN)), 40)
    # 24 random bits, centred in their cell: never exactly 0 or 1.
    uniform = (bits.double() + 0.5) / 2**24
    return -torch.log(-torch.log(uniform)).float()


class RowSampler(LogitsProcessor):
    """Applies each row's temperature and top-p, then adds the row's own noise: greedy choice samples.

    Rows of temperature 0 pass unchanged. `prompt_width` is the padded length of the prompts.
    """

    def __init__(self, samplings: Sequence[Sampling], seeds: Sequence[int], prompt_width: int) -> None:
        self._samplings = list(samplings)
        self._seeds = list(seeds)
        self._prompt_width = prompt_width
        self._sampled = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not self._sampled:
            return scores
        rows = torch.tensor(self._sampled, device=scores.device)
        seeds = torch.tensor([self._seeds[row] for row in self._sampled], device=scores.device)
        heat = torch.tensor([[self._samplings[row].temperature] for row in self._sampled], device=scores.device)
        chosen = scores[rows].float() / heat
        for index, row in enumerate(self._sampled):
            if self._samplings[row].top_p < 1:
                chosen[index] = _keep_nucleus(chosen[index], self._samplings[row].top_p)
        step = input_ids.shape[1] - self._prompt_width
        scores = scores.float().clone()
        scores[rows] = chosen + gumbel_noise(seeds, step, scores.shape[1])
        return scores


def _keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Everything outside the smallest set of tokens whose probability reaches `top_p` becomes -inf."""
    ordered, order = logits.softmax(-1).sort(descending=True)
    outside = order[ordered.cumsum(-1) - ordered >= top_p]
    return logits.index_fill(0, outside, -torch.inf)
