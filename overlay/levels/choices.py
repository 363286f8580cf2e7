"""Choices: the scored choices of a script, and what a copy of the model says of itself after each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from overlay.levels.level import Level
from overlay.levels.measure import unit
from overlay.scenarios import Record, Scenario, plan, play_group
from overlay.scenarios.detectors import Instruments

if TYPE_CHECKING:
    from overlay.model import LanguageModel


class Choices:
    """One script's trial, played as scenarios play it: both orders of the options, the same tokens in every arm.

    Of its detectors only the primary is asked, and of its probes only those that are scored. The choices of a negative
    control have nothing to do with the state: they are told as another quantity, and nobody is asked about them.

    Args:
        paraphrases: wordings of each item that are met; after the first, probed levels are asked about themselves.
    """

    kind = "choices"

    def __init__(self, model: LanguageModel, scenario: Scenario, paraphrases: int) -> None:
        self._model = model
        probes = scenario.probes if scenario.control is None else None
        probes = probes.model_copy(update={"free": ()}) if probes else None
        changed = {"probes": probes, "detectors": (scenario.primary_detector,)}
        self._scenario = scenario.model_copy(update=changed)
        self._paraphrases = paraphrases
        self.name = scenario.name
        self.weight = 2 * paraphrases * len(scenario.trial.items)

    @property
    def digest(self) -> str:
        """A hash of the script and how much of it is played."""
        return f"{self._scenario.digest} {self._paraphrases}"

    def ask(self, level: Level) -> list[Record]:
        """One unit a wording; those of one item are a cluster. Units that the script excludes are left out."""
        [group] = plan(self._scenario, [level.arm(self._paraphrases)])
        records = play_group(group, self._model, Instruments())
        return [self._unit(record) for record in records if not record["excluded"]]

    def _unit(self, record: Record) -> Record:
        item = f"{self.name}/{record['item']}"
        fired = record["detectors"][self._scenario.primary]["fired"]
        chosen = None if fired is None else float(fired)
        if self._scenario.control == "negative":
            values = {"unrelated choice": record["margin"], "unrelated chosen": chosen}
        else:
            values = {"choice": record["margin"], "chosen": chosen}
        if told := [probe for probe in record["probes"] if probe["kind"] == "forced"]:
            values["admits"] = float(np.mean([probe["margin"] for probe in told]))
            values["admitted"] = float(np.mean([probe["named"] for probe in told]))
        return unit(item, f"{item}/{record['paraphrase']}/{record['seed']}", values)
