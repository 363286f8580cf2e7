"""The inner dialogue: copies of the agent wear masks, ask themselves the frames' questions, and move the state."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from overlay.documents import Document, read_document
from overlay.errors import DocumentError
from overlay.inner.influence import Influence
from overlay.inner.ledger import Context, Segment, SourcedMessage
from overlay.inner.state import State, StateChange, StateSettings, mistake_in
from overlay.model import Avoided, Ban, Completion, Intervention, Row, Sampling

if TYPE_CHECKING:
    from overlay.model import LanguageModel

FIXED_POINT = 0.02
"""A round that moved no accumulator further than this is the last one."""

DAMPING = 0.9
"""No round moves an accumulator further than this share of the round before, or than `FIXED_POINT` where that is more.

So the moves of a resonating loop shrink like 0.9^r, and all rounds together move it by less than ten first rounds.
"""

Ended = Literal["fixed point", "round limit", "token budget", "off"]


class Voice(Document):
    """A mask: the perspective that a copy of the agent takes, and how it speaks.

    Attributes:
        lean: scales the state's intervention for this voice: 0 keeps it sober, 1 lets it feel the whole state.
        pushes: by axis, what this mask adds to its own copy of the state, in budget doses.
        forbids: words it has to do without.
        consults: voices with which it opens a dialogue of its own about what it has just said.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str
    mask: Annotated[str, Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8
    max_tokens: Annotated[int, Field(ge=1, le=512)] = 32
    lean: Annotated[float, Field(ge=0, le=1)] = 1.0
    pushes: dict[str, Annotated[float, Field(ge=-2, le=2)]] = Field(default_factory=dict)
    forbids: tuple[str, ...] = ()
    consults: tuple[str, ...] = ()


class DialogueSettings(Document):
    """How the agent thinks before it replies.

    Attributes:
        mode: silent: nothing of it enters the reply's context; spoken: a summary does; off: it doesn't think.
        depth: how deep voices may open dialogues of their own; 0 not at all.
        tokens: how many tokens one inner dialogue may say, all copies together.
    """

    mode: Literal["silent", "spoken", "off"] = "silent"
    rounds: Annotated[int, Field(ge=1, le=8)] = 2
    voices: Annotated[int, Field(ge=1, le=8)] = 2
    depth: Annotated[int, Field(ge=0, le=3)] = 0
    tokens: Annotated[int, Field(ge=1, le=100_000)] = 1024

    @field_validator("mode", mode="before")
    @classmethod
    def _off_is_a_word(cls, mode: object) -> object:
        # YAML reads a bare `off` as false.
        return "off" if mode is False else mode


@dataclass(frozen=True)
class Utterance:
    """What one voice said in one round.

    Attributes:
        within: the voices whose dialogue it spoke in, outermost first. What is said in one round within equally many
            voices is said in one batch, in the order of the utterances.
        prompt: hash of its prompt's tokens.
        doses: (axis, dose) that it spoke under, as fractions of the residual norm.
    """

    round: int
    voice: str
    frame: str
    question: str
    text: str
    within: tuple[str, ...] = ()
    avoided: tuple[Avoided, ...] = ()
    tokens: tuple[int, ...] = ()
    prompt: str = ""
    doses: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Resonance:
    """How far a round moved an axis before damping, as a multiple of the round before: from 1 on it resonates."""

    round: int
    axis: str
    gain: float
    damped: bool


@dataclass(frozen=True)
class Dialogue:
    """One inner dialogue: what was said, how the state moved, and why it ended."""

    utterances: tuple[Utterance, ...]
    changes: tuple[StateChange, ...]
    contexts: tuple[Context, ...]
    state: State
    ended: Ended
    resonance: tuple[Resonance, ...] = ()
    tokens: int = 0

    @property
    def summary(self) -> tuple[tuple[str, str], ...]:
        """(voice, its last words) of every voice of the outermost dialogue, cut to their first sentence."""
        last = {said.voice: said.text for said in self.utterances if not said.within and said.text}
        return tuple((voice, re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]) for voice, text in last.items())


