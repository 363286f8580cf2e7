"""The context ledger: where every piece of text that enters a context came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overlay.errors import RecordDamaged
from overlay.inner.paraphrase import sentences
from overlay.model import Message

PLAIN_SOURCES = ("user", "reply", "system", "template")
NAMED_SOURCES = ("note", "frame", "voice", "mask", "module", "script")
"""Sources that say which one: "note:ID", "frame:NAME", "voice:NAME", "mask:NAME", "module:NAME", "script:PLACE"."""

TELLING = 5
"""Words of inner speech that can't stand elsewhere by chance."""


@dataclass(frozen=True)
class Segment:
    """A piece of one message and its source, such as "user", "reply", "note:ID", "frame:NAME", "voice:NAME"."""

    source: str
    text: str

    @property
    def kind(self) -> str:
        """The source without the name: "note" for "note:ID"."""
        return self.source.partition(":")[0]

    @property
    def is_known(self) -> bool:
        """Whether the source is one that the ledger knows."""
        kind, _, name = self.source.partition(":")
        return self.source in PLAIN_SOURCES or (kind in NAMED_SOURCES and bool(name))

    @property
    def is_users_own(self) -> bool:
        """Whether the user wrote it, in this turn or in one that was remembered: the user's words are no leak."""
        is_remembered = self.source.startswith("note:session:") and self.source.endswith(":user")
        return self.source == "user" or is_remembered


@dataclass(frozen=True)
class SourcedMessage:
    """A message put together from segments; their texts, joined, are the message."""

    role: str
    segments: tuple[Segment, ...]

    @property
    def message(self) -> Message:
        """The message as the model gets it."""
        text = "".join(segment.text for segment in self.segments)
        return Message(self.role, text)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Context:
    """All that the model saw for one generation; `purpose` says which ("reply", "voice:NAME", "trial")."""

    purpose: str
    messages: tuple[SourcedMessage, ...]

    @property
    def is_voices(self) -> bool:
        """Whether a voice of the inner dialogue spoke from it."""
        return self.purpose.startswith("voice:")

    @property
    def chat(self) -> tuple[Message, ...]:
        """The messages as the model gets them."""
        return tuple(message.message for message in self.messages)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments of all messages, in order."""
        return tuple(segment for message in self.messages for segment in message.segments)


@dataclass(frozen=True)
class LivedContext:
    """A context as a session's journal keeps it.

    Attributes:
        turn: the number of its turn, from 1; 0 where there are no turns.
        place: its number among the contexts of that turn, from 1.
        tokens: what the model got, where the journal has it.
        silent: whether inner speech had to stay out of everything but the voices' contexts.
        unspoken: sentences that voices had said by then in silent turns, without what they only repeated.
    """

    context: Context
    turn: int = 0
    place: int = 1
    tokens: tuple[int, ...] | None = None
    silent: bool = True
    unspoken: tuple[str, ...] = ()


def lived_contexts(records: Sequence[Mapping[str, Any]]) -> list[LivedContext]:
    """All contexts of a session's turn records, in order.

    A record says in `dialogue_mode` whether its inner dialogue was spoken; without it, it was silent.

    Raises:
        RecordDamaged: a record holds no such contexts.
    """
    found: list[LivedContext] = []
    unspoken: dict[str, None] = {}
    for record in records:
        try:
            silent = record.get("dialogue_mode", "silent") != "spoken"
            contexts = [_context(kept) for kept in record["contexts"]]
            if silent:
                told = {
                    segment.text
                    for context in contexts
                    if context.is_voices
                    for segment in context.segments
                    if segment.kind != "voice"
                }
                for utterance in record["inner_speech"]:
                    said = [sentence for sentence in sentences(utterance["text"]) if len(sentence.split()) >= TELLING]
                    unspoken |= dict.fromkeys(one for one in said if not any(one in text for text in told))
            for place, (context, kept) in enumerate(zip(contexts, record["contexts"], strict=True), start=1):
                tokens = kept.get("tokens") or (record["prompt_tokens"] if context.purpose == "reply" else None)
                found.append(
                    LivedContext(
                        context,
                        int(record["number"]),
                        place,
                        tuple(int(token) for token in tokens) if tokens else None,
                        silent,
                        tuple(unspoken),
                    )
                )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RecordDamaged(
                f"turn {record.get('number', '?')} has no readable contexts ({error!r})",
                "this session can't be audited; other sessions are unaffected",
            ) from error
    return found


def _context(kept: Mapping[str, Any]) -> Context:
    """A context as it was written into a record."""
    return Context(
        str(kept["purpose"]),
        tuple(
            SourcedMessage(
                str(message["role"]),
                tuple(Segment(str(part["source"]), str(part["text"])) for part in message["segments"]),
            )
            for message in kept["messages"]
        ),
    )
