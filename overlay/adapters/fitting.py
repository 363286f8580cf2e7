"""Fitting: a LoRA that learns beside a resident model, step by step, and is gone without a trace afterwards.

    with Fitting(model, where, rank=8, seed=0, replay=texts) as fitting:
        losses = fitting.step([encode(model, example) for example in examples], replay=[0], anchor=3.0, share=0.7)
        tuned, base = model.score([Row(text=…, options=…, intervention=fitting.intervention()), Row(text=…, options=…)])
        good = fitting.state()      # to come back to: fitting.restore(good)
        fitting.save(folder)        # two files that `model.attach` and PEFT load

Loss of a step = cross-entropy on the target tokens inside the safe zone + anchor · KL(base ‖ tuned) on replay texts.

Inside the `with` the adapter is one more resident of the model: it acts on rows that name it and on no other, so that
the model can be measured as tuned and as base side by side.

- The loop that calls it is our own and not transformers' Trainer or one of TRL's: a step takes two losses on two
  batches through one model, one of them against the same model without its adapter, and token weights from a quantile
  over the batch. A Trainer's unit is one batch and one loss, so all of that would stand in an overridden
  `compute_loss` with a dataset that smuggles the second batch in. TRL's trainers keep a reference model too, but for
  preferences and rewards, and measure it on what the model generates.
- Weights of the base stay marked as trainable, and gradients are asked for by name, so none is computed for them:
  what is trained then runs through the same kernels as what is worn, and on some CPUs a frozen bfloat16 weight takes
  a slower one. SmolLM2-135M in bfloat16 on one core with AVX512-BF16: 3.1 s a step so and 3.2 s with the base
  frozen (medians of three undisturbed steps), equal to the bit, with 2.10 and 2.03 GB of memory at the most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from overlay.adapters.example import Example
from overlay.adapters.lora_files import CONFIG, WEIGHTS
from overlay.adapters.reference import Reference, counted_logits
from overlay.adapters.safe_zone import token_weights
from overlay.adapters.sequences import Sequence as Tokens
from overlay.adapters.sequences import encode, pad
from overlay.adapters.targets import lora_settings
from overlay.errors import AdapterError, ArgumentError
from overlay.model import AdapterUse, Intervention
from overlay.records import write_record

if TYPE_CHECKING:
    from overlay.adapters.recipe import Where
    from overlay.model import LanguageModel

GRADIENT_NORM = 1.0
"""Gradients are clipped to this norm: one odd batch must not throw the adapter off."""

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class StepLosses:
    """What a step saw before it changed the weights.

    Attributes:
        loss: cross-entropy on the tokens that were learned from, nats per token.
        replay_kl: KL(base ‖ tuned) on the replay texts of this step, nats per token; None where there were none.
        total: what was descended on.
        learned_share: of the target tokens, how many were learned from, 0 to 1.
    """

    loss: float
    replay_kl: float | None
    total: float
    learned_share: float


class Fitting:
    """A LoRA on a resident model, for a `with`; afterwards the model is bit for bit what it was, whatever happened.

    No other thread may use the model during a step. Nothing draws from the caller's random numbers.

    Args:
        where: which part of the model learns.
        rank, alpha: of the LoRA matrices: the update is scaled by alpha / rank.
        learning_rate: of AdamW; may be set to another value between two steps.
        seed: of the first weights.
        replay: texts on which the model should stay what it was, gathered into `groups` groups.
        name: by which rows name the adapter; of two that are open at once each needs its own.

    Raises (on entering):
        AdapterError: the model has no such part, or the name is taken; the model is then as it was.
        ArgumentError: a replay text has fewer than two tokens.
    """

    def __init__(
        self,
        model: LanguageModel,
        where: Where,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        learning_rate: float = 5e-4,
        seed: int = 0,
        replay: Sequence[str] = (),
        name: str = "fitting",
    ) -> None:
        self.model = model
        self.name = name
        self.config: dict[str, Any] = lora_settings(model, where, rank, alpha)
        self._seed = seed
        self._learning_rate = learning_rate
        self._reference = Reference(
            model.module, [encode(model, Example(target=text)) for text in replay], model.device
        )
        self._surprisals: dict[Tokens, Tensor] = {}
        self._learned: Mapping[str, nn.Parameter] = {}
        self._optimizer: torch.optim.AdamW | None = None

    def __enter__(self) -> Self:
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            learned = self.model.grow(self.name, self.config)
        try:
            self._learned = learned
            if not self._learned:
                raise AdapterError("this leaves nothing to train", "widen its blocks or modules")
            self._optimizer = torch.optim.AdamW(self._parameters, lr=self._learning_rate, weight_decay=0.0)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    # --- what it is -----------------------------------------------------------------------------

    @property
    def groups(self) -> int:
        """How many groups of replay texts there are; a step names them by 0 to `groups` - 1."""
        return len(self._reference.groups)

    @property
    def learning_rate(self) -> float:
        """Of AdamW, from the next step on."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self._learning_rate = rate
        for group in self._open.param_groups:
            group["lr"] = rate

    def intervention(self, scale: float = 1.0) -> Intervention:
        """What rows wear to be treated by the adapter as it is then, inside the `with`; `scale` 1 is as trained.

        Token rows have no half: an adapter with some of them acts at scale 1 or not at all.
        """
        return Intervention(adapters=(AdapterUse(self.name, scale),))

    # --- learning -------------------------------------------------------------------------------

    def prepare(self, examples: Sequence[Tokens]) -> None:
        """Measure how much each token of the examples surprises the base model, all at once; `step` does it as well."""
        unknown = dict.fromkeys(one for one in examples if one not in self._surprisals)
        found = self._reference.surprisals(dict(enumerate(unknown)))
        self._surprisals |= {one: found[index] for index, one in enumerate(unknown)}

    def step(
        self,
        examples: Sequence[Tokens],
        *,
        replay: Sequence[int] = (),
        anchor: float = 1.0,
        share: float | None = None,
    ) -> StepLosses:
        """One step of AdamW on a batch of examples (see `sequences.encode`).

        Args:
            replay: the groups of replay texts that anchor this step.
            anchor: weight of KL(base ‖ tuned) on them; 0 leaves them out.
            share: of the target tokens that aren't exempt, how many may be learned from: the least surprising ones to
                the base model, above 0 and up to 1. None: there is no safe zone.

        Raises:
            AdapterError: the loss is no number any more; the weights are then what they were.
            ArgumentError: no examples.
        """
        if not examples:
            raise ArgumentError("a step on no examples", "give at least one")
        optimizer, module = self._open, self.model.module
        batch = pad(examples, self.model.device)
        if share is not None:
            self.prepare(examples)
        groups = tuple(replay) if anchor else ()
        # The base is asked before the adapter wakes up.
        expected = [self._reference.expected(group) for group in groups]
        with self.model.learning(self.name):
            nats = functional.cross_entropy(counted_logits(module, batch).float(), batch.answers, reduction="none")
            if share is None:
                weights = torch.full_like(nats, 1 / len(nats))
            else:
                exempt = torch.tensor([mark for one in examples for mark in one.exempt], device=nats.device)
                weights = token_weights(torch.cat([self._surprisals[one] for one in examples]), exempt, share)
            loss = total = (weights * nats).sum()
            kept = None
            if groups:
                apart = [self._reference.divergence(group, base) for group, base in zip(groups, expected, strict=True)]
                kept = torch.cat(apart).mean()
                total = total + anchor * kept
            if not torch.isfinite(total):
                raise AdapterError(f"diverged: the loss is {total.item()}", "lower learning_rate")
            parameters = self._parameters
            for weight, gradient in zip(parameters, torch.autograd.grad(total, parameters), strict=True):
                weight.grad = gradient
            nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            optimizer.step()
        learned_share = int((weights > 0).sum()) / len(weights)
        return StepLosses(loss.item(), None if kept is None else kept.item(), total.item(), learned_share)

    def replay_kl(self) -> float:
        """Mean KL(base ‖ tuned) over all replay texts, nats per token. Raises ArgumentError where there are none."""
        if not self.groups:
            raise ArgumentError("this fitting has no replay texts", "give some with `replay`")
        found = []
        for group in range(self.groups):
            base = self._reference.expected(group)
            with self.model.learning(self.name), torch.no_grad():
                found.append(self._reference.divergence(group, base))
        return float(torch.cat(found).mean())

    # --- keeping --------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """A copy of its weights by their names in a saved adapter, on the CPU."""
        return {name: weight.detach().cpu().clone().contiguous() for name, weight in self._learned.items()}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take weights that `weights` gave; the optimizer begins anew. Raises ArgumentError if they are others."""
        if {name: tuple(weight.shape) for name, weight in self._learned.items()} != {
            name: tuple(tensor.shape) for name, tensor in weights.items()
        }:
            raise ArgumentError("these are not weights of this fitting", "give what its `weights` returned")
        with self.model.learning(self.name), torch.no_grad():
            for name, weight in self._learned.items():
                weight.copy_(weights[name])
        self._open.state.clear()

    def state(self) -> dict[str, Tensor]:
        """Weights and the optimizer's moments: `restore` goes on from there, to the same bits. A copy, on the CPU."""
        optimizer = self._open
        found = {f"weight/{name}": tensor for name, tensor in self.weights().items()}
        for name, weight in self._learned.items():
            moments = optimizer.state.get(weight, {})
            found |= {f"{moment}/{name}": moments[moment].detach().cpu().clone() for moment in moments}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that `state` gave. Raises ArgumentError if it is another's."""
        self.load({name.removeprefix("weight/"): one for name, one in state.items() if name.startswith("weight/")})
        optimizer = self._open
        for name, weight in self._learned.items():
            moments = {moment: state[f"{moment}/{name}"].clone() for moment in _MOMENTS if f"{moment}/{name}" in state}
            if moments:
                # AdamW counts its steps on the CPU, wherever the weights lie.
                optimizer.state[weight] = {
                    key: one if key == "step" else one.to(weight) for key, one in moments.items()
                }

    def save(self, folder: Path) -> tuple[str, str]:
        """Write the adapter as PEFT does, weights and configuration; returns the sha256 of each. Raises StorageFull."""
        return write_lora(folder, self.weights(), self.config)

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return list(self._learned.values())

    @property
    def _open(self) -> torch.optim.AdamW:
        if self._optimizer is None:
            raise ArgumentError("this fitting isn't open", "use it inside its `with`")
        return self._optimizer

    def _close(self) -> None:
        self._optimizer, self._learned = None, {}
        self.model.detach(self.name)


def write_lora(folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> tuple[str, str]:
    """Write the two files of an adapter; returns the sha256 of weights and of configuration. Raises StorageFull."""
    from safetensors.torch import save

    contents = {
        WEIGHTS: bytes(save(dict(weights), metadata={"format": "pt"})),
        CONFIG: json.dumps(dict(config), indent=2).encode(),
    }
    for name, content in contents.items():
        write_record(folder / name, content)
    return hashlib.sha256(contents[WEIGHTS]).hexdigest(), hashlib.sha256(contents[CONFIG]).hexdigest()
