"""Abilities: whether questions that have nothing to do with the state are still answered rightly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

from overlay.levels.level import Level
from overlay.levels.measure import unit
from overlay.levels.questions import Question
from overlay.records import digest_of
from overlay.scenarios import Record

if TYPE_CHECKING:
    from overlay.model import LanguageModel

ASKED = "Finish this sentence: {prompt} ..."


class Abilities:
    """Questions by what they are about; the likelier of two options is the answer."""

    kind = name = "abilities"

    def __init__(self, model: LanguageModel, system: str, questions: Mapping[str, Sequence[Question]]) -> None:
        self._model = model
        self._system = system
        self._questions = [(about, question) for about, asked in questions.items() for question in asked]
        self.weight = len(self._questions)

    @property
    def digest(self) -> str:
        """A hash of how and what is asked."""
        return digest_of([ASKED, self._system, [(about, *astuple(question)) for about, question in self._questions]])

    def ask(self, level: Level) -> list[Record]:
        """One unit a question: 1 where it is answered rightly, else 0."""
        treatment = level.treatment(self._system)
        rows = [
            # The reply begins a line of its own: what stands first in it has no blank before it.
            treatment.row(
                ASKED.format(prompt=question.prompt),
                options=tuple(option.lstrip() for option in question.options),
                chat=True,
            )
            for _, question in self._questions
        ]
        self._model.prefixes.clear()
        records = []
        for place, scored in enumerate(self._model.score(rows)):
            about, question = self._questions[place]
            likely = scored.per_token if question.by_token else scored.total
            right = float(likely[question.right] > likely[1 - question.right])
            records.append(unit(f"{about} {place}", f"{about} {place}", {about: right}))
        return records
