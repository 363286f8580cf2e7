"""Building: from a contrast set to an axis with its evidence and its calibration."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import RootModel, model_validator

from overlay.axes.axis import Axis, Calibration, Evidence, project
from overlay.axes.contrast import ContrastSet
from overlay.axes.separation import METHODS, Activations
from overlay.documents import read_document
from overlay.errors import ArgumentError
from overlay.model import (
    NO_VOLATILITY,
    Direction,
    Dose,
    Intervention,
    LanguageModel,
    Row,
    Volatility,
    VolatilityGauge,
    neutral_texts,
)
from overlay.progress import Progress, SilentProgress

FOLDS = 4
TELLING_WORDS = 40
"""How many of the words that tell positive texts from the others are removed for the ablated check."""

LARGEST_DOSE = 1.0
"""A dose as large as the residual stream; text falls apart long before, at about 0.05 on the embedded model."""

CALIBRATION_TOLERANCE = 0.03
"""The budget dose may fall short of the budget by this share; it never exceeds it."""


WRITING_TEXTS = 12
"""Confirmation texts a group on which the effect of the dose is measured: three passes over each."""

OPENING_WORDS = 3
"""Words of a text that are given before the likelihood of the rest is scored."""


def steering_blocks(layers: int) -> tuple[int, ...]:
    """Where a dose acts: from 40% to 67% of the depth.

    On the embedded model (blocks 12 to 19 of 30) the same direction at the same volatility raised the
    likelihood of held-out texts of its kind twice as much there as from half to three quarters.
    """
    return _share(layers, 0.4, 0.67)


def reading_blocks(layers: int) -> tuple[int, ...]:
    """Where observations are read: from half to three quarters of the depth, where separation was best."""
    return _share(layers, 0.5, 0.76)


def _share(layers: int, low: float, high: float) -> tuple[int, ...]:
    first = round(low * layers)
    return tuple(range(first, max(first + 1, round(high * layers))))


def build_axis(
    contrast: ContrastSet,
    model: LanguageModel,
    gauge: VolatilityGauge,
    *,
    method: str = "discriminant",
    blocks: Sequence[int] | None = None,
    budget: float = 0.15,
    confirmation: Mapping[str, Sequence[str]] | None = None,
    progress: Progress | None = None,
) -> Axis:
    """Build an axis, gather its held-out evidence and find the dose that spends `budget` nats per token.

    An axis that fails its checks is still returned: `axis.require_proof()` refuses it.

    Raises:
        ArgumentError: unknown method, or blocks that the model doesn't have.
    """
    if method not in METHODS:
        raise ArgumentError(f"'{method}' is not a method", f"use one of {', '.join(METHODS)}")
    chosen = tuple(steering_blocks(model.layers) if blocks is None else blocks)
    if not chosen or not all(0 <= block < model.layers for block in chosen):
        raise ArgumentError(f"blocks {chosen} of {model.name}", f"give blocks from 0 to {model.layers - 1}")
    progress = progress or SilentProgress()
    norms = model.residual_norms(neutral_texts())
    groups = contrast.groups()
    seen = _observe(groups, model, norms, progress, "reading the contrast texts")
    ablated = _observe(_without_telling_words(groups), model, norms, progress, "reading them without telling words")
    direction = _direct(contrast.name, method, seen, norms)
    reading = reading_blocks(model.layers)
    evidence = _evidence(method, seen, ablated, norms, reading)
    calibration = calibrate(direction, chosen, gauge, budget, progress)
    if confirmation:
        fresh = _observe(confirmation, model, norms, progress, "reading the confirmation texts")
        evidence = replace(
            evidence,
            confirmation=_separation(fresh, direction, norms, reading),
            writing=_writing(confirmation, Dose(direction, calibration.budget_dose, chosen), model, progress),
        )
    neutral = model.observe([Row(text=text) for text in neutral_texts()])
    readings = [project(one.activations, direction, reading) for one in neutral]
    return Axis(
        name=contrast.name,
        method=method,
        direction=direction,
        blocks=chosen,
        reading_blocks=reading,
        neutral_mean=float(np.mean(readings)),
        neutral_deviation=float(np.std(readings, ddof=1)),
        model_name=model.name,
        model_digest=model.digest,
        data_digest=contrast.digest,
        lexicon=contrast.lexicon + contrast.lexicon_ru,
        evidence=evidence,
        calibration=calibration,
    )


def calibrate(
    direction: Direction,
    blocks: tuple[int, ...],
    gauge: VolatilityGauge,
    budget: float,
    progress: Progress | None = None,
) -> Calibration:
    """Find the largest dose whose volatility stays within `budget` under either sign, nats per token.

    KL grows with the square of a small dose, so each measurement tells where to look next.

    Raises:
        ArgumentError: the budget isn't above 0, or no dose up to the size of the residual stream spends it.
    """
    if budget <= 0:
        raise ArgumentError(f"a budget of {budget} nats", "give a number above 0")
    measured: dict[float, Volatility] = {0.0: NO_VOLATILITY}
    dose, low, high = 0.01, 0.0, math.inf
    for attempt in range(12):
        if progress:
            progress.step("calibrating the dose", attempt, 12)
        for sign in (dose, -dose):
            measured[sign] = gauge.measure(Intervention((Dose(direction, sign, blocks),)))
        cost = max(measured[dose].mean, measured[-dose].mean)
        if cost <= budget:
            low = dose
            if cost >= budget * (1 - CALIBRATION_TOLERANCE):
                break
        else:
            high = dose
        step = dose * math.sqrt(budget * (1 - CALIBRATION_TOLERANCE / 2) / max(cost, 1e-9))
        dose = step if low < step < high else (low + min(high, 4 * max(low, 1e-4))) / 2
        if dose > LARGEST_DOSE:
            raise ArgumentError(
                f"a budget of {budget} nats per token can't be spent on '{direction.name}': even a dose as large as "
                "the residual stream costs less",
                "give a smaller budget, or other blocks",
            )
    response = tuple((dose, measured[dose].mean, measured[dose].p95) for dose in sorted(measured))
    return Calibration(budget, low, response)


def random_direction(like: Direction, blocks: tuple[int, ...], seed: int) -> Direction:
    """A random direction that agrees with itself from block to block exactly as `like` does.

    Independent draws per block would cancel out along the residual stream, and be too weak a
    control: the cosines between the blocks of the drawn direction are those of `like`.
    """
    chosen = list(blocks)
    vectors = like.vectors[chosen].astype(np.float64)
    values, turns = np.linalg.eigh(vectors @ vectors.T)
    root = turns * np.sqrt(values.clip(min=0))
    drawn = np.random.default_rng([seed, len(chosen)]).standard_normal((like.vectors.shape[1], len(chosen)))
    basis, _ = np.linalg.qr(drawn)
    mixed = root @ basis.T
    placed = np.zeros_like(like.vectors)
    placed[chosen] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return Direction(f"random-{seed}", placed, like.norms)


def _observe(
    groups: Mapping[str, Sequence[str]],
    model: LanguageModel,
    norms: NDArray[np.float32],
    progress: Progress,
    what: str,
) -> dict[str, Activations]:
    """Activations of all texts by group, in units of each block's residual norm."""
    rows = [Row(text=text) for texts in groups.values() for text in texts]
    found = model.observe(rows, progress=lambda done: progress.step(what, done, len(rows)))
    stacked = np.stack([seen.activations for seen in found]) / norms[None, :, None]
    result: dict[str, Activations] = {}
    start = 0
    for group, texts in groups.items():
        result[group] = stacked[start : start + len(texts)]
        start += len(texts)
    return result


