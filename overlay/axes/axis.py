"""Axes: directions of the residual stream, with the evidence that they are what they claim to be."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlay.axes.calibration import Calibration
from overlay.axes.pooling import check_pool
from overlay.errors import AxisMissing, AxisUnproven, InterventionError, RecordDamaged, WrongBaseModel
from overlay.model import Direction, Dose, Pool, Span
from overlay.records import storage_errors

FORMAT = "overlay-axis-4"

ROUNDING = 1e-9
"""What an amount that was computed from the limit may exceed it by."""

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
    "pool",
    "forced",
)

REQUIRED_AUROC = 0.80
"""Held-out separation that an axis needs against its negatives, each foil set and neutral text."""

REQUIRED_AUROC_ABLATED = 0.75
"""The same after its telling words were removed: some of what they carried may be missed."""

LARGEST_CHANCE = 0.05
"""An emergent axis may not owe itself to chance more often than that."""


@dataclass(frozen=True)
class Evidence:
    """Held-out separation of the axis's own texts from each other group, as AUROC (0.5 is chance).

    Attributes:
        auroc: by group, each text scored by an axis that saw neither it nor its twin.
        auroc_ablated: the same after the words that tell the groups apart best were removed.
        pairs_in_order: share of held-out pairs whose positive text reads above its twin: below half, the
            axis points the wrong way.
        against_sign: share of held-out positive texts that read below the median of neutral text.
        halves_cosine: agreement of the axes made from either half of the data, mean over its blocks.
        confirmation: by group, AUROC of the finished axis on texts that no choice was made on; empty
            when there are none. The values above chose the settings, so they flatter; these do not.
        writing: by group, how much the budget dose raises the log-probability of such texts, nats per
            token: half the difference between the dose and its reverse, so that what any
            disturbance does cancels out. Empty when there are no confirmation texts.
        acts_against_sign: share of fresh positive texts that the dose makes less likely, measured as
            `writing`: a mean hides that a vector may turn many inputs the wrong way (Tan et al. 2024,
            "Analyzing the generalization and reliability of steering vectors"). None without such texts.

        chance: of an emergent axis, how often drift without a theme would be as strong as the one it was born of.

    An axis that no text was read on, such as an imported one, has no evidence: all is empty or None. An emergent one
    has no texts either, and shows by `chance` that it is a direction of something.
    """

    auroc: dict[str, float] = field(default_factory=dict)
    auroc_ablated: dict[str, float] = field(default_factory=dict)
    pairs_in_order: float | None = None
    against_sign: float | None = None
    halves_cosine: float | None = None
    confirmation: dict[str, float] = field(default_factory=dict)
    writing: dict[str, float] = field(default_factory=dict)
    acts_against_sign: float | None = None
    chance: float | None = None

    @property
    def failures(self) -> list[str]:
        """Why the axis may not be used; empty when it passed."""
        found: list[str] = []
        if self.chance is not None and not self.chance <= LARGEST_CHANCE:
            found.append(f"drift without a theme is as strong with a chance of {self.chance:.3f}")
        if not self.auroc and self.chance is not None:
            return found
        if not self.auroc:
            return ["it has no texts, so nothing shows what it is a direction of"]
        found += [
            f"held-out AUROC against {group} is {value:.2f}, below {REQUIRED_AUROC:.2f}"
            for group, value in self.auroc.items()
            if value < REQUIRED_AUROC
        ]
        found += [
            f"without its telling words, AUROC against {group} is {value:.2f}, below {REQUIRED_AUROC_ABLATED:.2f}"
            for group, value in self.auroc_ablated.items()
            if value < REQUIRED_AUROC_ABLATED
        ]
        if self.pairs_in_order is not None and self.pairs_in_order < 0.5:
            found.append(
                f"only {self.pairs_in_order:.0%} of held-out texts read above their twins: it points backwards"
            )
        found += [
            f"its dose makes {group} texts likelier by {value:+.3f} nats per token, "
            f"its own by {self.writing['positive']:+.3f}"
            for group, value in self.writing.items()
            if group != "positive" and value >= self.writing["positive"]
        ]
        return found


@dataclass(frozen=True)
class Axis:
    """A direction per block, where it is read and where it acts, what it reads on neutral text, and its evidence.

    Attributes:
        direction: what observations are read along. writing: what a dose adds; often the same.
        blocks: where a dose acts. reading_blocks: where observations are read.
        neutral_mean, neutral_deviation: its readings on neutral texts that it was not made from.
        pool: over which positions it is read; it was made from activations pooled alike.
        forced: a person decided that it may be used even if it did not pass its checks.
    """

    name: str
    method: str
    direction: Direction
    writing: Direction
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
    pool: Pool = "ramp"
    forced: bool = False

    @property
    def proven(self) -> bool:
        """Whether it passed its checks; forcing an axis does not prove it."""
        return not self.evidence.failures

    def require_proof(self) -> None:
        """Raise AxisUnproven, with the reasons, unless the axis passed its checks or was forced."""
        if not self.proven and not self.forced:
            raise AxisUnproven(
                f"axis '{self.name}' did not pass its checks: {'; '.join(self.evidence.failures)}",
                "improve its texts, blocks or method and build it again; with --force it may be used unproven, and "
                "every result will say so",
            )

    def project(self, activations: NDArray[np.float32]) -> float:
        """How strongly activations (layers, width) lie along the axis, in deviations of neutral text."""
        return (project(activations, self.direction, self.reading_blocks) - self.neutral_mean) / self.neutral_deviation

    def dose(self, amount: float, span: Span = "all") -> Dose:
        """`amount` times the budget dose of this axis.

        Raises:
            InterventionError: text falls apart under such a dose.
        """
        coefficient, limit = amount * self.calibration.budget_dose, self.calibration.limit
        if abs(coefficient) > limit * (1 + ROUNDING):
            raise InterventionError(
                f"a dose of {coefficient:+.4f} of axis '{self.name}' is beyond {limit:.4f} of the residual norm, "
                f"up to which {self.model_name} was found to write coherent text",
                f"give at most {self.reach:.2f} times the budget dose, up or down",
            )
        return Dose(self.writing, coefficient, self.blocks, span)

    @property
    def writes(self) -> str:
        """Along what a dose acts: `reading`, or `gradient`."""
        return "reading" if self.writing == self.direction else "gradient"

    @property
    def digest(self) -> str:
        """A hash of all that decides what it reads and how it acts."""
        facts = (self.blocks, self.reading_blocks, self.pool, self.neutral_mean, self.neutral_deviation)
        acts = (self.calibration.budget_dose, self.calibration.limit)
        return hashlib.sha256(f"{self.direction.digest}{self.writing.digest}{facts}{acts}".encode()).hexdigest()[:24]

    @property
    def reach(self) -> float:
        """The largest amount that `dose` gives: the coherent limit, in budget doses."""
        return self.calibration.limit / self.calibration.budget_dose

    def save(self, folder: Path) -> Path:
        """Write NAME.safetensors into `folder`, whole or not at all."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.safetensors"
        facts = {key: getattr(self, key) for key in _FACTS}
        facts |= {"evidence": asdict(self.evidence), "calibration": self.calibration.to_json()}
        with storage_errors(path), tempfile.TemporaryDirectory(prefix=".axis-", dir=folder) as temporary:
            written = Path(temporary) / path.name
            save_file(
                {
                    "vectors": self.direction.vectors,
                    "writing": np.array(self.writing.vectors),
                    "norms": self.direction.norms,
                },
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
            norms = file.get_tensor("norms")
            direction = Direction(facts["name"], file.get_tensor("vectors"), norms)
            writing = Direction(facts["name"], file.get_tensor("writing"), norms)
        axis = _from_facts(facts, direction, writing)
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


def _from_facts(facts: dict[str, Any], direction: Direction, writing: Direction) -> Axis:
    facts |= {key: tuple(facts[key]) for key in ("blocks", "reading_blocks", "lexicon")}
    facts["pool"] = check_pool(tuple(facts["pool"]) if isinstance(facts["pool"], list) else facts["pool"])
    if not isinstance(facts["forced"], bool):
        raise TypeError("'forced' is neither true nor false")
    chance = facts["evidence"].get("chance")
    if chance is not None and not (isinstance(chance, float | int) and 0 <= chance <= 1):
        raise ValueError(f"a chance of {chance!r}")
    return Axis(
        **facts
        | {
            "direction": direction,
            "writing": writing,
            "evidence": Evidence(**facts["evidence"]),
            "calibration": Calibration.from_json(facts["calibration"]),
        }
    )


def project(activations: NDArray[np.float32], direction: Direction, blocks: tuple[int, ...]) -> float:
    """Mean over `blocks` of the activation's component along the direction, in residual norms."""
    chosen = list(blocks)
    parts = (activations[chosen] * direction.vectors[chosen]).sum(-1) / direction.norms[chosen]
    return float(parts.mean())
