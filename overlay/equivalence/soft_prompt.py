"""Soft prompts: virtual tokens whose embeddings are trained while the model stays what it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from overlay.equivalence.prompt import Prompt
from overlay.equivalence.target import Divergence, Sample, Target, divergence
from overlay.errors import ArgumentError
from overlay.model import Encoded

BACKWARD = 3
"""A step of training costs about three times its forward pass, in tokens that the model could have read instead."""

STEP = 0.1
"""Of the embeddings' own size: how far one step moves an entry."""

AT_ONCE = 16
"""Rows of one forward pass."""


@dataclass(frozen=True, eq=False)
class SoftPrompt:
    """Trained embeddings in the place of a prompt's tokens.

    Attributes:
        prompt: the written prompt it began as, which says where in a row it stands.
        tokens: the ids that it replaces. embeddings: (tokens, width), float32.
        losses: mean KL(treated ‖ soft) at each step, nats per position; what is kept is the state of the lowest.
        spent: tokens that training took.
    """

    prompt: Prompt
    tokens: tuple[int, ...]
    embeddings: Tensor
    losses: tuple[float, ...]
    spent: int


def train_soft_prompt(
    target: Target,
    samples: Sequence[Sample],
    start: Prompt,
    *,
    budget: int,
    progress: Callable[[int], None] | None = None,
) -> SoftPrompt:
    """Train the embeddings of a written prompt (Lester et al. 2021, arXiv 2104.08691) towards the treatment.

    Only the embeddings learn: no weight of the model gets a gradient, and nothing is put on the model. `budget` is in
    tokens, a trained one counting as three; `progress` gets the tokens spent so far.

    Raises:
        ArgumentError: the prompt has no text, or the budget isn't enough for a single step.
    """
    tokens = shared_run(target, start)
    cost = BACKWARD * target.cost([(start, sample) for sample in samples])
    steps = budget // cost
    if not steps:
        raise ArgumentError(
            f"a budget of {budget} tokens is not enough for one step of a soft prompt, which takes {cost}",
            "give a larger --budget, or fewer queries",
        )
    embed = target.model.module.get_input_embeddings()
    with torch.no_grad():
        first = embed(torch.tensor(tokens, device=target.model.device)).float().clone()
    soft = first.requires_grad_(True)
    # Adam moves each entry by about its rate, whatever the gradient's size.
    optimizer = torch.optim.Adam([soft], lr=STEP * float(first.detach().square().mean().sqrt()))
    best = first.detach().clone()
    losses: list[float] = []
    positions = sum(sample.positions for sample in samples)
    for step in range(steps):
        gradient, loss = torch.zeros_like(first), 0.0
        for begin in range(0, len(samples), AT_ONCE):
            some = samples[begin : begin + AT_ONCE]
            with torch.enable_grad():
                distributions = _forward(target, start, tokens, soft, some)
                kl = sum(
                    (treated.exp() * (treated - likely)).sum()
                    for treated, likely in zip(map(target.likely, some), distributions, strict=True)
                )
                assert isinstance(kl, Tensor)
                (part,) = torch.autograd.grad(kl / positions, [soft])
            gradient += part
            loss += float(kl.detach()) / positions
        if not losses or loss < min(losses):
            best = soft.detach().clone()
        losses.append(loss)
        soft.grad = gradient
        optimizer.step()
        if progress:
            progress((step + 1) * cost)
    return SoftPrompt(start, tokens, best, tuple(losses), steps * cost)


def measure_soft(target: Target, soft: SoftPrompt, samples: Sequence[Sample]) -> list[Divergence]:
    """Divergences of a soft prompt on samples, in order."""
    found: list[Divergence] = []
    for begin in range(0, len(samples), AT_ONCE):
        some = samples[begin : begin + AT_ONCE]
        with torch.no_grad():
            for sample, likely in zip(
                some, _forward(target, soft.prompt, soft.tokens, soft.embeddings, some), strict=True
            ):
                found.append(divergence(target.likely(sample), likely))
    return found


def shared_run(target: Target, prompt: Prompt) -> tuple[int, ...]:
    """The prompt's own tokens as they stand in the row of every query.

    Raises:
        ArgumentError: it has no text, or none of its tokens stand alike in all rows.
    """
    words = prompt.text.strip()
    run: tuple[int, ...] = target.model.tokenize(words) if words else ()
    rows = [prompt.tokens(target.model, query, target.chat) for query in target.queries]
    # What stands at its borders may be joined with them into one token: those are left as they are.
    for inner in [run, run[1:], run[:-1], run[1:-1]]:
        if inner and all(_place(row, inner) is not None for row in rows):
            return inner
    raise ArgumentError(
        f"'{prompt.words}' has no tokens that a soft prompt could begin with", "begin with an instruction of two words"
    )


def _place(row: Sequence[int], run: Sequence[int]) -> int | None:
    for start in range(len(row) - len(run) + 1):
        if tuple(row[start : start + len(run)]) == tuple(run):
            return start
    return None


def _forward(
    target: Target, prompt: Prompt, tokens: tuple[int, ...], soft: Tensor, samples: Sequence[Sample]
) -> Iterator[Tensor]:
    """Log-probabilities (positions, vocabulary) of each sample, with `soft` in the place of the prompt's tokens."""
    model = target.model
    rows = [target.prompted(prompt, sample) for sample in samples]
    longest = max(map(len, rows))
    keep = max(sample.positions for sample in samples)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    ids = torch.zeros_like(mask)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = torch.tensor(row)
        mask[index, longest - len(row) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    with torch.no_grad():
        embedded = model.module.get_input_embeddings()(ids)
    lines = []
    for index, row in enumerate(rows):
        place = _place(row, tokens)
        assert place is not None
        begin = longest - len(row) + place
        lines.append(
            torch.cat([embedded[index, :begin], soft.to(embedded.dtype), embedded[index, begin + len(tokens) :]])
        )
    accepted = inspect.signature(type(model.module).forward).parameters
    options: dict[str, Any] = {}
    if "position_ids" in accepted:
        options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    if "logits_to_keep" in accepted:
        options["logits_to_keep"] = keep
    # As all others here: a bfloat16 logit moves in steps of a tenth of a nat.
    with target.model.steering.unsteered([Encoded(tuple(row), 0) for row in rows]):
        output = model.module(inputs_embeds=torch.stack(lines), attention_mask=mask, use_cache=False, **options)
    for index, sample in enumerate(samples):
        yield output.logits[index, -sample.positions :].float().log_softmax(-1)
