"""Margins: by how much the right continuation is likelier than the wrong one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from overlay.model import Treatment

if TYPE_CHECKING:
    from collections.abc import Callable

    from overlay.model import LanguageModel


class Alternatives(Protocol):
    """A prompt and two ways to go on from it, of which `good` is right."""

    @property
    def prompt(self) -> str: ...

    @property
    def good(self) -> str: ...

    @property
    def bad(self) -> str: ...


@dataclass(frozen=True)
class ProbeMargin:
    """One probe's margin under two treatments, nats per token."""

    id: str
    before: float
    after: float


def margins(
    model: LanguageModel,
    choices: Sequence[Alternatives],
    treatment: Treatment,
    *,
    chat: bool = False,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """log p(good) - log p(bad) of each choice under a treatment, (choices,), nats per token; right is above 0.

    Args:
        chat: asked as a user's message in the model's chat template, and otherwise as plain text to be gone on with.
        progress: gets the number of choices done.
    """
    rows = [treatment.row(choice.prompt, options=(choice.good, choice.bad), chat=chat) for choice in choices]
    return np.array([scored.margin for scored in model.score(rows, progress)], np.float64)
