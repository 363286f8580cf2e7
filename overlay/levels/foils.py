"""Foils: how far a text reads as each of the things that an axis must not be mistaken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from overlay.axes import Axis, ContrastSet, Text, auroc, text_row
from overlay.model import Row, neutral_texts

if TYPE_CHECKING:
    from overlay.model import LanguageModel

Values = NDArray[np.float64]


class FoilReader:
    """Reads texts on every foil of an axis, made from the foils' own texts where the axis itself is read.

    A shrunk linear discriminant over all groups of the contrast set (scikit-learn; Ledoit and Wolf 2004), on the mean
    of the axis's reading blocks. What a text reads on a foil is that group's score minus the mean of all others', in
    deviations of neutral text, as the axis's own readings are. Nothing is read before it is asked for.
    """

    def __init__(self, axis: Axis, contrast: ContrastSet, model: LanguageModel) -> None:
        self._axis = axis
        self._contrast = contrast
        self._model = model
        self.names = tuple(contrast.foils)

    @property
    def digest(self) -> str:
        """A hash of the texts that it is made from."""
        return self._contrast.digest

    def read(self, texts: Sequence[Text]) -> list[dict[str, float]]:
        """By foil, what each text reads, in deviations of neutral text."""
        if not texts:
            return []
        values = (self._scores(texts) - self._neutral.mean(0)) / self._neutral.std(0, ddof=1)
        return [dict(zip(self.names, map(float, row), strict=True)) for row in values]

    def separation(self, fresh: Mapping[str, Sequence[Text]]) -> dict[str, float]:
        """By foil, AUROC of its fresh texts against all other fresh texts; foils without any are left out."""
        if not fresh:
            return {}
        labels = np.array([group for group, texts in fresh.items() for _ in texts])
        scores = self._scores([text for texts in fresh.values() for text in texts])
        return {
            name: auroc(scores[labels == name, place].tolist(), scores[labels != name, place].tolist())
            for place, name in enumerate(self.names)
            if name in fresh
        }

    @cached_property
    def _discriminant(self) -> Any:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        groups = self._contrast.groups()
        labels = [group for group, texts in groups.items() for _ in texts]
        seen = self._seen([text for texts in groups.values() for text in texts])
        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(seen, labels)

    @cached_property
    def _neutral(self) -> Values:
        return self._scores(neutral_texts())

    def _scores(self, texts: Sequence[Text]) -> Values:
        """(texts, foils): each foil's score above the mean of all other groups'."""
        classes = list(self._discriminant.classes_)
        scores = self._discriminant.decision_function(self._seen(texts))
        others = (scores.sum(1, keepdims=True) - scores) / (len(classes) - 1)
        apart: Values = (scores - others)[:, [classes.index(name) for name in self.names]]
        return apart

    def _seen(self, texts: Sequence[Text]) -> Values:
        """(texts, width): the mean of the reading blocks, in units of each block's median residual norm."""
        rows: list[Row] = [text_row(text) for text in texts]
        blocks = list(self._axis.reading_blocks)
        norms = self._axis.direction.norms[blocks][:, None]
        seen = self._model.observe(rows, pool=self._axis.pool)
        return np.stack([(one.activations[blocks] / norms).mean(0) for one in seen]).astype(np.float64)
