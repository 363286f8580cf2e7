"""Building: from a contrast set to an axis with its evidence and its calibration."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator, RootModel, model_validator

from overlay.axes.axis import Axis, Evidence, project
from overlay.axes.calibration import calibrate
from overlay.axes.contrast import ContrastSet
from overlay.axes.pooling import check_pool
from overlay.axes.separation import (
    DEFAULT_METHOD,
    DEFAULT_WRITES,
    METHODS,
    Activations,
    gradient,
    read_method,
    read_writes,
)
from overlay.axes.text import Text, change_text, likelihood_row, parse_text, text_parts, text_row
from overlay.documents import MistakeAt, read_document
from overlay.errors import ArgumentError
from overlay.model import (
    Direction,
    Dose,
    Intervention,
    LanguageModel,
    Pool,
    Row,
    VolatilityGauge,
    neutral_texts,
)
from overlay.progress import Progress, SilentProgress

FOLDS = 4
TELLING_WORDS = 40
"""How many of the words that tell positive texts from the others are removed for the ablated check."""

WRITING_TEXTS = 12
"""Confirmation texts a group on which the effect of the dose is measured: three passes over each."""


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
    method: str = DEFAULT_METHOD,
    writes: str = DEFAULT_WRITES,
    blocks: Sequence[int] | None = None,
    pool: Pool = "ramp",
    budget: float = 0.15,
    confirmation: Mapping[str, Sequence[Text]] | None = None,
    progress: Progress | None = None,
) -> Axis:
    """Build an axis, gather its held-out evidence and find the dose that spends `budget` nats per token.

    With `writes="gradient"` a dose acts along what makes the positive texts likelier, not along what is read; the
    likelihoods are those of the texts after their first words.

    An axis that fails its checks is still returned: `axis.require_proof()` refuses it.

    Raises:
        ArgumentError: unknown method, way to act or pool, blocks that the model doesn't have, texts in which the
            model sees no difference, or a text too short to be differentiated.
    """
    read_method(method)
    read_writes(writes)
    chosen = tuple(steering_blocks(model.layers) if blocks is None else blocks)
    if not chosen or not all(0 <= block < model.layers for block in chosen):
        raise ArgumentError(f"blocks {chosen} of {model.name}", f"give blocks from 0 to {model.layers - 1}")
    check_pool(pool)
    _require_difference(contrast, model)
    progress = progress or SilentProgress()
    norms = model.residual_norms(neutral_texts())
    groups = contrast.groups()
    reading = reading_blocks(model.layers)
    seen = _observe(groups, model, pool, norms, progress, "reading the contrast texts")
    direction = _direct(contrast.name, method, seen, norms)
    _require_direction(direction, sorted({*chosen, *reading}))
    writing = direction
    if writes == "gradient":
        writing = Direction(contrast.name, _uphill(groups, model, norms, progress), norms)
        _require_direction(writing, chosen)
    bare = _without_telling_words(groups)
    ablated = _observe(bare, model, pool, norms, progress, "reading them without telling words")
    ordinary = _observe({"ordinary": neutral_texts()}, model, pool, norms, progress, "reading ordinary text")[
        "ordinary"
    ]
    evidence = _evidence(method, seen, ablated, ordinary, norms, reading)
    calibration = calibrate(writing, chosen, gauge, budget, progress)
    if confirmation:
        fresh = _observe(confirmation, model, pool, norms, progress, "reading the confirmation texts")
        effects = _writing(confirmation, Dose(writing, calibration.budget_dose, chosen), model, progress)
        evidence = replace(
            evidence,
            confirmation=_separation(fresh, direction, norms, reading),
            writing={group: float(np.mean(found)) for group, found in effects.items()},
            acts_against_sign=float(np.mean(np.array(effects["positive"]) < 0)),
        )
    neutral_mean, neutral_deviation = neutral_reading(direction, reading, pool, model)
    return Axis(
        name=contrast.name,
        method=method,
        direction=direction,
        writing=writing,
        blocks=chosen,
        reading_blocks=reading,
        neutral_mean=neutral_mean,
        neutral_deviation=neutral_deviation,
        model_name=model.name,
        model_digest=model.digest,
        data_digest=contrast.digest,
        lexicon=contrast.lexicon + contrast.lexicon_ru,
        evidence=evidence,
        calibration=calibration,
        pool=pool,
    )


def neutral_reading(
    direction: Direction, blocks: tuple[int, ...], pool: Pool, model: LanguageModel
) -> tuple[float, float]:
    """Mean and deviation of what a direction reads on the fixed neutral texts, in residual norms."""
    seen = model.observe([Row(text=text) for text in neutral_texts()], pool=pool)
    readings = [project(one.activations, direction, blocks) for one in seen]
    return float(np.mean(readings)), float(np.std(readings, ddof=1))


def _require_difference(contrast: ContrastSet, model: LanguageModel) -> None:
    """Texts that differ on paper may be the same tokens: a chat template strips blanks, a tokenizer folds case."""
    positive, negative = (
        sorted(model.encode(text_row(text)).tokens for text in texts)
        for texts in (contrast.positive, contrast.negative)
    )
    if positive == negative:
        raise ArgumentError(
            f"the positive and negative texts of axis '{contrast.name}' are the same tokens to {model.name}: texts "
            "without differences make no direction",
            "let them differ in more than blanks and spelling",
        )


def _require_direction(direction: Direction, blocks: Sequence[int]) -> None:
    undefined = [block for block in blocks if not direction.vectors[block].any()]
    if undefined:
        raise ArgumentError(
            f"the texts of axis '{direction.name}' make no direction at blocks {undefined}: positive and negative "
            "texts are the same there on average",
            "give texts that differ in what is meant, or use another method",
        )


def _observe(
    groups: Mapping[str, Sequence[Text]],
    model: LanguageModel,
    pool: Pool,
    norms: NDArray[np.float32],
    progress: Progress,
    what: str,
) -> dict[str, Activations]:
    """Activations of all texts by group, in units of each block's residual norm."""
    rows = [text_row(text) for texts in groups.values() for text in texts]
    found = model.observe(rows, pool=pool, progress=lambda done: progress.step(what, done, len(rows)))
    return _by_group(np.stack([seen.activations for seen in found]) / norms[None, :, None], groups)