def _direct(name: str, method: str, seen: Mapping[str, Activations], norms: NDArray[np.float32]) -> Direction:
    others = {group: found for group, found in seen.items() if group != "positive"}
    return Direction(name, METHODS[method](seen["positive"], others), norms)


def _evidence(
    method: str,
    seen: Mapping[str, Activations],
    ablated: Mapping[str, Activations],
    norms: NDArray[np.float32],
    blocks: tuple[int, ...],
) -> Evidence:
    """Each text is read by an axis made without it, its twin and a quarter of everything else."""
    whole: dict[str, list[float]] = {group: [] for group in seen}
    bare: dict[str, list[float]] = {group: [] for group in seen}
    for fold in range(FOLDS):
        kept = {group: found[np.arange(len(found)) % FOLDS != fold] for group, found in seen.items()}
        direction = _direct("fold", method, kept, norms)
        for group in seen:
            held = np.arange(len(seen[group])) % FOLDS == fold
            whole[group] += [project(one * norms[:, None], direction, blocks) for one in seen[group][held]]
            bare[group] += [project(one * norms[:, None], direction, blocks) for one in ablated[group][held]]
    halves = [
        _direct("half", method, {group: found[half::2] for group, found in seen.items()}, norms) for half in (0, 1)
    ]
    chosen = list(blocks)
    cosines = (halves[0].vectors[chosen] * halves[1].vectors[chosen]).sum(-1)
    others = [group for group in seen if group != "positive"]
    return Evidence(
        auroc={group: auroc(whole["positive"], whole[group]) for group in others},
        auroc_ablated={group: auroc(bare["positive"], bare[group]) for group in others},
        against_sign=float(np.mean(np.array(whole["positive"]) < np.median(whole["neutral"]))),
        halves_cosine=float(cosines.mean()),
    )


