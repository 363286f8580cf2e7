"""Rubrics: two statements about an episode, of which the unchanged model says which is likelier.

Both statements are scored by their mean log-probability per token, with either of them told first, and the two
orders are averaged: neither a statement's length nor its place decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from overlay.model import Message, Row
from overlay.scenarios.detectors.document import JudgeDetector, TaskBreakDetector
from overlay.scenarios.detectors.trial_chat import task_of, trial_chat
from overlay.scenarios.transcript import Transcript

if TYPE_CHECKING:
    from overlay.model import LanguageModel

_SPEAKERS = {"user": "Situation", "assistant": "Agent"}


def score_task_break(
    detector: TaskBreakDetector, transcripts: Sequence[Transcript], model: LanguageModel
) -> list[float]:
    """By how much `breaks` is likelier than `serves`, above the same for an empty reply to the same task.

    In nats per token. What the empty reply gets is the model's leaning towards one of the statements, whatever was
    written, and is taken off. An instruction of the arm, where it has one, is part of the task that it was given.
    """
    tasks = [task_of(transcript) for transcript in transcripts]
    distinct = list(dict.fromkeys(tasks))
    asked = [_replied(task, transcript.written.strip()) for task, transcript in zip(tasks, transcripts, strict=True)]
    empty = [_replied(task, "") for task in distinct]
    leanings = _prefer(detector.breaks, detector.serves, [*asked, *empty], model)
    without_reply = dict(zip(distinct, leanings[len(asked) :], strict=True))
    return [leaning - without_reply[task] for leaning, task in zip(leanings, tasks, strict=False)]


def score_judgement(detector: JudgeDetector, transcripts: Sequence[Transcript], model: LanguageModel) -> list[float]:
    """By how much `yes` is likelier than `no` as the answer to the question, in nats per token.

    The judge is blind to the arm: a transcript doesn't hold it, and the judge is shown only the trial itself, without
    the system message and the turns before it, where an arm may have said something of its own.
    """
    asked = [
        (Message("user", f"This is what an agent met and what it did.\n\n{_chat(transcript)}\n\n{detector.question}"),)
        for transcript in transcripts
    ]
    return _prefer(detector.agrees, detector.disagrees, asked, model)


def _replied(task: str, reply: str) -> tuple[Message, ...]:
    # As a chat of its own: told about in one text, both replies look alike to the embedded model.
    return Message("user", task), Message("assistant", reply), Message("user", "Which is true of your reply?")


def _chat(transcript: Transcript) -> str:
    return "\n".join(f"{_SPEAKERS[message.role]}: {message.text}" for message in trial_chat(transcript))


def _prefer(one: str, other: str, chats: Sequence[tuple[Message, ...]], model: LanguageModel) -> list[float]:
    """By how much `one` is likelier than `other` as the answer to each chat, nats per token, over both orders."""
    rows = [
        Row(
            messages=(*earlier, Message("user", f"{question.text}\n- {first}\n- {second}")),
            options=(one, other),
        )
        for *earlier, question in chats
        for first, second in ((one, other), (other, one))
    ]
    with _own_prefixes(model):
        leanings = [scored.margin for scored in model.score(rows)]
    return [(first + second) / 2 for first, second in zip(leanings[::2], leanings[1::2], strict=True)]


@contextmanager
def _own_prefixes(model: LanguageModel) -> Iterator[None]:
    """Nothing encoded before is used inside, nor kept after.

    Going on from an encoded prefix changes roundings, so a score would depend on what the model was asked before:
    a run that was killed and resumed would differ from one that wasn't.
    """
    kept = model.prefixes
    model.prefixes = type(kept)(kept.limit)
    try:
        yield
    finally:
        model.prefixes = kept
