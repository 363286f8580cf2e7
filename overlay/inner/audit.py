"""The leak audit: what stands in a context though it may not stand there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from overlay.axes import ContrastSet
from overlay.errors import ArgumentError
from overlay.inner.dialogue import tokens_digest
from overlay.inner.inflection import Found, WordFinder, is_latin
from overlay.inner.ledger import Context, LivedContext, Segment, SourcedMessage
from overlay.inner.paraphrase import THRESHOLDS, define_state, nearness, sentences
from overlay.inner.token_source import source_tokens

if TYPE_CHECKING:
    from overlay.memory import Embedder

STATE_WORD = "state word"
INNER_SPEECH = "inner speech"
MISPLACED_NOTE = "misplaced note"
PARAPHRASE = "near-paraphrase"
UNKNOWN_SOURCE = "unknown source"
UNKNOWN_TOKENS = "unknown tokens"

_AROUND = 30
"""Letters shown on either side of a word that leaked."""


@dataclass(frozen=True)
class Leak:
    """Something of the state, of inner speech or of memory in a context where it may not stand.

    Attributes:
        kind: "state word", "inner speech", "misplaced note", "near-paraphrase", "unknown source" or "unknown tokens".
        word: the word as it was found, without its accents, in small letters; the definition for a near-paraphrase.
        entry: the form of that word that stands in the lexicon.
        context: the number of the context among those that were audited, from 0.
        turn: the turn of a session, from 1, or 0.
        place: the number of the context in its turn, from 1.
        similarity: cosine similarity of a near-paraphrase to the definition.
    """

    kind: str
    word: str
    source: str
    purpose: str
    excerpt: str
    entry: str = ""
    context: int = 0
    turn: int = 0
    place: int = 1
    similarity: float | None = None


@dataclass(frozen=True)
class StateNames:
    """What names one state: the words of its lexicon, and sentences that define it."""

    axis: str
    words: tuple[str, ...]
    definitions: tuple[str, ...]

    @classmethod
    def of(cls, contrast: ContrastSet) -> StateNames:
        """What the contrast set of an axis says about its state, English and Russian."""
        return cls(
            contrast.name,
            contrast.lexicon + contrast.lexicon_ru,
            define_state(contrast.description, contrast.lexicon) if contrast.lexicon else (),
        )


@dataclass(frozen=True)
class Examination:
    """What an audit found, how much it read, and what it looked for or couldn't look for, in words.

    Attributes:
        doubtful: near-paraphrases in what the model itself said, as a voice or as the agent. That a sentence of its own
            resembles a definition doesn't prove that the state was put into words: a person has to read it.
    """

    leaks: tuple[Leak, ...]
    turns: int
    contexts: int
    segments: int
    tokens: int
    checked: tuple[str, ...]
    unchecked: tuple[str, ...]
    doubtful: tuple[Leak, ...] = ()


def audit(contexts: Iterable[Context], lexicon: Sequence[str], *, silent: bool = True) -> list[Leak]:
    """All leaks that texts and sources show: words of `lexicon` in any form, inner speech and notes out of place.

    The user's own words are theirs: they are no leak of the state. Notes may stand in a reply's context only; inner
    speech in the contexts of voices, and unless `silent`, in a reply's.
    """
    auditor = _Auditor(lexicon)
    return [leak for number, context in enumerate(contexts) for leak in auditor.leaks(context, number, silent)]


def examine(
    lived: Sequence[LivedContext],
    states: Sequence[StateNames],
    *,
    embedder: Embedder | None = None,
    threshold: float | None = None,
    tokenizer: Any = None,
    prompts: Sequence[str] | None = None,
    why_no_embedder: str = "no embedder was given",
    why_no_tokenizer: str = "no tokenizer was given",
) -> Examination:
    """Audit the contexts of a session: all that `audit` finds, near-paraphrases, and tokens without a source.

    Args:
        embedder: compares sentences with the definitions of the states; without one they aren't compared.
        threshold: similarity from which a sentence counts as a paraphrase, where none was measured for this embedder.
        tokenizer: that of the model that the session was lived with; without one tokens aren't traced.
        prompts: for each context, what `tokens_digest` gave for what the model got, for those whose tokens nobody kept.
        why_no_embedder, why_no_tokenizer: what `unchecked` says where there is none.
    """
    checked: list[str] = []
    unchecked: list[str] = []
    auditor = _Auditor([word for state in states for word in state.words])
    leaks = [leak for number, one in enumerate(lived) for leak in auditor.leaks(one.context, number, one.silent)]
    doubtful: list[Leak] = []
    leaks += [leak for number, one in enumerate(lived) for leak in _repeated_speech(one, number)]
    worded = [f"'{state.axis}' ({len(state.words)} entries)" for state in states if state.words]
    checked += [f"words of {', '.join(worded)} and their inflections"] if worded else []
    unchecked += [f"words of '{state.axis}': its axis has no lexicon" for state in states if not state.words]
    checked.append("inner speech, notes and sources where they may not stand")
    if embedder is None:
        unchecked.append(f"near-paraphrases: {why_no_embedder}")
    else:
        _compare(lived, states, auditor.find, embedder, threshold, leaks, doubtful, checked, unchecked)
    if tokenizer is None:
        unchecked.append(f"the source of each token: {why_no_tokenizer}")
        tokens = sum(len(one.tokens or ()) for one in lived)
    else:
        tokens = _trace(lived, prompts or [""] * len(lived), tokenizer, leaks, checked, unchecked)
    return Examination(
        _placed(leaks, lived),
        len({one.turn for one in lived}),
        len(lived),
        sum(len(one.context.segments) for one in lived),
        tokens,
        tuple(checked),
        tuple(unchecked),
        _placed(doubtful, lived),
    )


def _placed(leaks: Sequence[Leak], lived: Sequence[LivedContext]) -> tuple[Leak, ...]:
    """In order of their contexts, each with the turn and the place of its context."""
    return tuple(
        replace(leak, turn=lived[leak.context].turn, place=lived[leak.context].place)
        for leak in sorted(leaks, key=lambda leak: leak.context)
    )


class _Auditor:
    """Audits contexts by their texts; messages that many contexts share are read once."""

    def __init__(self, lexicon: Sequence[str]) -> None:
        self.find = WordFinder(lexicon)
        self._read: dict[SourcedMessage, list[tuple[Segment, Found, str]]] = {}

    def leaks(self, context: Context, number: int, silent: bool) -> list[Leak]:
        found: list[Leak] = []
        for message in context.messages:
            found += [
                Leak(STATE_WORD, word.word, segment.source, context.purpose, excerpt, word.entry, number)
                for segment, word, excerpt in self._words(message)
            ]
            for segment in message.segments:
                kind = _misplaced(segment, context, silent)
                if kind:
                    found.append(Leak(kind, "", segment.source, context.purpose, _opening(segment.text), "", number))
        return found

    def _words(self, message: SourcedMessage) -> list[tuple[Segment, Found, str]]:
        if message not in self._read:
            self._read[message] = self._read_words(message)
        return self._read[message]

    def _read_words(self, message: SourcedMessage) -> list[tuple[Segment, Found, str]]:
        """Each word of the lexicon that isn't wholly the user's, with the first segment that is to blame.

        The whole message is read, since the model gets it whole and a word may be made of two segments; and each
        segment, since it may be hidden by what is joined to it.
        """
        text = message.message.text
        starts: list[tuple[int, Segment]] = []
        place = 0
        for segment in message.segments:
            starts.append((place, segment))
            place += len(segment.text)
        spans = self.find(text)
        for start, segment in starts:
            for word in self.find(segment.text):
                moved = replace(word, start=word.start + start, end=word.end + start)
                if not any(moved.start < other.end and other.start < moved.end for other in spans):
                    spans.append(moved)
        found = []
        for word in sorted(spans, key=lambda one: one.start):
            to_blame = [
                segment
                for start, segment in starts
                if start < word.end and word.start < start + len(segment.text) and not segment.is_users_own
            ]
            if to_blame:
                excerpt = text[max(0, word.start - _AROUND) : word.end + _AROUND].strip()
                found.append((to_blame[0], word, excerpt))
        return found


def _misplaced(segment: Segment, context: Context, silent: bool) -> str:
    """The kind of leak that this segment is in its context by its source alone, or nothing."""
    if not segment.is_known:
        return UNKNOWN_SOURCE
    if segment.kind == "voice" and not context.is_voices and (silent or context.purpose != "reply"):
        return INNER_SPEECH
    if segment.kind == "note" and context.purpose != "reply":
        return MISPLACED_NOTE
    return ""


def _repeated_speech(lived: LivedContext, number: int) -> list[Leak]:
    """Inner speech that stands, under another source, in a context of a silent turn outside the voices' own."""
    context = lived.context
    if not lived.silent or context.is_voices:
        return []
    said = [_spaced(sentence) for sentence in lived.unspoken]
    found = []
    for segment in context.segments:
        # What the model itself said twice was not carried over by anybody.
        if segment.is_users_own or _is_models_own(segment):
            continue
        text = _spaced(segment.text)
        found += [
            Leak(INNER_SPEECH, "", segment.source, context.purpose, sentence[:80], "", number)
            for sentence in said
            if sentence in text
        ]
    return found


