"""Inner neutral: what the agent's blocks give when its voices speak about nothing in particular.

Inner speech is far from plain prose whatever it is about: its register alone must not count as drift.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError, RecordDamaged, WrongBaseModel
from overlay.inner.dialogue import Asked, voice_context
from overlay.inner.drift import neutral_activations
from overlay.inner.ledger import SourcedMessage
from overlay.inner.tensor_record import checksum, read_tensors, write_tensors
from overlay.model import Row, Sampling
from overlay.records import digest_of

if TYPE_CHECKING:
    from overlay.model import LanguageModel
    from overlay.progress import Progress

FORMAT = "overlay-inner-neutral-1"

FEWEST_SAMPLES = 8
"""Fewer can't show how much inner speech varies by itself."""

_NEXT_STEP = "move it aside; it is gathered anew when it is needed"


@dataclass(frozen=True, eq=False)
class InnerNeutral:
    """Activations of the agent's own unsteered inner speech about neutral subjects.

    Attributes:
        samples: (samples, layers, width) float32, block outputs as `Drift.observe` gets them: one sample a subject,
            the mean over the voices that spoke about it.
        level: (layers, width) float32, what `neutral_activations` gives: from there drift is counted.
        norms: (layers,) float32, each block's median residual norm on neutral texts.
        setup_digest: of what it was gathered with, see `setup_digest`.
    """

    samples: NDArray[np.float32]
    level: NDArray[np.float32]
    norms: NDArray[np.float32]
    model_digest: str
    setup_digest: str

    def __post_init__(self) -> None:
        shape = self.samples.shape
        if len(shape) != 3 or self.level.shape != shape[1:] or self.norms.shape != shape[1:2]:
            raise ArgumentError(
                f"samples {shape}, level {self.level.shape} and norms {self.norms.shape} don't fit",
                "give (samples, layers, width), (layers, width) and (layers,)",
            )
        if shape[0] < FEWEST_SAMPLES:
            raise ArgumentError(f"{shape[0]} samples of neutral inner speech", f"give at least {FEWEST_SAMPLES}")
        if not all(np.isfinite(values).all() for values in (self.samples, self.level, self.norms)):
            raise ArgumentError("neutral inner speech holds values that aren't finite", "the activations overflowed")
        if not (self.norms > 0).all():
            raise ArgumentError("a residual norm isn't above 0", "measure them with `model.residual_norms`")
        for values in (self.samples, self.level, self.norms):
            values.setflags(write=False)

    @cached_property
    def drifts(self) -> NDArray[np.float32]:
        """The samples as drifts, (samples, layers, width) float32: measured from where `Drift` is measured."""
        return np.asarray(self.samples - self.level, np.float32)

    @cached_property
    def digest(self) -> str:
        """sha256 over all numbers."""
        return checksum(self._tensors, "")

    def save(self, path: Path) -> None:
        """Write it with its checksum, whole or not at all. Raises StorageFull."""
        facts = {"model": self.model_digest, "setup": self.setup_digest}
        write_tensors(path, FORMAT, "inner_neutral", self._tensors, facts)

    @classmethod
    def load(cls, path: Path, model_digest: str) -> InnerNeutral:
        """Read what `save` wrote; whether it was gathered with today's voices, its `setup_digest` tells.

        Raises:
            RecordDamaged: the file is missing, or isn't what was written. WrongBaseModel: it is of another model.
        """
        try:
            tensors, facts = read_tensors(path, FORMAT, "inner_neutral", ("samples", "level", "norms"))
            found = cls(**tensors, model_digest=facts["model"], setup_digest=facts["setup"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise RecordDamaged(f"{path} is not readable neutral inner speech ({error})", _NEXT_STEP) from error
        if found.model_digest != model_digest:
            raise WrongBaseModel(
                f"{path} was spoken by another model ({found.model_digest[:12]}), not by {model_digest[:12]}",
                _NEXT_STEP,
            )
        return found

    @property
    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        return {"samples": self.samples, "level": self.level, "norms": self.norms}


def ordinary_subjects() -> tuple[str, ...]:
    """What people say on ordinary days, each line another subject: the reference for a life among people.

    It has to hold as many manners of speaking as life has, or a manner passes for a theme: from 48 sentences of people
    about themselves, any 40 in another tone were as far as a life on one theme. From factual prose, any life is.
    """
    text = resources.files("overlay.inner").joinpath("ordinary_subjects.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line.strip())


def setup_digest(asked: Sequence[Sequence[Asked]], opening: Sequence[SourcedMessage], seed: int) -> str:
    """sha256 over all that `gather_inner_neutral` gets beside the model: who speaks, of what, and with which luck."""
    facts = {
        "asked": [
            [
                [turn.voice.model_dump(mode="json"), [segment.text for segment in turn.situation], turn.question]
                for turn in turns
            ]
            for turns in asked
        ],
        "opening": [[message.role, [segment.text for segment in message.segments]] for message in opening],
        "seed": seed,
    }
    return digest_of(facts)


def read_inner_speech(model: LanguageModel, said: Sequence[Sequence[str]]) -> list[NDArray[np.float32] | None]:
    """What each turn's utterances give on the model's blocks, (layers, width) float32: the mean over them.

    Neutral samples are made with it. Life has to be read with it as well, or the difference counts as drift. An empty
    utterance doesn't count; a turn of nothing else gives None.
    """
    texts = [[text for text in utterances if text.strip()] for utterances in said]
    flat = [text for utterances in texts for text in utterances]
    seen = iter(model.observe([Row(text=text) for text in flat]) if flat else ())
    return [
        np.asarray(np.mean([next(seen).activations for _ in utterances], axis=0), np.float32) if utterances else None
        for utterances in texts
    ]


def speak_unsteered(
    model: LanguageModel,
    asked: Sequence[Sequence[Asked]],
    opening: Sequence[SourcedMessage],
    seed: int,
    progress: Progress | None = None,
) -> list[list[str]]:
    """What the voices say of each subject, under no intervention.

    Args:
        asked: by subject, the voices and what they are asked. opening: what all contexts begin with.
    """
    rows = [
        Row(
            voice_context(opening, turn, {}).chat,
            sampling=Sampling(turn.voice.max_tokens, turn.voice.temperature, top_p=0.95),
            seed=_seed(seed, number, place),
        )
        for number, turns in enumerate(asked)
        for place, turn in enumerate(turns)
    ]
    what = "letting the voices speak of neutral things"
    said = model.generate(rows, progress=(lambda done: progress.step(what, done, len(rows))) if progress else None)
    texts = iter(completion.text for completion in said)
    return [[next(texts) for _ in turns] for turns in asked]


def gather_inner_neutral(
    model: LanguageModel,
    asked: Sequence[Sequence[Asked]],
    opening: Sequence[SourcedMessage],
    seed: int,
    progress: Progress | None = None,
) -> InnerNeutral:
    """Let the voices speak, unsteered, about neutral subjects, and read what they said.

    Args:
        asked: by subject, the voices and what they are asked, as `Mind.asked` gives them: the masks and questions that
            a life of these subjects would have. Any others would be drift that no subject caused.
        opening: what all contexts begin with, as the mind's `opening()` gives it.

    Raises:
        ArgumentError: too little was said.
    """
    from overlay.model import neutral_texts  # brings torch, which reading a home must not wait for

    said = speak_unsteered(model, asked, opening, seed, progress)
    samples = [sample for sample in read_inner_speech(model, said) if sample is not None]
    if len(samples) < FEWEST_SAMPLES:
        raise ArgumentError(
            f"the voices said something about {len(samples)} of {len(asked)} neutral subjects",
            f"give at least {FEWEST_SAMPLES} subjects, and voices that answer",
        )
    return InnerNeutral(
        np.stack(samples),
        neutral_activations(model),
        np.array(model.residual_norms(neutral_texts()), np.float32),
        model.digest,
        setup_digest(asked, opening, seed),
    )


def _seed(seed: int, number: int, place: int) -> int:
    digest = hashlib.sha256(f"inner neutral:{seed}:{number}:{place}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