def _uphill(
    groups: Mapping[str, Sequence[Text]], model: LanguageModel, norms: NDArray[np.float32], progress: Progress
) -> Activations:
    """Per block the unit direction in which the positive texts become likelier, (layers, width)."""
    rows = [likelihood_row(text) for texts in groups.values() for text in texts]
    what = "finding what makes the texts likelier"
    found = model.gradients(rows, progress=lambda done: progress.step(what, done, len(rows)))
    # Per residual norm, the unit of a dose.
    parts = _by_group(np.stack(found) * norms[None, :, None], groups)
    return gradient(parts["positive"], _others(parts))


def _by_group(stacked: Activations, groups: Mapping[str, Sequence[Text]]) -> dict[str, Activations]:
    ends = np.cumsum([len(texts) for texts in groups.values()])[:-1]
    return dict(zip(groups, np.split(stacked, ends), strict=True))


def _others(groups: Mapping[str, Activations]) -> dict[str, Activations]:
    return {group: found for group, found in groups.items() if group != "positive"}


def _direct(name: str, method: str, seen: Mapping[str, Activations], norms: NDArray[np.float32]) -> Direction:
    return Direction(name, METHODS[method](seen["positive"], _others(seen)), norms)


def _evidence(
    method: str,
    seen: Mapping[str, Activations],
    ablated: Mapping[str, Activations],
    ordinary: Activations,
    norms: NDArray[np.float32],
    blocks: tuple[int, ...],
) -> Evidence:
    """Each text is read by an axis made without it, its twin and a quarter of everything else.

    In deviations of ordinary text, as any axis is read: raw readings differ in zero and scale from fold to fold.
    """
    # A block's direction depends on that block alone: the others need not be made.
    norms = norms[list(blocks)]
    seen = {group: found[:, list(blocks)] for group, found in seen.items()}
    ablated = {group: found[:, list(blocks)] for group, found in ablated.items()}
    ordinary = ordinary[:, list(blocks)]
    blocks = tuple(range(len(blocks)))
    whole: dict[str, list[float]] = {group: [] for group in seen}
    bare: dict[str, list[float]] = {group: [] for group in seen}
    for fold in range(FOLDS):
        kept = {group: found[np.arange(len(found)) % FOLDS != fold] for group, found in seen.items()}
        direction = _direct("fold", method, kept, norms)
        calm = _readings(ordinary, direction, norms, blocks)
        for group in seen:
            held = np.arange(len(seen[group])) % FOLDS == fold
            for readings, texts in ((whole, seen[group][held]), (bare, ablated[group][held])):
                raw = _readings(texts, direction, norms, blocks)
                readings[group] += list((raw - calm.mean()) / calm.std(ddof=1))
    halves = [
        _direct("half", method, {group: found[half::2] for group, found in seen.items()}, norms) for half in (0, 1)
    ]
    cosines = (halves[0].vectors * halves[1].vectors).sum(-1)
    others = [group for group in seen if group != "positive"]
    return Evidence(
        auroc={group: auroc(whole["positive"], whole[group]) for group in others},
        auroc_ablated={group: auroc(bare["positive"], bare[group]) for group in others},
        pairs_in_order=float(np.mean(np.array(whole["positive"]) > np.array(whole["negative"]))),
        against_sign=float(np.mean(np.array(whole["positive"]) < np.median(whole["neutral"]))),
        halves_cosine=float(cosines.mean()),
    )