def _is_models_own(segment: Segment) -> bool:
    """Whether the model itself said it: as a voice, or as the agent in a reply, remembered or not."""
    return segment.kind == "voice" or segment.source == "reply" or segment.source.endswith(":reply")


def _compare(
    lived: Sequence[LivedContext],
    states: Sequence[StateNames],
    find: WordFinder,
    embedder: Embedder,
    threshold: float | None,
    leaks: list[Leak],
    doubtful: list[Leak],
    checked: list[str],
    unchecked: list[str],
) -> None:
    """Add the near-paraphrases of the states' definitions: sentences without a word that is a leak already.

    They are leaks in what somebody gave to the model, and doubtful in what it said by itself.
    """
    definitions = list(dict.fromkeys(sentence for state in states for sentence in state.definitions))
    if not definitions:
        unchecked.append("near-paraphrases: no state here is defined in words")
        return
    limit = THRESHOLDS.get(embedder.digest) if threshold is None else threshold
    if limit is None:
        unchecked.append(f"near-paraphrases: no threshold was measured for the embedder '{embedder.name}'")
        return
    placed = [
        (number, segment, sentence)
        for number, one in enumerate(lived)
        for segment in one.context.segments
        if not segment.is_users_own
        for sentence in sentences(segment.text)
    ]
    distinct = [sentence for sentence in dict.fromkeys(one for _, _, one in placed) if not find(sentence)]
    foreign = [sentence for sentence in distinct if not is_latin(sentence)]
    near = dict(zip(distinct, nearness(distinct, definitions, embedder), strict=True))
    for number, segment, sentence in placed:
        similarity, definition = near.get(sentence, (0.0, ""))
        if similarity >= limit:
            purpose = lived[number].context.purpose
            (doubtful if _is_models_own(segment) else leaks).append(
                Leak(PARAPHRASE, definition, segment.source, purpose, sentence, "", number, similarity=similarity)
            )
    checked.append(
        f"near-paraphrases by '{embedder.name}' from a similarity of {limit:.2f} ({len(distinct)} sentences, "
        f"{len(definitions)} definitions)"
    )
    if foreign and embedder.digest in THRESHOLDS:
        unchecked.append(
            f"near-paraphrases in {len(foreign)} sentences that aren't English: '{embedder.name}' doesn't read them"
        )


