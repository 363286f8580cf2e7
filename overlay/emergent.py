"""The emergent axes of a home: drift gathered turn by turn, looks at it, and the axes that live."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from overlay.axes import Axis, load_axis
from overlay.errors import RecordDamaged, WrongBaseModel
from overlay.home import Home
from overlay.inner import (
    Drift,
    Emergence,
    EmergenceSettings,
    EmergentAxis,
    Event,
    InnerNeutral,
    Mind,
    StateSettings,
    calibrated,
    gather_inner_neutral,
    neutral_activations,
    ordinary_subjects,
    read_inner_speech,
    setup_digest,
)
from overlay.progress import Progress, SilentProgress
from overlay.records import write_record

if TYPE_CHECKING:
    from overlay.model import LanguageModel, VolatilityGauge

Record = Mapping[str, Any]

FOLLOWED = 0.9
"""An axis in force is replaced when its direction has moved away from it to a cosine below this: calibrating takes a
minute, and what it reads should stay comparable."""


@dataclass(frozen=True)
class Outlook:
    """What is known of emergence without a model.

    Attributes:
        turns: of drift that were observed in all; `next_look`: in how many the next look is due.
        axes: those that live, each with the digest of the axis in force.
    """

    on: bool
    turns: int
    looks: int
    next_look: int
    axes: tuple[EmergentAxis, ...]


def living(home: Home) -> dict[str, str]:
    """The emergent axes in force, by name: the digest under which each is kept. Raises RecordDamaged."""
    path = _folder(home) / "in_force.json"
    if home.settings.state.emergent is None or not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in found.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise RecordDamaged(f"{path} can't be read ({error})", "move it aside; axes emerge anew") from error


def state_settings(home: Home) -> StateSettings:
    """agent.yaml's state with an accumulator for each emergent axis that lives."""
    return home.settings.state.with_emergent(living(home))


def kept_axis(home: Home, name: str, digest: str, model_digest: str) -> Axis:
    """An emergent axis as it was in force at some time. Raises AxisMissing, RecordDamaged, WrongBaseModel."""
    return load_axis(_kept(home, digest) / f"{name}.safetensors", model_digest)


def living_axes(home: Home, model_digest: str) -> list[Axis]:
    """The emergent axes in force. Raises AxisMissing, RecordDamaged, WrongBaseModel."""
    return [kept_axis(home, name, digest, model_digest) for name, digest in living(home).items()]


def has_emerged(home: Home, name: str) -> bool:
    """Whether an axis of this name has ever been in force here without being designed by anybody."""
    return any((_folder(home) / "axes").glob(f"*/{name}.safetensors"))


def take_back(home: Home, kept: Sequence[Record], later: Sequence[Record]) -> None:
    """Leave a home that was copied with what had emerged when the last of the `kept` records was written.

    Both are records of all sessions, oldest first. The drift of later turns is taken out, the axes in force are those
    that the last turn rests on, and of each it is told again by the journal how old it is. The mean of what is left is
    that of the drifts kept one by one; where none of these is left, they are gathered anew when an agent opens.
    """
    folder, settings = _folder(home), home.settings.state.emergent or EmergenceSettings()
    if not folder.is_dir():
        return
    rested_on: Record = next((one["made_with"] for one in reversed(kept) if one.get("made_with")), {})
    in_force = {
        name: digest
        for name, digest in rested_on.get("axes", {}).items()
        if name not in home.settings.state.axes and (_kept(home, digest) / f"{name}.safetensors").exists()
    }
    write_record(folder / "in_force.json", json.dumps(in_force))
    # What can't be read is replaced when an agent opens, and without neutral speech no look was ever taken.
    with contextlib.suppress(RecordDamaged, WrongBaseModel):
        drift = _cut(home, kept, later)
        neutral = InnerNeutral.load(folder / "neutral.safetensors", drift.model_digest)
        axes = {name: kept_axis(home, name, digest, drift.model_digest) for name, digest in in_force.items()}
        events = [event for record in kept for event in record.get("events", ())]
        path = folder / "emergence.safetensors"
        if later and path.exists():
            now = Emergence.load(path, drift.model_digest)
            now.as_of(drift, axes, events, neutral, settings, home.settings.seed).save(path)


def _cut(home: Home, kept: Sequence[Record], later: Sequence[Record]) -> Drift:
    """Take the drift of later turns out of what is kept of it, and give the rest. Raises RecordDamaged."""
    path = _folder(home) / "drift.safetensors"
    drift = Drift.load(path, settings=home.settings.state.drift)
    gone = {_label(record) for record in later}
    if not gone.intersection(drift.turns):
        return drift
    drift = _without(drift, gone, {_label(record): float(record.get("seconds", 0.0)) for record in kept})
    if drift.turns:
        drift.save(path)
    else:
        path.unlink()
    return drift


def outlook(home: Home) -> Outlook:
    """What has emerged so far, and when it is looked again. Raises RecordDamaged."""
    settings = home.settings.state.emergent
    folder = _folder(home)
    turns, looks, seen, axes = 0, 0, 0, tuple[EmergentAxis, ...]()
    if (folder / "drift.safetensors").exists():
        turns = Drift.load(folder / "drift.safetensors").count
    if (folder / "emergence.safetensors").exists():
        emergence = Emergence.load(folder / "emergence.safetensors")
        looks, seen, axes = emergence.looks, emergence.seen, emergence.axes
    following = 0
    if settings is not None:
        following = max(0, settings.after - turns if not looks else seen + settings.every - turns)
    return Outlook(settings is not None, turns, looks, following, axes)


