"""The context ledger: where every token that enters a context came from, and what leaked into it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from overlay.axes import find_words
from overlay.model import Message


@dataclass(frozen=True)
class Segment:
    """A piece of one message and its source, such as "user", "reply", "note:ID", "frame:NAME", "voice:NAME"."""

    source: str
    text: str


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
    def chat(self) -> tuple[Message, ...]:
        """The messages as the model gets them."""
        return tuple(message.message for message in self.messages)


@dataclass(frozen=True)
class Leak:
    """A word of the state, or inner speech, in a context where it may not stand."""

    kind: str
    word: str
    source: str
    purpose: str
    excerpt: str


def audit(contexts: Iterable[Context], lexicon: Sequence[str], *, silent: bool = True) -> list[Leak]:
    """All leaks: words of `lexicon` in any context; with `silent`, also inner speech outside voices' contexts.

    The user's own words are theirs: they are no leak of the state.
    """
    words = find_words(tuple(lexicon))
    found: list[Leak] = []
    for context in contexts:
        for message in context.messages:
            for segment in message.segments:
                if segment.source == "user":
                    continue
                found += [
                    Leak("state word", word, segment.source, context.purpose, _excerpt(segment.text, word))
                    for word in words(segment.text)
                ]
                is_inner = segment.source.startswith("voice:")
                if silent and is_inner and not context.purpose.startswith("voice:"):
                    found.append(Leak("inner speech", "", segment.source, context.purpose, segment.text[:80]))
    return found


def _excerpt(text: str, word: str) -> str:
    place = text.lower().find(word)
    return text[max(0, place - 30) : place + len(word) + 30].strip()
