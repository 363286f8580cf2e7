"""Results: what each rung of the ladder came to, as sums per query from which every number is computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from overlay.equivalence.estimate import Estimate, excess, per_query, unreproduced
from overlay.equivalence.query_set import Split

RungName = Literal["nothing", "instruction", "anchor", "few-shot", "opening and bias", "searched", "soft"]

RUNGS: tuple[RungName, ...] = get_args(RungName)

PROMPTS: tuple[RungName, ...] = ("instruction", "anchor", "few-shot", "searched")
"""What a person could paste: the claim about prompts is judged by these, not by biases or trained embeddings."""

Sums = list[list[float]]
"""Nats, (queries, draws), summed over positions."""


@dataclass(frozen=True)
class Rung:
    """One rung: the prompt that was chosen for all queries, and for each query the one that was best for it.

    Choosing was done on samples of its own; `one` and `own` are measured on others.

    Attributes:
        prompt: the chosen one in words. own_prompts: the best for each query in words; empty for a soft prompt.
        tokens: of context that it spends, mean. own_tokens: the same of the best for each query.
        spent: tokens the model read to find it.
        one: Σ KL(treated ‖ prompted). own: the same with the best for each query; equal to `one` for a soft prompt.
        chosen_by: E of the chosen prompt on the choosing samples of the in-domain half. own_chosen_by: of the best for
            each query on its own, nats.
        js: mean Jensen-Shannon divergence over held-out positions, nats. p95: 95th percentile of their KL.
        candidates: (words, tokens of context, E on the choosing samples of the in-domain half).
    """

    name: RungName
    prompt: str
    own_prompts: tuple[str, ...]
    tokens: float
    own_tokens: float
    spent: int
    one: Sums
    own: Sums
    chosen_by: float
    own_chosen_by: tuple[float, ...]
    js: float
    p95: float
    candidates: tuple[tuple[str, float, float], ...] = ()
    full: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The rung as a file holds it."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"


@dataclass(frozen=True)
class Equivalence:
    """How closely prompts reproduce one treatment on one model.

    Attributes:
        base: Σ KL(treated ‖ base), as the rungs' sums. positions: compared positions a sample, (queries, draws).
        base_js, base_p95: as a rung's.
        seconds: what measuring took, resumed parts not counted.
        left_out: rungs that there was nothing to put on, and why.
    """

    treatment: str
    model: str
    model_digest: str
    queries: tuple[str, ...]
    chat: bool
    split: Split
    rungs: tuple[Rung, ...]
    base: Sums
    positions: Sums
    base_js: float
    base_p95: float
    budget: int
    seed: int
    seconds: float = 0.0
    left_out: tuple[tuple[RungName, str], ...] = ()

    def rung(self, name: RungName) -> Rung | None:
        """A rung by name; None where there was nothing to put on it."""
        return next((rung for rung in self.rungs if rung.name == name), None)

    @property
    def per_position(self) -> float:
        """What the treatment does on the queries: KL(treated ‖ base), nats per token."""
        return float(np.sum(self.base) / np.sum(self.positions))

    def in_domain(self, rung: Rung) -> Estimate:
        """E of the rung's one prompt on the queries it was chosen by, on fresh samples."""
        return unreproduced(*self._half(rung.one, self.split.in_domain))

    def held_out(self, rung: Rung) -> Estimate:
        """E of the rung's one prompt on queries it never saw."""
        return unreproduced(*self._half(rung.one, self.split.held_out))

    def per_query(self, rung: Rung) -> Estimate | None:
        """E over all queries, each with the rung's prompt that is best for it; None for a soft prompt."""
        return unreproduced(np.array(rung.own), np.array(self.base)) if rung.own_prompts else None

    def ratios(self, rung: Rung) -> tuple[float | None, ...]:
        """E of each query alone, with the rung's one prompt."""
        return per_query(np.array(rung.one), np.array(self.base))

    # --- the best prompt of all rungs ------------------------------------------------------------

    @cached_property
    def prompts(self) -> tuple[Rung, ...]:
        """The rungs that are prompts and nothing else."""
        return tuple(rung for rung in self.rungs if rung.name in PROMPTS)

    @property
    def best(self) -> Rung | None:
        """The rung whose one prompt was best on the choosing samples."""
        return min(self.prompts, key=lambda rung: rung.chosen_by, default=None)

    @property
    def own_sums(self) -> NDArray[np.float64]:
        """Σ KL with the best prompt of any rung for each query, chosen on the choosing samples: (queries, draws)."""
        sums = np.array([rung.own for rung in self.prompts])
        chosen = np.array([rung.own_chosen_by for rung in self.prompts]).argmin(0)
        return np.asarray(sums[chosen, np.arange(len(self.queries))])

    @property
    def own(self) -> Estimate | None:
        """E over all queries with the best prompt for each."""
        return unreproduced(self.own_sums, np.array(self.base)) if self.prompts else None

    @property
    def loss(self) -> Estimate | None:
        """On held-out queries, how much larger E is with one prompt for all than with the best for each."""
        if self.best is None:
            return None
        places = list(self.split.held_out)
        return excess(np.array(self.best.one)[places], self.own_sums[places], np.array(self.base)[places])

    def _half(self, sums: Sums, places: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(sums)[list(places)], np.array(self.base)[list(places)]
