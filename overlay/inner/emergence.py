"""Emergent axes: the principal directions in which the agent's inner speech has drifted from neutral, and stayed.

What is looked for. Drifts are measured from the mean of neutral inner speech, in residual norms of each block, and the
blocks count alike. Directions in which inner speech varies anyway count less (a ridge-shrunk covariance of life and
neutral together). Then neighbouring turns are averaged (a Gaussian over `PERSISTENCE` turns), because a theme is what
stays while the turns change: their noise shrinks, and a theme does not. The components are the right singular vectors
of that, recent turns weighing more. What speaks for one is the share that it has of the averaged drift, after the
components before it: a theme goes one way, while lives that merely vary more, or more slowly, do so in all directions.

What it is compared with. Life turns and neutral samples are pooled and shuffled: turns that belong together no more
than the agent's neutral speech does. Component k is compared with component k of each shuffle. Looking again and again
would find something sooner or later: an axis is born only when two looks in a row pass and find the same direction,
and only if drift along it is large enough to matter (`EmergenceSettings.strength`).
In simulated lives of 40 turns without a theme (Gaussian, correlated between blocks, variances falling like 1/k; the
default settings, 300 lives) 3% pass some look and 0.3% give birth; with p 0.02, 4% do, with p 0.05, 7%. With turns that
resemble their neighbours (autoregression of 0.3 and 0.6, 100 lives each) and with a theme of its own for every turn
(200 lives), none did. The rate grows with the number of looks.

What this can't exclude. It tests whether life and neutral inner speech differ in a way that lasts, not why. A change
of register alone is drift as well: a user who writes longer, a conversation that voices have before them, a state that
steers what they say. Neutral samples are asked by the same voices and frames as a life: where they were not, lives of
many themes gave birth as often as lives of one. So is everything that the neutral subjects lack: against subjects of
factual prose any life of a person is one long theme. The subjects must be as mixed as ordinary life. Turns that
resemble their neighbours without a theme are forgiven where they do so in all directions alike; where a few directions
have a longer memory than the others, they pass for a theme, and for as long as they remember they are one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from overlay.axes import Axis, Evidence, calibrate
from overlay.errors import ArgumentError, RecordDamaged, WrongBaseModel
from overlay.inner.drift import Drift
from overlay.inner.emergence_settings import FEWEST_TURNS, EmergenceSettings
from overlay.inner.inner_neutral import InnerNeutral
from overlay.inner.tensor_record import read_only, read_tensors, write_tensors
from overlay.model import Direction

if TYPE_CHECKING:
    from overlay.model import LanguageModel, VolatilityGauge
    from overlay.progress import Progress

EMERGENT = "emergent"
"""The method of an axis that was found in life."""

FORMAT = "overlay-emergence-1"

PERSISTENCE = 2.0
"""Turns: the deviation of the Gaussian over which neighbouring turns are averaged before anything is looked for.

About seven turns count as one. With 3 or more, too few such spans fit into 40 turns to tell two themes apart.
"""

RIDGE = 3.0
"""How much of the mean variance is added to that of each direction before drifts are divided by it.

