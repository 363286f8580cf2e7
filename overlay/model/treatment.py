"""Treatments: what is done to the model in one condition, whatever it is made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from overlay.model.intervention import NOTHING, Intervention
from overlay.model.row import Message, Row, Sampling


@dataclass(frozen=True)
class Treatment:
    """An adapter, an axis, a state or a prompt as one condition: rows made by it differ from base rows only by it.

    Attributes:
        name: what tables and records call it.
        intervention: what skews every row; empty for a mere prompt.
        before: messages that stand before every query: a mere prompt is nothing but these.
        own: what the model's chat template says as the system by itself, if the prompt's system message is to stand
            behind it in a chat: it would take its place, and to lose that is an effect of its own.
    """

    name: str
    intervention: Intervention = NOTHING
    before: tuple[Message, ...] = ()
    own: str = ""

    @property
    def digest(self) -> str:
        """sha256 of what it does, whatever it is called; adapters count by name and scale."""
        said = json.dumps([[message.role, message.text] for message in self._chat], ensure_ascii=False)
        return hashlib.sha256(f"{self.intervention.digest}{said}".encode()).hexdigest()

    @property
    def _chat(self) -> tuple[Message, ...]:
        """What stands before a query in a chat."""
        if not self.own or not self.before or self.before[0].role != "system":
            return self.before
        first, *rest = self.before
        return (Message("system", f"{self.own}\n\n{first.text}"), *rest)

    def row(
        self,
        query: str,
        *,
        options: tuple[str, ...] = (),
        chat: bool | None = None,
        sampling: Sampling | None = None,
        seed: int = 0,
        trace_volatility: bool = False,
    ) -> Row:
        """One query under this treatment, as `score`, `generate` and `observe` take it.

        As a chat, the query is the user's next message after `before`, in the model's chat template. As plain text,
        to be gone on with, it has what stands `before` it in front, a blank line between. Where `chat` isn't said, it
        is plain text unless something stands before it: to compare treatments, say it, so that both have one form.
        """
        as_chat = bool(self.before) if chat is None else chat
        return Row(
            messages=(*self._chat, Message("user", query)) if as_chat else (),
            text=None if as_chat else "\n\n".join([*(message.text for message in self.before), query]),
            intervention=self.intervention,
            sampling=sampling or Sampling(),
            seed=seed,
            options=options,
            trace_volatility=trace_volatility,
        )


UNTREATED = Treatment("base")
"""The unchanged model: what every treatment is compared with."""
