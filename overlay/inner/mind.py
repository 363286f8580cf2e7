"""The mind: reading a text and thinking about it, as a pure step from one state to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overlay.frames import ActiveFrame, FrameGraph
from overlay.inner.dialogue import Dialogue, DialogueSettings, Voice, run_dialogue
from overlay.inner.influence import Influence
from overlay.inner.ledger import Segment, SourcedMessage
from overlay.inner.state import State, StateChange, StateSettings

if TYPE_CHECKING:
    from overlay.model import LanguageModel

_DEFAULT_QUESTION = ("none", "What is happening here, in one sentence?")
"""What voices ask when no frame is active."""


@dataclass(frozen=True)
class Experience:
    """What one text did: the next state and energies, and all that led there."""

    state: State
    energies: dict[str, float]
    active: tuple[ActiveFrame, ...]
    changes: tuple[StateChange, ...]
    dialogue: Dialogue | None


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

    def opening(self, history: Sequence[tuple[str, str]] = ()) -> tuple[SourcedMessage, ...]:
        """What every context begins with: who the agent is, and the turns (said, answered) before this one."""
        messages = [SourcedMessage("system", (Segment("system", self.system.strip()),))]
        for said, answered in history:
            messages.append(SourcedMessage("user", (Segment("user", said),)))
            messages.append(SourcedMessage("assistant", (Segment("reply", answered),)))
        return tuple(messages)

    def experience(
        self,
        text: str,
        state: State,
        energies: Mapping[str, float],
        seed: int,
        history: Sequence[tuple[str, str]] = (),
    ) -> Experience:
        """Read a text, wake frames, and let the voices talk about it: one turn of state."""
        # What was felt before the text decides what it wakes.
        woken = self.frames.turn(energies, text, self.influence.leanings(state))
        (readings,) = self.influence.read(self.model, [text])
        state, changes = state.observe(readings, self.settings, source="read", cause=_shorten(text), turns=1.0)
        if self.dialogue.mode == "off":
            return Experience(state, woken.energies, woken.active, changes, None)
        questions = [(entry.frame.name, question) for entry in woken.active for question in entry.frame.questions]
        dialogue = run_dialogue(
            text,
            questions or [_DEFAULT_QUESTION],
            self._called(woken.active),
            state,
            model=self.model,
            influence=self.influence,
            settings=self.settings,
            dialogue=self.dialogue,
            seed=seed,
            opening=self.opening(history),
            consulted={voice.name: voice for voice in self.voices},
            forbidden=forbidden_words(woken.active),
        )
        return Experience(dialogue.state, woken.energies, woken.active, changes + dialogue.changes, dialogue)

    def _called(self, active: Sequence[ActiveFrame]) -> list[Voice]:
        """The voices that active frames call, strongest frame first, then the others in order of name."""
        called = [name for entry in active for name in entry.frame.voices]
        order = {name: place for place, name in reversed(list(enumerate(called)))}
        ranked = sorted(self.voices, key=lambda voice: (order.get(voice.name, len(called)), voice.name))
        return ranked[: self.dialogue.voices]


def _shorten(text: str, length: int = 60) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= length else one_line[: length - 1] + "…"


def forbidden_words(active: Sequence[ActiveFrame]) -> tuple[str, ...]:
    """The words that active frames forbid, each once."""
    return tuple(dict.fromkeys(word for entry in active for word in entry.frame.forbids))
