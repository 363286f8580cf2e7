"""Volatility: what an intervention costs, as KL divergence from the base model on neutral texts."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray

from overlay.model.intervention import NOTHING, Intervention
from overlay.model.language_model import LanguageModel
from overlay.model.row import Row


@dataclass(frozen=True)
class Volatility:
    """KL(base ‖ influenced) in nats per token over all positions of the neutral texts."""

    mean: float
    p95: float


NO_VOLATILITY = Volatility(0.0, 0.0)


def neutral_texts() -> tuple[str, ...]:
    """The fixed set of neutral texts on which volatility is measured."""
    text = resources.files("overlay.model").joinpath("neutral_texts.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line.strip())


class VolatilityGauge:
    """Measures interventions on one model; the base model's logits are computed once and kept."""

    def __init__(self, model: LanguageModel, texts: tuple[str, ...] | None = None) -> None:
        self.model = model
        self.texts = texts or neutral_texts()
        self._tokens = [model.encode(Row(text=text)).tokens for text in self.texts]
        self._known: dict[str, Volatility] = {NOTHING.digest: NO_VOLATILITY}
        self._lock = threading.Lock()

    @property
    def digest(self) -> str:
        """A hash of the texts that it measures on."""
        return hashlib.sha256("\n".join(self.texts).encode()).hexdigest()[:24]

    def measure(self, intervention: Intervention) -> Volatility:
        """Volatility of one intervention, nats per token; remembered by the intervention's digest.

        Bans are left out: what they cut would be infinite. So is a focus on a text, which no neutral text holds.
        An adapter is known by its name only and may be trained anew under it: those are measured each time.
        """
        intervention = replace(
            intervention,
            bans=(),
            focus=tuple(focus for focus in intervention.focus if not isinstance(focus.keys, str)),
        )
        with self._lock:
            known = self._known.get(intervention.digest)
            if known is None:
                kl = np.concatenate(self.per_token(intervention))
                known = Volatility(float(kl.mean()), float(np.quantile(kl, 0.95)))
                if not intervention.adapters:
                    self._known[intervention.digest] = known
            return known

    def per_token(self, intervention: Intervention) -> list[NDArray[np.float32]]:
        """KL at each position of each neutral text: one array of shape (tokens,) a text."""
        found: list[NDArray[np.float32] | None] = [None] * len(self._tokens)
        rows = [Row(text=text, intervention=intervention) for text in self.texts]
        for index, logits in self.model.logits(self._tokens, rows):
            base = self._base[index].float()
            kl = (base.exp() * (base - logits.log_softmax(-1))).sum(-1)
            # Rounding can leave a difference of a few 1e-7 below zero where nothing changed.
            found[index] = kl.clamp(min=0).cpu().numpy()
        return [kl for kl in found if kl is not None]

    @cached_property
    def _base(self) -> dict[int, torch.Tensor]:
        rows = [Row(text=text) for text in self.texts]
        return {index: logits.log_softmax(-1) for index, logits in self.model.logits(self._tokens, rows)}
