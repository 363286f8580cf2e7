"""Margins: by how much the right continuation is likelier than the wrong one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from overlay.model import Scored, Treatment
from overlay.probes.probe import Choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from overlay.model import LanguageModel


@dataclass(frozen=True)
class ProbeMargin:
    """One probe's margin under two treatments, nats per token."""

    id: str
    before: float
    after: float


def margins(
    model: LanguageModel,
    choices: Sequence[Choice],
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
    return np.array([per_token(scored) for scored in model.score(rows, progress)], np.float64)


def per_token(scored: Scored) -> float:
    """The margin of a row whose options are good and bad, in this order."""
    good, bad = scored.per_token
    return good - bad
