"""Exposures: what the agent lives through before the trial, and the state that it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from overlay.errors import ArgumentError
from overlay.home import Home
from overlay.inner import Mind, State
from overlay.progress import Progress
from overlay.records import digest_of, read_journal, write_record
from overlay.scenarios.script import Exposure
from overlay.session import session_path


@dataclass(frozen=True)
class Lived:
    """What living through an exposure did.

    Attributes:
        path: the state after each cause, oldest first.
        spoken: what the voices said to each other; nothing of it enters a trial.
    """

    state: State
    path: tuple[Mapping[str, Any], ...] = ()
    spoken: tuple[str, ...] = ()


class LivedBefore:
    """Exposures that were lived through before, by all that they rest on; each is read for minutes, and ends the same.

    Args:
        rests_on: hashes of the model, axes, voices, frames and settings.
    """

    def __init__(self, folder: Path, rests_on: Mapping[str, Any]) -> None:
        self._folder = folder
        self._rests_on = dict(rests_on)

    def find(self, texts: Sequence[str], seed: int) -> Lived | None:
        """What this exposure did, if it was lived through; a record that can't be read is lived through again."""
        try:
            found = json.loads(self._path(texts, seed).read_text(encoding="utf-8"))
            return Lived(State(found["state"]), tuple(found["path"]), tuple(found["spoken"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def keep(self, texts: Sequence[str], seed: int, lived: Lived) -> Lived:
        """Keep it, and give it back. Raises StorageFull."""
        content = {"state": dict(lived.state.values), "path": list(lived.path), "spoken": list(lived.spoken)}
        write_record(self._path(texts, seed), json.dumps(content, ensure_ascii=False))
        return lived

    def _path(self, texts: Sequence[str], seed: int) -> Path:
        return self._folder / f"{digest_of([self._rests_on, list(texts), seed])[:24]}.json"


def live_through(
    exposure: Exposure, mind: Mind, home: Home, known: LivedBefore, progress: Progress, what: str
) -> Lived:
    """The state after an exposure: read text by text with an inner dialogue on each, or taken as it is given.

    Raises:
        ArgumentError: a session or an axis that it names isn't there.
    """
    if exposure.session is not None:
        return _at_the_end_of(exposure.session, mind, home)
    if exposure.state:
        if unknown := set(exposure.state) - set(mind.settings.axes):
            raise ArgumentError(f"the exposure gives a state on '{min(unknown)}'", "name an axis of the scenario")
        resting = State.resting(mind.settings).values
        return Lived(State({**resting, **exposure.state}))
    seed = home.settings.seed
    found = known.find(exposure.texts, seed)
    return found or known.keep(exposure.texts, seed, _read(exposure.texts, mind, seed, progress, what))


def shuffled(exposure: Exposure) -> Exposure | None:
    """The same words in an order that says nothing; None for an exposure without texts."""
    if not exposure.texts:
        return None
    draw = np.random.default_rng(0)
    texts = []
    for text in exposure.texts:
        words = text.split()
        draw.shuffle(words)
        texts.append(" ".join(words))
    return Exposure(texts=tuple(texts))


def _read(texts: Sequence[str], mind: Mind, seed: int, progress: Progress, what: str) -> Lived:
    # Prefixes that an earlier reading left would round differently.
    mind.model.prefixes.clear()
    state, energies = State.resting(mind.settings), dict[str, float]()
    path: list[dict[str, Any]] = []
    spoken: list[str] = []
    for number, text in enumerate(texts):
        progress.step(what, number, len(texts))
        lived = mind.experience(text, state, mind.wake(text, state, energies), seed * 1_000_003 + number)
        state, energies = lived.state, lived.energies
        spoken += [utterance.text for utterance in lived.dialogue.utterances] if lived.dialogue else []
        by_cause: dict[str, dict[str, Any]] = {}
        for change in lived.changes:
            entry = by_cause.setdefault(
                change.cause, {"step": 0, "source": change.source, "cause": change.cause, "z": {}, "state": {}}
            )
            entry["z"][change.axis] = round(change.z, 4)
            entry["state"][change.axis] = round(change.after, 6)
        for entry in by_cause.values():
            path.append(entry | {"step": len(path) + 1})
    progress.step(what, len(texts), len(texts))
    return Lived(state, tuple(path), tuple(spoken))


def _at_the_end_of(session: str, mind: Mind, home: Home) -> Lived:
    path = session_path(home.sessions, session)
    records = [record for record in read_journal(path) if "state_after" in record]
    if not records:
        raise ArgumentError(f"the session '{session}' holds no turn", "name another one: overlay sessions lists them")
    left = records[-1]["state_after"]
    resting = State.resting(mind.settings).values
    return Lived(State({name: float(left.get(name, value)) for name, value in resting.items()}))
