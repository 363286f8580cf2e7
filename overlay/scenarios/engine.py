"""The local engine: groups are played one after the other, by the model of this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from overlay.scenarios.cells import Group, Record
from overlay.scenarios.detectors import Instruments
from overlay.scenarios.episode import play_group

if TYPE_CHECKING:
    from overlay.model import LanguageModel


class LocalEngine:
    """Plays groups in order."""

    def __init__(self, model: LanguageModel, instruments: Instruments) -> None:
        self._model = model
        self._instruments = instruments

    def play(self, groups: Sequence[Group]) -> Iterator[tuple[Group, list[Record]]]:
        """Each group with one record per unit, in the order of its units."""
        for group in groups:
            yield group, play_group(group, self._model, self._instruments)
