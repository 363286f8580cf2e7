"""A turn as a step: the same beginning, notes and model give the same words and the same state again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from overlay.frames import NOTHING_LEARNED, FrameTurn, LearnedWeights, learn
from overlay.home import ReplySettings
from overlay.inner import (
    Context,
    Dialogue,
    Experience,
    Influenced,
    Mind,
    Segment,
    SourcedMessage,
    State,
    StateChange,
)
from overlay.model import AdapterUse, Ban, Completion, Focus, Intervention, Row

_KEPT_READINGS = 1024
"""Of so many recalled notes it is remembered what they read on the axes."""


@dataclass(frozen=True)
class Beginning:
    """All that a turn begins from. With the mind and what is recalled, it decides the turn.

    Attributes:
        history: (said, answered) of those turns before it that its contexts hold.
        seconds: what has passed since the turn before, for half-lives in wall-clock time.
        learned: what links between frames weigh beside what is written.
    """

    state: State
    energies: Mapping[str, float]
    history: tuple[tuple[str, str], ...]
    seconds: float
    seed: int
    learned: LearnedWeights = NOTHING_LEARNED


@dataclass(frozen=True)
class ShownNote:
    """A recalled note, as much of it as stands in the reply's context."""

    id: str
    text: str


@dataclass(frozen=True)
class Answer:
    """What was replied, from which context and under what."""

    context: Context
    influenced: Influenced
    row: Row
    completion: Completion


@dataclass(frozen=True)
class Stages:
    """Who hears a turn while it goes on; each part is optional."""

    stage: Callable[[str], None] = lambda stage: None
    state: Callable[[Mapping[str, float]], None] = lambda state: None
    piece: Callable[[str], None] = lambda piece: None


