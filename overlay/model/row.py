"""Rows: one request to the model each, with its own intervention, sampling and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError
from overlay.model.intervention import NOTHING, Intervention

Role = Literal["system", "user", "assistant"]

Pool = Literal["ramp", "mean", "last"] | tuple[int, ...]
"""How positions are averaged: "ramp" weighs them by how much text they have seen, rising linearly; chosen
positions count from the end (-1 is the last) and weigh alike.

Early tokens can't know yet what a text is about: on the embedded model the ramp separates acts of
one theme from five foil sets better than the plain mean (README, design notes).
"""


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    role: Role
    text: str


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy; `max_tokens` counts generated tokens."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ArgumentError(
                f"sampling out of range: {self}", "max_tokens >= 1, temperature >= 0, top_p above 0 and up to 1"
            )
        if any(not text for text in self.stop):
            raise ArgumentError("an empty stop string would stop at once", "remove it")


@dataclass(frozen=True)
class Row:
    """One request: chat messages or, when `text` is given, plain text without a chat template.

    Attributes:
        messages: the chat, oldest first.
        text: plain text instead of messages.
        options: what `score` scores, each as a continuation of the prompt.
        seed: the only source of this row's randomness.
        trace_volatility: measure what each generated token cost, against the same prefix without the intervention.
        trace_likelihood: note how likely each generated token was.
    """

    messages: tuple[Message, ...] = ()
    text: str | None = None
    intervention: Intervention = NOTHING
    sampling: Sampling = Sampling()
    seed: int = 0
    options: tuple[str, ...] = ()
    trace_volatility: bool = False
    trace_likelihood: bool = False

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.text is not None):
            raise ArgumentError("a row needs either messages or text", "give exactly one of them")
        if not 0 <= self.seed < 2**63:
            raise ArgumentError(f"seed {self.seed} is out of range", "give an integer from 0 to 2**63 - 1")


@dataclass(frozen=True)
class Encoded:
    """A row's prompt as tokens; the current turn begins at `turn_start`; the last `kept` were generated before."""

    tokens: tuple[int, ...]
    turn_start: int
    kept: int = 0

    @property
    def generated_start(self) -> int:
        """The position of the first generated token."""
        return len(self.tokens) - self.kept

    def continued(self, tokens: Sequence[int]) -> Encoded:
        """The same prompt, followed by what was generated so far."""
        return Encoded(self.tokens[: self.generated_start] + tuple(tokens), self.turn_start, len(tokens))


@dataclass(frozen=True)
class Avoided:
    """A banned text that the model turned towards, at which generated token, and the probability that was cut."""

    text: str
    step: int
    mass: float


@dataclass(frozen=True)
class Completion:
    """What a row generated.

    Attributes:
        tokens: what was kept, without the token that ended it.
        ended: why it stopped.
        avoided: what the row's bans kept it from, in order.
        volatility: KL(without ‖ with the intervention) of each kept token's distribution, nats; empty unless the row
            asked for it. Bans are left out: what they cut would be infinite; `avoided` counts it.
        log_likelihood: log-probability of each kept token under the intervention, nats, before bans, temperature and
            top-p, in the rounding in which the model generates; empty unless the row asked for it.
    """

    text: str
    tokens: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    ended: Literal["end", "stop", "length", "cancelled"]
    avoided: tuple[Avoided, ...] = ()
    volatility: tuple[float, ...] = ()
    log_likelihood: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scored:
    """Log-probabilities of a row's options, nats: `total` per option and its `lengths` in tokens."""

    total: tuple[float, ...]
    lengths: tuple[int, ...]
    prompt_tokens: tuple[int, ...]

    @property
    def per_token(self) -> tuple[float, ...]:
        """Mean log-probability per token of each option, nats."""
        return tuple(total / length for total, length in zip(self.total, self.lengths, strict=True))

    @property
    def margin(self) -> float:
        """By how much the first of two options is likelier than the second, nats per token."""
        first, second = self.per_token
        return first - second


@dataclass(frozen=True, eq=False)
class Observation:
    """Pooled block outputs of a row, (layers, width) float32, and over how many tokens; position 0 is left out."""

    activations: NDArray[np.float32]
    tokens: int
