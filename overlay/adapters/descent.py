"""Descent: the steps of a training, from its first or from where it was interrupted to the last within its budget.

- Training ends by the divergence on replay text in nats, and what is kept is the last state that was within the
  budget, not the last or the lowest loss.
- Interrupted and resumed has to equal uninterrupted bit for bit. A Trainer of the usual kind replays its data loader
  up to the step; here the order of batches is a state of its own that is saved with the optimizer's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from overlay.adapters.adapter import Ended
from overlay.adapters.batch_order import BatchOrder
from overlay.adapters.checkpoint import Identity, Progressed, drop_checkpoint, write_checkpoint
from overlay.adapters.fitting import Fitting
from overlay.adapters.safe_zone import zone_share
from overlay.adapters.sequences import Sequence as Tokens
from overlay.adapters.sequences import encode
from overlay.errors import AdapterError
from overlay.model import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from overlay.adapters.recipe import Recipe
    from overlay.model import LanguageModel
    from overlay.progress import Progress

CHECK_EVERY = 4
"""Steps between two measurements on all replay texts, each followed by a checkpoint.

More of them cost time, fewer of them lose more steps.
"""

IN_TRAINING = "in-training"
"""What the adapter is called on the model: its own name may be worn there, as it was trained before."""

OnStep = Callable[[int, Intervention], None]
"""Called with the number of steps done, and what rows wear to be treated by the adapter as it is then."""


@dataclass(frozen=True)
class State:
    """LoRA weights after `steps` steps, and what they cost on the replay texts, nats per token."""

    steps: int
    replay_kl: float
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Descent:
    """What stays the same throughout one training.

    Attributes:
        recipe: with its overrides applied. overrides: for the checkpoint, which belongs to `identity`.
        made_at: when the examples were read, epoch seconds. since: when the training began, by the monotonic clock.
        every: steps between two calls of `on_step`, which comes before the first and after the last one as well.
    """

    recipe: Recipe
    overrides: Mapping[str, Any]
    identity: Identity
    checkpoint: Path
    made_at: float
    since: float
    progress: Progress | None = None
    on_step: OnStep | None = None
    every: int = 1

    def run(
        self, model: LanguageModel, found: Progressed | None, tensors: Mapping[str, Tensor]
    ) -> tuple[State | None, dict[str, Any], Ended]:
        """Take the steps; `found` and `tensors` are the checkpoint to go on from.

        Returns the last state within the budget, the PEFT configuration that goes with it, and why training ended.

        Raises:
            AdapterError: the recipe doesn't fit the model, or training diverged, or changed nothing.
        """
        recipe = self.recipe
        examples = [encode(model, example, whole=recipe.exempt == "targets") for example in recipe.examples]
        with Fitting(
            model,
            recipe.where,
            rank=recipe.rank,
            alpha=recipe.alpha,
            learning_rate=recipe.learning_rate,
            seed=recipe.seed,
            replay=recipe.replay,
            name=IN_TRAINING,
        ) as fitting:
            kept, ended = self._steps(fitting, examples, found, tensors)
        return kept, fitting.config, ended

    def _steps(
        self, fitting: Fitting, examples: Sequence[Tokens], found: Progressed | None, tensors: Mapping[str, Tensor]
    ) -> tuple[State | None, Ended]:
        recipe = self.recipe
        start = fitting.weights()
        orders = {
            "examples": BatchOrder(len(examples), recipe.batch, recipe.seed),
            # A stream of its own, or equally many examples and groups would come in the same order.
            "replay": BatchOrder(fitting.groups, 1, recipe.seed + 1),
        }
        if recipe.safe_zone:
            fitting.prepare(_used(recipe, examples))
        kept: State | None = None
        if found is not None:
            fitting.restore(tensors)
            for name, order in orders.items():
                order.restore(tensors[f"random/{name}"], found.waiting[name])
            kept = State(found.step, found.replay_kl, fitting.weights())
        ended: Ended = "steps"
        cost = kept.replay_kl if kept else 0.0
        try:
            if self.on_step and kept is None:
                self.on_step(0, fitting.intervention())
            for step in range(kept.steps + 1 if kept else 1, recipe.steps + 1):
                chosen = orders["examples"].next()
                try:
                    losses = fitting.step(
                        [examples[index] for index in chosen],
                        replay=orders["replay"].next(),
                        anchor=recipe.anchor,
                        share=zone_share(recipe.safe_zone, step, recipe.steps) if recipe.safe_zone else None,
                    )
                except AdapterError as error:
                    raise AdapterError(
                        f"training '{recipe.name}', step {step}: {error.problem}", error.next_step
                    ) from error
                cost = cost if losses.replay_kl is None else losses.replay_kl
                if self.progress:
                    detail = (
                        f"loss {losses.total:.2f}, replay KL {cost:.3f} nats per token, {losses.learned_share:.0%} of "
                        "the target tokens learned from"
                    )
                    self.progress.step(f"training {recipe.name}", step, recipe.steps, detail)
                if self.on_step and (step % self.every == 0 or step == recipe.steps):
                    self.on_step(step, fitting.intervention())
                if step == 1 or step % CHECK_EVERY == 0 or step == recipe.steps:
                    cost = fitting.replay_kl()
                    if not cost <= recipe.budget:
                        ended = "budget"
                        break
                    kept = State(step, cost, fitting.weights())
                    self._save(fitting, orders, kept)
        except KeyboardInterrupt:
            ended = "interrupted"
        if kept is not None and all(torch.equal(tensor, start[name]) for name, tensor in kept.weights.items()):
            drop_checkpoint(self.checkpoint)
            raise AdapterError(f"training '{recipe.name}' changed nothing", "raise learning_rate or steps")
        return kept, ended

    def _save(self, fitting: Fitting, orders: Mapping[str, BatchOrder], kept: State) -> None:
        tensors, waiting = fitting.state(), {}
        for name, order in orders.items():
            tensors[f"random/{name}"], waiting[name] = order.state()
        progressed = Progressed(
            identity=self.identity,
            overrides=dict(self.overrides),
            step=kept.steps,
            replay_kl=kept.replay_kl,
            seconds=time.monotonic() - self.since,
            made_at=self.made_at,
            waiting=waiting,
        )
        write_checkpoint(self.checkpoint, progressed, tensors)


def _used(recipe: Recipe, examples: Sequence[Tokens]) -> list[Tokens]:
    """The examples that any step will come to: a short training sees few of many."""
    order = BatchOrder(len(examples), recipe.batch, recipe.seed)
    used = {index for _ in range(recipe.steps) for index in order.next()}
    return [examples[index] for index in sorted(used)]
