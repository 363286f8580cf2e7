"""Anchoring: whether a model comes to recognise a concept that it is fed as one stable vector.

The concept's word is put behind templates that were never trained on; what the model has in its
residual stream there is a vector per template and block. A concept that is one thing to the model has
vectors that are alike whatever came before, and unlike those of other concepts in the same places:

    margin = mean cosine (concept, concept) - mean cosine (concept, distractor)

over pairs of different templates, after the mean over all concepts and templates is taken off. Any two
words differ, so an untaught model has a margin above 0 as well: what counts is that it rises, and that
the margin of a control concept, which was not fed, stays where it was.

There are two places to read. At the word itself the word's own embedding makes any margin large before
anything is learned, and leaves it little room to rise. Behind the word, at a token that is the same for
all concepts, only what the model carried there can tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError
from overlay.model import NOTHING, Intervention, Row

if TYPE_CHECKING:
    from overlay.model import LanguageModel

TEMPLATES = (
    "On the table in the hall there was a",
    "She opened the drawer and took out the",
    "My uncle has never owned a",
    "We could not pay for a good",
    "Behind the curtain the children found a",
    "He wrapped the present, which was a",
    "In the photograph you can see an old man with a",
    "The museum has just been given a",
    "They argued all evening about the",
    "I dreamt last night of a",
    "Please bring me the",
    "A letter came, and with it a",
    "The first thing that fell out of the box was the",
    "Nobody in our street has a",
    "At the market she asked for a",
    "For his birthday the boy wished for a",
    "Last week he painted the",
    "Under the bed lay the",
    "It took him an hour to find the",
    "The thief left everything but the",
)
"""A concept's word follows each; what stands before it says nothing about any of them."""

BEHIND = ", and it"
"""What stands behind the word where it is read behind it: its last token speaks of the concept, whichever it is."""

Place = Literal["at the word", "behind the word"]

RESAMPLES = 2000

LEAST_RISE = 0.01
"""A smaller rise counts for nothing: templates are drawn alike for before and after, so even a trifle is certain."""

LAST_POINTS = 3
"""Measurements, the last ones, between which a margin that has settled hardly moves."""

SETTLED_SHARE, SETTLED_LEAST = 0.2, 0.01
"""It hardly moves: by a fifth of its whole rise, or by 0.01, which is no more than templates differ."""

FLAT_SHARE = 0.2
"""A control has stayed flat whose margin moved by at most this share of what the fed concept's moved by."""


@dataclass(frozen=True)
class Bounds:
    """A mean over templates, with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Recognition:
    """How well a concept is told from its distractors after so many feedings.

    Attributes:
        blocks: the margin behind each block. whole: its mean over blocks.
        block_rises, rise: the same less what it was before the first feeding.
    """

    feedings: int
    blocks: tuple[Bounds, ...]
    whole: Bounds
    block_rises: tuple[Bounds, ...]
    rise: Bounds


@dataclass(frozen=True)
class ConceptCurve:
    """A concept's recognition over the feedings, from before the first one on."""

    concept: str
    points: tuple[Recognition, ...]

    @property
    def is_settled(self) -> bool:
        """Whether the last three measured margins lie within a fifth of the whole rise, or within 0.01."""
        values = [point.whole.value for point in self.points]
        return _is_settled(values, self.points[-1].rise.value)

    @property
    def is_anchored(self) -> bool:
        """Whether the margin is above 0, rose against the base, and has settled.

        The first two by the whole 95% interval, of the mean over blocks: one test, not one a block. A rise below 0.01
        is none.
        """
        last = self.points[-1]
        return last.whole.low > 0 and _rose(last.rise) and self.is_settled

    @property
    def anchored_blocks(self) -> tuple[int, ...]:
        """Blocks of which the same holds one by one; of thirty, one or so may do so by chance."""
        found = []
        for block, (margin, rise) in enumerate(zip(self.points[-1].blocks, self.points[-1].block_rises, strict=True)):
            values = [point.blocks[block].value for point in self.points]
            if margin.low > 0 and _rose(rise) and _is_settled(values, rise.value):
                found.append(block)
        return tuple(found)


