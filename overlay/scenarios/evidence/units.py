"""Units: the records of a run by arm and unit, and the pairs of an arm with base that can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from overlay.errors import ArgumentError
from overlay.scenarios.cells import Arm, Record
from overlay.scenarios.script import Scenario
from overlay.statistics import cluster_bootstrap, mcnemar_exact

Key = tuple[str, int, int, int]
"""Item, paraphrase, seed, repeat: what pairs a unit of one arm with that of another."""

Direction = int | None


@dataclass(frozen=True)
class Pair:
    """One unit in base and in another arm, neither of them excluded."""

    key: Key
    base: Record
    own: Record

    @property
    def item(self) -> str:
        """The item that the unit belongs to."""
        return self.key[0]

    @property
    def shift(self) -> float | None:
        """Change of the margin towards the behaviour, nats per token; None where nothing was scored."""
        before, after = self.base["margin"], self.own["margin"]
        return None if before is None or after is None else after - before

    def outcomes(self, detector: str) -> tuple[bool, bool]:
        """What the detector found in base and in the arm."""
        return bool(self.base["detectors"][detector]["fired"]), bool(self.own["detectors"][detector]["fired"])


class Units:
    """All records of a run, in the order of the script, whatever the order in which they came.

    Raises:
        ArgumentError: a record of an arm or item that isn't there, two records of one unit, or no base arm.
    """

    def __init__(self, scenario: Scenario, arms: Sequence[Arm], records: Iterable[Record]) -> None:
        self.scenario = scenario
        self.arms = tuple(arms)
        place = {item.id: number for number, item in enumerate(scenario.trial.items)}
        cells: dict[tuple[str, Direction], dict[Key, Record]] = {(arm.name, arm.direction): {} for arm in arms}
        for record in records:
            who = record["arm"], record["direction"]
            key: Key = (record["item"], record["paraphrase"], record["seed"], record["repeat"])
            if who not in cells or key[0] not in place:
                raise ArgumentError(
                    f"a record of arm {who[0]!r}, item {key[0]!r}, which this run doesn't have",
                    "pass the arms and the script that the records were made with",
                )
            if key in cells[who]:
                raise ArgumentError(f"two records of {key} in arm {who[0]!r}", "pass each cell once")
            cells[who][key] = record
        self.cells: Mapping[tuple[str, Direction], Mapping[Key, Record]] = {
            who: dict(sorted(found.items(), key=lambda entry: (place[entry[0][0]], *entry[0][1:])))
            for who, found in cells.items()
        }
        if not self.cells.get(("base", None)):
            raise ArgumentError("there is no record of the base arm", "run base: nothing can be compared without it")
        self._pairs: dict[tuple[str, Direction, str], list[Pair]] = {}

    @property
    def names(self) -> list[str]:
        """Every arm's name once, random directions of one matching under one name."""
        return list(dict.fromkeys(arm.name for arm in self.arms))

    def members(self, name: str) -> list[Arm]:
        """The arms of this name: one, or all random directions of one matching."""
        return [arm for arm in self.arms if arm.name == name]

    def random_names(self) -> list[str]:
        """The names under which random directions stand."""
        return [name for name in self.names if self.members(name)[0].direction is not None]

    @cached_property
    def base(self) -> Mapping[Key, Record]:
        """Base's records, excluded ones too."""
        return self.cells["base", None]

    def records(self, name: str) -> list[Record]:
        """All records of an arm, over all its directions."""
        return [record for arm in self.members(name) for record in self.cells[name, arm.direction].values()]

    def usable(self, name: str, detector: str | None = None) -> list[Record]:
        """Those of an arm's records that the detector (the primary) could read, paired or not."""
        return [record for record in self.records(name) if not why_excluded(record, detector or self.scenario.primary)]

    def pairs(self, name: str, direction: Direction = None, detector: str | None = None) -> list[Pair]:
        """The units that can be read in base and in an arm; the primary detector's unless another is named."""
        detector = detector or self.scenario.primary
        known = self._pairs.get((name, direction, detector))
        if known is None:
            known = [
                Pair(key, self.base[key], record)
                for key, record in self.cells.get((name, direction), {}).items()
                if key in self.base
                and not why_excluded(record, detector)
                and not why_excluded(self.base[key], detector)
            ]
            self._pairs[name, direction, detector] = known
        return known

    def all_pairs(self, name: str) -> list[Pair]:
        """The pairs of every direction of an arm."""
        return [pair for arm in self.members(name) for pair in self.pairs(name, arm.direction)]

    def left_out(self, name: str) -> Counter[str]:
        """Why units don't enter an arm's numbers: its own reasons, or base's where only that can't be read."""
        reasons: Counter[str] = Counter()
        for arm in self.members(name):
            for key, record in self.cells[name, arm.direction].items():
                own = why_excluded(record, self.scenario.primary)
                theirs = why_excluded(self.base[key], self.scenario.primary) if key in self.base else ""
                if own or theirs:
                    reasons[own or f"in base: {theirs}"] += 1
        return reasons

    def planned(self, name: str) -> int:
        """How many units an arm was to meet: those of base, or as many wordings of them as it runs on.

        Base's own are all wordings of all items with every seed and repeat that it ran, or as many as were promised.
        """
        if name == "base":
            repeats = len({key[2:] for key in self.base})
            whole = repeats * sum(len(item.paraphrases) for item in self.scenario.trial.items)
            return min(whole, self.scenario.preregistration.units or whole)
        return sum(
            sum(arm.paraphrases is None or key[1] < arm.paraphrases for key in self.base) for arm in self.members(name)
        )


def why_excluded(record: Record, detector: str) -> str:
    """Why a detector's finding on this unit doesn't count; empty where it does."""
    if record["excluded"]:
        return str(record["excluded"])
    finding = record["detectors"].get(detector)
    if finding is None:
        return f"{detector}: nothing found or denied"
    return f"{detector}: {finding['reason'] or 'undecided'}" if finding["fired"] is None else ""


def shifts(pairs: Iterable[Pair]) -> list[tuple[str, float]]:
    """Item and shift of every pair in which the behaviour was scored."""
    return [(pair.item, pair.shift) for pair in pairs if pair.shift is not None]


def changes(pairs: Iterable[Pair], detector: str) -> list[tuple[str, float]]:
    """Item and change of the detector's finding, -1, 0 or 1, of every pair."""
    return [(pair.item, float(after) - float(before)) for pair in pairs for before, after in [pair.outcomes(detector)]]


def by_item(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Mean of each item: its paraphrases aren't independent of each other."""
    found: dict[str, list[float]] = {}
    for item, value in values:
        found.setdefault(item, []).append(value)
    return {item: float(np.mean(own)) for item, own in found.items()}


def mean(values: Sequence[tuple[str, float]]) -> float | None:
    """Mean over all units; None over none."""
    return float(np.mean([value for _, value in values])) if values else None


def bounds(values: Sequence[tuple[str, float]], confidence: float = 0.95) -> list[float] | None:
    """Bootstrap interval of the mean over whole items; None with fewer than two items."""
    if len({item for item, _ in values}) < 2:
        return None
    interval = cluster_bootstrap([value for _, value in values], [item for item, _ in values], confidence=confidence)
    return [interval.low, interval.high]


def rise(outcomes: Sequence[tuple[bool, bool]]) -> float:
    """One-sided exact McNemar p that the second of each pair is yes more often; 1 unless it is."""
    found = mcnemar_exact([before for before, _ in outcomes], [after for _, after in outcomes])
    return found.p / 2 if found.only_second > found.only_first else 1.0
