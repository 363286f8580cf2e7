"""Levels: one way each to bring a state about, as a treatment of rows and as an arm of scripts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from overlay.model import NOTHING, Intervention, Message, Treatment, Volatility
from overlay.scenarios import Arm

LEVELS = ("topic", "instruction", "adapter", "state")
"""The four, in order: level 1 to level 4."""

LABELS = {
    "base": "the unchanged model",
    "topic": "topic prompt",
    "instruction": "instruction",
    "adapter": "adapter",
    "state": "accumulated state",
    "sham": "sham: hooks on, dose 0",
}

CLEARED = {"topic": "topic_cleared", "instruction": "instruction_cleared"}
"""Levels that live in the context, and the same model asked in a new one."""

LIVED = "state_in_context"
"""The state while what it was built up from still stands in the context."""

RANDOM = "random_"
"""How random directions are named: random_1, random_2 and so on."""


@dataclass(frozen=True)
class Level:
    """One condition under which everything is asked.

    Attributes:
        instruction: stands before the system message.
        history: turns before every question.
        scale: by how much adapter or dose was scaled to cost as much as the others; None where nothing was scaled.
        cost: on plain neutral text, as the budget counts it; None for prompts.
        is_probed: whether the model is asked about itself.
        measures: what of the measures is taken; all where None.
    """

    name: str
    intervention: Intervention = NOTHING
    instruction: str = ""
    history: tuple[Message, ...] = ()
    scale: float | None = None
    cost: Volatility | None = None
    is_probed: bool = False
    measures: frozenset[str] | None = None

    def treatment(self, system: str) -> Treatment:
        """The level as messages and an intervention before any query."""
        said = f"{self.instruction}\n\n{system}" if self.instruction else system
        return Treatment(self.name, self.intervention, (Message("system", said), *self.history))

    def arm(self, paraphrases: int) -> Arm:
        """The level as an arm of a script."""
        return Arm(
            self.name,
            LABELS.get(self.name, self.name),
            self.intervention,
            self.cost,
            paraphrases=paraphrases,
            instruction=self.instruction,
            history=self.history,
            probes=1 if self.is_probed else 0,
            same_tokens=not (self.instruction or self.history),
        )

    @property
    def digest(self) -> str:
        """A hash of its name and of all that it says and does; adapters are known by name and scale only."""
        said = [(message.role, message.text) for message in self.history]
        facts = (self.name, self.intervention.digest, self.instruction, said, self.is_probed)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]