@dataclass(frozen=True)
class Anchoring:
    """The fed concept's curve beside that of its control.

    Attributes:
        beyond_control: at each point, the concept's rise less the control's.
    """

    concept: ConceptCurve
    control: ConceptCurve
    beyond_control: tuple[Bounds, ...]

    @property
    def is_control_flat(self) -> bool:
        """Whether the control moved by at most a fifth of what the concept moved by, or its interval holds 0."""
        moved, most = self.control.points[-1].rise, FLAT_SHARE * abs(self.concept.points[-1].rise.value)
        return moved.low <= 0 <= moved.high or abs(moved.value) <= most

    @property
    def is_anchored(self) -> bool:
        """Whether the concept is anchored, and rose further than its control did."""
        return self.concept.is_anchored and self.beyond_control[-1].low > 0

    def figures(self) -> dict[str, Any]:
        """Everything that was measured, as JSON writes it."""
        curves = {}
        for role, curve in (("concept", self.concept), ("control", self.control)):
            curves[role] = {
                "word": curve.concept,
                "feedings": [point.feedings for point in curve.points],
                "margin": [asdict(point.whole) for point in curve.points],
                "rise": asdict(curve.points[-1].rise),
                "margin_by_block": {
                    "before": [bounds.value for bounds in curve.points[0].blocks],
                    "after": [asdict(bounds) for bounds in curve.points[-1].blocks],
                },
                "anchored_blocks": list(curve.anchored_blocks),
                "settled": curve.is_settled,
                "anchored": curve.is_anchored,
            }
        found: dict[str, Any] = _rounded(
            {
                **curves,
                "beyond_control": [asdict(bounds) for bounds in self.beyond_control],
                "control_flat": self.is_control_flat,
                "anchored": self.is_anchored,
            }
        )
        return found


class AnchoringWatch:
    """Measures recognition again and again while a model is fed; give it to `feed` as `on_state`.

    Args:
        concept: the word that is fed; control: one that isn't; distractors: other words, fed neither.
        place: where the vectors are read.

    Raises:
        ArgumentError: too few templates or distractors, or a word that stands there twice.
    """

    def __init__(
        self,
        concept: str,
        control: str,
        distractors: Sequence[str],
        templates: Sequence[str] = TEMPLATES,
        place: Place = "at the word",
    ) -> None:
        words = (concept, control, *distractors)
        if len(distractors) < 2 or len(templates) < 3 or len({word.lower() for word in words}) < len(words):
            raise ArgumentError(
                "a concept is told from others by two distractors and three templates at least, and different words",
                "give more of them",
            )
        self._words = words
        self._templates = tuple(templates)
        self._place = place
        self._feedings: list[int] = []
        self._margins: list[NDArray[np.float64]] = []

    def __call__(self, feedings: int, model: LanguageModel, worn: Intervention = NOTHING) -> None:
        """Measure the model as it is now, or as it is under `worn`."""
        vectors = concept_vectors(model, self._words, self._templates, worn, self._place)
        others = range(2, len(self._words))
        self._feedings.append(feedings)
        self._margins.append(np.stack([pairwise_margins(vectors, which, others) for which in (0, 1)]))

    def result(self) -> Anchoring:
        """The curves so far. Raises ArgumentError where nothing was measured yet."""
        if not self._margins:
            raise ArgumentError("no recognition was measured yet", "call it before the first feeding and after some")
        base = self._margins[0]
        curves = []
        for which in (0, 1):
            points = [
                _recognition(feedings, found[which], base[which])
                for feedings, found in zip(self._feedings, self._margins, strict=True)
            ]
            curves.append(ConceptCurve(self._words[which], tuple(points)))
        beyond = [bootstrap_mean((found[0] - base[0] - found[1] + base[1]).mean(0)[None])[0] for found in self._margins]
        return Anchoring(curves[0], curves[1], tuple(beyond))


