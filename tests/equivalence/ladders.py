"""What the tests of equivalence share: queries for tiny models, and spies that count without changing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from overlay.equivalence import QuerySet, Target
from overlay.model import Dose, Intervention, LanguageModel, Message, Treatment

QUERIES = ("one two", "the river", "what now", "a b c", "old house", "seven")

SPOKEN = "zz top"


def asked(**changes: Any) -> QuerySet:
    """Six short queries."""
    return QuerySet.model_validate({"queries": QUERIES, **changes})


def spoken(text: str = SPOKEN) -> Treatment:
    """A treatment that is itself a prompt."""
    return Treatment("spoken", before=(Message("system", text),))


def steered(model: LanguageModel, random_direction: Any, amount: float = 0.3) -> Treatment:
    """A treatment that no prompt names."""
    dose = Dose(random_direction(model), amount, tuple(range(model.layers)))
    return Treatment("steered", Intervention(doses=(dose,)))


def target(model: LanguageModel, treatment: Treatment, draws: int = 2, length: int = 6) -> Target:
    """The six queries, sampled from the treated model."""
    return Target(model, treatment, QUERIES, chat=True, draws=draws, length=length)


def count_tokens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of every row that any model reads from now on."""
    read: list[int] = []
    plain = LanguageModel.logits

    def logits(self: LanguageModel, tokens: Sequence[Sequence[int]], rows: Any, **options: Any) -> Iterator[Any]:
        read.extend(map(len, tokens))
        return plain(self, tokens, rows, **options)

    monkeypatch.setattr(LanguageModel, "logits", logits)
    return read


class Stopping:
    """Progress that ends like Ctrl-C at a step whose description begins so."""

    def __init__(self, at: str) -> None:
        self.at = at

    def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        if description.startswith(self.at):
            raise KeyboardInterrupt
