"""The graph of frames: cues wake them, energy spreads along weighted links and fades.

Spreading activation after Collins and Loftus (1975), with inhibition.

Every energy lies in [0, 1], and nothing resonates: what comes in over the links of one frame is weighed by at most 1 in
all, so over one link energy passes at most `spread` times the largest energy there is, over two at most `spread`
squared times it, and so on. With no input the largest energy therefore falls by the factor `FrameGraph.fading` a turn
at least, whatever is linked to what; by default to 7/8 of what it was.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from overlay.errors import ArgumentError
from overlay.frames.calibration import Calibration, cues_digest
from overlay.frames.cues import CueEmbedder, CueMatch, CueVectors, nearness, script_of
from overlay.frames.frame import Frame
from overlay.frames.learning import NOTHING_LEARNED, LearnedWeights

# At most so many frames are active at once: each brings voices and questions, which cost time.
MOST_ACTIVE = 3

# Without a calibration: cosines below this are what short texts about different things reach anyway.
FLOOR = 0.2


@dataclass(frozen=True)
class EnergyCause:
    """Why a frame has the energy that it has.

    `kept` is what is left of its energy of the turn before, `woken` what came from the user's turn
    (by `cue`, if known), and `contributions` what came from other frames over all hops, largest
    first. Clipped to [0, 1], and once before anything spreads, their sum is the energy. `leaning` says
    how much of `woken` is not the text's but of whoever leaned towards the frame.
    """

    kept: float
    woken: float
    cue: str | None
    contributions: tuple[tuple[str, float], ...]
    leaning: float = 0.0

    @property
    def energy(self) -> float:
        """The energy that these causes make, in [0, 1]."""
        return _clip(_clip(self.kept + self.woken) + math.fsum(amount for _, amount in self.contributions))

    def __str__(self) -> str:
        leaning = f", {self.leaning:+.2f} of it by leaning" if self.leaning else ""
        parts = [f'the turn is near "{self.cue}" ({self.woken:+.2f}{leaning})'] if self.cue and self.woken else []
        parts += [f"from {name} ({amount:+.2f})" for name, amount in self.contributions]
        parts += [f"still awake ({self.kept:+.2f})"] if self.kept else []
        return ", ".join(parts) or "nothing"


@dataclass(frozen=True)
class ActiveFrame:
    """A frame above its threshold, its energy, and why; the cause is None if only energies were known."""

    frame: Frame
    energy: float
    cause: EnergyCause | None


@dataclass(frozen=True)
class FrameTurn:
    """What one turn made of the energies: all of them, the cause of each, and the active frames."""

    energies: dict[str, float]
    causes: dict[str, EnergyCause]
    active: tuple[ActiveFrame, ...]


class FrameGraph:
    """Frames and their links. It holds no energy: what it returns depends on what it is given alone.

    `decay` is the share of its energy that a frame keeps from turn to turn, `spread` the share that
    passes over a link of weight 1, both in [0, 1]; energy travels `hops` links a turn. Without a
    calibration the cues are embedded once, when they are first needed.

    Args:
        calibration: what nearness means with this embedder. Without one the cosine with a frame's nearest cue is the
            energy that it wakes, and cosines below `floor` wake nothing.

    Raises:
        ArgumentError: a number is outside its range, two frames have one name, a link leads to no frame, or the
            calibration is that of other cues.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        embedder: CueEmbedder,
        *,
        calibration: Calibration | None = None,
        decay: float = 0.5,
        spread: float = 0.5,
        hops: int = 2,
        floor: float = FLOOR,
    ) -> None:
        for name, value in (("decay", decay), ("spread", spread), ("floor", floor)):
            if not 0 <= value <= 1:
                raise ArgumentError(f"{name} is {value}", f"choose a {name} from 0 to 1")
        if hops < 0:
            raise ArgumentError(f"hops is {hops}", "choose 0 or more")
        self.frames = {frame.name: frame for frame in sorted(frames, key=lambda frame: frame.name)}
        if len(self.frames) != len(frames):
            raise ArgumentError("two frames have the same name", "rename one of them")
        for frame in self.frames.values():
            for target in frame.links:
                if target not in self.frames:
                    raise ArgumentError(f"'{frame.name}' links to '{target}', which is no frame", "mend the link")
        if calibration is not None and calibration.cues != cues_digest(frames):
            raise ArgumentError("the frames were calibrated with other cues", "calibrate them again")
        self.calibration = calibration
        self._embedder = embedder
        self._decay = decay
        self._share = spread
        self._hops = hops
        self._floor = floor
        self._cues = calibration.cue_vectors(frames) if calibration is not None else None

    @property
    def fading(self) -> float:
        """The largest energy after a turn without input is at most this times the largest before; see the module."""
        return self._decay * self.reach

    @property
    def reach(self) -> float:
        """What one unit of input may come to: itself, and all that spreads from it to any one frame."""
        return math.fsum(self._share**hop for hop in range(self._hops + 1))

    def links(self, learned: LearnedWeights = NOTHING_LEARNED) -> nx.DiGraph[str]:
        """The graph as it is to be shown: `weight` of each link, with `learned` as its share that nobody wrote."""
        found: nx.DiGraph[str] = nx.DiGraph()
        found.add_nodes_from(self.frames)
        for frame in self.frames.values():
            for goal, weight in learned.weights_of(frame).items():
                if goal in self.frames and weight:
                    found.add_edge(frame.name, goal, weight=weight, learned=weight - frame.links.get(goal, 0.0))
        return found

    def match(self, text: str) -> dict[str, CueMatch]:
        """For each frame how near `text` is to its cues, and what that wakes."""
        if not self.frames:
            return {}
        text = text.encode("utf-8", "replace").decode("utf-8")
        if not text.strip():
            return {frame.name: CueMatch(frame.cues[0], 0.0, None, 0.0) for frame in self.frames.values()}
        if self._cues is None:
            self._cues = CueVectors.embedded(list(self.frames.values()), self._embedder)
        script = script_of(text)
        baseline = self.calibration.baselines[script] if self.calibration else None
        found: dict[str, CueMatch] = {}
        for name, cosines in self._cues.cosines(self._embedder.embed([text])[0], script).items():
            nearest = int(np.argmax(cosines))
            cosine = min(float(cosines[nearest]), 1.0)
            if baseline is None:
                standing, energy = None, cosine if cosine >= self._floor and cosine > 0 else 0.0
            else:
                standing = baseline.standing(name, nearness(cosines))
                energy = baseline.energy(standing)
            found[name] = CueMatch(self.frames[name].cues[nearest], cosine, standing, energy)
        return found

    def wake(self, text: str) -> dict[str, float]:
        """For each frame what `text` wakes in it, in [0, 1]."""
        return {name: match.energy for name, match in self.match(text).items()}

    def spread(
        self, energies: Mapping[str, float], input: Mapping[str, float], learned: LearnedWeights = NOTHING_LEARNED
    ) -> dict[str, float]:
        """The energies after one turn, each in [0, 1].

        A frame's energy is what it kept plus its input; then for each hop every frame passes
        energy · weight · spread over its links, next what came in over the first links, and so on. Where the
        weights that lead into one frame sum to more than 1, each counts as its share of them. What is held down
        passes nothing on: inhibition reaches one link far.

        `energies` may name frames that are no longer written, as stored ones do: they are dropped.

        Raises:
            ArgumentError: `input` names no frame of this graph, or a number isn't finite.
        """
        return {name: cause.energy for name, cause in self.explain(energies, input, learned=learned).items()}

    def explain(
        self,
        energies: Mapping[str, float],
        input: Mapping[str, float],
        matches: Mapping[str, CueMatch] | None = None,
        leanings: Mapping[str, float] | None = None,
        learned: LearnedWeights = NOTHING_LEARNED,
    ) -> dict[str, EnergyCause]:
        """Why each energy is what `spread` makes it; `matches` adds the words of the cues, `leanings` what of the
        input came by leaning. Raises as `spread`.
        """
        unknown = sorted(input.keys() - self.frames.keys())
        if unknown:
            raise ArgumentError(f"'{unknown[0]}' is no frame", f"use one of {', '.join(self.frames) or 'none'}")
        if not all(math.isfinite(value) for value in (*energies.values(), *input.values())):
            raise ArgumentError("an energy is not a finite number", "begin again from empty energies")
        kept = {name: self._decay * _clip(energies.get(name, 0.0)) for name in self.frames}
        pulse = {name: _clip(kept[name] + input.get(name, 0.0)) for name in self.frames}
        received: dict[str, dict[str, float]] = {name: {} for name in self.frames}
        links = self._weighed(learned)
        for _ in range(self._hops):
            arrived: dict[str, float] = defaultdict(float)
            for origin, energy in pulse.items():
                for goal, weight in links[origin] if energy else ():
                    amount = self._share * weight * energy
                    arrived[goal] += amount
                    received[goal][origin] = received[goal].get(origin, 0.0) + amount
            pulse = {name: _clip(amount) for name, amount in arrived.items()}
        return {
            name: EnergyCause(
                kept=kept[name],
                woken=input.get(name, 0.0),
                cue=matches[name].cue if matches and name in matches and matches[name].energy > 0 else None,
                contributions=tuple(sorted(received[name].items(), key=lambda item: (-abs(item[1]), item[0]))),
                leaning=(leanings or {}).get(name, 0.0),
            )
            for name in self.frames
        }

    def _weighed(self, learned: LearnedWeights) -> dict[str, list[tuple[str, float]]]:
        """By origin, (goal, weight) of each link, so that the weights into a goal sum to at most 1 in size."""
        weights = {frame.name: learned.weights_of(frame) for frame in self.frames.values()}
        into: dict[str, float] = defaultdict(float)
        for goals in weights.values():
            for goal, weight in goals.items():
                into[goal] += abs(weight)
        return {
            origin: [
                (goal, weight / max(1.0, into[goal]))
                for goal, weight in goals.items()
                if weight and goal in self.frames
            ]
            for origin, goals in weights.items()
        }

    def active(
        self, energies: Mapping[str, float], causes: Mapping[str, EnergyCause] | None = None
    ) -> tuple[ActiveFrame, ...]:
        """The frames at or above their thresholds, most energy first, at most three; with their causes if given."""
        awake = [frame for frame in self.frames.values() if energies.get(frame.name, 0.0) >= frame.threshold]
        awake.sort(key=lambda frame: (-energies[frame.name], frame.name))
        return tuple(
            ActiveFrame(frame, energies[frame.name], causes.get(frame.name) if causes else None)
            for frame in awake[:MOST_ACTIVE]
        )

    def turn(
        self,
        energies: Mapping[str, float],
        text: str,
        leanings: Mapping[str, float] | None = None,
        learned: LearnedWeights = NOTHING_LEARNED,
    ) -> FrameTurn:
        """One turn of the user: wake, spread, and say why. `energies` are those of the turn before.

        Args:
            leanings: by frame, how much nearer to its cues than it is the text seems, in [-1, 1]. It makes a frame
                easier or harder to wake; a frame that the text isn't near to at all stays as it was.
            learned: what links weigh beside what is written.
        """
        matches = self.match(text)
        woken: dict[str, float] = {}
        leant: dict[str, float] = {}
        for name, match in matches.items():
            leaning = (leanings or {}).get(name, 0.0)
            woken[name] = _clip(match.energy + leaning) if match.energy else 0.0
            leant[name] = woken[name] - match.energy
        causes = self.explain(energies, woken, matches, leant, learned)
        after = {name: cause.energy for name, cause in causes.items()}
        return FrameTurn(after, causes, self.active(after, causes))


def _clip(energy: float) -> float:
    return min(max(energy, 0.0), 1.0)
