"""Coherence: up to which dose the model's own text stays text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from overlay.axes.budget import LARGEST_DOSE
from overlay.errors import ArgumentError
from overlay.model import NOTHING, Completion, Direction, Dose, Intervention, Row, Sampling
from overlay.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from overlay.model import LanguageModel

SURPRISE_FACTOR = 1.5
"""Text may be this much more surprising to the unsteered model than its own, in nats per token.

On the embedded model its own text has 2.1 nats per token, prose that people wrote 3.5 and the same prose
with its words shuffled 7.2: at a factor of 1.5 steered text is as likely as prose and still made of
sentences; at a factor of 1.9 it was seen to be made of phrases that no longer follow from one another.
"""

REPETITION_MARGIN = 0.05
"""How much more of a text may be repeated 3-grams; unsteered runs of the embedded model differ by 0.03."""

DIVERSITY_SHARE = 0.85
"""Share of the unsteered distinct 2-grams that must be left; unsteered runs of the embedded model differ by 0.03."""

PROMPT_WORDS = 6
"""Words of a neutral text that the model goes on from: enough to be about something, and nothing of the axis."""

TEMPERATURE = 0.8
"""Greedy text repeats itself without any dose, and text at 1.0 wanders off: both would hide what a dose does."""

LADDER = 4
"""Doses that are tried at once, so that the saved points also show how text falls apart beyond the limit."""

DOWNWARD_STEPS = 12
"""Steps below the first dose before the search gives up: with a factor of 1.5, a hundredth of it."""


@dataclass(frozen=True)
class LimitSearch:
    """How carefully the limit is looked for.

    Attributes:
        prompts, samples, tokens: prompts, texts written after each under every dose and sign, and their length.
        factor: ratio of neighbouring doses while the limit hasn't been bracketed yet.
        tolerance: ratio of the smallest incoherent to the largest coherent dose at which the search ends.
        ladder: doses tried at once.
    """

    prompts: int = 16
    samples: int = 3
    tokens: int = 40
    factor: float = 1.5
    tolerance: float = 1.1
    ladder: int = LADDER


QUICK_SEARCH = LimitSearch(samples=1, tokens=24, factor=2.0, tolerance=1.2, ladder=1)
"""For building: a limit to about a fifth, in the time of a few replies. Both signs make one batch of 32 rows."""

FULL_SEARCH = LimitSearch()
"""On the embedded model the limits of two draws lay a tenth apart; with one text a prompt, a fifth."""


@dataclass(frozen=True)
class Reading:
    """What texts are like.

    Attributes:
        surprise: median negative log-likelihood of the texts under the unsteered model, nats per token; None when
            more than half of them are empty.
        repetition: share of 3-grams that occurred before in the same text, mean over texts.
        diversity: distinct 2-grams as a share of all 2-grams of all texts.
    """

    surprise: float | None
    repetition: float
    diversity: float


@dataclass(frozen=True)
class CoherencePoint(Reading):
    """What the model wrote under one dose, and whether it is within the bounds that its text at dose 0 sets."""

    dose: float
    coherent: bool


def is_coherent(read: Reading, unsteered: Reading) -> bool:
    """Whether texts are no worse than unsteered ones by more than the three bounds allow."""
    return (
        read.surprise is not None
        and unsteered.surprise is not None
        and read.surprise <= SURPRISE_FACTOR * unsteered.surprise
        and read.repetition <= unsteered.repetition + REPETITION_MARGIN
        and read.diversity >= DIVERSITY_SHARE * unsteered.diversity
    )


def find_limit(
    coherent: Callable[[Sequence[float]], Sequence[bool]], start: float, search: LimitSearch = FULL_SEARCH
) -> tuple[float, bool]:
    """The largest dose found coherent below every incoherent one, and whether text was seen to fall apart above it.

    `coherent` judges doses, several at once. Geometric steps from `start` bracket the limit, bisection
    narrows it to `search.tolerance`. Up to `LARGEST_DOSE`, where the answer is (LARGEST_DOSE, False).

    Raises:
        ArgumentError: text falls apart at the smallest dose that was tried.
    """
    low, high = 0.0, math.inf
    for rungs in _upward(start, search):
        verdicts = list(coherent(rungs))
        if not all(verdicts):
            high = rungs[verdicts.index(False)]
            low = max([low, *(rung for rung in rungs if rung < high)])
            break
        low = rungs[-1]
    else:
        return low, False
    step = 0
    while low == 0:
        step += 1
        if step > DOWNWARD_STEPS:
            raise ArgumentError(
                f"the model's text falls apart even at a dose of {high:.2g}",
                "choose other blocks, or build the axis from other texts",
            )
        below = start / search.factor**step
        if coherent([below])[0]:
            low = below
        else:
            high = below
    while high / low > search.tolerance:
        middle = math.sqrt(low * high)
        if coherent([middle])[0]:
            low = middle
        else:
            high = middle
    return low, True


def _upward(start: float, search: LimitSearch) -> Iterator[list[float]]:
    """Rungs from `start` to `LARGEST_DOSE`, in steps of the factor, as many at once as the search asks for."""
    dose = min(start, LARGEST_DOSE)
    while True:
        rungs = [min(dose * search.factor**step, LARGEST_DOSE) for step in range(search.ladder)]
        rungs = list(dict.fromkeys(rungs))
        yield rungs
        if rungs[-1] >= LARGEST_DOSE:
            return
        dose = rungs[-1] * search.factor


class CoherenceGauge:
    """Lets the model write under doses of one direction, and measures what it wrote.

    The prompts, seeds and sampling are the same for every dose, and so is the noise that sampling draws:
    two doses differ in what they do, not in their luck.
    """

    def __init__(
        self,
        direction: Direction,
        blocks: tuple[int, ...],
        model: LanguageModel,
        search: LimitSearch = FULL_SEARCH,
        progress: Progress | None = None,
    ) -> None:
        from overlay.model import neutral_texts

        self._direction = direction
        self._blocks = blocks
        self._model = model
        self._search = search
        self._progress = progress or SilentProgress()
        self._prompts = [" ".join(text.split()[:PROMPT_WORDS]) for text in neutral_texts()[: search.prompts]]
        self._prompts *= search.samples
        self._points: dict[float, CoherencePoint] = {}

    @property
    def points(self) -> tuple[CoherencePoint, ...]:
        """Everything that was measured, by dose."""
        return tuple(self._points[dose] for dose in sorted(self._points))

    def both_signs(self, doses: Sequence[float]) -> list[bool]:
        """Whether each dose leaves the model's text coherent under either sign."""
        missing = [0.0] if 0.0 not in self._points else []
        missing += [sign * dose for dose in doses for sign in (1, -1) if sign * dose not in self._points]
        self._measure(missing)
        return [self._points[dose].coherent and self._points[-dose].coherent for dose in doses]

    def _measure(self, doses: Sequence[float]) -> None:
        for dose, texts in self._write(doses).items():
            read = Reading(
                self._surprise(texts),
                float(np.mean([repeated(text.tokens, 3) for text in texts])),
                distinct([text.tokens for text in texts], 2),
            )
            if dose == 0 and read.surprise is None:
                raise ArgumentError(
                    f"{self._model.name} ends most plain prompts at once, so nothing shows when its text falls apart",
                    "use a model that goes on from plain text",
                )
            self._points[dose] = CoherencePoint(
                **asdict(read), dose=dose, coherent=is_coherent(read, self._points.get(0.0, read))
            )

    def _write(self, doses: Sequence[float]) -> dict[float, list[Completion]]:
        rows = [
            Row(
                text=prompt,
                intervention=Intervention((Dose(self._direction, dose, self._blocks),)) if dose else NOTHING,
                sampling=Sampling(max_tokens=self._search.tokens, temperature=TEMPERATURE),
                seed=seed,
            )
            for dose in doses
            for seed, prompt in enumerate(self._prompts)
        ]
        what = "looking for the dose at which text falls apart"
        detail = f"{len(self._points)} doses read"
        found = self._model.generate(rows, progress=lambda done: self._progress.step(what, done, len(rows), detail))
        count = len(self._prompts)
        return {dose: found[place * count : (place + 1) * count] for place, dose in enumerate(doses)}

    def _surprise(self, texts: Sequence[Completion]) -> float | None:
        rows = [
            Row(text=prompt, options=(" " + text.text,))
            for prompt, text in zip(self._prompts, texts, strict=True)
            if text.text
        ]
        if 2 * len(rows) < len(texts):
            return None
        return float(np.median([-scored.per_token[0] for scored in self._model.score(rows)]))


def repeated(tokens: Sequence[int], size: int) -> float:
    """Share of the n-grams of a text that occurred before in it; 0 for a text too short to have any."""
    grams = _grams(tokens, size)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: Sequence[Sequence[int]], size: int) -> float:
    """Distinct n-grams over all texts as a share of all their n-grams (Li et al. 2016, distinct-n); 0 without any."""
    grams = [gram for tokens in texts for gram in _grams(tokens, size)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _grams(tokens: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]
