"""Cues: what a bank's probes may give away without meaning, and other reasons to doubt them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from overlay.probes.bank import ProbeBank
from overlay.probes.probe import Cell, Choice, cells_of
from overlay.statistics import wilson

ADVISED = 12
"""Probes a cell: below six no sign flip can reach p < .05, and with twelve a shift of one deviation is mostly found."""

MOST = 0.75
"""A cue may point to the right continuation in so large a share of the probes on which it says anything."""

_ENGLISH_NEGATIONS = frozenset({"not", "no", "never", "none", "nothing", "nobody", "neither", "nor", "cannot"})
_NEGATIONS = _ENGLISH_NEGATIONS | {"не", "нет", "ни", "никогда", "ничего", "никто", "нельзя"}
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class Doubt:
    """A reason to doubt what a cell will say; the bank can be used all the same."""

    cell: Cell
    reason: str


def _length(text: str, prompt: str) -> float:
    return len(text.strip())


def _overlap(text: str, prompt: str) -> float:
    return len(_words(text) & _words(prompt))


def _negations(text: str, prompt: str) -> float:
    return sum(word in _NEGATIONS or word.endswith(("n't", "n’t")) for word in _words(text))


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


CUES: Mapping[str, Callable[[str, str], float]] = {
    "is longer": _length,
    "repeats more words of the prompt": _overlap,
    "has more negations": _negations,
}
"""What can be counted of a continuation without understanding it; each cue is tried in both directions."""


def doubts(bank: ProbeBank) -> tuple[Doubt, ...]:
    """Cells of few probes, and cells that a reader who only counts letters or words would mostly get right.

    A cue is doubted where good has more of it in over 75% (or less in over 75%) of the cell's probes in which good and
    bad differ in it, and Wilson's interval of that share lies above one half.
    """
    found = []
    for cell, probes in cells_of(bank.probes).items():
        if len(probes) < ADVISED:
            found.append(Doubt(cell, f"{len(probes)} probes: {ADVISED} or more show something"))
        found += [Doubt(cell, reason) for reason in _given_away(probes)]
    return tuple(found)


def _given_away(choices: Sequence[Choice]) -> list[str]:
    reasons = []
    for name, cue in CUES.items():
        compared = [cue(choice.good, choice.prompt) - cue(choice.bad, choice.prompt) for choice in choices]
        more, fewer = sum(one > 0 for one in compared), sum(one < 0 for one in compared)
        told, agreeing = more + fewer, max(more, fewer)
        if told and agreeing > MOST * told and wilson(agreeing, told).low > 0.5:
            which = "good" if more > fewer else "bad"
            reasons.append(f"{which} {name} in {agreeing} of {told} probes: that alone tells them apart")
    return reasons
