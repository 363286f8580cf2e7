"""Calibration: what nearness to a cue means with one embedder, measured on sentences that call for no frame.

Cosines of one embedder say nothing about those of another: with some, texts that have nothing to do with each other
reach 0.1, with others 0.8. So a frame's nearness counts by how far it stands above that of neutral sentences, and the
scale is set so that hardly any of them wakes a frame.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError, StorageFull
from overlay.frames.cues import CueEmbedder, CueVectors, Script, nearness, script_of
from overlay.frames.frame import USUAL_THRESHOLD, Frame
from overlay.records import write_record

FALSE_ALARMS = 0.05
"""At most this share of the neutral sentences brings any frame to the usual threshold."""

SHRINKAGE = 0.5
"""How far each frame's mean and variance on neutral sentences are drawn towards those of all frames: few sentences say
little about one frame, and a frame with one cue is still not like one with ten."""

LOWEST_FLOOR = 1.0
"""However few frames there are: what any third sentence reaches calls for nothing."""

_LEAST_DEVIATION = 1e-3
_FORM = 1
"""Grows when the same embedder and frames would be calibrated otherwise, so that kept ones are made anew."""


class KnownEmbedder(CueEmbedder, Protocol):
    """An embedder that can be told from others: equal digests give equal vectors."""

    @property
    def digest(self) -> str:
        """A hash of what computes the vectors."""
        ...


@dataclass(frozen=True)
class Baseline:
    """What neutral sentences of one script look like.

    Attributes:
        centre: their mean vector, shape (dimension,).
        means, deviations: by frame, of their nearness.
        floor: the standing, in deviations, that a frame needs to reach the usual threshold.
    """

    centre: NDArray[np.float32]
    means: Mapping[str, float]
    deviations: Mapping[str, float]
    floor: float

    def standing(self, frame: str, near: float) -> float:
        """How far a nearness is above that of neutral sentences, in deviations."""
        return (near - self.means[frame]) / self.deviations[frame]

    def energy(self, standing: float) -> float:
        """What a standing wakes, in [0, 1]: nothing up to half the floor, the usual threshold at the floor."""
        return min(1.0, max(0.0, USUAL_THRESHOLD * (2 * standing / self.floor - 1)))


@dataclass(frozen=True)
class Calibration:
    """The scale of one embedder for the cues of some frames, as plain data to be kept.

    Attributes:
        embedder, cues: hashes of what it was made with.
        vectors: of all cues, frame by frame in order of name, shape (cues, dimension): kept, they needn't be embedded
            again.
        baselines: by script; they differ where an embedder hardly knows a language.
    """

    embedder: str
    cues: str
    vectors: NDArray[np.float32]
    baselines: Mapping[Script, Baseline]

    def fits(self, frames: Sequence[Frame], embedder: KnownEmbedder) -> bool:
        """Whether it was made with these cues and this embedder."""
        return (self.embedder, self.cues) == (embedder.digest, cues_digest(frames))

    def cue_vectors(self, frames: Sequence[Frame]) -> CueVectors:
        """The cues of the frames that it was made with, seen from its centres."""
        return CueVectors.of(frames, self.vectors).from_centres(self.centres)

    @property
    def centres(self) -> dict[Script, NDArray[np.float32]]:
        """Where neutral sentences of each script lie."""
        return {script: baseline.centre for script, baseline in self.baselines.items()}

    def to_plain(self) -> dict[str, Any]:
        """The same as what JSON can hold."""
        return {
            "form": _FORM,
            "embedder": self.embedder,
            "cues": self.cues,
            "vectors": _to_text(self.vectors),
            "baselines": {
                script: {
                    "centre": _to_text(baseline.centre[None]),
                    "means": dict(baseline.means),
                    "deviations": dict(baseline.deviations),
                    "floor": baseline.floor,
                }
                for script, baseline in self.baselines.items()
            },
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Calibration:
        """What `to_plain` gave. Raises ArgumentError when it is something else."""
        try:
            if plain["form"] != _FORM:
                raise ValueError(f"form {plain['form']}")
            baselines = {
                script: Baseline(
                    _from_text(one["centre"])[0], dict(one["means"]), dict(one["deviations"]), float(one["floor"])
                )
                for script, one in plain["baselines"].items()
            }
            return cls(str(plain["embedder"]), str(plain["cues"]), _from_text(plain["vectors"]), baselines)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArgumentError(f"this is no calibration of frames: {error}", "calibrate again") from None


def calibrate(frames: Sequence[Frame], embedder: KnownEmbedder) -> Calibration:
    """Measure what neutral sentences look like to the frames; embeds all cues and about a hundred short sentences."""
    sentences = neutral_sentences()
    scripts = np.array([script_of(sentence) for sentence in sentences])
    vectors = embedder.embed(sentences)
    cues = CueVectors.embedded(frames, embedder)
    written: tuple[Script, ...] = get_args(Script)
    groups = {script: vectors[scripts == script] for script in written}
    centres = {script: group.mean(axis=0) for script, group in groups.items()}
    baselines: dict[Script, Baseline] = {}
    for script, group in groups.items():
        near = []
        for row, vector in enumerate(group):
            # A sentence that has moved the centre towards itself would seem to say less than any other one does.
            others = np.delete(group, row, axis=0).mean(axis=0)
            seen = cues.from_centres({**centres, script: others})
            near.append([nearness(cosines) for cosines in seen.cosines(vector, script).values()])
        baselines[script] = _baseline(tuple(cues.names), np.array(near).T, centres[script])
    return Calibration(embedder.digest, cues_digest(frames), cues.vectors, baselines)


def _baseline(names: Sequence[str], near: NDArray[np.float64], centre: NDArray[np.float32]) -> Baseline:
    """From the nearness of one script's sentences, shape (frames, sentences)."""
    if not names:
        return Baseline(centre, {}, {}, LOWEST_FLOOR)
    means, variances = near.mean(axis=1), near.var(axis=1, ddof=1)
    means += SHRINKAGE * (means.mean() - means)
    variances += SHRINKAGE * (variances.mean() - variances)
    deviations = np.maximum(np.sqrt(variances), _LEAST_DEVIATION)
    most = ((near - means[:, None]) / deviations[:, None]).max(axis=0)
    # What reaches the floor wakes: it has to lie beyond all sentences but the allowed share.
    floor = float(np.quantile(most, 1 - FALSE_ALARMS, method="higher")) * (1 + 1e-9)
    return Baseline(
        centre,
        dict(zip(names, means.tolist(), strict=True)),
        dict(zip(names, deviations.tolist(), strict=True)),
        max(LOWEST_FLOOR, floor),
    )