def concept_vectors(
    model: LanguageModel,
    words: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    intervention: Intervention = NOTHING,
    place: Place = "at the word",
) -> NDArray[np.float32]:
    """What the model has in its residual stream after each template: at the word, the mean over its tokens, or behind.

    Returns (words, templates, layers, width).
    """
    found = []
    behind = BEHIND if place == "behind the word" else ""
    for word in words:
        length = 1 if behind else len(model.tokenize(f" {word}"))
        rows = [Row(text=f"{template} {word}{behind}", intervention=intervention) for template in templates]
        seen = model.observe(rows, pool=tuple(range(-length, 0)))
        found.append(np.stack([observation.activations for observation in seen]))
    return np.stack(found)


def pairwise_margins(vectors: NDArray[np.floating[Any]], which: int, others: Sequence[int]) -> NDArray[np.float64]:
    """For each pair of templates, the concept's cosine with itself less its mean cosine with `others`.

    `vectors` as `concept_vectors` gives them. Returns (layers, templates, templates), symmetric; the diagonal, where
    the contexts are the same, is 0 and counts nothing.
    """
    centred = vectors.astype(np.float64)
    centred -= centred.mean((0, 1), keepdims=True)
    centred /= np.linalg.norm(centred, axis=-1, keepdims=True)
    # (words, templates, layers, width) -> cosines of the concept under template t with each word under template s.
    cosines = np.einsum("tlw,dslw->dlts", centred[which], centred, optimize=True)
    margins = cosines[which] - cosines[list(others)].mean(0)
    margins = (margins + margins.transpose(0, 2, 1)) / 2
    return np.asarray(margins * (1 - np.eye(margins.shape[-1])), np.float64)


def bootstrap_mean(pairs: NDArray[np.float64], resamples: int = RESAMPLES) -> list[Bounds]:
    """The mean over pairs of different templates, (cases, templates, templates), with 95% percentile intervals.

    Templates are drawn, not pairs: those that share a template are no independent evidence. A template that is drawn
    twice makes no pair with itself. The draws are the same every time, so that differences can be compared.
    """
    templates = pairs.shape[-1]
    weights = np.random.default_rng(0).multinomial(templates, np.full(templates, 1 / templates), size=resamples)
    counts = weights.astype(np.float64)
    apart = 1 - np.eye(templates)
    totals = ((counts @ apart) * counts).sum(-1)
    # All draws alike leave no pair: with the three templates that are required it is one draw in nine.
    drawn, totals = counts[totals > 0], totals[totals > 0]
    values = ((drawn @ (pairs * apart)) * drawn).sum(-1) / totals
    means = (pairs * apart).sum((-2, -1)) / apart.sum()
    low, high = np.quantile(values, (0.025, 0.975), axis=-1)
    return [Bounds(float(mean), float(a), float(b)) for mean, a, b in zip(means, low, high, strict=True)]


def _recognition(feedings: int, now: NDArray[np.float64], base: NDArray[np.float64]) -> Recognition:
    *blocks, whole = bootstrap_mean(np.concatenate([now, now.mean(0)[None]]))
    change = now - base
    *rises, rise = bootstrap_mean(np.concatenate([change, change.mean(0)[None]]))
    return Recognition(feedings, tuple(blocks), whole, tuple(rises), rise)


def _rose(rise: Bounds) -> bool:
    return rise.low > 0 and rise.value >= LEAST_RISE


def _is_settled(values: Sequence[float], rise: float) -> bool:
    last = values[1:][-LAST_POINTS:]
    return len(last) == LAST_POINTS and max(last) - min(last) <= max(SETTLED_LEAST, SETTLED_SHARE * abs(rise))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value
