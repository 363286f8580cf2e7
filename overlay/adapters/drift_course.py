"""The course of drift in a training: what it does to the model after so many steps, kept through interruptions."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from overlay.adapters.drift import DriftWatch, FeedingDrift, default_texts
from overlay.records import read_record, write_record

if TYPE_CHECKING:
    from overlay.adapters.recipe import Recipe
    from overlay.model import Intervention, LanguageModel

FEEDINGS = "feedings.json"
"""In a checkpoint's folder: what was measured so far."""

WATCHED = 4
"""Texts of what is taught, and neutral ones, that are looked at each time: what the base makes of them stays in
memory."""


class DriftCourse:
    """Measures the drift after steps of a training; made before the first one, on the base.

    Args:
        checkpoint: the folder in which what was measured outlives an interruption.
        reached: the step that is gone on from; what was measured after it is measured again. None: from the start.
    """

    def __init__(self, model: LanguageModel, recipe: Recipe, checkpoint: Path, reached: int | None = None) -> None:
        texts = default_texts(recipe, model)
        groups = [[text for name, text in texts if name == group] for group in ("taught", "neutral")]
        self._model = model
        self._watch = DriftWatch(model, [text for group in groups for text in group[:WATCHED]])
        self._path = checkpoint / FEEDINGS
        if reached is not None:
            self._watch.feedings += [one for one in read_feedings(self._path) if one.feedings <= reached]

    def __call__(self, steps: int, worn: Intervention) -> None:
        """Measure the model as it is under `worn`, after so many steps."""
        self._watch(steps, self._model, worn)
        write_record(self._path, json.dumps([asdict(one) for one in self._watch.feedings]))

    def until(self, steps: int) -> tuple[FeedingDrift, ...]:
        """What was measured up to this step."""
        return tuple(one for one in self._watch.feedings if one.feedings <= steps)


def read_feedings(path: Path) -> tuple[FeedingDrift, ...]:
    """What was measured so far; nothing where there is no such file. Raises RecordDamaged."""
    return read_record(path, tuple[FeedingDrift, ...], "a course of drift", "train without --resume") or ()
