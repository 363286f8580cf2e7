"""Separation: the methods that turn two groups of activations into one direction per block."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Activations = NDArray[np.float32]
"""(texts, layers, width), in units of each block's median residual norm."""

Separate = Callable[[Activations, Mapping[str, Activations]], Activations]
"""From the positive group and all others by name to unit directions, (layers, width)."""


TWIN_WEIGHT = 0.5
"""Share of the matched negative twins in what the positive group is contrasted with.

Twins share nearly all words with the positive texts and are the hardest to tell apart: beside five
foils and neutral text an equal share (1/7) left them at a held-out AUROC of .74 on the embedded model.
"""


def difference(positive: Activations, others: Mapping[str, Activations]) -> Activations:
    """Mean of the positive group minus mean of the negative group alone; blind to foils."""
    return _unit(positive.mean(0) - others["negative"].mean(0))


def projected(positive: Activations, others: Mapping[str, Activations]) -> Activations:
    """Mean difference with the directions from neutral text to each foil projected out."""
    raw = positive.mean(0) - others["negative"].mean(0)
    foils = [group for group in others if group not in ("negative", "neutral")]
    kept = np.empty_like(raw)
    for layer in range(raw.shape[0]):
        spans = np.stack([others[foil][:, layer].mean(0) - others["neutral"][:, layer].mean(0) for foil in foils])
        basis, _ = np.linalg.qr(spans.T)
        kept[layer] = raw[layer] - basis @ (basis.T @ raw[layer])
    return _unit(kept)


def discriminant(positive: Activations, others: Mapping[str, Activations]) -> Activations:
    """Linear discriminant of the positive group against all others, level between them and neutral text.

    The within-group covariance is shrunk towards a multiple of the identity (Ledoit and Wolf 2004).
    Level means that the negatives and foils read, on average, what neutral text reads: without this
    constraint anything about people read halfway to the positive group, and an accumulator fed with
    anger rose to two thirds of one fed with the axis's own texts.
    """
    from sklearn.covariance import ledoit_wolf

    rest = [found.mean(0) for group, found in others.items() if group != "negative"]
    raw = positive.mean(0) - TWIN_WEIGHT * others["negative"].mean(0) - (1 - TWIN_WEIGHT) * np.mean(rest, axis=0)
    scenes = [found.mean(0) for group, found in others.items() if group != "neutral"]
    tilt = np.mean(scenes, axis=0) - others["neutral"].mean(0)
    kept = np.empty_like(raw)
    for layer in range(raw.shape[0]):
        within = np.concatenate([group[:, layer] - group[:, layer].mean(0) for group in (positive, *others.values())])
        covariance, _ = ledoit_wolf(within.astype(np.float64), assume_centered=True)
        apart, level = np.linalg.solve(covariance, np.stack([raw[layer], tilt[layer]], axis=1).astype(np.float64)).T
        # The smallest change, in the metric of the covariance, after which the axis reads `tilt` as zero.
        kept[layer] = apart - level * (tilt[layer] @ apart) / (tilt[layer] @ level)
    return _unit(kept)


METHODS: dict[str, Separate] = {"difference": difference, "projected": projected, "discriminant": discriminant}


def _unit(vectors: Activations) -> Activations:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
