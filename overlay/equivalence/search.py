"""The search for a prompt: beams of phrases, scored by how near they bring the model, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from overlay.equivalence.estimate import FAINTEST
from overlay.equivalence.prompt import Prompt
from overlay.equivalence.target import Sample, Target
from overlay.records import append_record, read_journal, set_damage_aside

BEAM = 4
"""Prompts that a round starts from."""

PROPOSALS = 12
"""Changed prompts a round."""

TOGETHER = 4
"""Prompts measured in one go, and written to the journal as one line."""

LONGEST = 6
"""Phrases of one prompt."""

Phrases = tuple[str, ...]


@dataclass(frozen=True)
class Searched:
    """What a search came to.

    Attributes:
        score: E on the samples it searched on, which flatters it.
        spent: tokens the model read. tried: prompts that were measured, best first, with their scores.
    """

    prompt: Prompt
    score: float
    spent: int
    tried: tuple[tuple[Prompt, float], ...]


class PromptSearch:
    """One seeded search. Killed and run again with the same journal it comes to the same result.

    Phrases are joined into one text: first each alone, then beams of the best ones in which a phrase is put in front,
    put behind, replaced, or dropped.

    Args:
        phrases: the material. starts: prompts already made of phrases, measured before anything else.
        budget: tokens that the model may read; a measurement that would pass it isn't begun.
        journal: where each measurement is written, and looked up when the search is run again.
    """

    def __init__(
        self,
        target: Target,
        samples: Sequence[Sample],
        phrases: Sequence[str],
        *,
        budget: int,
        seed: int = 0,
        starts: Sequence[Phrases] = (),
        journal: Path | None = None,
        name: str = "",
    ) -> None:
        self._target = target
        self._samples = tuple(samples)
        self._phrases = tuple(dict.fromkeys(phrases))
        self._starts = tuple(starts)
        self._budget = budget
        self._seed = seed
        self._journal = journal
        self._name = name
        self._scores: dict[Phrases, float] = {}
        self._spent = 0
        self._known = self._read()

    def run(self, progress: Callable[[int], None] | None = None) -> Searched | None:
        """Search until the budget is spent or nothing is left to try; None where not one prompt could be measured.

        `progress` gets the tokens spent so far.
        """
        generator = np.random.default_rng(self._seed)
        alone = [(phrase,) for phrase in self._phrases]
        generator.shuffle(alone)
        proposals = list(dict.fromkeys([*self._starts, *alone]))
        while proposals and self._measure(proposals, progress):
            proposals = self._changed(generator)
        if not self._scores:
            return None
        ranked = sorted(self._scores.items(), key=lambda pair: (pair[1], pair[0]))
        tried = tuple((Prompt(_joined(phrases)), score) for phrases, score in ranked)
        return Searched(tried[0][0], tried[0][1], self._spent, tried)

    def _measure(self, proposals: Sequence[Phrases], progress: Callable[[int], None] | None) -> bool:
        """Measure these, a few at a time; whether the budget allowed all of them."""
        base = float(sum(self._target.base[one.query, one.draw].kl.sum() for one in self._samples))
        # A single query on which nothing happens has no ratio, but its prompts have an order all the same.
        base = max(base, FAINTEST)
        for start in range(0, len(proposals), TOGETHER):
            some = proposals[start : start + TOGETHER]
            costs = [self._target.cost(self._pairs(phrases)) for phrases in some]
            while some and self._spent + sum(costs) > self._budget:
                some, costs = some[:-1], costs[:-1]
            if some:
                scores = self._known.get(tuple(some))
                if scores is None:
                    pairs = [pair for phrases in some for pair in self._pairs(phrases)]
                    sums = [one.kl.sum() for one in self._target.measure(pairs)]
                    scores = [float(part.sum() / base) for part in np.split(np.array(sums), len(some))]
                    self._keep(some, scores)
                self._scores.update(zip(some, scores, strict=True))
                self._spent += sum(costs)
                if progress:
                    progress(self._spent)
            if len(some) < len(proposals[start : start + TOGETHER]):
                return False
        return True

    def _changed(self, generator: np.random.Generator) -> list[Phrases]:
        """New prompts from the best ones so far; fewer where little is left to try."""
        beam = sorted(self._scores, key=lambda phrases: (self._scores[phrases], phrases))[:BEAM]
        found: dict[Phrases, None] = {}
        # Chance may propose what was tried: ask often enough that it hardly matters, and never for ever.
        for _ in range(PROPOSALS * 8):
            phrases = beam[int(generator.integers(len(beam)))]
            other = self._phrases[int(generator.integers(len(self._phrases)))]
            place = int(generator.integers(len(phrases)))
            changed = (
                (*phrases, other),
                (other, *phrases),
                (*phrases[:place], other, *phrases[place + 1 :]),
                (*phrases[:place], *phrases[place + 1 :]),
            )[int(generator.integers(4))]
            if changed and len(changed) <= LONGEST and len(set(changed)) == len(changed):
                if changed not in self._scores:
                    found[changed] = None
                if len(found) == PROPOSALS:
                    break
        return list(found)

    def _pairs(self, phrases: Phrases) -> list[tuple[Prompt, Sample]]:
        return [(Prompt(_joined(phrases)), sample) for sample in self._samples]

    def _read(self) -> dict[tuple[Phrases, ...], list[float]]:
        if self._journal is None:
            return {}
        set_damage_aside(self._journal)
        records = [record for record in read_journal(self._journal) if record["name"] == self._name]
        return {tuple(tuple(one) for one in record["prompts"]): record["scores"] for record in records}

    def _keep(self, prompts: Sequence[Phrases], scores: Sequence[float]) -> None:
        record: dict[str, Any] = {"name": self._name, "prompts": [list(one) for one in prompts], "scores": list(scores)}
        if self._journal is not None:
            append_record(self._journal, record)


def _joined(phrases: Phrases) -> str:
    return " ".join(phrases)
