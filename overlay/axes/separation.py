"""Separation: the methods that turn two groups of activations into one direction per block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError

Activations = NDArray[np.float32]
"""(texts, layers, width), in units of each block's median residual norm."""

Floats = NDArray[np.float64]

Separate = Callable[[Activations, Mapping[str, Activations]], Activations]
"""From the positive group and all others by name to unit directions, (layers, width).

`others["negative"][i]` is the twin of `positive[i]`. Each layer is seen on its own; where the groups
don't differ, its direction is zero.
"""

TWIN_WEIGHT = 0.5
"""Share of the matched negative twins in what the positive group is contrasted with.

Twins share nearly all words with the positive texts and are the hardest to tell apart: beside five
foils and neutral text an equal share (1/7) left them at a held-out AUROC of .74 on the embedded model.
"""

LOGIT_DEVIATION = 2.0
"""How far a text's logit is expected to lie from 0 before any text was read: e^2 to 1 for or against.

With more features than texts any data can be separated, so the penalty decides what the probe is. This
one was chosen before a probe was fitted, and not by what came out.
"""

NO_DIFFERENCE = 1e-6
"""A difference of less than a millionth of the residual norm is rounding, and points nowhere."""


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

    Level means that the negatives and foils read, on average, what neutral text reads: without this
    constraint anything about people read halfway to the positive group, and an accumulator fed with
    anger rose to two thirds of one fed with the axis's own texts.
    """
    return _discriminated(positive, others, _tilts(others).mean(0, keepdims=True))


def levelled(positive: Activations, others: Mapping[str, Activations]) -> Activations:
    """The discriminant, with each negative and foil group level with neutral text, and not only their mean.

    A mean is level as well when fear reads high and anger low. As many constraints are met as the groups are
    independent.
    """
    return _discriminated(positive, others, _tilts(others))


def gradient(positive: Activations, others: Mapping[str, Activations]) -> Activations:
    """What to add so that positive texts become likelier, and no foil or negative more so than neutral text.

    Given gradients of the texts' likelihoods in place of activations. The same contrast as the discriminant's, less
    what lies in the span of the other groups' means from the neutral one.
    """
    raw, tilts = _contrast(positive, others), _tilts(others)
    kept = np.zeros_like(raw)
    for layer in range(raw.shape[0]):
        spans, towards = tilts[:, layer].astype(np.float64), raw[layer].astype(np.float64)
        kept[layer] = towards - _reading(spans, towards, spans.T)
    # Gradients have a scale of their own: what counts as no difference is measured against it.
    scale = max((float(np.abs(group).max()) for group in (positive, *others.values())), default=0.0)
    return _unit(kept / scale) if scale > 0 else _unit(kept)


def pca(positive: Activations, others: Mapping[str, Activations]) -> Activations:
    """First principal component of the differences between twins; blind to foils (Zou et al. 2023, RepE).

    Taken about zero, as if each pair stood in either order: about their mean, the components would be
    those in which the pairs disagree. A component has no sign; it points to where the positive texts
    lie from their twins on average.
    """
    pairs = positive - others["negative"]
    found = np.stack([np.linalg.svd(pairs[:, layer], full_matrices=False)[2][0] for layer in range(pairs.shape[1])])
    towards = (found * pairs.mean(0)).sum(-1, keepdims=True)
    return _unit(found * np.where(np.abs(towards) < NO_DIFFERENCE, 0, np.sign(towards)))


def logistic(positive: Activations, others: Mapping[str, Activations]) -> Activations:
    """Logistic probe of the positive group against all others, one a layer, with a ridge penalty.

    Positive texts weigh as much as all others together, twins as much as all that are left, however
    many texts a group has. Features are standardised; the penalty is a normal prior under which the
    logit of a text has the deviation `LOGIT_DEVIATION`.
    """
    from sklearn.linear_model import LogisticRegression

    groups = [positive, *others.values()]
    shares = [1.0, *_shares(others)]
    labels = np.repeat([1] + [0] * len(others), [len(group) for group in groups])
    weights = np.repeat(
        [len(positive) * share / len(group) for share, group in zip(shares, groups, strict=True)],
        [len(group) for group in groups],
    )
    texts = np.concatenate(groups).astype(np.float64)
    kept = np.zeros(positive.shape[1:], np.float64)
    for layer in range(texts.shape[1]):
        centred = texts[:, layer] - np.average(texts[:, layer], axis=0, weights=weights)
        deviations = np.sqrt(np.average(centred**2, axis=0, weights=weights))
        scales = np.where(deviations > 0, deviations, 1)
        features = centred / scales
        probe = LogisticRegression(C=LOGIT_DEVIATION**2 / features.shape[1], max_iter=1000, tol=1e-6)
        kept[layer] = probe.fit(features, labels, sample_weight=weights).coef_[0] / scales
    return _unit(kept)


METHODS: dict[str, Separate] = {
    "difference": difference,
    "projected": projected,
    "discriminant": discriminant,
    "levelled": levelled,
    "pca": pca,
    "logistic": logistic,
}


DEFAULT_METHOD = "levelled"
"""An accumulator is fed with what an axis reads: each foil has to be level, not their mean alone."""

WRITES = ("reading", "gradient")
"""Along what a dose acts: along the direction that is read, or up the gradient of the texts' likelihood."""