def ready_calibration(path: Path, frames: Sequence[Frame], embedder: KnownEmbedder) -> Calibration:
    """The calibration that is kept in a file; made anew, and kept there, where it isn't or doesn't fit."""
    # It follows from frames and embedder: whatever is wrong with a kept one, it can be made again.
    with contextlib.suppress(OSError, ValueError):
        kept = Calibration.from_plain(json.loads(path.read_text(encoding="utf-8")))
        if kept.fits(frames, embedder):
            return kept
    made = calibrate(frames, embedder)
    # Where it can't be kept, it costs a second the next time.
    with contextlib.suppress(OSError, StorageFull):
        write_record(path, json.dumps(made.to_plain()))
    return made


def _to_text(rows: NDArray[np.float32]) -> dict[str, Any]:
    """Numbers as text that JSON can hold, bit for bit."""
    return {"width": rows.shape[1], "base64": base64.b64encode(rows.astype("<f4").tobytes()).decode("ascii")}


def _from_text(written: Mapping[str, Any]) -> NDArray[np.float32]:
    numbers = np.frombuffer(base64.b64decode(written["base64"], validate=True), dtype="<f4")
    return numbers.reshape(-1, int(written["width"])).astype(np.float32)


def cues_digest(frames: Sequence[Frame]) -> str:
    """A hash of names and cues, whatever order the frames are in."""
    written = sorted((frame.name, frame.cues) for frame in frames)
    return hashlib.sha256(json.dumps(written, ensure_ascii=False).encode()).hexdigest()[:24]


def neutral_sentences() -> list[str]:
    """Everyday sentences that call for no frame, English and Russian."""
    text = resources.files("overlay.frames").joinpath("neutral_sentences.txt").read_text(encoding="utf-8")
    return text.splitlines()
