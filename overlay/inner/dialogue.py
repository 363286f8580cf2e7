"""The inner dialogue: copies of the agent wear masks, ask themselves the frames' questions, and move the state."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from overlay.documents import Document, read_document
from overlay.errors import DocumentError
from overlay.inner.influence import Influence
from overlay.inner.ledger import Context, Segment, SourcedMessage
from overlay.inner.state import State, StateChange, StateSettings
from overlay.model import Row, Sampling

if TYPE_CHECKING:
    from overlay.model import LanguageModel

FIXED_POINT = 0.02
"""A round that moved no accumulator further than this is the last one."""


class Voice(Document):
    """A mask: the perspective that a copy of the agent takes, and how it speaks.

    `lean` scales the state's intervention for this voice: 0 keeps it sober, 1 lets it feel the whole state.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str
    mask: Annotated[str, Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8
    max_tokens: Annotated[int, Field(ge=1, le=512)] = 32
    lean: Annotated[float, Field(ge=0, le=1)] = 1.0


class DialogueSettings(Document):
    """How the agent thinks before it replies. `silent`: nothing of it enters the reply's context."""

    mode: Literal["silent", "off"] = "silent"
    rounds: Annotated[int, Field(ge=1, le=8)] = 2
    voices: Annotated[int, Field(ge=1, le=8)] = 2


@dataclass(frozen=True)
class Utterance:
    """What one voice said in one round, and what moved it to."""

    round: int
    voice: str
    frame: str
    question: str
    text: str


@dataclass(frozen=True)
class Dialogue:
    """One inner dialogue: what was said, how the state moved, and why it ended."""

    utterances: tuple[Utterance, ...]
    changes: tuple[StateChange, ...]
    contexts: tuple[Context, ...]
    state: State
    ended: Literal["fixed point", "round limit", "off"]


def read_voices(folder: Path) -> tuple[Voice, ...]:
    """All voices of a folder, by file name. Raises DocumentError, also when there is none or two have one name."""
    voices: list[Voice] = []
    for path in sorted(folder.glob("*.yaml")):
        voice = read_document(path, Voice)
        if voice.name in [other.name for other in voices]:
            raise DocumentError(path, None, f"there is a voice named '{voice.name}' already", "rename one of them")
        voices.append(voice)
    if not voices:
        raise DocumentError(
            folder, None, "there is no voice in this folder", "copy the stock voices with `overlay init`"
        )
    return tuple(voices)


def run_dialogue(
    situation: str,
    questions: Sequence[tuple[str, str]],
    voices: Sequence[Voice],
    state: State,
    *,
    model: LanguageModel,
    influence: Influence,
    settings: StateSettings,
    rounds: int,
    seed: int,
    opening: Sequence[SourcedMessage] = (),
) -> Dialogue:
    """Let the voices think about a situation, round by round, each round moved by the state that the last one left.

    Args:
        opening: what all voices have before them, such as the conversation so far; it is encoded once for all of them.
        questions: (frame, question) pairs; voice i of round r takes the next one in turn.
    """
    utterances: list[Utterance] = []
    changes: list[StateChange] = []
    contexts: list[Context] = []
    last_words: dict[str, str] = {}
    ended: Literal["fixed point", "round limit"] = "round limit"
    for number in range(1, rounds + 1):
        intervention = influence.of(state).intervention
        rows: list[Row] = []
        asked: list[tuple[Voice, str, str]] = []
        for place, voice in enumerate(voices):
            frame, question = questions[(len(utterances) + place) % len(questions)]
            context = _context(opening, situation, frame, question, voice, last_words)
            contexts.append(context)
            asked.append((voice, frame, question))
            rows.append(
                Row(
                    context.chat,
                    intervention=intervention * voice.lean,
                    sampling=Sampling(voice.max_tokens, voice.temperature, top_p=0.95),
                    seed=_seed(seed, number, voice.name),
                )
            )
        said = [completion.text for completion in model.generate(rows)]
        before = state
        last_words = {}
        for (voice, frame, question), text in zip(asked, said, strict=True):
            utterances.append(Utterance(number, voice.name, frame, question, text))
            last_words[voice.name] = text
        spoken = [(voice.name, text) for (voice, _, _), text in zip(asked, said, strict=True) if text]
        for (name, _), readings in zip(spoken, influence.read(model, [text for _, text in spoken]), strict=True):
            state, moved = state.observe(readings, settings, source="inner speech", cause=f"{name}, round {number}")
            changes += moved
        if state.distance(before) < FIXED_POINT:
            ended = "fixed point"
            break
    return Dialogue(tuple(utterances), tuple(changes), tuple(contexts), state, ended)


def _context(
    opening: Sequence[SourcedMessage],
    situation: str,
    frame: str,
    question: str,
    voice: Voice,
    last_words: dict[str, str],
) -> Context:
    heard = [
        Segment(f"voice:{name}", f"\nAnother thought: {text}")
        for name, text in last_words.items()
        if name != voice.name
    ]
    return Context(
        f"voice:{voice.name}",
        (
            *opening,
            SourcedMessage(
                "user",
                (
                    Segment("user", situation),
                    *heard,
                    # The mask comes late, so that everything before it is the same for all voices.
                    Segment(f"mask:{voice.name}", f"\n\n{voice.mask.strip()}"),
                    Segment(f"frame:{frame}", f"\n{question}"),
                ),
            ),
        ),
    )


def _seed(seed: int, number: int, voice: str) -> int:
    digest = hashlib.sha256(f"{seed}:{number}:{voice}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
