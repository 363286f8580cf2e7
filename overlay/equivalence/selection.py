"""Selection: which modules of meaning bring the model nearest to an aim on the present query, within so many tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from overlay.adapters import Example
from overlay.equivalence.module import PromptModule
from overlay.equivalence.prompt import placed
from overlay.equivalence.target import Target, divergence
from overlay.errors import ArgumentError
from overlay.model import LanguageModel, Message, Row, Treatment

LEAST = 0.005
"""Nats per token. What moves the aim by less isn't worth its tokens."""

Before = tuple[Message, ...]


Nearness = Callable[[Sequence[Before]], list[float]]
"""How near the model is to an aim with each of these before the query, nats per token; larger is nearer."""


class Aim(Protocol):
    """What modules are picked for."""

    def on(self, model: LanguageModel, query: str, chat: bool, before: Before) -> Nearness:
        """What measures nearness on one query that has these messages before it anyway."""


@dataclass(frozen=True)
class TowardsTreatment:
    """Be as a treatment would be on this query: -KL(treated ‖ prompted) along what the treated model writes.

    Attributes:
        length: tokens that the treated model writes. draws: how often.
    """

    treatment: Treatment
    length: int = 16
    draws: int = 2
    seed: int = 0

    def on(self, model: LanguageModel, query: str, chat: bool, before: Before) -> Nearness:
        """As `Aim` says. Raises InterventionError for a treatment that can't be read along a given text."""
        # In the same context: else what is anyway before the query would be a part of what modules are to undo.
        treatment = replace(self.treatment, before=(*before, *self.treatment.before))
        target = Target(model, treatment, [query], chat=chat, draws=self.draws, length=self.length, seed=self.seed)
        positions = sum(sample.positions for sample in target.samples)

        def nearness(befores: Sequence[Before]) -> list[float]:
            owners, tokens = [], []
            for place, before in enumerate(befores):
                head = model.encode(Treatment("modules", before=before).row(query, chat=target.chat)).tokens
                for sample in target.samples:
                    owners.append((place, sample))
                    tokens.append((*head, *sample.tokens[: sample.positions - 1]))
            sums = [0.0] * len(befores)
            longest = max(sample.positions for sample in target.samples)
            for index, logits in model.logits(tokens, [Row(text=" ")] * len(tokens), last=longest):
                place, sample = owners[index]
                likely = logits[-sample.positions :].log_softmax(-1)
                sums[place] += float(divergence(target.likely(sample), likely).kl.sum())
            return [-total / positions for total in sums]

        return nearness


@dataclass(frozen=True)
class LikelyTargets:
    """Make these answers to the query likely: mean log-probability per token."""

    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.targets or not all(self.targets):
            raise ArgumentError("an aim of no answers, or an empty one", "give answers that should become likelier")

    def on(self, model: LanguageModel, query: str, chat: bool, before: Before) -> Nearness:
        """As `Aim` says."""

        def nearness(befores: Sequence[Before]) -> list[float]:
            rows = [Treatment("modules", before=one).row(query, chat=chat, options=self.targets) for one in befores]
            return [float(np.mean(one.per_token)) for one in model.score(rows)]

        return nearness


@dataclass(frozen=True)
class ChosenModule:
    """A module that was picked.

    Attributes:
        influence: how much nearer to the aim it brought the model, with those picked before it in place; nats per
            token. tokens: of context that it takes there.
    """

    module: PromptModule
    influence: float
    tokens: int


@dataclass(frozen=True)
class Selection:
    """What was picked, in that order, and the messages to put before the query."""

    chosen: tuple[ChosenModule, ...]
    before: Before

    @property
    def influence(self) -> float:
        """How much nearer to the aim all of them bring the model, nats per token."""
        return sum(one.influence for one in self.chosen)

    @property
    def tokens(self) -> int:
        """Tokens of context that they take."""
        return sum(one.tokens for one in self.chosen)


def select_modules(
    model: LanguageModel,
    query: str,
    modules: Sequence[PromptModule],
    aim: Aim,
    token_budget: int,
    *,
    before: Before = (),
    chat: bool = True,
    least: float = LEAST,
) -> Selection:
    """Pick modules one by one, each time the one that brings the model nearest to the aim on this very query.

    It ends when none that fits into the budget moves the aim by `least` nats per token: picking nothing is an answer.

    Args:
        token_budget: tokens of context that the modules may take.
        before: what stands before the query anyway; an agent's system message and the past.

    Raises:
        ArgumentError: a budget below 1, or two modules of one name.
    """
    if token_budget < 1:
        raise ArgumentError(f"a budget of {token_budget} tokens holds no module", "give at least 1")
    if len({module.name for module in modules}) < len(modules):
        raise ArgumentError("two modules have one name", "give each a name of its own")

    def length(messages: Before) -> int:
        return len(model.encode(Treatment("modules", before=messages).row(query, chat=chat)).tokens)

    chosen: list[ChosenModule] = []
    now, spent, bare = before, 0, length(before)
    measured = aim.on(model, query, chat, before)
    (nearness,) = measured([before])
    left = list(modules)
    while left:
        before_each = [_with(model, [*(one.module for one in chosen), module], before, chat) for module in left]
        proposals = list(zip(left, before_each, strict=True))
        sized = [(module, messages, length(messages) - bare) for module, messages in proposals]
        fitting = [one for one in sized if one[2] <= token_budget]
        if not fitting:
            break
        gains = [found - nearness for found in measured([one[1] for one in fitting])]
        best = int(np.argmax(gains))
        if gains[best] < least:
            break
        module, now, tokens = fitting[best]
        chosen.append(ChosenModule(module, gains[best], tokens - spent))
        nearness += gains[best]
        spent = tokens
        left.remove(module)
    return Selection(tuple(chosen), now)


@dataclass(frozen=True)
class ModuleChoice:
    """What is picked from for each query anew: a library of modules, towards a treatment, within so many tokens.

    An adapter of the treatment must be resident wherever this is used.
    """

    library: tuple[PromptModule, ...]
    treatment: Treatment
    token_budget: int

    def pick(self, model: LanguageModel, query: str, before: Before) -> Selection:
        """The modules for a chat's next query, as `select_modules` picks them."""
        return select_modules(
            model, query, self.library, TowardsTreatment(self.treatment), self.token_budget, before=before
        )


def _with(model: LanguageModel, modules: Sequence[PromptModule], before: Before, chat: bool) -> Before:
    texts = [module.text.strip() for module in modules if module.text]
    shots: list[Example] = [example for module in modules for example in module.examples]
    return placed(texts, shots, before, chat=chat, own=model.own_system)