def _separation(
    seen: Mapping[str, Activations],
    direction: Direction,
    norms: NDArray[np.float32],
    blocks: tuple[int, ...],
) -> dict[str, float]:
    readings = {
        group: [project(one * norms[:, None], direction, blocks) for one in found] for group, found in seen.items()
    }
    return {group: auroc(readings["positive"], found) for group, found in readings.items() if group != "positive"}


def _writing(
    groups: Mapping[str, Sequence[str]], dose: Dose, model: LanguageModel, progress: Progress
) -> dict[str, float]:
    """Half the difference that a dose and its reverse make to the likelihood of each group, nats per token."""
    texts = [(group, text.split()) for group, found in groups.items() for text in found[:WRITING_TEXTS]]
    passes: list[list[float]] = []
    for number, sign in enumerate((1, -1)):
        progress.step("measuring what the dose writes", number, 2)
        intervention = Intervention((dose,)) * sign
        rows = [
            Row(
                text=" ".join(words[:OPENING_WORDS]),
                options=(" " + " ".join(words[OPENING_WORDS:]),),
                intervention=intervention,
            )
            for _, words in texts
        ]
        passes.append([scored.per_token[0] for scored in model.score(rows)])
    found: dict[str, list[float]] = {}
    for (group, _), up, down in zip(texts, *passes, strict=True):
        found.setdefault(group, []).append((up - down) / 2)
    return {group: float(np.mean(values)) for group, values in found.items()}


def read_confirmation(path: Path) -> dict[str, tuple[str, ...]]:
    """Read texts by group that only confirm an axis. Raises DocumentError."""
    return read_document(path, _Confirmation).root


class _Confirmation(RootModel[dict[str, tuple[str, ...]]]):
    @model_validator(mode="after")
    def _has_positive(self) -> _Confirmation:
        if not self.root.get("positive") or len(self.root) < 2 or not all(self.root.values()):
            raise ValueError("expected the group 'positive' and at least one other, none of them empty")
        return self


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive reading exceeds a negative one; ties count half (Mann and Whitney 1947)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score([1] * len(positive) + [0] * len(negative), [*positive, *negative]))


def _without_telling_words(groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """All texts without the words whose log odds tell the positive group from the others best."""
    inside = Counter(word for text in groups["positive"] for word in set(_words(text)))
    outside = Counter(
        word for group, texts in groups.items() if group != "positive" for text in texts for word in set(_words(text))
    )
    n_inside = len(groups["positive"])
    n_outside = sum(len(texts) for group, texts in groups.items() if group != "positive")

    def log_odds(word: str) -> float:
        one = (inside[word] + 0.5) / (n_inside - inside[word] + 0.5)
        other = (outside[word] + 0.5) / (n_outside - outside[word] + 0.5)
        return math.log(one / other)

    common = [word for word, count in inside.items() if count >= 2]
    telling = set(sorted(common, key=log_odds, reverse=True)[:TELLING_WORDS])
    pattern = re.compile(r"[^\W\d_]+'?[^\W\d_]*")
    return {
        group: [
            re.sub(r"\s+", " ", pattern.sub(lambda m: "" if m.group().lower() in telling else m.group(), text)).strip()
            or "."
            for text in texts
        ]
        for group, texts in groups.items()
    }


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+'?[^\W\d_]*", text.lower())