def _readings(
    texts: Activations, direction: Direction, norms: NDArray[np.float32], blocks: tuple[int, ...]
) -> NDArray[np.float64]:
    return np.array([project(one * norms[:, None], direction, blocks) for one in texts])


def _separation(
    seen: Mapping[str, Activations],
    direction: Direction,
    norms: NDArray[np.float32],
    blocks: tuple[int, ...],
) -> dict[str, float]:
    readings = {group: list(_readings(found, direction, norms, blocks)) for group, found in seen.items()}
    return {group: auroc(readings["positive"], found) for group, found in readings.items() if group != "positive"}


def _writing(
    groups: Mapping[str, Sequence[Text]], dose: Dose, model: LanguageModel, progress: Progress
) -> dict[str, list[float]]:
    """Half the difference that a dose and its reverse make to the likelihood of each text, nats per token."""
    texts = [(group, likelihood_row(text)) for group, found in groups.items() for text in found[:WRITING_TEXTS]]
    passes: list[list[float]] = []
    for number, sign in enumerate((1, -1)):
        progress.step("measuring what the dose writes", number, 2)
        intervention = Intervention((dose,)) * sign
        rows = [replace(row, intervention=intervention) for _, row in texts]
        passes.append([scored.per_token[0] for scored in model.score(rows)])
    found: dict[str, list[float]] = {}
    for (group, _), up, down in zip(texts, *passes, strict=True):
        found.setdefault(group, []).append((up - down) / 2)
    return found


def read_confirmation(path: Path) -> dict[str, tuple[Text, ...]]:
    """Read texts by group that only confirm an axis. Raises DocumentError."""
    return read_document(path, _Confirmation).root


class _Confirmation(RootModel[dict[str, tuple[Annotated[Text, PlainValidator(parse_text)], ...]]]):
    @model_validator(mode="after")
    def _has_positive(self) -> _Confirmation:
        if not self.root.get("positive") or len(self.root) < 2 or not all(self.root.values()):
            raise ValueError("expected the group 'positive' and at least one other, none of them empty")
        for group, texts in self.root.items():
            for index, text in enumerate(texts):
                try:
                    likelihood_row(text)
                except ArgumentError as error:
                    raise MistakeAt((group, index), f"{error.problem}: {error.next_step}") from None
        return self


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive reading exceeds a negative one; ties count half (Mann and Whitney 1947)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score([1] * len(positive) + [0] * len(negative), [*positive, *negative]))


def _without_telling_words(groups: Mapping[str, Sequence[Text]]) -> dict[str, list[Text]]:
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

    def strip(part: str) -> str:
        bare = pattern.sub(lambda match: "" if match.group().lower() in telling else match.group(), part)
        return re.sub(r"\s+", " ", bare).strip() or "."

    return {group: [change_text(text, strip) for text in texts] for group, texts in groups.items()}


def _words(text: Text) -> list[str]:
    return [word for part in text_parts(text) for word in re.findall(r"[^\W\d_]+'?[^\W\d_]*", part.lower())]
