"""Token sources: for each token of a context's prompt, where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from overlay.errors import ArgumentError
from overlay.inner.ledger import Context, SourcedMessage

TEMPLATE = "template"
"""What the chat template adds: roles, separators, a system message of its own, special tokens."""

_PLACEHOLDER = "\ue000{}\ue001"
"""Stands for a message while the template's own text is found; signs for private use stand in no template."""


@dataclass(frozen=True)
class SourcedTokens:
    """The tokens of a prompt and the source of each; both have the same length."""

    tokens: tuple[int, ...]
    sources: tuple[str, ...]

    def spans(self) -> Iterator[tuple[str, int, int]]:
        """Runs of one source: (source, first, one past the last), in order and without gaps."""
        first = 0
        for place in range(1, len(self.sources) + 1):
            if place == len(self.sources) or self.sources[place] != self.sources[first]:
                yield self.sources[first], first, place
                first = place


def source_tokens(context: Context, tokenizer: Any) -> SourcedTokens:
    """The prompt that a context becomes, as tokens, each with the source of the text that it stands for.

    A token that covers text of two sources goes to the one with more of it, then to the one that isn't the template.

    Raises:
        ArgumentError: the tokenizer doesn't say where its tokens stand, or its template rewrites the messages.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ArgumentError("this tokenizer doesn't say where its tokens stand", "use a fast one (tokenizer.json)")
    has_template = bool(getattr(tokenizer, "chat_template", None))
    text, owners = _sourced_text(context, tokenizer)
    encoded = tokenizer(text, add_special_tokens=not has_template, return_offsets_mapping=True)
    special = set(tokenizer.all_special_ids)
    sources: list[str] = []
    for token, (begin, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        if token in special or not owners:
            # A special token that somebody wrote into a message is that message's.
            covered = owners[begin:end]
            sources.append(covered[0] if covered else TEMPLATE)
        else:
            covered = owners[begin : max(end, begin + 1)] or owners[-1:]
            sources.append(max(dict.fromkeys(covered), key=lambda one: (covered.count(one), one != TEMPLATE)))
    return SourcedTokens(tuple(encoded["input_ids"]), tuple(sources))


def _sourced_text(context: Context, tokenizer: Any) -> tuple[str, list[str]]:
    """The prompt as text, and the source of each of its signs."""
    messages = [(message.role, message.message.text) for message in context.messages]
    text = _render(tokenizer, messages)
    bare = _render(tokenizer, [(role, _PLACEHOLDER.format(place)) for place, (role, _) in enumerate(messages)])
    owners: list[str] = []
    for place, message in enumerate(context.messages):
        between, found, bare = bare.partition(_PLACEHOLDER.format(place))
        if not found or not text.startswith(between, len(owners)):
            raise _rewritten()
        owners += [TEMPLATE] * len(between)
        after = bare.partition(_PLACEHOLDER.format(place + 1))[0]
        owners += _shown(message, text[len(owners) :], after, is_last=place + 1 == len(messages))
    return text, owners + [TEMPLATE] * (len(text) - len(owners))


def _shown(message: SourcedMessage, rest: str, after: str, *, is_last: bool) -> list[str]:
    """The source of each sign that the template shows of a message, which begins `rest` and is followed by `after`."""
    content = message.message.text
    sources = [segment.source for segment in message.segments for _ in segment.text]
    indented = len(content) - len(content.lstrip())
    # Many templates cut the blanks around a message.
    for shown, skipped in (
        (content, 0),
        (content.strip(), indented),
        (content.lstrip(), indented),
        (content.rstrip(), 0),
    ):
        follows = rest[len(shown) :]
        if rest.startswith(shown) and (follows == after if is_last else follows.startswith(after)):
            return sources[skipped : skipped + len(shown)]
    end = rest.find(after) if after else len(rest)
    if len(set(sources)) != 1 or end < 0:
        raise _rewritten()
    return sources[:1] * end


def _render(tokenizer: Any, messages: Sequence[tuple[str, str]]) -> str:
    """The chat as the model room writes it for this tokenizer."""
    if getattr(tokenizer, "chat_template", None):
        chat = [{"role": role, "content": text} for role, text in messages]
        return str(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))
    return "".join(f"{role.capitalize()}: {text}\n" for role, text in messages) + "Assistant:"


def _rewritten() -> ArgumentError:
    return ArgumentError("the chat template rewrites its messages", "this model's tokens can't be traced to them")