A compromise: with 1 or less, a second theme drowns in the many small directions of noise, because the covariance holds
the themes as well; with 10 or more, the two or three directions in which all speech varies most hide small themes.
"""

FADED = 1 / 16
"""Turns that weigh less than this are left out: after four half-lives."""

SAME = 0.5
"""How much of an axis (as a cosine) the components of a look must hold for it to be the same axis."""

SHARED = 0.1
"""A component that holds less than this of an axis, squared, has no say in its p."""

LOADINGS = 5
"""How many of the turns that load most on an axis are kept with it."""

Floats = NDArray[np.float64]
_NEXT_STEP = "move it aside; axes emerge anew from the drift that is kept"


@dataclass(frozen=True, eq=False)
class EmergentAxis:
    """A direction that nobody named.

    Attributes:
        vectors: (layers, width) float32, rows of unit length (or zero where a block doesn't drift at all).
        strength: how far the kept drift lies along it, recent turns weighing more: mean over the blocks of the look,
            in fractions of the residual norm.
        p: the chance that shuffled turns give as large a component, at the last look that found it.
        stability: mean cosine over these blocks with its vectors before the last look that found it; None at birth.
        born: label of the turn at which it was born. age: looks since then. missed: looks in a row without it.
        loadings: (turn, loading) of the turns that lie furthest along it, in fractions of the residual norm.
    """

    name: str
    vectors: NDArray[np.float32]
    strength: float
    p: float
    stability: float | None
    born: str
    age: int = 0
    missed: int = 0
    loadings: tuple[tuple[str, float], ...] = ()

    @cached_property
    def digest(self) -> str:
        """sha256 over its name and vectors: what an accumulator and a calibration rest on."""
        return hashlib.sha256(self.name.encode() + np.ascontiguousarray(self.vectors).tobytes()).hexdigest()


@dataclass(frozen=True)
class Event:
    """What a look did to an axis, and the words that tell a person."""

    kind: Literal["born", "kept", "missed", "retired"]
    axis: str
    turn: str
    words: str


@dataclass(frozen=True, eq=False)
class Emergence:
    """The axes that live, and what the last look saw. It is a value: `look` gives the next one.

    Attributes:
        axes: in order of birth.
        candidates: (candidates, layers, width) float32, directions that passed once and wait for the next look.
        next_number: of the next name; numbers are never used twice.
        looks: how many there were. seen: drifts that had been observed at the last of them.
    """

    model_digest: str
    layers: int
    width: int
    axes: tuple[EmergentAxis, ...] = ()
    candidates: NDArray[np.float32] | None = None
    next_number: int = 1
    looks: int = 0
    seen: int = 0

    @classmethod
    def none(cls, layers: int, width: int, model_digest: str) -> Emergence:
        """Nothing has emerged yet, in a model with so many blocks."""
        return cls(model_digest, layers, width)

    def due(self, drift: Drift, settings: EmergenceSettings) -> bool:
        """Whether enough turns have passed for the next look."""
        return drift.count >= settings.after and (not self.looks or drift.count - self.seen >= settings.every)

    def look(
        self,
        drift: Drift,
        neutral: InnerNeutral,
        settings: EmergenceSettings,
        turn: str,
        seed: int,
        blocks: Sequence[int] | None = None,
    ) -> tuple[Emergence, tuple[Event, ...]]:
        """Look for components in the kept drift, and let axes be born, follow them, be missed or retire.

        Args:
            turn: label of the turn after which it is looked. seed: of the shuffles.
            blocks: where drift is looked at; by default where axes act and are read.

        Raises:
            WrongBaseModel: drift, neutral speech and these axes aren't of one model.
            ArgumentError: fewer than `FEWEST_TURNS` turns, or shapes that don't fit.
        """
        view = _View(drift, neutral, self._require(drift, neutral, blocks))
        found = view.components(settings, seed)
        now = _correspond(self.axes, view, found)
        axes: list[EmergentAxis] = []
        events: list[Event] = []
        for number, axis in enumerate(self.axes):
            vectors, p = now.kept.get(number, (axis.vectors, axis.p))
            is_found = number in now.kept
            strength, loadings = view.loadings(vectors)
            moved = replace(
                axis,
                vectors=vectors,
                strength=strength,
                p=p,
                stability=view.cosine(vectors, axis.vectors) if is_found else axis.stability,
                age=axis.age + 1,
                missed=0 if is_found else axis.missed + 1,
                loadings=loadings,
            )
            if moved.missed >= settings.patience:
                words = f"{axis.name} retired: {moved.missed} looks in a row found no drift along it"
                events.append(Event("retired", axis.name, turn, words))
                continue
            axes.append(moved)
            told = f"drift along it is {strength:.3f} residual norms"
            if is_found:
                words = f"{axis.name} goes on: {told}, p {p:.3f}, cosine {moved.stability:.2f} with the look before"
            else:
                words = f"{axis.name} was not found ({moved.missed} of {settings.patience} looks): {told}"
            events.append(Event("kept" if is_found else "missed", axis.name, turn, words))
        waiting: list[NDArray[np.float32]] = []
        next_number = self.next_number
        for vectors, p in now.fresh[: settings.components - len(axes)]:
            strength, loadings = view.loadings(vectors)
            if strength < settings.strength or not view.is_among(vectors, self.candidates):
                waiting.append(vectors)
                continue
            axes.append(EmergentAxis(f"e{next_number}", vectors, strength, p, None, turn, loadings=loadings))
            most = ", ".join(label for label, _ in loadings[:3])
            words = (
                f"e{next_number} was born: drift along it is {strength:.3f} residual norms, in two looks in a row and "
                f"with p {p:.3f}; most of it in {most}"
            )
            events.append(Event("born", f"e{next_number}", turn, words))
            next_number += 1
        later = replace(
            self,
            axes=tuple(axes),
            candidates=read_only(np.stack(waiting)) if waiting else None,
            next_number=next_number,
            looks=self.looks + 1,
            seen=drift.count,
        )
        return later, tuple(events)

    def as_of(
        self,
        drift: Drift,
        axes: Mapping[str, Axis],
        events: Sequence[Mapping[str, str]],
        neutral: InnerNeutral,
        settings: EmergenceSettings,
        seed: int,
        blocks: Sequence[int] | None = None,
    ) -> Emergence:
        """What had emerged at an earlier time, as far as what happened to axes until then tells it.

        Axes that have gone on since are again as they were put in force. Candidates are looked for anew.

        Args:
            drift: as it was then. axes: those in force then. events: all until then, oldest first.
            seed: as `look` takes it.

        Raises:
            WrongBaseModel, ArgumentError: as `look` does.
        """
        earlier = drift.count - len(drift.turns)
        every = settings.every
        seen = drift.count - (drift.count - self.seen) % every if self.seen > drift.count else self.seen
        if events and events[-1]["turn"] in drift.turns:
            seen = earlier + drift.turns.index(events[-1]["turn"]) + 1
            if not axes:
                # Looks at which no axis lives or is born are told by nobody.
                seen += (drift.count - seen) // every * every
        looks = max(0, self.looks - (self.seen - seen) // every)
        born = [int(one["axis"].removeprefix("e")) for one in events if one["kind"] == "born"]
        next_number = max([*born, *(int(name.removeprefix("e")) for name in axes)], default=0) + 1
        found = replace(self, axes=(), candidates=None, next_number=next_number, looks=looks, seen=seen if looks else 0)
        view = _View(drift, neutral, found._require(drift, neutral, blocks, fewest=1)) if drift.turns else None
        found = replace(found, axes=tuple(_told_axis(axis, events, view) for axis in axes.values()))
        then = _up_to(drift, seen - earlier)
        if not looks or len(then.turns) < FEWEST_TURNS:
            return found
        return replace(
            found, candidates=found.look(then, neutral, settings, then.turns[-1], seed, blocks)[0].candidates
        )

    def _require(
        self, drift: Drift, neutral: InnerNeutral, blocks: Sequence[int] | None, fewest: int = FEWEST_TURNS
    ) -> list[int]:
        digests = {self.model_digest, drift.model_digest, neutral.model_digest}
        if len(digests) > 1:
            raise WrongBaseModel(
                f"axes, drift and neutral inner speech are of several models ({', '.join(sorted(digests))[:80]})",
                "gather all of them on one model",
            )
        shape = (self.layers, self.width)
        if drift.mean.shape != shape or neutral.level.shape != shape:
            raise ArgumentError(
                f"drift {drift.mean.shape} and neutral inner speech {neutral.level.shape}", f"give shape {shape}"
            )
        if len(drift.recent) < fewest:
            raise ArgumentError(f"{len(drift.recent)} turns of drift", f"look after {fewest} or more")
        if blocks is None:
            from overlay.axes.build import reading_blocks, steering_blocks  # brings torch

            blocks = (*steering_blocks(self.layers), *reading_blocks(self.layers))
        chosen = sorted(set(blocks))
        if not chosen or not all(0 <= block < self.layers for block in chosen):
            raise ArgumentError(f"blocks {chosen}", f"give blocks from 0 to {self.layers - 1}")
        return chosen

    def save(self, path: Path) -> None:
        """Write it with its checksum, whole or not at all. Raises StorageFull."""
        empty = np.zeros((0, self.layers, self.width), np.float32)
        tensors = {
            "vectors": np.stack([axis.vectors for axis in self.axes]) if self.axes else empty,
            "candidates": empty if self.candidates is None else self.candidates,
        }
        facts = {
            "model": self.model_digest,
            "layers": self.layers,
            "width": self.width,
            "next_number": self.next_number,
            "looks": self.looks,
            "seen": self.seen,
            "axes": [{key: getattr(axis, key) for key in _FACTS} for axis in self.axes],
        }
        write_tensors(path, FORMAT, "emergence", tensors, facts)

    @classmethod
    def load(cls, path: Path, model_digest: str | None = None) -> Emergence:
        """Read what `save` wrote.

        Raises:
            RecordDamaged: the file is missing, or isn't what was written. WrongBaseModel: it is of another model than
                the given one.
        """
        try:
            tensors, facts = read_tensors(path, FORMAT, "emergence", ("vectors", "candidates"))
            axes = tuple(
                EmergentAxis(
                    **one
                    | {"vectors": read_only(vectors), "loadings": tuple((turn, at) for turn, at in one["loadings"])}
                )
                for one, vectors in zip(facts["axes"], tensors["vectors"], strict=True)
            )
            found = cls(
                facts["model"],
                facts["layers"],
                facts["width"],
                axes,
                tensors["candidates"] if len(tensors["candidates"]) else None,
                facts["next_number"],
                facts["looks"],
                facts["seen"],
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise RecordDamaged(f"{path} holds no readable emergent axes ({error})", _NEXT_STEP) from error
        if model_digest not in (None, found.model_digest):
            raise WrongBaseModel(
                f"{path} emerged in another model ({found.model_digest[:12]}), not in {str(model_digest)[:12]}",
                _NEXT_STEP,
            )
        return found


_FACTS = ("name", "strength", "p", "stability", "born", "age", "missed", "loadings")


@dataclass(frozen=True)
class _Component:
    """`scores` (turns,) put the drifts together into its direction."""

    scores: Floats
    p: float


class _View:
    """The drift as one look sees it: in residual norms, from the mean of neutral inner speech, recent turns only."""

    def __init__(self, drift: Drift, neutral: InnerNeutral, blocks: list[int]) -> None:
        kept, weights = _weights(drift)
        norms = neutral.norms.astype(np.float64)[:, None]
        still = neutral.drifts.astype(np.float64) / norms
        self.blocks = blocks
        self.turns = [turn for turn, is_kept in zip(drift.turns, kept, strict=True) if is_kept]
        self.weights = weights
        self.neutral = still - still.mean(0)
        self.life = drift.recorded[kept] / norms - still.mean(0)

    def flat(self, values: NDArray[Any]) -> Floats:
        """(rows, layers, width) at the blocks of the look, as (rows, blocks · width)."""
        return np.asarray(values[:, self.blocks], np.float64).reshape(len(values), -1)

    def vectors(self, scores: Floats) -> NDArray[np.float32]:
        """The direction that `scores` put the drifts together into, (layers, width), rows of unit length or zero."""
        raw = np.tensordot(scores, self.life, axes=1)
        lengths = np.linalg.norm(raw, axis=1, keepdims=True)
        return read_only(np.divide(raw, lengths, out=np.zeros_like(raw), where=lengths > 0).astype(np.float32))

    def unit(self, vectors: NDArray[np.float32]) -> Floats:
        """A direction at the blocks of the look, (blocks · width), of unit length."""
        found = self.flat(vectors[None])[0]
        return np.asarray(found / (float(np.linalg.norm(found)) or 1.0))

    def cosine(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
        """Mean over the blocks of the look."""
        return float((one[self.blocks].astype(np.float64) * other[self.blocks]).sum(1).mean())

    def loadings(self, vectors: NDArray[np.float32]) -> tuple[float, tuple[tuple[str, float], ...]]:
        """The weighted mean of what the turns read along a direction, and the turns that read most."""
        read = self.flat(self.life) @ self.flat(vectors[None])[0] / len(self.blocks)
        most = np.argsort(-read, kind="stable")[:LOADINGS]
        return float(self.weights @ read), tuple((self.turns[place], float(read[place])) for place in most)

    def is_among(self, vectors: NDArray[np.float32], others: NDArray[np.float32] | None) -> bool:
        """Whether the span of other directions holds enough of this one."""
        if others is None:
            return False
        span, _ = np.linalg.qr(np.stack([self.unit(other) for other in others]).T)
        return float(np.linalg.norm(self.unit(vectors) @ span)) >= SAME

    def orthonormal(self, found: Sequence[_Component]) -> list[_Component]:
        """The components with scores whose directions are orthogonal and of unit length (Gram and Schmidt)."""
        life = self.flat(self.life)
        basis: list[_Component] = []
        for one in found:
            rest = one.scores
            for other in basis:
                rest = rest - other.scores * float((rest @ life) @ (other.scores @ life))
            length = float(np.linalg.norm(rest @ life))
            if length > 0:
                basis.append(_Component(rest / length, one.p))
        return basis

    def components(self, settings: EmergenceSettings, seed: int) -> list[_Component]:
        """The components, strongest first, up to the first that shuffled turns give as well."""
        turns, still = len(self.life), len(self.neutral)
        pooled = self._whitened()
        average, back = _average(self.weights)
        generator = np.random.default_rng(seed)
        orders = np.argsort(generator.random((settings.shuffles, turns + still)), axis=1)
        averaged = _averaged(pooled, np.arange(turns + still), average)
        left, lengths, _ = np.linalg.svd(averaged, full_matrices=False)
        shares = _shares(lengths**2, settings.components)
        beyond = np.zeros(len(shares), np.int64)
        for order in orders:
            shuffled = _averaged(pooled, order, average)
            # A shuffle ties with the truth only when nothing is left: then rounding must not make it significant.
            beyond += _shares(np.linalg.eigvalsh(shuffled @ shuffled.T)[::-1], len(shares)) >= shares * (1 - 1e-9)
            if 1 + beyond[0] > settings.p * (1 + settings.shuffles):
                return []
        chances = (1 + beyond) / (1 + settings.shuffles)
        count = int(np.argmax(np.append(chances, 1.0) > settings.p))
        return [_Component(back @ left[:, place], float(chances[place])) for place in range(count)]

    def _whitened(self) -> Floats:
        """Life and neutral samples in coordinates of their own span, each divided by how much speech varies there.

        The covariance is that of all samples together, so that it is the same for each shuffle.
        """
        samples = np.concatenate([self.flat(self.life), self.flat(self.neutral)])
        samples = samples - samples.mean(0)
        values, turns = np.linalg.eigh(samples @ samples.T)
        values = values.clip(min=0)
        ridge = RIDGE * values.mean() or 1.0
        return np.asarray(turns * np.sqrt(values / (values + ridge)))


def _weights(drift: Drift) -> tuple[NDArray[np.bool_], Floats]:
    """Which of the kept drifts a look sees, and what each of these weighs; all of them together weigh 1."""
    half_life = drift.settings.half_life
    count = len(drift.recent)
    ages = np.arange(count - 1, -1, -1.0)
    # By the clock, all that is kept weighs alike: a drift doesn't know its time.
    weights = 2.0 ** (-ages / half_life.amount) if half_life.unit == "turns" else np.ones(count)
    kept = weights >= FADED
    kept[-FEWEST_TURNS:] = True
    return kept, weights[kept] / weights[kept].sum()


def _up_to(drift: Drift, turns: int) -> Drift:
    """The drift as a look saw it after its first so many kept turns."""
    turns = max(0, turns)
    left_out = len(drift.turns) - turns
    return replace(drift, recent=drift.recent[:turns], turns=drift.turns[:turns], count=drift.count - left_out)


def _told_axis(axis: Axis, events: Sequence[Mapping[str, str]], view: _View | None) -> EmergentAxis:
    """An axis in force as what happened to it tells it."""
    own = [one for one in events if one["axis"] == axis.name]
    birth = max((place for place, one in enumerate(own) if one["kind"] == "born"), default=-1)
    looks = [one["kind"] for one in own[birth + 1 :]]
    missed = next((place for place, kind in enumerate(reversed(looks)) if kind != "missed"), len(looks))
    vectors = read_only(np.array(axis.direction.vectors, np.float32))
    strength, loadings = view.loadings(vectors) if view else (0.0, ())
    chance = axis.evidence.chance
    return EmergentAxis(
        axis.name,
        vectors,
        strength,
        float("nan") if chance is None else chance,
        None,
        own[birth]["turn"] if birth >= 0 else "",
        len(looks),
        missed,
        loadings,
    )


def _average(weights: Floats) -> tuple[Floats, Floats]:
    """(rank, turns): what averages neighbouring turns, in as few rows as it has rank; and (turns, rank), back."""
    places = np.arange(len(weights))
    kernel = np.exp(-0.5 * ((places[:, None] - places[None, :]) / PERSISTENCE) ** 2)
    kernel = np.sqrt(weights)[:, None] * kernel / kernel.sum(1, keepdims=True)
    _, lengths, right = np.linalg.svd(kernel)
    rank = int((lengths > 1e-4 * lengths[0]).sum())
    rows = lengths[:rank, None] * right[:rank]
    return rows, rows.T


def _averaged(pooled: Floats, order: NDArray[Any], average: Floats) -> Floats:
    """The averaged drifts, (rank, coordinates), where the first samples of an order count as life."""
    turns = average.shape[1]
    return np.asarray(average @ (pooled[order[:turns]] - pooled[order[turns:]].mean(0)))


def _shares(energies: NDArray[Any], count: int) -> Floats:
    """What each of the first components has of all that the components before it leave."""
    energies = energies.clip(min=0)
    left = energies[::-1].cumsum()[::-1][:count]
    some = left > 1e-12 * (energies.sum() or 1.0)
    return np.asarray(np.divide(energies[:count], left, out=np.zeros(len(left)), where=some), np.float64)


@dataclass(frozen=True)
class _Correspondence:
    """What of the new components belongs to which axis.

    Attributes:
        kept: by the axis's place, its new vectors and p. fresh: vectors and p of what belongs to none.
    """

    kept: dict[int, tuple[NDArray[np.float32], float]]
    fresh: list[tuple[NDArray[np.float32], float]]


def _correspond(axes: Sequence[EmergentAxis], view: _View, found: Sequence[_Component]) -> _Correspondence:
    """Turn the new components within their span onto the axes (orthogonal Procrustes, Schönemann 1966).

    An axis that the span doesn't hold, or that no orthogonal turn brings near what it was, is left out. What is left
    of the span is fresh, in order of its strength, each with a positive mean loading.
    """
    from scipy.linalg import orthogonal_procrustes

    basis = view.orthonormal(found)
    size = len(basis)
    if not size:
        return _Correspondence({}, [])
    spanned = np.stack([one.scores for one in basis]) @ view.flat(view.life)
    cross = np.array([spanned @ view.unit(axis.vectors) for axis in axes]).reshape(len(axes), size)
    held = np.linalg.norm(cross, axis=1)
    chosen = [int(place) for place in np.argsort(-held, kind="stable")[:size] if held[place] >= SAME]
    turn: Floats = np.eye(size)
    while chosen:
        wanted = np.zeros((size, size))
        wanted[:, : len(chosen)] = cross[chosen].T
        turn = np.asarray(orthogonal_procrustes(np.eye(size), wanted)[0], np.float64)
        agreement = (turn[:, : len(chosen)] * wanted[:, : len(chosen)]).sum(0)
        worst = int(np.argmin(agreement))
        if agreement[worst] >= SAME:
            break
        del chosen[worst]
    fixed = [turn[:, place] for place in range(len(chosen))]
    kept = {number: _combined(view, basis, weights) for number, weights in zip(chosen, fixed, strict=True)}
    fresh = []
    for weights in _rest(fixed, size):
        vectors, p = _combined(view, basis, weights)
        if view.loadings(vectors)[0] < 0:
            vectors = read_only(-vectors)
        fresh.append((vectors, p))
    return _Correspondence(kept, fresh)


def _combined(view: _View, basis: Sequence[_Component], weights: Floats) -> tuple[NDArray[np.float32], float]:
    scores = np.tensordot(weights, np.stack([one.scores for one in basis]), axes=1)
    return view.vectors(scores), max(
        one.p for one, weight in zip(basis, weights, strict=True) if weight**2 >= SHARED / len(basis)
    )


def _rest(fixed: Sequence[Floats], size: int) -> list[Floats]:
    """An orthonormal basis of what `fixed` leaves of so many dimensions, as near to the first of them as can be."""
    found = list(fixed)
    # Those that the fixed ones cover least come first, so that no near-zero remainder is blown up.
    covered = [sum(float(one[place]) ** 2 for one in fixed) for place in range(size)]
    free = sorted(np.argsort(covered, kind="stable")[: size - len(found)])
    for place in free:
        rest = np.eye(size)[place]
        for _ in range(2):  # once more, for rounding
            for one in found:
                rest = rest - one * float(rest @ one)
        found.append(rest / np.linalg.norm(rest))
    return found[len(fixed) :]


def calibrated(
    emergent: EmergentAxis,
    model: LanguageModel,
    gauge: VolatilityGauge,
    neutral: InnerNeutral,
    drift: Drift,
    budget: float = 0.15,
    progress: Progress | None = None,
) -> Axis:
    """Make an axis that accumulators and doses can use: what it reads on inner speech, and a dose for `budget`.

    Its evidence is the chance that it was born with; it has no texts and no words.

    Raises:
        WrongBaseModel: the neutral inner speech is of another model, or the axis doesn't fit this one.
        ArgumentError: the budget can't be spent, or it has no direction where axes act.
    """
    from overlay.axes.build import reading_blocks, steering_blocks  # brings torch

    if {neutral.model_digest, drift.model_digest} != {model.digest} or emergent.vectors.shape != (
        model.layers,
        model.width,
    ):
        raise WrongBaseModel(
            f"'{emergent.name}', its drift or the neutral inner speech is of another model than {model.name}",
            _NEXT_STEP,
        )
    blocks, reading = steering_blocks(model.layers), reading_blocks(model.layers)
    if not emergent.vectors[sorted({*blocks, *reading})].any(axis=1).all():
        raise ArgumentError(f"'{emergent.name}' has no direction at some of the blocks where axes act", _NEXT_STEP)
    direction = Direction(emergent.name, emergent.vectors.copy(), neutral.norms.copy())
    mean, deviation = reading_scale(direction, reading, neutral, drift)
    return Axis(
        name=emergent.name,
        method=EMERGENT,
        direction=direction,
        writing=direction,
        blocks=blocks,
        reading_blocks=reading,
        neutral_mean=mean,
        neutral_deviation=deviation,
        model_name=model.name,
        model_digest=model.digest,
        data_digest=emergent.digest,
        lexicon=(),
        evidence=Evidence(chance=emergent.p),
        calibration=calibrate(direction, blocks, gauge, budget, progress),
    )


def reading_scale(
    direction: Direction, blocks: tuple[int, ...], neutral: InnerNeutral, drift: Drift
) -> tuple[float, float]:
    """What an emergent axis reads as 0, and what it reads as 1: the mean of neutral inner speech, and one deviation.

    The deviation is that of neutral inner speech or, where that is more, how far the life that the axis was born of
    lies from its mean (root mean square, recent turns weighing more). That life lies many neutral deviations away, all
    on one side: measured in those, each utterance would read about as much as any can, and one turn would fill the
    accumulator. So 1 is what this life has been so far, and only what goes beyond it reads as more.
    """
    from overlay.axes.axis import project

    readings = [project(sample, direction, blocks) for sample in neutral.samples]
    mean, deviation = float(np.mean(readings)), float(np.std(readings, ddof=1))
    if drift.recent:
        kept, weights = _weights(drift)
        lived = np.array([project(one + neutral.level, direction, blocks) for one in drift.recorded[kept]])
        deviation = max(deviation, float(np.sqrt(weights @ (lived - mean) ** 2)))
    return mean, deviation
