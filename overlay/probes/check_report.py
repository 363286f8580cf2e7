"""Checks after teaching: choices first, then what the model writes itself, before and after."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError
from overlay.model import Sampling, Treatment
from overlay.probes.margins import ProbeMargin, margins
from overlay.probes.probe import Check, CheckKind, Expectation
from overlay.probes.shift import LEAST_SHIFT, Shift, weigh
from overlay.progress import Progress, SilentProgress
from overlay.statistics import McNemar, mcnemar_exact

if TYPE_CHECKING:
    from overlay.model import LanguageModel

Judge = Callable[[str, str], float]
"""From a question and an answer to how well it answers it, 0 to 1. A judge never learns what an answer comes from."""

Finding = Literal["gained", "lost", "left alone", "disturbed", "no change shown"]

LEFT_ALONE = 0.1
"""Nats per token: unrelated choices are left alone where the interval of their shift lies within this, either way."""

FEWEST = 6
"""Checks of a kind from which on it can be said to be left alone."""


class Likeness(Protocol):
    """What is asked of an embedder: unit vectors (texts, dimension)."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class CheckedAnswer:
    """One check: its margins, and what was written under either treatment.

    Attributes:
        met_before, met_after: whether the answer is as expected; None where nothing was expected.
        judged_before, judged_after: what the judge gave; None without a judge.
    """

    id: str
    kind: CheckKind
    question: str
    margin: ProbeMargin
    before: str
    after: str
    met_before: bool | None
    met_after: bool | None
    judged_before: float | None
    judged_after: float | None


@dataclass(frozen=True)
class KindOfCheck:
    """All checks of one kind together.

    Attributes:
        choices: the shift of their margins.
        answers: pairs of answers as expected under one treatment only, with the exact p of that split; None where no
            answer was expected to be anything.
        judged: by how much the judge's mean rose; None without a judge.
        finding: what the choices say. What was written, and what was judged, stands beside it and decides nothing: a
            handful of answers seldom can.
    """

    choices: Shift
    answers: McNemar | None
    judged: float | None
    finding: Finding


@dataclass(frozen=True)
class CheckReport:
    """What became of each kind of check between two treatments."""

    before: str
    after: str
    kinds: dict[CheckKind, KindOfCheck]
    answers: tuple[CheckedAnswer, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, as a program reads it."""
        return asdict(self)


def check_generations(
    model: LanguageModel,
    checks: Sequence[Check],
    before: Treatment,
    after: Treatment,
    *,
    embedder: Likeness | None = None,
    judge: Judge | None = None,
    chat: bool = True,
    seed: int = 0,
    least_shift: float = LEAST_SHIFT,
    progress: Progress | None = None,
) -> CheckReport:
    """Measure the choices of checks under both treatments, and let the model answer their questions in its own words.

    Answers are greedy. The judge gets them one by one, those of both treatments mixed by `seed`.

    Args:
        embedder: what `like` is compared by.
        chat: questions are asked as a user's message; choices are always plain text to be gone on with.

    Raises:
        ArgumentError: there are no checks, a kind has only one, or `like` is expected and there is no embedder.
    """
    progress = progress or SilentProgress()
    require_checkable(checks, embedder)
    written: list[list[str]] = []
    measured: list[NDArray[np.float64]] = []
    for treatment in (before, after):
        progress.step(f"checks under {treatment.name}", None, None)
        measured.append(margins(model, checks, treatment))
        rows = [
            treatment.row(check.question, chat=chat, sampling=Sampling(max_tokens=check.max_tokens)) for check in checks
        ]
        written.append([completion.text.strip() for completion in model.generate(rows)])
    met = [
        [meets(answer, check.expect, embedder) for answer, check in zip(answers, checks, strict=True)]
        for answers in written
    ]
    judged = _judged(checks, written, judge, seed)
    answers = tuple(
        CheckedAnswer(
            id=check.id,
            kind=check.kind,
            question=check.question,
            margin=ProbeMargin(check.id, float(measured[0][place]), float(measured[1][place])),
            before=written[0][place],
            after=written[1][place],
            met_before=met[0][place],
            met_after=met[1][place],
            judged_before=judged[0][place],
            judged_after=judged[1][place],
        )
        for place, check in enumerate(checks)
    )
    return CheckReport(before.name, after.name, _by_kind(answers, seed, least_shift), answers)


def require_checkable(checks: Sequence[Check], embedder: Likeness | None) -> None:
    """Raise ArgumentError for what `check_generations` refuses, before anything is measured."""
    if not checks:
        raise ArgumentError("there are no checks", "choose a bank that has some")
    for kind, count in Counter(check.kind for check in checks).items():
        if count == 1:
            raise ArgumentError(
                f"there is only one check of the kind '{kind}', which says nothing", "give two or more, or none"
            )
    if embedder is None and any(check.expect and check.expect.like for check in checks):
        raise ArgumentError("checks expect answers like a text, and nothing compares texts", "give an embedder")


def meets(answer: str, expected: Expectation | None, embedder: Likeness | None = None) -> bool | None:
    """Whether an answer is as expected; None where nothing is. No answer is never as expected."""
    if expected is None:
        return None
    if not answer:
        return False
    if not all(re.search(pattern, answer, re.IGNORECASE) for pattern in expected.contains):
        return False
    if any(re.search(pattern, answer, re.IGNORECASE) for pattern in expected.lacks):
        return False
    if not expected.like:
        return True
    assert embedder is not None
    own, *others = embedder.embed([answer, *expected.like])
    return max(float(own @ other) for other in others) >= expected.similarity


def _judged(
    checks: Sequence[Check], written: Sequence[Sequence[str]], judge: Judge | None, seed: int
) -> list[list[float | None]]:
    found: list[list[float | None]] = [[None] * len(checks) for _ in written]
    if judge is None:
        return found
    order = [(arm, place) for arm in range(len(written)) for place in range(len(checks))]
    random.Random(seed).shuffle(order)
    for arm, place in order:
        found[arm][place] = judge(checks[place].question, written[arm][place])
    return found


def _by_kind(answers: Sequence[CheckedAnswer], seed: int, least_shift: float) -> dict[CheckKind, KindOfCheck]:
    kinds = [kind for kind in get_args(CheckKind) if any(one.kind == kind for one in answers)]
    held = {kind: [one for one in answers if one.kind == kind] for kind in kinds}
    shifts = weigh(
        {kind: [one.margin for one in some] for kind, some in held.items()}, seed=seed, least_shift=least_shift
    )
    return {kind: _kind(kind, held[kind], shifts[kind]) for kind in kinds}


def _kind(kind: CheckKind, answers: Sequence[CheckedAnswer], shift: Shift) -> KindOfCheck:
    told = [(one.met_before, one.met_after) for one in answers if one.met_before is not None]
    split = mcnemar_exact([bool(one) for one, _ in told], [bool(other) for _, other in told]) if told else None
    rises = [
        one.judged_after - one.judged_before
        for one in answers
        if one.judged_before is not None and one.judged_after is not None
    ]
    return KindOfCheck(shift, split, float(np.mean(rises)) if rises else None, _finding(kind, shift))


def _finding(kind: CheckKind, shift: Shift) -> Finding:
    if kind == "unrelated":
        if shift.verdict != "unchanged":
            return "disturbed"
        # Of fewer, the interval is little more than what was seen.
        within = shift.n >= FEWEST and shift.interval.low >= -LEFT_ALONE and shift.interval.high <= LEFT_ALONE
        return "left alone" if within else "no change shown"
    if shift.verdict == "unchanged":
        return "no change shown"
    return "lost" if shift.verdict == "sagged" else "gained"
