"""The mind: reading a text and thinking about it, as a pure step from one state to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overlay.frames import NOTHING_LEARNED, ActiveFrame, Effects, FrameGraph, FrameTurn, LearnedWeights, effects_of
from overlay.inner.dialogue import Asked, Dialogue, DialogueSettings, Voice, asked_about, run_dialogue
from overlay.inner.influence import Influence
from overlay.inner.ledger import Segment, SourcedMessage
from overlay.inner.state import State, StateChange, StateSettings

if TYPE_CHECKING:
    from overlay.equivalence import ModuleChoice
    from overlay.model import LanguageModel

_DEFAULT_QUESTION = ("none", "What is happening here, in one sentence?")
"""What voices ask when no frame is active."""


@dataclass(frozen=True)
class Experience:
    """What one text did: the next state and energies, and all that led there; `learned` is what frames link now."""

    state: State
    energies: dict[str, float]
    active: tuple[ActiveFrame, ...]
    changes: tuple[StateChange, ...]
    dialogue: Dialogue | None
    learned: LearnedWeights = NOTHING_LEARNED

    @property
    def effects(self) -> Effects:
        """What the active frames ask for."""
        return effects_of(self.active)


@dataclass(frozen=True)
class Mind:
    """Everything that reading and thinking need; it keeps nothing between two texts."""

    model: LanguageModel
    influence: Influence
    frames: FrameGraph
    voices: tuple[Voice, ...]
    settings: StateSettings
    dialogue: DialogueSettings
    system: str
    modules: ModuleChoice | None = None

    def opening(self, history: Sequence[tuple[str, str]] = ()) -> tuple[SourcedMessage, ...]:
        """What every context begins with: who the agent is, and the turns (said, answered) before this one."""
        messages = [SourcedMessage("system", (Segment("system", self.system.strip()),))]
        for said, answered in history:
            messages.append(SourcedMessage("user", (Segment("user", said),)))
            messages.append(SourcedMessage("assistant", (Segment("reply", answered),)))
        return tuple(messages)

    def wake(
        self, text: str, state: State, energies: Mapping[str, float], learned: LearnedWeights = NOTHING_LEARNED
    ) -> FrameTurn:
        """The frames that a text wakes; what was felt before it has its say."""
        return self.frames.turn(energies, text, self.influence.leanings(state), learned)

    def experience(
        self,
        text: str,
        state: State,
        woken: FrameTurn,
        seed: int,
        history: Sequence[tuple[str, str]] = (),
    ) -> Experience:
        """Read a text and let the voices talk about it, as the frames ask that it woke: one turn of state."""
        (readings,) = self.influence.read(self.model, [text])
        state, changes = state.observe(readings, self.settings, source="read", cause=_shorten(text), turns=1.0)
        if self.dialogue.mode == "off":
            return Experience(state, woken.energies, woken.active, changes, None)
        effects = effects_of(woken.active)
        dialogue = run_dialogue(
            text,
            _questions(effects),
            self._called(effects.voices),
            state,
            model=self.model,
            influence=self.influence,
            settings=self.settings,
            dialogue=self.dialogue,
            seed=seed,
            opening=self.opening(history),
            consulted={voice.name: voice for voice in self.voices},
            forbidden=effects.forbids,
        )
        return Experience(dialogue.state, woken.energies, woken.active, changes + dialogue.changes, dialogue)

    def asked(self, texts: Sequence[str]) -> list[list[Asked]]:
        """By text, who would speak first of it and be asked what, were they read one after the other, at rest."""
        rest, energies, found = State.resting(self.settings), dict[str, float](), list[list[Asked]]()
        for text in texts:
            woken = self.wake(text, rest, energies)
            energies, effects = woken.energies, effects_of(woken.active)
            found.append(asked_about(text, _questions(effects), self._called(effects.voices)))
        return found

    def _called(self, called: Sequence[str]) -> list[Voice]:
        """The voices that active frames call, strongest frame first, then the others in order of name."""
        order = {name: place for place, name in enumerate(called)}
        ranked = sorted(self.voices, key=lambda voice: (order.get(voice.name, len(called)), voice.name))
        return ranked[: self.dialogue.voices]


def _questions(effects: Effects) -> Sequence[tuple[str, str]]:
    return effects.questions or [_DEFAULT_QUESTION]


def _shorten(text: str, length: int = 60) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= length else one_line[: length - 1] + "…"
