"""Drift: how far the agent's own activations have moved from neutral, the raw material of emergent axes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from overlay.documents import Document
from overlay.errors import ArgumentError, RecordDamaged, WrongBaseModel
from overlay.inner.half_life import HalfLife, WrittenHalfLife
from overlay.inner.tensor_record import read_only, read_tensors, write_tensors
from overlay.model import Pool, Row

if TYPE_CHECKING:
    from overlay.model import LanguageModel

FORMAT = "overlay-drift-1"

_NEXT_STEP = "move it aside; drift is gathered anew from the next turn on"


class DriftSettings(Document):
    """How long the mean remembers, and how many single drifts are kept beside it.

    Attributes:
        half_life: after which a drift weighs half in the mean.
        keep: single drifts kept; each takes layers · width · 4 bytes, on the embedded model 69 kB.
    """

    half_life: WrittenHalfLife = HalfLife(32.0)
    keep: Annotated[int, Field(ge=1, le=4096)] = 256


@dataclass(frozen=True, eq=False)
class Drift:
    """The decayed mean of drifts, and the last of them one by one. A drift is a value: `observe` gives the next one.

    Attributes:
        mean: (layers, width) float32, activations minus neutral ones; a weighted mean, so it never leaves the
            hull of what was observed.
        weight: how many observations the mean rests on, each counted by what is left of it.
        recent: the last `settings.keep` drifts, each (layers, width) float32, oldest first.
        turns: where each of these came from.
        count: how many were observed in all.
    """

    mean: NDArray[np.float32]
    settings: DriftSettings
    model_digest: str
    weight: float = 0.0
    recent: tuple[NDArray[np.float32], ...] = ()
    turns: tuple[str, ...] = ()
    count: int = 0

    @classmethod
    def none(cls, layers: int, width: int, model_digest: str, settings: DriftSettings | None = None) -> Drift:
        """No drift yet, of a model with so many blocks."""
        return cls(read_only(np.zeros((layers, width), np.float32)), settings or DriftSettings(), model_digest)

    def observe(
        self,
        activations: NDArray[np.float32],
        neutral_mean: NDArray[np.float32],
        *,
        turn: str,
        turns: float = 1.0,
        seconds: float = 0.0,
    ) -> Drift:
        """The drift after one observation of the agent's own text.

        weight' = weight · 2^(-passed / half_life) + 1; mean' = mean + (drift - mean) / weight'.

        Args:
            activations, neutral_mean: (layers, width), the block outputs of this text and of neutral ones.
            turn: where it came from, such as "SESSION:12".
            turns, seconds: how much has passed since the last observation.

        Raises:
            ArgumentError: a shape doesn't fit, a value isn't finite, or time runs backwards.
        """
        for name, values in (("activations", activations), ("neutral mean", neutral_mean)):
            if values.shape != self.mean.shape:
                raise ArgumentError(f"the {name} have shape {values.shape}", f"give shape {self.mean.shape}")
        if not (turns >= 0 and seconds >= 0):
            raise ArgumentError(f"{turns} turns and {seconds} seconds have passed", "give 0 or more")
        drift = np.asarray(activations, np.float64) - np.asarray(neutral_mean, np.float64)
        if not np.isfinite(drift).all() or np.abs(drift).max(initial=0.0) > np.finfo(np.float32).max:
            raise ArgumentError(f"the drift of {turn} holds values that aren't finite", "the activations overflowed")
        weight = self.weight * self.settings.half_life.kept(turns, seconds) + 1.0
        mean = self.mean + (drift - self.mean) / weight
        keep = self.settings.keep
        return replace(
            self,
            mean=read_only(mean.astype(np.float32)),
            weight=weight,
            recent=(*self.recent, read_only(drift.astype(np.float32)))[-keep:],
            turns=(*self.turns, turn)[-keep:],
            count=self.count + 1,
        )

    @property
    def recorded(self) -> NDArray[np.float32]:
        """The kept drifts, (observations, layers, width) float32, oldest first."""
        return np.stack(self.recent) if self.recent else np.zeros((0, *self.mean.shape), np.float32)

    def strength(self, norms: NDArray[np.float32]) -> NDArray[np.float32]:
        """The length of the mean at each block, (layers,), as a fraction of the block's residual norm."""
        return np.asarray(np.linalg.norm(self.mean, axis=1) / norms, np.float32)

    def save(self, path: Path) -> None:
        """Write it with its checksum, whole or not at all. Raises StorageFull."""
        facts = {"model": self.model_digest, "weight": self.weight, "turns": self.turns, "count": self.count}
        write_tensors(path, FORMAT, "drift", {"mean": self.mean, "recent": self.recorded}, facts)

    @classmethod
    def load(cls, path: Path, model_digest: str | None = None, settings: DriftSettings | None = None) -> Drift:
        """Read what `save` wrote, as `settings` have it now: a smaller `keep` drops the oldest drifts.

        Raises:
            RecordDamaged: the file is missing, or isn't what was written. WrongBaseModel: it is of another model than
                the given one.
        """
        settings = settings or DriftSettings()
        try:
            tensors, facts = read_tensors(path, FORMAT, "drift", ("mean", "recent"))
            found = cls(
                tensors["mean"],
                settings,
                facts["model"],
                facts["weight"],
                tuple(map(read_only, tensors["recent"]))[-settings.keep :],
                tuple(facts["turns"])[-settings.keep :],
                facts["count"],
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise RecordDamaged(f"{path} is not a readable drift ({error})", _NEXT_STEP) from error
        if model_digest not in (None, found.model_digest):
            raise WrongBaseModel(
                f"{path} was gathered on another model ({found.model_digest[:12]}), not on {str(model_digest)[:12]}",
                _NEXT_STEP,
            )
        return found


def neutral_activations(model: LanguageModel, pool: Pool = "ramp") -> NDArray[np.float32]:
    """What a model's blocks give on neutral texts, (layers, width) float32: the level that drift is measured from."""
    from overlay.model import neutral_texts  # brings torch, which reading a home must not wait for

    seen = model.observe([Row(text=text) for text in neutral_texts()], pool=pool)
    return np.asarray(np.mean([one.activations for one in seen], axis=0), np.float32)