def read_voices(folder: Path, axes: Collection[str] | None = None) -> tuple[Voice, ...]:
    """All voices of a folder, by file name.

    Args:
        axes: those that voices may push; None asks nothing.

    Raises:
        DocumentError: a file is no voice, there is none, two have one name, one consults a voice that isn't there or
            pushes an axis that isn't; with the file, and its line where it has one.
    """
    voices: list[Voice] = []
    paths: dict[str, Path] = {}
    for path in sorted(folder.glob("*.yaml")):
        voice = read_document(path, Voice)
        if voice.name in [other.name for other in voices]:
            raise DocumentError(path, None, f"there is a voice named '{voice.name}' already", "rename one of them")
        voices.append(voice)
        paths[voice.name] = path
    known = {voice.name for voice in voices}
    for voice in voices:
        for place, name in enumerate(voice.consults):
            if name not in known:
                raise mistake_in(
                    paths[voice.name],
                    ("consults", place),
                    f"consults[{place}] is '{name}', and there is no such voice",
                    f"use one of {sorted(known)}",
                )
        for axis in voice.pushes:
            if axes is not None and axis not in axes:
                raise mistake_in(
                    paths[voice.name],
                    ("pushes", axis),
                    f"the voice '{voice.name}' pushes the axis '{axis}', which is not under state.axes of agent.yaml",
                    f"use one of {', '.join(sorted(axes)) or 'none'}, or name it there",
                )
    if not voices:
        raise DocumentError(
            folder, None, "there is no voice in this folder", "copy the stock voices with `overlay init`"
        )
    return tuple(voices)


@dataclass(frozen=True)
class Asked:
    """A voice that is asked: within whose dialogues it stands, of what situation, and which frame's question."""

    voice: Voice
    within: tuple[str, ...]
    situation: tuple[Segment, ...]
    frame: str
    question: str

    @property
    def path(self) -> str:
        return ">".join((*self.within, self.voice.name))


def asked_about(
    situation: str, questions: Sequence[tuple[str, str]], voices: Sequence[Voice], earlier: int = 0
) -> list[Asked]:
    """Each voice with its question, the (frame, question) pairs taken in turn; so many were asked `earlier`."""
    return [
        Asked(voice, (), (Segment("user", situation),), *questions[(earlier + place) % len(questions)])
        for place, voice in enumerate(voices)
    ]


