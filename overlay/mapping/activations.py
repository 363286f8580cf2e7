"""Activations: what the unchanged model's residual stream says of an aim, block by block, with nothing trained.

Two readings that are cheap and often taken for a map: can a linear probe behind a block tell the good option from the
bad one, and does steering there along their difference change the choices? A block that knows something need not be
the block at which it is best taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from overlay.mapping.intervention_map import BlockReading
from overlay.mapping.measurement import Measurement
from overlay.mapping.scaling import scale_to
from overlay.mapping.spread import crossed
from overlay.model import Direction, Dose, Intervention, Row, Treatment, VolatilityGauge, neutral_texts
from overlay.probes import margins
from overlay.statistics import wilson

if TYPE_CHECKING:
    from overlay.adapters import HeldOut
    from overlay.model import LanguageModel
    from overlay.progress import Progress

FOLDS = 5

PENALTY = 1.0
"""scikit-learn's C of the probe, on differences in units of the block's residual norm; chosen before any was fitted."""

GAUGED = 8
"""Neutral texts by which doses are scaled: every block needs some measurements."""

FIRST_DOSE, LARGEST_DOSE = 0.03, 1.0
"""Fractions of the residual norm: where the search begins, and as large as the stream itself."""


def read_activations(measurement: Measurement, progress: Progress | None = None) -> tuple[BlockReading, ...]:
    """Both readings of every block."""
    model, choices = measurement.model, measurement.choices
    if progress:
        progress.step("reading activations", None, None)
    norms = model.residual_norms(neutral_texts())
    differences = option_differences(model, choices) / norms[None, :, None]
    halves = [np.arange(len(choices)) % 2 == half for half in (0, 1)]
    directions = [Direction("difference", _unit(differences[~half].mean(0)), norms) for half in halves]
    whole = Direction("difference", _unit(differences.mean(0)), norms)
    gauge = VolatilityGauge(model, neutral_texts()[:GAUGED])
    readings = []
    for block in range(model.layers):
        if progress:
            progress.step("steering each block", block, model.layers)
        right = int(probe_hits(differences[:, block]).sum())
        interval = wilson(right, len(choices))
        dose = None
        if all(direction.vectors[block].any() for direction in (whole, *directions)):
            scaled = scale_to(
                lambda size, block=block: gauge.measure(Intervention((Dose(whole, size, (block,)),))),  # type: ignore[misc]
                measurement.settings.p95,
                first=FIRST_DOSE,
                largest=LARGEST_DOSE,
            )
            dose = scaled.scale if scaled.reached else None
        accuracy = right / len(choices)
        if dose is None:
            readings.append(BlockReading(block, accuracy, interval.low, interval.high))
            continue
        gains = np.empty(len(choices))
        for half, direction in zip(halves, directions, strict=True):
            steered = Treatment("steered", Intervention((Dose(direction, dose, (block,)),)))
            # The direction of one half is put to the other.
            chosen = [item for item, is_in in zip(choices, half, strict=True) if is_in]
            gains[half] = margins(model, chosen, steered) - measurement.base[half]
        spread = crossed(gains[None])
        readings.append(
            BlockReading(
                block,
                accuracy,
                interval.low,
                interval.high,
                dose,
                scaled.volatility.p95,
                spread.value,
                spread.low,
                spread.high,
            )
        )
    return tuple(readings)


def option_differences(model: LanguageModel, choices: Sequence[HeldOut]) -> NDArray[np.float32]:
    """Residual stream over the good option less that over the bad one, (choices, layers, width).

    Each is the mean over the positions of the option's own tokens.
    """
    found = []
    for option in ("good", "bad"):
        texts = [getattr(item, option) for item in choices]
        lengths = [len(model.tokenize(text)) for text in texts]
        activations = np.empty((len(choices), model.layers, model.width), np.float32)
        for length in sorted(set(lengths)):
            members = [index for index, own in enumerate(lengths) if own == length]
            rows = [Row(text=choices[index].prompt + texts[index]) for index in members]
            seen = model.observe(rows, pool=tuple(range(-length, 0)))
            for index, observation in zip(members, seen, strict=True):
                activations[index] = observation.activations
        found.append(activations)
    return np.asarray(found[0] - found[1])


def probe_hits(differences: NDArray[np.float32]) -> NDArray[np.bool_]:
    """For each choice, whether a linear probe fitted to the others finds the good option, (choices,).

    `differences` (choices, width): good less bad; the probe is a logistic regression on them without intercept, and
    chooses between two options, so chance is one half.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold

    hits = np.zeros(len(differences), bool)
    folds = KFold(min(FOLDS, len(differences)), shuffle=True, random_state=0)
    for known, unknown in folds.split(differences):
        seen = differences[known]
        probe = LogisticRegression(C=PENALTY, fit_intercept=False, max_iter=1000)
        probe.fit(np.concatenate([seen, -seen]), [1] * len(seen) + [0] * len(seen))
        hits[unknown] = probe.decision_function(differences[unknown]) > 0
    return hits


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row at unit length; zero where there is no difference."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-6, vectors / np.maximum(lengths, 1e-6), 0), np.float32)
