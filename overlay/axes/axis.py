"""Axes: directions of the residual stream, with the evidence that they are what they claim to be."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlay.errors import AxisMissing, AxisUnproven, RecordDamaged, WrongBaseModel
from overlay.model import Direction, Dose, Span
from overlay.records import storage_errors

FORMAT = "overlay-axis-2"

_FACTS = (
    "name",
    "method",
    "blocks",
    "reading_blocks",
    "neutral_mean",
    "neutral_deviation",
    "model_name",
    "model_digest",
    "data_digest",
    "lexicon",
)

REQUIRED_AUROC = 0.80
"""Held-out separation that an axis needs against its negatives, each foil set and neutral text."""

REQUIRED_AUROC_ABLATED = 0.75
"""The same after its telling words were removed: some of what they carried may be missed."""


@dataclass(frozen=True)
class Evidence:
    """Held-out separation of the axis's own texts from each other group, as AUROC (0.5 is chance).

    Attributes:
        auroc: by group, each text scored by an axis that saw neither it nor its twin.
        auroc_ablated: the same after the words that tell the groups apart best were removed.
        against_sign: share of held-out positive texts that read below the median of neutral text.
        halves_cosine: agreement of the axes made from either half of the data, mean over its blocks.
        confirmation: by group, AUROC of the finished axis on texts that no choice was made on; empty
            when there are none. The values above chose the settings, so they flatter; these do not.
        writing: by group, how much the budget dose raises the log-probability of such texts, nats per
            token: half the difference between the dose and its reverse, so that what any
            disturbance does cancels out. Empty when there are no confirmation texts.
    """

    auroc: dict[str, float]
    auroc_ablated: dict[str, float]
    against_sign: float
    halves_cosine: float
    confirmation: dict[str, float] = field(default_factory=dict)
    writing: dict[str, float] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """Why the axis may not be used; empty when it passed."""
        found = [
            f"held-out AUROC against {group} is {value:.2f}, below {REQUIRED_AUROC:.2f}"
            for group, value in self.auroc.items()
            if value < REQUIRED_AUROC
        ]
        found += [
            f"without its telling words, AUROC against {group} is {value:.2f}, below {REQUIRED_AUROC_ABLATED:.2f}"
            for group, value in self.auroc_ablated.items()
            if value < REQUIRED_AUROC_ABLATED
        ]
        found += [
            f"its dose makes {group} texts likelier by {value:+.3f} nats per token, "
            f"its own by {self.writing['positive']:+.3f}"
            for group, value in self.writing.items()
            if group != "positive" and value >= self.writing["positive"]
        ]
        return found


@dataclass(frozen=True)
class Calibration:
    """What doses of an axis cost on neutral text.

    Attributes:
        budget: the volatility, nats per token, that `budget_dose` spends in the dearer of its two signs.
        budget_dose: coefficient, as a fraction of each block's median residual norm.
        response: (dose, mean KL, 95th percentile of KL) of every dose that was measured, by dose.
    """

    budget: float
    budget_dose: float
    response: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Axis:
    """A direction per block, where it is read and where it acts, what it reads on neutral text, and its evidence.

    Attributes:
        blocks: where a dose acts. reading_blocks: where observations are read.
        neutral_mean, neutral_deviation: its readings on neutral texts that it was not made from.
    """

    name: str
    method: str
    direction: Direction
    blocks: tuple[int, ...]
    reading_blocks: tuple[int, ...]
    neutral_mean: float
    neutral_deviation: float
    model_name: str
    model_digest: str
    data_digest: str
    lexicon: tuple[str, ...]
    evidence: Evidence
    calibration: Calibration

    def require_proof(self) -> None:
        """Raise AxisUnproven, with the reasons, unless the axis passed its checks."""
        if failures := self.evidence.failures:
            raise AxisUnproven(
                f"axis '{self.name}' did not pass its checks: {'; '.join(failures)}",
                "improve its texts, blocks or method and build it again",
            )

    def project(self, activations: NDArray[np.float32]) -> float:
        """How strongly activations (layers, width) lie along the axis, in deviations of neutral text."""
        return (project(activations, self.direction, self.reading_blocks) - self.neutral_mean) / self.neutral_deviation

    def dose(self, amount: float, span: Span = "all") -> Dose:
        """`amount` times the budget dose of this axis."""
        return Dose(self.direction, amount * self.calibration.budget_dose, self.blocks, span)

    def save(self, folder: Path) -> Path:
        """Write NAME.safetensors into `folder`, whole or not at all."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.safetensors"
        facts = {key: getattr(self, key) for key in _FACTS}
        facts |= {"evidence": asdict(self.evidence), "calibration": asdict(self.calibration)}
        with storage_errors(path), tempfile.TemporaryDirectory(prefix=".axis-", dir=folder) as temporary:
            written = Path(temporary) / path.name
            save_file(
                {"vectors": self.direction.vectors, "norms": self.direction.norms},
                written,
                metadata={"format": FORMAT, "axis": json.dumps(facts)},
            )
            written.replace(path)
        return path


def load_axis(path: Path, model_digest: str | None = None) -> Axis:
    """Read an axis; with `model_digest`, refuse one that was made on another model.

    Raises:
        AxisMissing, RecordDamaged, WrongBaseModel
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise AxisMissing(f"axis '{path.stem}' has not been built", f"build it with `overlay axes build {path.stem}`")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format', 'unknown')}, not {FORMAT}")
            facts: dict[str, Any] = json.loads(metadata["axis"])
            direction = Direction(facts["name"], file.get_tensor("vectors"), file.get_tensor("norms"))
        axis = _from_facts(facts, direction)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RecordDamaged(
            f"{path} is not a readable axis ({error})", f"build it again with `overlay axes build {path.stem}`"
        ) from error
    if model_digest is not None and axis.model_digest != model_digest:
        raise WrongBaseModel(
            f"axis '{axis.name}' was made on {axis.model_name} ({axis.model_digest[:12]}), "
            f"not on this model ({model_digest[:12]})",
            f"build it again with `overlay axes build {axis.name}`",
        )
    return axis


def _from_facts(facts: dict[str, Any], direction: Direction) -> Axis:
    calibration = facts.pop("calibration")
    response = tuple((dose, mean, p95) for dose, mean, p95 in calibration["response"])
    facts |= {key: tuple(facts[key]) for key in ("blocks", "reading_blocks", "lexicon")}
    return Axis(
        **facts
        | {
            "direction": direction,
            "evidence": Evidence(**facts["evidence"]),
            "calibration": Calibration(calibration["budget"], calibration["budget_dose"], response),
        }
    )


def project(activations: NDArray[np.float32], direction: Direction, blocks: tuple[int, ...]) -> float:
    """Mean over `blocks` of the activation's component along the direction, in residual norms."""
    chosen = list(blocks)
    parts = (activations[chosen] * direction.vectors[chosen]).sum(-1) / direction.norms[chosen]
    return float(parts.mean())