class Life:
    """How turns are lived by a mind. It keeps nothing between them but what notes read, which is the same each time."""

    def __init__(self, mind: Mind, reply: ReplySettings) -> None:
        self.mind = mind
        self._reply = reply
        self._readings: dict[str, Mapping[str, float]] = {}

    def wake(self, text: str, beginning: Beginning) -> FrameTurn:
        """The frames that a text wakes at this beginning, before anything is thought about it."""
        state, _ = beginning.state.passed(self.mind.settings, seconds=beginning.seconds)
        return self.mind.wake(text, state, beginning.energies, beginning.learned)

    def think(self, text: str, beginning: Beginning, woken: FrameTurn | None = None) -> Experience:
        """Read something and think about it without replying; the state builds up as in a turn.

        Args:
            woken: what `wake` gave, for who has asked already.
        """
        mind = self.mind
        woken = woken or self.wake(text, beginning)
        state, faded = beginning.state.passed(mind.settings, seconds=beginning.seconds)
        found = mind.experience(text, state, woken, beginning.seed, beginning.history)
        state, pushed = found.state.pushed({one.frame.name: one.energy for one in found.active}, mind.settings)
        learned = learn(beginning.learned, list(mind.frames.frames.values()), woken)
        return replace(found, state=state, changes=faded + found.changes + pushed, learned=learned)

    def answer(
        self,
        text: str,
        beginning: Beginning,
        notes: Sequence[ShownNote],
        *,
        woken: FrameTurn | None = None,
        stages: Stages | None = None,
        cancelled: threading.Event | None = None,
        most_tokens: int | None = None,
    ) -> tuple[Experience, Answer]:
        """Read, think, feel what was recalled, reply, and hear oneself.

        Args:
            woken: as `think` takes it.
            cancelled: set it to end the reply early.
            most_tokens: end the reply there, as one that was cancelled has ended.
        """
        stages = stages or Stages()
        stages.stage("thinking")
        thought = self.think(text, beginning, woken)
        state, moved = self._moved_by_notes(thought.state, notes)
        stages.state(state.values)
        worn = thought.effects.adapter
        influenced = self.mind.influence.of(state, also=[AdapterUse(worn.name, worn.scale)] if worn else ())
        context = self._with_modules(self._context(text, beginning, notes, thought.dialogue), stages)
        row = self._row(context, thought, influenced, self._attention(state, notes), beginning.seed, most_tokens)
        stages.stage("replying")
        completion = self._say(row, stages, cancelled)
        state, heard = self._heard(state, completion.text)
        stages.state(state.values)
        lived = replace(thought, state=state, changes=thought.changes + moved + heard)
        return lived, Answer(context, influenced, row, completion)

    def _moved_by_notes(self, state: State, notes: Sequence[ShownNote]) -> tuple[State, tuple[StateChange, ...]]:
        """Recalled notes are read like anything else; together they count as one observation."""
        settings = self.mind.settings
        changes: tuple[StateChange, ...] = ()
        for note in notes if settings.heeds("recalled") else ():
            state, moved = state.observe(
                self._read(note), settings, source="recalled", cause=f"note {note.id}", share=1 / len(notes)
            )
            changes += moved
        return state, changes

    def _read(self, note: ShownNote) -> Mapping[str, float]:
        """What a note reads on the axes; notes come back, so it is kept."""
        if note.text not in self._readings:
            if len(self._readings) >= _KEPT_READINGS:
                del self._readings[next(iter(self._readings))]
            # One by one: batch mates change roundings, and a replay recalls the same notes at other times.
            (self._readings[note.text],) = self.mind.influence.read(self.mind.model, [note.text])
        return self._readings[note.text]

    def _attention(self, state: State, notes: Sequence[ShownNote]) -> tuple[Focus, ...]:
        """More attention on those recalled notes that fit the state."""
        if self.mind.settings.focus is None:
            return ()
        found = self.mind.influence.focus(state, {note.text: self._read(note) for note in notes})
        return tuple(one.focus for one in found if one.focus is not None)

    def _context(
        self, text: str, beginning: Beginning, notes: Sequence[ShownNote], dialogue: Dialogue | None
    ) -> Context:
        asked = [Segment("user", text)]
        if notes:
            # Small models use notes that stand next to the question, and short ones.
            shown = [Segment(f"note:{note.id}", note.text + "\n\n") for note in notes]
            asked = [Segment("template", "Notes:\n\n"), *shown, Segment("template", "Question: "), *asked]
        if dialogue is not None and self.mind.dialogue.mode == "spoken":
            asked.append(Segment("template", "\n\nYour own thoughts:"))
            asked += [Segment(f"voice:{voice}", f"\n{words}") for voice, words in dialogue.summary]
        return Context("reply", (*self.mind.opening(beginning.history), SourcedMessage("user", tuple(asked))))

    def _with_modules(self, context: Context, stages: Stages) -> Context:
        """The context with those modules of meaning that this query calls for, if the agent has any."""
        if self.mind.modules is None:
            return context
        stages.stage("choosing modules")
        system, *earlier, asked = context.messages
        picked = self.mind.modules.pick(self.mind.model, asked.message.text, context.chat[:-1])
        texts: list[Segment] = []
        shots: list[SourcedMessage] = []
        for module in (one.module for one in picked.chosen):
            source = f"module:{module.name}"
            if module.text:
                texts.append(Segment(source, f"\n\n{module.text.strip()}"))
            for example in module.examples:
                shots.append(SourcedMessage("user", (Segment(source, example.prompt.strip()),)))
                shots.append(SourcedMessage("assistant", (Segment(source, example.target.strip()),)))
        system = replace(system, segments=(*system.segments, *texts))
        found = replace(context, messages=(system, *shots, *earlier, asked))
        assert found.chat == (*picked.before, asked.message)
        return found

    def _row(
        self,
        context: Context,
        thought: Experience,
        influenced: Influenced,
        attention: tuple[Focus, ...],
        seed: int,
        most_tokens: int | None,
    ) -> Row:
        bans = tuple(Ban(word) for word in thought.effects.forbids)
        sampling = self._reply.sampling
        if influenced.temperature is not None:
            sampling = replace(sampling, temperature=influenced.temperature)
        if most_tokens is not None:
            sampling = replace(sampling, max_tokens=most_tokens)
        intervention = influenced.intervention + self.mind.influence.worn + Intervention(bans=bans, focus=attention)
        return Row(context.chat, intervention=intervention, sampling=sampling, seed=seed)

    def _say(self, row: Row, stages: Stages, cancelled: threading.Event | None) -> Completion:
        for part in self.mind.model.stream(row, cancelled):
            if isinstance(part, Completion):
                return part
            stages.piece(part)
        raise AssertionError("a stream ends with its completion")

    def _heard(self, state: State, reply: str) -> tuple[State, tuple[StateChange, ...]]:
        if not reply:
            return state, ()
        (readings,) = self.mind.influence.read(self.mind.model, [reply])
        return state.observe(readings, self.mind.settings, source="said", cause="the agent's own reply")