def run_dialogue(
    situation: str,
    questions: Sequence[tuple[str, str]],
    voices: Sequence[Voice],
    state: State,
    *,
    model: LanguageModel,
    influence: Influence,
    settings: StateSettings,
    dialogue: DialogueSettings,
    seed: int,
    opening: Sequence[SourcedMessage] = (),
    consulted: Mapping[str, Voice] | None = None,
    forbidden: Sequence[str] = (),
) -> Dialogue:
    """Let the voices think about a situation, round by round, each round moved by the state that the last one left.

    A voice that consults others hands what it said to copies of them; they see the state and change nothing of it, and
    the mean of what their words read comes back as one observation.

    Args:
        questions: (frame, question) pairs; voice i of round r takes the next one in turn.
        opening: what all voices have before them, such as the conversation so far; it is encoded once for all of them.
        consulted: by name, the voices that may be consulted.
        forbidden: words that no voice may use, beside its own.
    """
    found = _Progress(state)
    ended: Ended = "round limit"
    moves: dict[str, float] = {}
    for number in range(1, dialogue.rounds + 1):
        before = found.state
        turns = asked_about(situation, questions, voices, found.asked)
        found.asked += len(turns)
        heard = dict(found.last_words)
        found.last_words = {}
        for depth in range(dialogue.depth + 1):
            limit = dialogue.tokens - found.tokens
            if not turns or limit < len(turns):
                break
            said = _speak(turns, found, model, influence, number, seed, limit // len(turns), opening, heard, forbidden)
            found.observe(said, model, influence, settings, number)
            turns = _consultations(said, consulted or {}) if depth < dialogue.depth else []
            heard = {}
        moves = found.settle(before, moves, number)
        if found.tokens + len(voices) > dialogue.tokens:
            ended = "token budget"
            break
        if found.state.distance(before) < FIXED_POINT:
            ended = "fixed point"
            break
    return Dialogue(
        tuple(found.utterances),
        tuple(found.changes),
        tuple(found.contexts),
        found.state,
        ended,
        tuple(found.resonance),
        found.tokens,
    )


class _Progress:
    """What a dialogue has come to so far."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.utterances: list[Utterance] = []
        self.changes: list[StateChange] = []
        self.contexts: list[Context] = []
        self.resonance: list[Resonance] = []
        self.last_words: dict[str, str] = {}
        self.asked = 0
        self.tokens = 0

    def observe(
        self,
        said: Sequence[tuple[Asked, Completion]],
        model: LanguageModel,
        influence: Influence,
        settings: StateSettings,
        number: int,
    ) -> None:
        """Let what was said move the state: each voice's words, and of each consultation the mean of its copies'."""
        spoken = [(turn, completion.text) for turn, completion in said if completion.text]
        readings = influence.read(model, [text for _, text in spoken]) if spoken else []
        groups: dict[tuple[str, ...] | str, list[Mapping[str, float]]] = {}
        for (turn, _), reading in zip(spoken, readings, strict=True):
            groups.setdefault(turn.within or turn.voice.name, []).append(reading)
        for who, found in groups.items():
            mean = {axis: sum(reading[axis] for reading in found) / len(found) for axis in found[0]}
            cause = who if isinstance(who, str) else f"copies for {'>'.join(who)}"
            self.state, moved = self.state.observe(
                mean, settings, source="inner speech", cause=f"{cause}, round {number}"
            )
            self.changes += moved

    def settle(self, before: State, moves: Mapping[str, float], number: int) -> dict[str, float]:
        """Measure how far the round moved each axis against the round before it, and damp what doesn't shrink."""
        values = dict(self.state.values)
        now: dict[str, float] = {}
        for axis, value in values.items():
            now[axis] = value - before.values.get(axis, 0.0)
            last = moves.get(axis, 0.0)
            if not last:
                continue
            gain = abs(now[axis] / last)
            allowed = max(DAMPING * abs(last), FIXED_POINT)
            damped = abs(now[axis]) > allowed
            self.resonance.append(Resonance(number, axis, gain, damped))
            if damped:
                now[axis] = math.copysign(allowed, now[axis])
                values[axis] = value_after = before.values.get(axis, 0.0) + now[axis]
                cause = f"damped: round {number} moved it {gain:.2f} times as far as the one before"
                self.changes.append(StateChange(axis, "damping", cause, 0.0, value, value_after))
        self.state = replace(self.state, values=values)
        return now


def _speak(
    turns: Sequence[Asked],
    found: _Progress,
    model: LanguageModel,
    influence: Influence,
    number: int,
    seed: int,
    limit: int,
    opening: Sequence[SourcedMessage],
    heard: Mapping[str, str],
    forbidden: Sequence[str],
) -> list[tuple[Asked, Completion]]:
    """All turns of one depth in one batch; each voice speaks under its own copy of the state."""
    rows = []
    for turn in turns:
        voice = turn.voice
        context = voice_context(opening, turn, heard)
        found.contexts.append(context)
        felt = {axis: value + voice.pushes.get(axis, 0.0) for axis, value in found.state.values.items()}
        intervention = influence.of(replace(found.state, values=felt)).intervention * voice.lean
        bans = tuple(Ban(word) for word in dict.fromkeys((*forbidden, *voice.forbids)))
        rows.append(
            Row(
                context.chat,
                intervention=intervention + Intervention(bans=bans),
                sampling=Sampling(min(voice.max_tokens, limit), voice.temperature, top_p=0.95),
                seed=_seed(seed, number, turn.path),
            )
        )
    completions = model.generate(rows)
    for turn, row, completion in zip(turns, rows, completions, strict=True):
        found.tokens += len(completion.tokens)
        found.utterances.append(
            Utterance(
                number,
                turn.voice.name,
                turn.frame,
                turn.question,
                completion.text,
                turn.within,
                completion.avoided,
                completion.tokens,
                tokens_digest(completion.prompt_tokens),
                tuple((dose.direction.name, dose.coefficient) for dose in row.intervention.doses if dose.coefficient),
            )
        )
        if not turn.within:
            found.last_words[turn.voice.name] = completion.text
    return list(zip(turns, completions, strict=True))


def _consultations(said: Sequence[tuple[Asked, Completion]], consulted: Mapping[str, Voice]) -> list[Asked]:
    """The copies that are asked next: no voice consults itself, nor one that it is being consulted by."""
    return [
        Asked(
            consulted[name],
            (*turn.within, turn.voice.name),
            (*turn.situation, Segment(f"voice:{turn.voice.name}", f"\nA thought: {completion.text}")),
            turn.frame,
            turn.question,
        )
        for turn, completion in said
        if completion.text
        for name in turn.voice.consults
        if name in consulted and name not in (*turn.within, turn.voice.name)
    ]


def voice_context(opening: Sequence[SourcedMessage], turn: Asked, heard: Mapping[str, str]) -> Context:
    """What a voice has before it when it speaks: the opening, its situation, the others' words, mask and question.

    Args:
        heard: by voice, what was said in the round before; its own words are left out.
    """
    others = [
        Segment(f"voice:{name}", f"\nAnother thought: {text}")
        for name, text in heard.items()
        if name != turn.voice.name
    ]
    return Context(
        f"voice:{turn.path}",
        (
            *opening,
            SourcedMessage(
                "user",
                (
                    *turn.situation,
                    *others,
                    # The mask comes late, so that everything before it is the same for all voices.
                    Segment(f"mask:{turn.voice.name}", f"\n\n{turn.voice.mask.strip()}"),
                    Segment(f"frame:{turn.frame}", f"\n{turn.question}"),
                ),
            ),
        ),
    )


def tokens_digest(tokens: Sequence[int]) -> str:
    """A hash of token ids, as journals keep it."""
    return hashlib.sha256(repr(tuple(tokens)).encode()).hexdigest()[:24]


def _seed(seed: int, number: int, voice: str) -> int:
    digest = hashlib.sha256(f"{seed}:{number}:{voice}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
