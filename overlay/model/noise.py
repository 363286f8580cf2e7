"""Sampling that a row can't share: Gumbel-max noise keyed by (row seed, step, token).

With noise from a counter-based generator, the sampled token is a pure function of the row's own
logits and seed, so batch mates can't change it (Gumbel-max trick: argmax(logits + Gumbel noise)
is a draw from softmax(logits); Maddison et al. 2014, arXiv 1411.0030).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from overlay.model.row import Sampling

# splitmix64 (Steele, Lea and Flood 2014) makes two 32-bit keys of a row's seed and step; a 32-bit finaliser
# (after Wellons 2018, "lowbias32") with these keys makes each token's bits. 32-bit numbers, in place: a step of
# 32 rows takes a tenth of the time that 64-bit ones take.
_MASK_64 = 2**64 - 1
_BITS = 23
"""Random bits of a token; with them (bits + 1/2) / 2**23 is exact in float32 and never 0 or 1."""


def _mix_64(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return value ^ (value >> 31)


def _signed_32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - 2**32 if value >= 2**31 else value


def _fold(bits: Tensor, shift: int) -> None:
    """bits ^= bits >>> shift, in place; torch's own shift keeps the sign."""
    bits ^= (bits >> shift) & ((1 << (32 - shift)) - 1)


def gumbel_noise(seeds: Sequence[int], steps: Sequence[int], vocabulary: int, device: torch.device) -> Tensor:
    """Standard Gumbel noise, (rows, vocabulary) float32, from each row's seed and step."""
    keys = [_mix_64(_mix_64(seed + 0x9E3779B97F4A7C15) ^ step) for seed, step in zip(seeds, steps, strict=True)]
    offsets = torch.tensor([[_signed_32(key)] for key in keys], dtype=torch.int32, device=device)
    factors = torch.tensor([[_signed_32((key >> 32) | 1)] for key in keys], dtype=torch.int32, device=device)
    bits = torch.arange(vocabulary, dtype=torch.int32, device=device) * _signed_32(0x9E3779B1) + offsets
    _fold(bits, 16)
    bits *= factors
    _fold(bits, 15)
    bits *= _signed_32(0x7FEB352D)
    _fold(bits, 15)
    bits *= _signed_32(0x846CA68B)
    _fold(bits, 16)
    uniform = (bits & (2**_BITS - 1)).float().add_(0.5).mul_(0.5**_BITS)
    noise: Tensor = uniform.log_().neg_().log_().neg_()
    return noise


class RowSampler:
    """Applies each row's temperature and top-p, then adds the row's own noise: greedy choice samples.

    Rows of temperature 0 pass unchanged.
    """

    def __init__(self, samplings: Sequence[Sampling], seeds: Sequence[int]) -> None:
        self._samplings = list(samplings)
        self._seeds = list(seeds)
        self._sampled = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]

    def apply(self, scores: Tensor, steps: Sequence[int]) -> Tensor:
        """Scores (rows, vocabulary), float32, whose argmax is each row's choice at its step."""
        if not self._sampled:
            return scores
        rows = self._sampled
        heat = torch.tensor([[self._samplings[row].temperature] for row in rows], device=scores.device)
        chosen = scores[rows] / heat
        shares = torch.tensor([[self._samplings[row].top_p] for row in rows], device=scores.device)
        if bool((shares < 1).any()):
            chosen = _keep_nuclei(chosen, shares)
        chosen += gumbel_noise(
            [self._seeds[row] for row in rows], [steps[row] for row in rows], scores.shape[1], scores.device
        )
        if len(rows) == len(scores):
            return chosen
        scores = scores.clone()
        scores[rows] = chosen
        return scores


def _keep_nuclei(logits: Tensor, shares: Tensor) -> Tensor:
    """Everything outside each row's smallest set of tokens whose probability reaches its share becomes -inf."""
    likely = logits.softmax(-1)
    # Sorting a whole vocabulary takes longer than the model's own step: most nuclei are small.
    for largest in (256, logits.shape[1]):
        ordered = likely.topk(min(largest, logits.shape[1]), dim=-1).values
        before = ordered.cumsum(-1) - ordered
        if bool(((before[:, -1:] + ordered[:, -1:] >= shares) | (shares >= 1)).all()):
            break
    inside = (before < shares).sum(-1, keepdim=True)
    rarest = ordered.gather(-1, inside - 1)
    return logits.masked_fill((likely < rarest) & (shares < 1), -torch.inf)
