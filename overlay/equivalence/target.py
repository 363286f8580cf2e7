"""Targets: what a treatment writes after queries, token by token, and how far a prompt is from it there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from overlay.equivalence.prompt import NO_PROMPT, Prompt, require_forcible
from overlay.errors import ArgumentError
from overlay.model import LanguageModel, Row, Sampling, Treatment

AT_ONCE = 16
"""Rows between two reports of progress."""

DRAW_SEEDS = 10_007
"""Seeds of one draw; a prime, so that no query of one draw shares its noise with a query of another by design."""


@dataclass(frozen=True)
class Sample:
    """What the treated model wrote after one query.

    Attributes:
        query: the query's place. draw: which sampling it belongs to.
        ended: whether the model ended it by itself; that it stopped here counts as one more position.
    """

    query: int
    draw: int
    tokens: tuple[int, ...]
    ended: bool

    @property
    def positions(self) -> int:
        """How many next-token distributions are compared."""
        return len(self.tokens) + self.ended


@dataclass(frozen=True, eq=False)
class Divergence:
    """How far a prompt is from the treatment on one sample, nats at each position, (positions,).

    kl: KL(treated ‖ prompted). js: the Jensen-Shannon divergence, at most ln 2.
    """

    kl: NDArray[np.float64]
    js: NDArray[np.float64]


Pair = tuple[Prompt, Sample]


class Target:
    """One treatment on one set of queries: samples of what it writes and, for each, its own distributions.

    The sum of KL over a sample's positions estimates KL between the two distributions over whole continuations
    (the chain rule, the sum over each next token taken exactly).

    Args:
        chat: whether the queries are a user's messages.
        draws: how many samples a query; draw 0 is for choosing by, the others for measuring.
        length: tokens of a sample at most.

    Raises:
        InterventionError: the treatment can't be read along a given text.
    """

    def __init__(
        self,
        model: LanguageModel,
        treatment: Treatment,
        queries: Sequence[str],
        *,
        chat: bool,
        draws: int,
        length: int,
        seed: int = 0,
        samples: Sequence[Sample] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        require_forcible(treatment)
        if not queries:
            raise ArgumentError("there are no queries", "give some")
        self.model = model
        self.treatment = treatment
        self.queries = tuple(queries)
        # A prompt that is to be imitated decides the form: as plain text it would stand in no system message.
        self.chat = chat or bool(treatment.before)
        self.samples = tuple(samples) if samples is not None else self._written(draws, length, seed, progress)
        self._likely = {
            (sample.query, sample.draw): likely
            for sample, likely in zip(self.samples, self._distributions(self._treated_pairs()), strict=True)
        }
        self.base = dict(zip(self._likely, self.measure([(NO_PROMPT, sample) for sample in self.samples]), strict=True))

    def of(self, queries: Sequence[int], draws: Sequence[int]) -> tuple[Sample, ...]:
        """The samples of these queries in these draws."""
        return tuple(one for one in self.samples if one.query in queries and one.draw in draws)

    def likely(self, sample: Sample) -> Tensor:
        """Log-probabilities under the treatment, (positions, vocabulary), float32."""
        return self._likely[sample.query, sample.draw]

    def prompted(self, prompt: Prompt, sample: Sample) -> tuple[int, ...]:
        """The tokens a prompt and a sample make, up to the one before the last that is compared."""
        head = prompt.tokens(self.model, self.queries[sample.query], self.chat)
        return (*head, *sample.tokens[: sample.positions - 1])

    def cost(self, pairs: Sequence[Pair]) -> int:
        """Tokens the model reads to measure these."""
        return sum(len(self.prompted(prompt, sample)) for prompt, sample in pairs)

    def context(self, prompt: Prompt) -> float:
        """Tokens of context that a prompt spends, mean over the queries."""
        return float(np.mean([prompt.spends(self.model, query, self.chat) for query in self.queries]))

    def measure(self, pairs: Sequence[Pair], progress: Callable[[int], None] | None = None) -> list[Divergence]:
        """Divergences of prompts on samples, in order; `progress` gets the number of pairs done."""
        found: list[Divergence] = []
        for start in range(0, len(pairs), AT_ONCE):
            some = pairs[start : start + AT_ONCE]
            for (_, sample), likely in zip(some, self.prompted_distributions(some), strict=True):
                found.append(divergence(self.likely(sample), likely))
            if progress:
                progress(len(found))
        return found

    def prompted_distributions(self, pairs: Sequence[Pair]) -> list[Tensor]:
        """Log-probabilities under prompts, biases included, (positions, vocabulary) a pair, in order."""
        rows = [(self.prompted(prompt, sample), Row(text=" "), sample.positions) for prompt, sample in pairs]
        found = self._distributions(rows)
        return [biased(one, prompt.biases) for one, (prompt, _) in zip(found, pairs, strict=True)]

    def _written(
        self, draws: int, length: int, seed: int, progress: Callable[[int], None] | None
    ) -> tuple[Sample, ...]:
        places = [(query, draw) for draw in range(draws) for query in range(len(self.queries))]
        rows = [
            self.treatment.row(
                self.queries[query],
                chat=self.chat,
                sampling=Sampling(length, temperature=1.0),
                seed=seed + DRAW_SEEDS * draw + query,
            )
            for query, draw in places
        ]
        return tuple(
            Sample(query, draw, one.tokens, one.ended == "end")
            for (query, draw), one in zip(places, self.model.generate(rows, progress), strict=True)
        )

    def _treated_pairs(self) -> list[tuple[tuple[int, ...], Row, int]]:
        rows = [self.treatment.row(self.queries[sample.query], chat=self.chat) for sample in self.samples]
        return [
            ((*self.model.encode(row).tokens, *sample.tokens[: sample.positions - 1]), row, sample.positions)
            for row, sample in zip(rows, self.samples, strict=True)
        ]

    def _distributions(self, given: Sequence[tuple[tuple[int, ...], Row, int]]) -> list[Tensor]:
        found: list[Tensor | None] = [None] * len(given)
        tokens, rows = [one[0] for one in given], [one[1] for one in given]
        longest = max((one[2] for one in given), default=1)
        for index, logits in self.model.logits(tokens, rows, last=longest):
            # A copy: what inference mode made can't be learned from.
            found[index] = logits[-given[index][2] :].clone().log_softmax(-1)
        return [one for one in found if one is not None]


def divergence(treated: Tensor, other: Tensor) -> Divergence:
    """KL(treated ‖ other) and Jensen-Shannon at each position, of log-probabilities (positions, vocabulary)."""
    kl = _kl(treated, other)
    middle = torch.logaddexp(treated, other) - float(np.log(2))
    js = (_kl(treated, middle) + _kl(other, middle)) / 2
    return Divergence(*(part.clamp(min=0).double().cpu().numpy() for part in (kl, js)))


def _kl(one: Tensor, other: Tensor) -> Tensor:
    # A token that is impossible under both adds nothing, and infinity minus infinity is no number.
    return torch.where(one > -torch.inf, one.exp() * (one - other), 0.0).sum(-1)


def biased(likely: Tensor, biases: Sequence[tuple[int, float]]) -> Tensor:
    """Log-probabilities after nats were added to some tokens' logits."""
    if not biases:
        return likely
    shifted = likely.clone()
    tokens = torch.tensor([token for token, _ in biases], device=likely.device)
    shifted[:, tokens] += torch.tensor([nats for _, nats in biases], device=likely.device)
    return shifted.log_softmax(-1)


def samples_record(samples: Sequence[Sample]) -> list[list[Any]]:
    """Samples as JSON can hold them."""
    return [[one.query, one.draw, list(one.tokens), one.ended] for one in samples]


def read_samples(record: Sequence[Sequence[Any]]) -> tuple[Sample, ...]:
    """What `samples_record` gave."""
    return tuple(Sample(query, draw, tuple(tokens), ended) for query, draw, tokens, ended in record)
