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


class GumbelNoise:
    """Standard Gumbel noise from each row's seed and step; its buffers are used again from step to step.

    Allocating them anew at every step took as long as filling them.
    """

    def __init__(self, rows: int, vocabulary: int, device: torch.device) -> None:
        self._tokens = torch.arange(vocabulary, dtype=torch.int32, device=device) * _signed_32(0x9E3779B1)
        self._bits = torch.empty(rows, vocabulary, dtype=torch.int32, device=device)
        self._spare = torch.empty_like(self._bits)
        self._noise = torch.empty(rows, vocabulary, device=device)

    def draw(self, seeds: Sequence[int], steps: Sequence[int]) -> Tensor:
        """(rows, vocabulary) float32, valid until the next draw."""
        keys = [_mix_64(_mix_64(seed + 0x9E3779B97F4A7C15) ^ step) for seed, step in zip(seeds, steps, strict=True)]
        bits, device = self._bits, self._bits.device
        offsets = torch.tensor([[_signed_32(key)] for key in keys], dtype=torch.int32, device=device)
        factors = torch.tensor([[_signed_32((key >> 32) | 1)] for key in keys], dtype=torch.int32, device=device)
        torch.add(self._tokens, offsets, out=bits)
        self._fold(16)
        bits *= factors
        self._fold(15)
        bits *= _signed_32(0x7FEB352D)
        self._fold(15)
        bits *= _signed_32(0x846CA68B)
        self._fold(16)
        bits &= 2**_BITS - 1
        self._noise.copy_(bits).add_(0.5).mul_(0.5**_BITS)
        return self._noise.log_().neg_().log_().neg_()

    def _fold(self, shift: int) -> None:
        """bits ^= bits >>> shift; torch's own shift keeps the sign."""
        torch.bitwise_right_shift(self._bits, shift, out=self._spare)
        self._spare &= (1 << (32 - shift)) - 1
        self._bits ^= self._spare


class RowSampler:
    """Applies each row's temperature and top-p, then adds the row's own noise: greedy choice samples.

    Rows of temperature 0 pass unchanged.
    """

    def __init__(self, samplings: Sequence[Sampling], seeds: Sequence[int]) -> None:
        self._samplings = list(samplings)
        self._seeds = list(seeds)
        self._sampled = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
        self._noise: GumbelNoise | None = None

    def apply(self, scores: Tensor, steps: Sequence[int]) -> Tensor:
        """Scores (rows, vocabulary), float32, whose argmax is each row's choice at its step."""
        if not self._sampled:
            return scores
        rows = self._sampled
        heat = torch.tensor([[self._samplings[row].temperature] for row in rows], device=scores.device)
        chosen = (scores if len(rows) == len(scores) else scores[rows]) / heat
        shares = torch.tensor([[self._samplings[row].top_p] for row in rows], device=scores.device)
        if bool((shares < 1).any()):
            chosen = _keep_nuclei(chosen, shares)
        if self._noise is None:
            self._noise = GumbelNoise(len(rows), scores.shape[1], scores.device)
        chosen += self._noise.draw([self._seeds[row] for row in rows], [steps[row] for row in rows])
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
