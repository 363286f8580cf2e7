"""Texts: what the model writes about everyday things, and what that reads like to the unchanged model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from overlay.axes import repeated
from overlay.inner import Influence, WordFinder, ordinary_subjects
from overlay.levels.foils import FoilReader
from overlay.levels.level import Level
from overlay.levels.measure import unit
from overlay.model import Completion, Row, Sampling
from overlay.records import digest_of
from overlay.scenarios import Record

if TYPE_CHECKING:
    from overlay.model import LanguageModel

TEMPERATURE = 0.8
"""Greedy text repeats itself without any influence, and text at 1.0 wanders off: both would hide one."""

REPEATED = 3
"""Tokens of a run that counts as repeated when it comes again."""


class Texts:
    """Replies to everyday remarks, sampled with the same noise under every level, and read without any influence.

    Args:
        words: those by which a text is said to name the state.
        prompts, seeds, tokens: remarks, replies to each, and their length.
    """

    kind = name = "texts"

    def __init__(
        self,
        model: LanguageModel,
        influence: Influence,
        foils: FoilReader,
        axis: str,
        system: str,
        words: Sequence[str],
        *,
        prompts: int,
        seeds: int,
        tokens: int,
    ) -> None:
        self._model = model
        self._influence = influence
        self._foils = foils
        self._axis = axis
        self._system = system
        self._words = tuple(words)
        subjects = ordinary_subjects()
        self._prompts = subjects[:: max(1, len(subjects) // prompts)][:prompts]
        self._seeds = seeds
        self._tokens = tokens
        self.weight = 8 * len(self._prompts) * seeds

    @property
    def digest(self) -> str:
        """A hash of remarks, sampling and what reads."""
        reading = (self._influence.axes[self._axis].digest, self._foils.digest, self._words)
        return digest_of([self._prompts, self._seeds, self._tokens, TEMPERATURE, self._system, reading])

    def ask(self, level: Level) -> list[Record]:
        """One unit a reply; those to one remark are a cluster."""
        asked = [(place, seed) for place in range(len(self._prompts)) for seed in range(self._seeds)]
        sampling = Sampling(max_tokens=self._tokens, temperature=TEMPERATURE)
        treatment = level.treatment(self._system)
        rows = [
            treatment.row(self._prompts[place], chat=True, sampling=sampling, seed=1000 * place + seed)
            for place, seed in asked
        ]
        self._model.prefixes.clear()
        written = self._model.generate(rows)
        values = self._read(written, [self._prompts[place] for place, _ in asked])
        return [
            unit(str(place), f"{place}.{seed}", found, said=self._prompts[place], text=one.text)
            for (place, seed), one, found in zip(asked, written, values, strict=True)
        ]

    def _read(self, written: Sequence[Completion], prompts: Sequence[str]) -> list[dict[str, float | None]]:
        """What each text reads, in deviations of neutral text, and what it is like; nothing of an empty one."""
        there = [place for place, one in enumerate(written) if one.text.strip()]
        texts = [written[place].text for place in there]
        found: list[dict[str, float | None]] = [{"empty": 1.0} for _ in written]
        if not there:
            return found
        self._model.prefixes.clear()
        base = Level("base").treatment(self._system)
        rows: list[Row] = [base.row(prompts[place], options=(written[place].text,), chat=True) for place in there]
        surprises = [-scored.per_token[0] for scored in self._model.score(rows)]
        readings = self._influence.read(self._model, texts)
        foils = self._foils.read(texts)
        names = WordFinder(self._words)
        for place, text, surprise, own, others in zip(there, texts, surprises, readings, foils, strict=True):
            found[place] = {
                "empty": 0.0,
                "reads": own[self._axis],
                **{f"reads as {foil}": value for foil, value in others.items()},
                "names it": float(bool(names(text))),
                "surprise": surprise,
                "repetition": repeated(written[place].tokens, REPEATED),
            }
        return found
