"""Likelihoods: how likely fresh texts that people wrote are under a level, group by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from overlay.axes import Text, text_parts
from overlay.levels.chat_cost import QUERY
from overlay.levels.level import Level
from overlay.levels.measure import unit
from overlay.records import digest_of
from overlay.scenarios import Record

if TYPE_CHECKING:
    from overlay.model import LanguageModel

OWN, TWINS = "positive", "negative"


class Likelihoods:
    """The log-likelihood per token of texts as replies to one neutral query.

    `groups` are those of an axis's confirmation file: its own texts, their twins, its foils and neutral text. A text
    and its twin tell of one scene, so the difference of the two is told as a quantity of its own.
    """

    kind = name = "likelihoods"

    def __init__(self, model: LanguageModel, system: str, groups: Mapping[str, Sequence[Text]]) -> None:
        self._model = model
        self._system = system
        self._texts = {group: [text_parts(text)[-1] for text in texts] for group, texts in groups.items()}
        self.weight = sum(map(len, self._texts.values()))

    @property
    def digest(self) -> str:
        """A hash of the query and all texts."""
        return digest_of([QUERY, self._system, self._texts])

    def ask(self, level: Level) -> list[Record]:
        """One unit a text, and one for each pair of an own text and its twin; nats per token."""
        treatment = level.treatment(self._system)
        asked = [(group, place) for group, texts in self._texts.items() for place in range(len(texts))]
        rows = [treatment.row(QUERY, options=(self._texts[group][place],), chat=True) for group, place in asked]
        self._model.prefixes.clear()
        likely = dict(zip(asked, (scored.per_token[0] for scored in self._model.score(rows)), strict=True))
        records = [
            unit(f"{group} {place}", f"{group} {place}", {f"likelihood of {group}": value})
            for (group, place), value in likely.items()
        ]
        twins = min(len(self._texts.get(OWN, ())), len(self._texts.get(TWINS, ())))
        records += [
            unit(f"twins {place}", f"twins {place}", {"likelihood": likely[OWN, place] - likely[TWINS, place]})
            for place in range(twins)
        ]
        return records