DEFAULT_WRITES = "gradient"
"""The direction that tells texts apart best says little about how to bring them about: no choice followed it."""


def read_writes(text: str) -> str:
    """Along what a dose acts, when it is one of the ways. Raises ArgumentError."""
    if text not in WRITES:
        raise ArgumentError(f"'{text}' is no way to act", f"use {' or '.join(WRITES)}")
    return text


def read_method(text: str) -> str:
    """The name of a method, when it is one. Raises ArgumentError."""
    if text not in METHODS:
        raise ArgumentError(f"'{text}' is not a method", f"use one of {', '.join(METHODS)}")
    return text


def _contrast(positive: Activations, others: Mapping[str, Activations]) -> Activations:
    """The positive mean less that of the twins and that of all other groups, which count alike: (layers, width)."""
    rest = [found.mean(0) for group, found in others.items() if group != "negative"]
    contrast: Activations = (
        positive.mean(0) - TWIN_WEIGHT * others["negative"].mean(0) - (1 - TWIN_WEIGHT) * np.mean(rest, axis=0)
    )
    return contrast


def _tilts(others: Mapping[str, Activations]) -> Activations:
    """From the mean of neutral text to that of each other group: (groups, layers, width)."""
    scenes = np.stack([found.mean(0) for group, found in others.items() if group != "neutral"])
    tilts: Activations = scenes - others["neutral"].mean(0)
    return tilts


def _discriminated(positive: Activations, others: Mapping[str, Activations], tilts: Activations) -> Activations:
    """The linear discriminant that reads each of `tilts`, (tilts, layers, width), as zero.

    The within-group covariance is shrunk towards a multiple of the identity (Ledoit and Wolf 2004), and the
    constraints are met by the smallest change in its metric.
    """
    from sklearn.covariance import ledoit_wolf

    raw = _contrast(positive, others)
    kept = np.zeros_like(raw)
    for layer in range(raw.shape[0]):
        within = np.concatenate([group[:, layer] - group[:, layer].mean(0) for group in (positive, *others.values())])
        if not within.any():
            continue
        covariance, _ = ledoit_wolf(within.astype(np.float64), assume_centered=True)
        spans = tilts[:, layer].astype(np.float64)
        towards = np.column_stack([raw[layer], *spans]).astype(np.float64)
        apart, *moves = np.linalg.solve(covariance, towards).T
        kept[layer] = apart - _reading(spans, apart, np.column_stack(moves))
    return _unit(kept)


def _reading(
    spans: NDArray[np.float64], vector: NDArray[np.float64], moves: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What has to leave `vector`, made of the columns of `moves`, so that it reads each of `spans` as zero."""
    parts: Floats = moves @ np.linalg.lstsq(spans @ moves, spans @ vector, rcond=1e-9)[0]
    return parts


def _shares(others: Mapping[str, Activations]) -> list[float]:
    """What each other group counts for: the twins their share, all that are left the rest in equal parts."""
    left = (1 - TWIN_WEIGHT) / (len(others) - 1)
    return [TWIN_WEIGHT if group == "negative" else left for group in others]


def _unit(vectors: NDArray[Any]) -> Activations:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    differs = lengths > NO_DIFFERENCE
    found: Activations = (vectors / np.where(differs, lengths, 1) * differs).astype(np.float32)
    return found
