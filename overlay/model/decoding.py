"""Decoding: how each row of a batch chooses its next token, turns back from banned text, and ends."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from overlay.model.ban import BanList, BannedText
from overlay.model.noise import RowSampler
from overlay.model.prefix_cache import KeyValues
from overlay.model.row import Avoided, Completion, Encoded, Row

TURN_BACK = 0.5
"""When bans cut more than this share of a step's probability in the middle of a word, what is left of it is no good
way to end the word: the row goes back into the word instead, to where another way was likeliest."""

MOST_RETURNS = 48
"""How often a row may go back; after that every token that would complete a banned text is cut at once."""

MOST_CUTS = 32
"""Tokens cut at one step in the middle of a word before the row goes back instead."""

SHORTEST_WHOLE = 3
"""Letters. A banned word that is one token of at least so many letters is cut at that token: longer words that begin
like it have tokens of their own. Shorter ones may be the first letter of anything."""

Ended = Literal["end", "stop", "length", "cancelled"]


@dataclass(frozen=True)
class _Step:
    """One chosen token: its probability, and that of the best other one that was allowed."""

    token: int
    probability: float
    alternative: float


@dataclass
class Attempt:
    """One row on its way to a completion; `kept` are the tokens it has so far."""

    row: Row
    prompt: Encoded
    bans: BanList | None
    biases: tuple[tuple[tuple[int, ...], float], ...]
    kept: list[int] = field(default_factory=list)
    steps: list[_Step] = field(default_factory=list)
    vetoes: dict[int, set[int]] = field(default_factory=dict)
    avoided: list[Avoided] = field(default_factory=list)
    volatility: list[float] = field(default_factory=list)
    returns: int = 0
    ended: Ended | None = None
    turned_back: bool = False
    resume: KeyValues | None = None
    twin_resume: KeyValues | None = None

    @property
    def encoded(self) -> Encoded:
        """The prompt and what was kept."""
        return self.prompt.continued(self.kept)

    @property
    def is_strict(self) -> bool:
        """Whether every completion of a banned text is cut at once."""
        return self.returns > MOST_RETURNS

    def turn_back(self, first: int, ban: str) -> None:
        """Go back into the tokens from `first` on, to where another way was likeliest, and forbid the one taken."""
        place = max(range(first, len(self.steps)), key=lambda step: self.steps[step].alternative)
        taken = self.steps[place]
        self.avoided = [entry for entry in self.avoided if entry.step < place]
        self.avoided.append(Avoided(ban, place, taken.probability))
        self.vetoes = {step: tokens for step, tokens in self.vetoes.items() if step <= place}
        self.vetoes.setdefault(place, set()).add(taken.token)
        del self.kept[place:], self.steps[place:], self.volatility[place:]
        self.returns += 1
        self.turned_back = True

    def completion(self, tokenizer: Any) -> Completion:
        """The result; stop strings and, should anything be left of it, banned text are cut off its end."""
        assert self.ended is not None
        tokens = list(self.kept)
        text = str(tokenizer.decode(tokens, skip_special_tokens=True))
        if self.ended == "stop":
            text = text[: min(text.find(stop) for stop in self.row.sampling.stop if stop in text)]
        while self.bans is not None and (found := self.bans.find(text, final=True)):
            # Only a cancelled row, or one cut by a stop string, can end inside of a word.
            text = text[: found.start]
            self.avoided.append(Avoided(found.ban, len(tokens), 1.0))
        return Completion(
            text.strip(),
            tuple(tokens),
            self.prompt.tokens,
            self.ended,
            tuple(self.avoided),
            tuple(self.volatility[: len(tokens)]),
        )


class Decoder(LogitsProcessor):
    """Turns logits into each row's own choice: whatever it leaves largest is chosen, so greedy decoding samples.

    Args:
        twins: for a row whose volatility is traced, the row that follows it without its intervention.
    """

    def __init__(self, attempts: Sequence[Attempt], twins: Mapping[int, int], tokenizer: Any, ends: Sequence[int]):
        self._attempts = list(attempts)
        self._twins = dict(twins)
        self._tokenizer = tokenizer
        self._ends = set(ends)
        self._sampler = RowSampler(
            [attempt.row.sampling for attempt in attempts], [attempt.row.seed for attempt in attempts]
        )

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float()
        rows = len(self._attempts)
        if any(attempt.biases or attempt.vetoes for attempt in self._attempts):
            scores = scores.clone()
        for row, attempt in enumerate(self._attempts):
            if attempt.ended is None and not attempt.turned_back:
                self._skew(row, attempt, scores)
        watched = [
            row
            for row, attempt in enumerate(self._attempts)
            if attempt.bans is not None and attempt.ended is None and not attempt.turned_back
        ]
        likely = scores[watched].softmax(-1) if watched else None
        steps = [len(attempt.kept) for attempt in self._attempts]
        chosen = self._sampler.apply(scores[:rows], steps)
        if watched and chosen.data_ptr() == scores.data_ptr():
            chosen = chosen.clone()
        for place, row in enumerate(watched):
            assert likely is not None
            self._choose_unbanned(self._attempts[row], chosen[row], likely[place])
        if not self._twins:
            return chosen
        order = list(range(rows)) + [row for row, _ in sorted(self._twins.items(), key=lambda pair: pair[1])]
        return chosen[order]

    def _skew(self, row: int, attempt: Attempt, scores: Tensor) -> None:
        """Logit biases, then the trace of what the intervention costs at this step, then vetoes."""
        for tokens, nats in attempt.biases:
            if len(tokens) == 1 or attempt.kept[-(len(tokens) - 1) :] == list(tokens[:-1]):
                scores[row, tokens[-1]] += nats
        if row in self._twins:
            base = scores[self._twins[row]].log_softmax(-1)
            divergence = (base.exp() * (base - scores[row].log_softmax(-1))).sum()
            attempt.volatility.append(max(0.0, float(divergence)))
        for token in attempt.vetoes.get(len(attempt.kept), ()):
            scores[row, token] = -torch.inf

    def _choose_unbanned(self, attempt: Attempt, scores: Tensor, likely: Tensor) -> None:
        """Cut tokens until the chosen one breaks no ban, or send the row back into the word it is writing."""
        bans = attempt.bans
        assert bans is not None
        step = len(attempt.kept)
        is_last = step + 1 >= attempt.row.sampling.max_tokens
        before = self._text(attempt.kept)
        cut, cuts = 0.0, 0
        while True:
            token = int(scores.argmax())
            if token in self._ends:
                found = bans.find(before, final=True)
            else:
                after = self._text([*attempt.kept, token])
                found = bans.find(after if is_last else after.rstrip("\ufffd"), final=is_last)
            if found is None or not (found.closed or self._is_whole(found, before) or attempt.is_strict):
                self._note(attempt, token, likely)
                return
            first = self._first_step(attempt, before, found)
            was_complete = found.closed and bans.find(before, final=True) is not None
            cut += float(likely[token])
            cuts += 1
            if first < step and (was_complete or cut > TURN_BACK or cuts > MOST_CUTS):
                attempt.turn_back(first, found.ban)
                return
            attempt.avoided.append(Avoided(found.ban, step, float(likely[token])))
            scores[token] = -torch.inf

    def _note(self, attempt: Attempt, token: int, likely: Tensor) -> None:
        others = likely.clone()
        others[[token, *attempt.vetoes.get(len(attempt.kept), ())]] = 0
        attempt.steps.append(_Step(token, float(likely[token]), float(others.max())))

    def _is_whole(self, found: BannedText, before: str) -> bool:
        return found.start >= len(before.rstrip()) and found.end - found.start >= SHORTEST_WHOLE

    def _first_step(self, attempt: Attempt, before: str, found: BannedText) -> int:
        """The step that began the last word of a banned text; the present one if it begins with this token."""
        if found.start >= len(before):
            return len(attempt.kept)
        written = before[found.start : found.end]
        begins = found.start + max(written.rfind(space) for space in " \n\t") + 1
        step = len(attempt.kept)
        while step > 0 and len(self._text(attempt.kept[:step])) > begins:
            step -= 1
        return step

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))


def add_biases(
    logits: Tensor, tokens: Sequence[int], biases: Sequence[tuple[tuple[int, ...], float]], shift: int = 0
) -> Tensor:
    """Logits (positions, vocabulary) with logit biases added; position j follows `tokens[: j + 1 - shift]`."""
    logits = logits.clone()
    for position in range(len(logits)):
        before = tuple(tokens[: position + 1 - shift])
        for sequence, nats in biases:
            if len(sequence) == 1 or before[-(len(sequence) - 1) :] == sequence[:-1]:
                logits[position, sequence[-1]] += nats
    return logits


class Endings(StoppingCriteria):
    """Takes over each chosen token, and ends each row by itself: end token, stop string, length, cancellation."""

    def __init__(
        self,
        attempts: Sequence[Attempt],
        twins: Mapping[int, int],
        tokenizer: Any,
        ends: Sequence[int],
        cancelled: threading.Event | None,
    ) -> None:
        self._attempts = list(attempts)
        self._twins = dict(twins)
        self._tokenizer = tokenizer
        self._ends = set(ends)
        self._cancelled = cancelled

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        newest = input_ids[:, -1].tolist()
        for attempt, token in zip(self._attempts, newest, strict=False):
            if attempt.ended is None and not attempt.turned_back:
                attempt.ended = self._end(attempt, token)
        done = [attempt.ended is not None or attempt.turned_back for attempt in self._attempts]
        twins = [done[row] for row, _ in sorted(self._twins.items(), key=lambda pair: pair[1])]
        return torch.tensor(done + twins, device=input_ids.device)

    def _end(self, attempt: Attempt, token: int) -> Ended | None:
        if token in self._ends:
            return "end"
        attempt.kept.append(token)
        stops = attempt.row.sampling.stop
        if stops:
            text = self._tokenizer.decode(attempt.kept, skip_special_tokens=True)
            if any(stop in text for stop in stops):
                return "stop"
        if len(attempt.kept) >= attempt.row.sampling.max_tokens:
            return "length"
        if self._cancelled is not None and self._cancelled.is_set():
            return "cancelled"
        return None
