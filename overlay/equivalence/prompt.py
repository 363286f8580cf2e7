"""Prompts: texts, examples and openings that could stand in for a treatment, and the rows they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from overlay.adapters import Example
from overlay.errors import InterventionError
from overlay.model import Message, Positions, Row, Treatment, When

if TYPE_CHECKING:
    from overlay.model import LanguageModel


@dataclass(frozen=True)
class Prompt:
    """What stands before a query, and what the answer begins with; the empty prompt is the base model.

    Attributes:
        text: an instruction or an anchor: the end of a chat's system message, the first paragraph of plain text. What
            the model's template says as the system by itself stays in front of it: its mere loss would count as harm.
        shots: examples; one whose prompt is the query itself is left out, or its answer would be given away.
        count: how many of the shots are shown; all when 0.
        opening: what the answer is made to begin with; what follows it is compared.
        biases: nats added to the logits of tokens, (token id, nats).
    """

    text: str = ""
    shots: tuple[Example, ...] = ()
    count: int = 0
    opening: str = ""
    biases: tuple[tuple[int, float], ...] = ()

    def shown(self, query: str) -> tuple[Example, ...]:
        """The examples that stand before a query."""
        others = tuple(shot for shot in self.shots if shot.prompt != query)
        return others[: self.count] if self.count else others

    def row(self, model: LanguageModel, query: str, chat: bool) -> Row:
        """The row of one query, without opening and biases."""
        before = placed([self.text] if self.text else [], self.shown(query), chat=chat, own=model.own_system)
        return Treatment("prompt", before=before).row(query, chat=chat)

    def tokens(self, model: LanguageModel, query: str, chat: bool) -> tuple[int, ...]:
        """What the model reads before the first compared token."""
        opening = model.tokenize(self.opening) if self.opening else ()
        return (*model.encode(self.row(model, query, chat)).tokens, *opening)

    def spends(self, model: LanguageModel, query: str, chat: bool) -> int:
        """How many tokens of context are its own, beside the query and the frame of its message."""
        bare = NO_PROMPT.row(model, query, chat)
        if chat and self.text and not model.own_system:
            bare = replace(bare, messages=(Message("system", ""), *bare.messages))
        return len(self.tokens(model, query, chat)) - len(model.encode(bare).tokens)

    @property
    def words(self) -> str:
        """The prompt as a table or a page shows it."""
        parts = [self.text] if self.text else []
        if self.shots:
            shown = self.count or len(self.shots)
            parts.append(f"{shown} {'example' if shown == 1 else 'examples'}")
        if self.opening:
            parts.append(f"opening: {self.opening.strip()}")
        if self.biases:
            parts.append(f"{len(self.biases)} logit biases")
        return " + ".join(parts) or "(empty)"

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "text": self.text,
            "shots": [[shot.prompt, shot.target] for shot in self.shots],
            "count": self.count,
            "opening": self.opening,
            "biases": [list(bias) for bias in self.biases],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Prompt:
        """What `to_json` gave."""
        return cls(
            record["text"],
            tuple(Example(prompt=prompt, target=target) for prompt, target in record["shots"]),
            record["count"],
            record["opening"],
            tuple((int(token), float(nats)) for token, nats in record["biases"]),
        )


NO_PROMPT = Prompt()


def placed(
    texts: Sequence[str],
    shots: Sequence[Example],
    before: Sequence[Message] = (),
    *,
    chat: bool = True,
    own: str = "",
) -> tuple[Message, ...]:
    """Messages in which texts and examples stand: texts end the system message, examples are turns behind it.

    Where a chat has no system message, texts end the one that the model's template would put there (`own`). In plain
    text an example is one paragraph, so that its answer follows its prompt as it will follow the query.
    """
    first = before[0] if before and before[0].role == "system" else None
    rest = tuple(before[1:] if first else before)
    opening = [first.text] if first else [own] if own and chat and texts else []
    said = "\n\n".join([*opening, *texts])
    system = (Message("system", said),) if first or said else ()
    if not chat:
        return (*system, *(Message("user", (shot.prompt + shot.target).strip()) for shot in shots), *rest)
    turns = [
        message
        for shot in shots
        for message in (Message("user", shot.prompt.strip()), Message("assistant", shot.target.strip()))
        if message.text
    ]
    return (*system, *turns, *rest)


def require_forcible(treatment: Treatment) -> None:
    """Raise InterventionError for what acts by where the prompt ends: a text that is given whole has no such place."""
    spans = [dose.span for dose in treatment.intervention.doses]
    stretches = [span.within if isinstance(span, When) else span for span in spans]
    if treatment.intervention.bans:
        raise InterventionError(
            f"'{treatment.name}' forbids words: no prompt is infinitely far from it, and none is near",
            "compare what it does beside its bans",
        )
    has_focus = any(focus.span == "generated" for focus in treatment.intervention.focus)
    if has_focus or any(isinstance(one, Positions) or one == "generated" for one in stretches):
        raise InterventionError(
            f"'{treatment.name}' acts on chosen positions or on generated ones only",
            "compare a treatment that acts on all positions, or from the current turn on",
        )
    if treatment.before and "turn" in stretches:
        raise InterventionError(
            f"'{treatment.name}' has messages before the query and doses from the current turn on",
            "compare them one at a time",
        )