class Emergents:
    """Gathers the drift of an agent's inner speech and looks what emerges from it.

    Everything it keeps can be gathered again from the journals of the last turns, so what can't be read is replaced.
    """

    def __init__(self, home: Home, mind: Mind, settings: EmergenceSettings) -> None:
        self._home = home
        self._settings = settings
        self._mind = mind
        self._model: LanguageModel = mind.model
        self._gauge: VolatilityGauge = mind.influence.gauge
        self._folder = _folder(home)
        self._neutral: InnerNeutral | None = None
        shape = (self._model.layers, self._model.width)
        kept = home.settings.state.drift
        self.drift = Drift.none(*shape, self._model.digest, kept)
        self.emergence = Emergence.none(*shape, self._model.digest)
        with contextlib.suppress(RecordDamaged, WrongBaseModel):
            self.drift = Drift.load(self._folder / "drift.safetensors", self._model.digest, kept)
        with contextlib.suppress(RecordDamaged, WrongBaseModel):
            self.emergence = Emergence.load(self._folder / "emergence.safetensors", self._model.digest)

    def catch_up(self, records: Iterable[Record]) -> None:
        """Gather the drift of turns that came after the last one gathered, as a killed process leaves them."""
        known = set(self.drift.turns)
        newest = self.drift.turns[-1] if self.drift.turns else None
        late = list(records)
        if newest is not None:
            places = [place for place, record in enumerate(late) if _label(record) == newest]
            # A session without the last one gathered began after it.
            late = late[places[-1] + 1 :] if places else late
        for record in late[-self.drift.settings.keep :]:
            if _label(record) not in known:
                self.gather(record)

    def gather(self, record: Record) -> None:
        """Add what a turn's inner speech gives on the model's blocks."""
        # The first round alone: later ones answer each other, in a register of their own.
        said = [one["text"] for one in record["inner_speech"] if one["round"] == 1 and not one["within"]]
        (activations,) = read_inner_speech(self._model, [said])
        if activations is None:
            return
        self.drift = self.drift.observe(activations, self._level, turn=_label(record), seconds=record["seconds"])
        self.drift.save(self._folder / "drift.safetensors")

    @property
    def is_due(self) -> bool:
        """Whether enough turns have passed for the next look."""
        return self.emergence.due(self.drift, self._settings)

    def look(self, progress: Progress | None = None) -> tuple[Event, ...]:
        """Look what has emerged; calibrate what is born or has moved on, and put it in force."""
        neutral = self._spoken_neutrally(progress or SilentProgress())
        turn = self.drift.turns[-1]
        self.emergence, events = self.emergence.look(
            self.drift, neutral, self._settings, turn, self._home.settings.seed
        )
        before = living(self._home)
        after = {
            axis.name: self._in_force(axis, before.get(axis.name), neutral, progress) for axis in self.emergence.axes
        }
        self.emergence.save(self._folder / "emergence.safetensors")
        if after != before:
            write_record(self._folder / "in_force.json", json.dumps(after))
        return events

    def _in_force(
        self, axis: EmergentAxis, digest: str | None, neutral: InnerNeutral, progress: Progress | None
    ) -> str:
        if digest is not None:
            kept = kept_axis(self._home, axis.name, digest, self._model.digest)
            chosen = list(kept.reading_blocks)
            cosine = (kept.direction.vectors[chosen] * axis.vectors[chosen]).sum(-1).mean()
            if cosine >= FOLLOWED:
                return digest
        made = calibrated(axis, self._model, self._gauge, neutral, self.drift, self._home.settings.budget, progress)
        made.save(_kept(self._home, made.digest))
        return made.digest

    @cached_property
    def _level(self) -> NDArray[np.float32]:
        """Where drift is measured from: what neutral prose gives."""
        return neutral_activations(self._model)

    def _spoken_neutrally(self, progress: Progress) -> InnerNeutral:
        """The agent's inner speech about ordinary subjects: gathered once for these voices and this model."""
        if self._neutral is None:
            asked, opening = self._mind.asked(ordinary_subjects()), self._mind.opening()
            seed = self._home.settings.seed
            path = self._folder / "neutral.safetensors"
            kept = None
            with contextlib.suppress(RecordDamaged, WrongBaseModel):
                kept = InnerNeutral.load(path, self._model.digest)
            if kept is None or kept.setup_digest != setup_digest(asked, opening, seed):
                kept = gather_inner_neutral(self._model, asked, opening, seed, progress)
                kept.save(path)
            self._neutral = kept
        return self._neutral


def _without(drift: Drift, gone: set[str], seconds: Mapping[str, float]) -> Drift:
    """A drift without some of its turns, its mean put together again from the single drifts that are left."""
    layers, width = drift.mean.shape
    left = Drift.none(layers, width, drift.model_digest, drift.settings)
    still = np.zeros_like(drift.mean)
    for label, one in zip(drift.turns, drift.recent, strict=True):
        if label not in gone:
            left = left.observe(one, still, turn=label, seconds=seconds.get(label, 0.0))
    return replace(left, count=drift.count - len(drift.turns) + len(left.turns)) if left.turns else left


def _label(record: Record) -> str:
    return f"{record['session']}:{record['number']}"


def _folder(home: Home) -> Path:
    return home.lived / "emergent"


def _kept(home: Home, digest: str) -> Path:
    return _folder(home) / "axes" / digest
