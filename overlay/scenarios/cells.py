"""Cells: what one arm did with one unit, under a key that says all that it rests on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from overlay.errors import RecordDamaged
from overlay.model import NOTHING, Intervention, Message, Volatility
from overlay.records import drop_unfinished, write_record
from overlay.scenarios.script import Scenario

Record = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """One situation as it is met once: item, wording (from 0), the seed of what is sampled, and the repeat."""

    item: str
    paraphrase: int
    seed: int = 0
    repeat: int = 0


@dataclass(frozen=True)
class Arm:
    """One condition.

    Attributes:
        direction: the number of the random direction, where there is one.
        paraphrases: how many wordings of each item it runs on; None is all.
        instruction: stands before the setting, in the system message.
        reminder: stands before the question of every step, where a small model follows it best.
        history: turns before the trial, such as a text on a topic that was asked for and written.
        probes: how many wordings of each item are probed after the trial.
        same_tokens: whether its trial must have the tokens of base.
    """

    name: str
    label: str
    intervention: Intervention = NOTHING
    volatility: Volatility | None = None
    direction: int | None = None
    paraphrases: int | None = None
    instruction: str = ""
    reminder: str = ""
    history: tuple[Message, ...] = ()
    probes: int = 0
    same_tokens: bool = True


@dataclass(frozen=True)
class Group:
    """Cells that are played as one batch, always the same ones: who stands beside whom changes roundings."""

    scenario: Scenario
    arm: Arm
    units: tuple[Unit, ...]

    def key(self, unit: Unit, model: str) -> str:
        """The name of a cell: script, unit, arm, model and intervention. `model` is its digest and number type."""
        parts = (self._stem, model, astuple(unit))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]

    @cached_property
    def _stem(self) -> str:
        arm = self.arm
        spoken = (arm.instruction, arm.reminder, [(message.role, message.text) for message in arm.history])
        parts = (self.scenario.digest, arm.name, arm.direction, arm.intervention.digest, spoken, arm.probes)
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def plan(scenario: Scenario, arms: Sequence[Arm]) -> list[Group]:
    """Every arm with its units, as one group each."""
    trial = scenario.trial
    groups = []
    for arm in arms:
        units = tuple(
            Unit(item.id, paraphrase, seed)
            for paraphrase in range(max(len(item.paraphrases) for item in trial.items))
            for item in trial.items
            for seed in trial.seeds
            if paraphrase < len(item.paraphrases) and (arm.paraphrases is None or paraphrase < arm.paraphrases)
        )
        groups.append(Group(scenario, arm, units))
    return groups


class Engine(Protocol):
    """What plays groups: on this machine, or on many."""

    def play(self, groups: Sequence[Group]) -> Iterator[tuple[Group, list[Record]]]:
        """Each group with one record per unit, in the order of its units; groups come as they are done."""
        ...


class Cells:
    """The finished cells of a run, one atomic file each; a killed run finds them again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if folder.is_dir():
            drop_unfinished(folder)

    def get(self, key: str) -> Record | None:
        """The record of a cell, or None. Raises RecordDamaged."""
        path = self._folder / f"{key}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            raise RecordDamaged(f"{path} can't be read", "remove this file: the cell is then played again") from None
        if not isinstance(found, dict) or found.get("cell") != key:
            raise RecordDamaged(f"{path} is not the cell that it is named after", "remove this file")
        return found

    def put(self, key: str, record: Mapping[str, Any]) -> Record:
        """Write a cell for good, and give it back as it will be read. Raises StorageFull."""
        text = json.dumps({"cell": key, **record}, ensure_ascii=False)
        write_record(self._folder / f"{key}.json", text)
        found: Record = json.loads(text)
        return found