def _trace(
    lived: Sequence[LivedContext],
    prompts: Sequence[str],
    tokenizer: Any,
    leaks: list[Leak],
    checked: list[str],
    unchecked: list[str],
) -> int:
    """Add what the model got and no segment accounts for; returns how many tokens were counted."""
    count = compared = 0
    for number, one in enumerate(lived):
        try:
            sourced = source_tokens(one.context, tokenizer)
        except ArgumentError as error:
            unchecked.append(f"the source of each token: {error.problem}")
            return sum(len(one.tokens or ()) for one in lived)
        count += len(sourced.tokens)
        digest = prompts[number]
        if one.tokens is None and not digest:
            continue
        compared += 1
        if one.tokens is None:
            if digest != tokens_digest(sourced.tokens):
                excerpt = _opening(one.context.messages[-1].message.text)
                leaks.append(Leak(UNKNOWN_TOKENS, "other tokens", "", one.context.purpose, excerpt, context=number))
        elif one.tokens != sourced.tokens:
            pairs = zip(one.tokens, sourced.tokens, strict=False)
            shared = next(
                (place for place, (got, told) in enumerate(pairs) if got != told),
                min(len(one.tokens), len(sourced.tokens)),
            )
            excerpt = str(tokenizer.decode(list(one.tokens[max(0, shared - 4) : shared + 12])))
            leaks.append(Leak(UNKNOWN_TOKENS, f"from token {shared}", "", one.context.purpose, excerpt, context=number))
    checked.append(f"the source of each token ({compared} of {len(lived)} contexts against what the model got)")
    return count


def _opening(text: str) -> str:
    return text.strip()[:80]


def _spaced(text: str) -> str:
    return " ".join(text.split())
