"""Decoding: how each row of a batch chooses its next token, turns back from banned text, and ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from overlay.model.ban import BanList, BannedText
from overlay.model.noise import RowSampler
from overlay.model.prefix_cache import KeyValues
from overlay.model.row import Avoided, Completion, Encoded, Row

MOST_RETURNS = 48
"""How often a row may go back; after that every token that would complete a banned text is cut at once."""

MOST_CUTS = 32
"""Tokens cut, or tried, at one step in the middle of a word before the row goes back instead."""

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
    log_likelihood: list[float] = field(default_factory=list)
    returns: int = 0
    ended: Ended | None = None
    turned_back: bool = False
    seeks_likeliest: bool = False
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

    def veto(self, ban: str, step: int, token: int, probability: float) -> None:
        """Forbid a token at a step, for as long as what comes before it stays."""
        self.vetoes.setdefault(step, set()).add(token)
        self.avoided.append(Avoided(ban, step, probability))

    def turn_back(self, first: int, ban: str) -> None:
        """Go back into the tokens from `first` on, to where another way was likeliest, and forbid the one taken."""
        place = max(range(first, len(self.kept)), key=lambda step: self.steps[step].alternative)
        taken = self.steps[place]
        self.avoided = [entry for entry in self.avoided if entry.step <= place]
        self.vetoes = {step: tokens for step, tokens in self.vetoes.items() if step <= place}
        self.veto(ban, place, taken.token, taken.probability)
        del self.kept[place:], self.steps[place:], self.volatility[place:], self.log_likelihood[place:]
        self.returns += 1
        self.turned_back = self.seeks_likeliest = True

    def completion(self, tokenizer: Any) -> Completion:
        """The result; stop strings and, should anything be left of it, banned text are cut off its end."""
        assert self.ended is not None
        tokens = list(self.kept)
        text = str(tokenizer.decode(tokens, skip_special_tokens=True))
        if self.ended == "stop":
            text = text[: min(text.find(stop) for stop in self.row.sampling.stop if stop in text)]
        while self.bans is not None and (found := self.bans.find(text, final=True)):
            # A row that was cancelled, cut by a stop string or left without a way on can end in a banned word. Of a
            # phrase the first words stay: a stream may have given them.
            text = text[: found.last_word]
            step = first_step(tokenizer, tokens, found.last_word)
            self.avoided.append(Avoided(found.ban, step, self.steps[step].probability))
            del tokens[step:]
        return Completion(
            text.strip(),
            tuple(tokens),
            self.prompt.tokens,
            self.ended,
            tuple(self.avoided),
            tuple(self.volatility[: len(tokens)]),
            tuple(self.log_likelihood[: len(tokens)]),
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
        running = [row for row, one in enumerate(self._attempts) if one.ended is None and not one.turned_back]
        watched = [row for row in running if self._attempts[row].bans is not None]
        for row in running:
            self._skew(row, self._attempts[row], scores)
        traced = [row for row in running if self._attempts[row].row.trace_likelihood]
        totals = scores[traced].logsumexp(-1)
        likely = scores[watched].softmax(-1)
        for row in watched:
            _cut(self._attempts[row], scores[row])
        steps = [len(attempt.kept) for attempt in self._attempts]
        chosen = self._sampler.apply(scores[:rows], steps)
        if watched and chosen.data_ptr() == scores.data_ptr():
            chosen = chosen.clone()
        for row, probabilities in zip(watched, likely, strict=True):
            self._choose_unbanned(self._attempts[row], scores[row], chosen[row], probabilities)
        self._trace(traced, scores, chosen, totals)
        if not self._twins:
            return chosen
        order = list(range(rows)) + [row for row, _ in sorted(self._twins.items(), key=lambda pair: pair[1])]
        return chosen[order]

    def _skew(self, row: int, attempt: Attempt, scores: Tensor) -> None:
        """Logit biases, then the trace of what the intervention costs at this step."""
        for tokens, nats in attempt.biases:
            if len(tokens) == 1 or attempt.kept[-(len(tokens) - 1) :] == list(tokens[:-1]):
                scores[row, tokens[-1]] += nats
        if row in self._twins:
            base = scores[self._twins[row]].log_softmax(-1)
            divergence = (base.exp() * (base - scores[row].log_softmax(-1))).sum()
            attempt.volatility.append(max(0.0, float(divergence)))

    def _trace(self, traced: Sequence[int], scores: Tensor, chosen: Tensor, totals: Tensor) -> None:
        """Note how likely the choice of each traced row is; `totals` (traced rows,) are those of all its scores."""
        if not traced:
            return
        tokens = chosen[traced].argmax(-1, keepdim=True)
        likely = scores[traced].gather(-1, tokens)[:, 0] - totals
        for row, value in zip(traced, likely.tolist(), strict=True):
            if not self._attempts[row].turned_back:
                self._attempts[row].log_likelihood.append(value)

    def _choose_unbanned(self, attempt: Attempt, scores: Tensor, chosen: Tensor, likely: Tensor) -> None:
        """Cut tokens until the chosen one breaks no ban; in the middle of a word, go where another way is likeliest:
        the row stays where it is, or turns back.

        All of shape (vocabulary,): `scores` before and `chosen` after sampling, both without the vetoed tokens, and
        the probabilities of all.
        """
        step = len(attempt.kept)
        broken = self._judge(attempt)
        cuts, word, ban = 0, step, ""
        while (token := self._drawn(attempt, scores, chosen)) is not None:
            found = broken(token)
            if found is None:
                self._note(attempt, token, likely)
                chosen[token] = torch.inf
                attempt.seeks_likeliest = False
                return
            word, ban = first_step(self._tokenizer, attempt.kept, found.last_word), found.ban
            if word < step and not attempt.is_strict:
                earlier = max(taken.alternative for taken in attempt.steps[word:])
                if cuts == MOST_CUTS or not self._has_way(attempt, likely, broken, earlier):
                    attempt.turn_back(word, ban)
                    return
                attempt.seeks_likeliest = True
            attempt.veto(ban, step, token, float(likely[token]))
            chosen[token] = -torch.inf
            cuts += 1
        if word < step and not attempt.is_strict:
            attempt.turn_back(word, ban)
        else:
            attempt.ended = "end"

    def _judge(self, attempt: Attempt) -> Callable[[int], BannedText | None]:
        """What says which ban a token would break here, if any."""
        bans = attempt.bans
        assert bans is not None
        before = self._text(attempt.kept)
        is_last = len(attempt.kept) + 1 >= attempt.row.sampling.max_tokens

        def broken(token: int) -> BannedText | None:
            if token in self._ends:
                return bans.find(before, final=True)
            after = self._text([*attempt.kept, token])
            found = bans.find(after if is_last else after.rstrip("\ufffd"), final=is_last)
            if found is None or found.closed or attempt.is_strict:
                return found
            is_whole = found.last_word >= len(before.rstrip()) and found.end - found.last_word >= SHORTEST_WHOLE
            return found if is_whole else None

        return broken

    def _drawn(self, attempt: Attempt, scores: Tensor, chosen: Tensor) -> int | None:
        """The token that sampling comes to, from all that is allowed when all that it left over was cut."""
        if attempt.seeks_likeliest:
            _cut(attempt, scores)
            token = int(scores.argmax())
            return token if scores[token] > -torch.inf else None
        token = int(chosen.argmax())
        if chosen[token] == -torch.inf:
            _cut(attempt, scores)
            sampler = RowSampler([attempt.row.sampling], [attempt.row.seed])
            chosen.copy_(sampler.apply(scores[None], [len(attempt.kept)])[0])
            token = int(chosen.argmax())
        return token if chosen[token] > -torch.inf else None

    def _has_way(
        self, attempt: Attempt, likely: Tensor, broken: Callable[[int], BannedText | None], least: float
    ) -> bool:
        """Whether a token that breaks no ban is at least so likely."""
        vetoed = attempt.vetoes.get(len(attempt.kept), ())
        best = likely.topk(min(MOST_CUTS, len(likely)))
        for probability, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if probability < least:
                return False
            if token not in vetoed and broken(token) is None:
                return True
        return False

    def _note(self, attempt: Attempt, token: int, likely: Tensor) -> None:
        others = likely.clone()
        others[[token, *attempt.vetoes.get(len(attempt.kept), ())]] = 0
        attempt.steps.append(_Step(token, float(likely[token]), float(others.max())))

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))


def _cut(attempt: Attempt, scores: Tensor) -> None:
    """Take the tokens that are vetoed at this step out of (vocabulary,) scores."""
    scores[list(attempt.vetoes.get(len(attempt.kept), ()))] = -torch.inf


def first_step(tokenizer: Any, tokens: Sequence[int], begins: int) -> int:
    """The token with which what stands from character `begins` on was begun; their number if none of them did."""
    step = len(tokens)
    while step > 0 and len(tokenizer.decode(list(tokens[:step]), skip_special_tokens=True)) > begins:
        step -= 1
    return step


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
