"""Feeding: a model learns from one small meal of texts after another, and is looked at in between.

This is how a recipe trains, cut down to what watching needs: LoRA on all linear layers of the blocks, cross-entropy
on the meal plus KL(base ‖ tuned) on replay texts. Nothing is saved: afterwards the model is what it was before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from overlay.errors import AdapterError, ArgumentError
from overlay.model import NOTHING, Intervention, Row, without_peft_warnings

if TYPE_CHECKING:
    from overlay.model import LanguageModel
    from overlay.progress import Progress

OnState = Callable[[int, "LanguageModel", Intervention], None]
"""Called with the number of feedings so far, the model as it is then, and what rows wear (nothing: all of it wears)."""

GRADIENT_NORM = 1.0
"""Gradients are clipped to this norm: one odd meal must not throw the model off."""


@dataclass(frozen=True)
class Diet:
    """What is fed, and how.

    Attributes:
        texts: what is learned; a feeding takes the next `meal` of them, shuffled anew when all were eaten.
        replay: ordinary texts on which the model should stay what it was.
        rank, alpha: of the LoRA matrices; learning_rate: of AdamW, one step a feeding.
        anchor: weight of KL(base ‖ tuned) on the replay texts.
    """

    texts: tuple[str, ...]
    replay: tuple[str, ...]
    meal: int = 4
    rank: int = 8
    alpha: float = 16.0
    learning_rate: float = 5e-4
    anchor: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.texts or not self.replay or self.meal < 1:
            raise ArgumentError("a diet without texts, without replay texts or with empty meals", "give some of each")


@dataclass(frozen=True)
class Meal:
    """What a feeding cost before its step: cross-entropy on its texts and KL on the replay texts, nats per token."""

    loss: float
    replay_kl: float


@torch.random.fork_rng()
def feed(
    model: LanguageModel,
    diet: Diet,
    feedings: int,
    on_state: OnState | None = None,
    *,
    every: int = 1,
    progress: Progress | None = None,
) -> tuple[Meal, ...]:
    """Feed a model, and call `on_state` before the first feeding, after each `every`-th and after the last.

    No other thread may use the model meanwhile, and no adapter may be attached to it. Afterwards, whatever happened,
    the model is what it was, and so are the caller's random numbers.

    Raises:
        ArgumentError: an adapter is attached, or a text has fewer than two tokens.
        AdapterError: the loss is no number any more.
    """
    if model.adapters:
        raise ArgumentError(
            f"adapters are attached ({', '.join(model.adapters)}), and feeding needs the model alone", "detach them"
        )
    torch.manual_seed(diet.seed)
    meals, replay = [_encoded(model, text) for text in diet.texts], [_encoded(model, text) for text in diet.replay]
    base = model.module
    with torch.enable_grad():
        try:
            tuned = _wrapped(model, diet)
            return _feed(model, tuned, diet, meals, replay, feedings, on_state, every, progress)
        finally:
            _unwrap(base)


def _feed(
    model: LanguageModel,
    tuned: Any,
    diet: Diet,
    meals: list[list[int]],
    replay: list[list[int]],
    feedings: int,
    on_state: OnState | None,
    every: int,
    progress: Progress | None,
) -> tuple[Meal, ...]:
    parameters = [weight for name, weight in tuned.named_parameters() if ".lora_" in name]
    # As everywhere: a frozen bfloat16 weight takes a slower kernel. Gradients are only asked for the new matrices.
    tuned.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=diet.learning_rate, weight_decay=0.0)
    ids, mask, counted = _padded(model, replay)
    with torch.no_grad(), tuned.disable_adapter():
        expected = _likely(tuned, ids, mask, counted)
    tuned.requires_grad_(True)
    eaten: list[Meal] = []
    if on_state:
        on_state(0, model, NOTHING)
    for count, meal in enumerate(_meals(meals, diet.meal, feedings), start=1):
        own_ids, own_mask, own_counted = _padded(model, meal)
        logits = tuned(input_ids=own_ids, attention_mask=own_mask).logits[:, :-1]
        loss = functional.cross_entropy(logits[own_counted].float(), own_ids[:, 1:][own_counted])
        found = _likely(tuned, ids, mask, counted)
        kept = functional.kl_div(found, expected, reduction="none", log_target=True).sum(-1).mean()
        total = loss + diet.anchor * kept
        if not torch.isfinite(total):
            raise AdapterError(f"feeding diverged at meal {count}: the loss is {total.item()}", "lower learning_rate")
        gradients = torch.autograd.grad(total, parameters)
        for weight, gradient in zip(parameters, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
        optimizer.step()
        eaten.append(Meal(loss.item(), kept.item()))
        if progress:
            detail = f"loss {loss.item():.2f}, replay KL {kept.item():.3f} nats per token"
            progress.step("feeding", count, feedings, detail)
        if on_state and (count % every == 0 or count == feedings):
            on_state(count, model, NOTHING)
    return tuple(eaten)


def _wrapped(model: LanguageModel, diet: Diet) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    names = {id(module): name for name, module in model.module.named_modules()}
    layers = [
        layer for block in model.blocks.modules for layer in block.modules() if isinstance(layer, nn.Linear | Conv1D)
    ]
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=diet.rank,
        lora_alpha=diet.alpha,
        lora_dropout=0.0,
        fan_in_fan_out=isinstance(layers[0], Conv1D),
        target_modules=[names[id(layer)] for layer in layers],
    )
    with without_peft_warnings():
        return get_peft_model(model.module, config)


def _unwrap(base: Any) -> None:
    """Put the base's own layers back in place, also when wrapping them failed half-way."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for parent in list(base.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, BaseTunerLayer):
                setattr(parent, name, part.get_base_layer())
    if hasattr(base, "peft_config"):
        del base.peft_config
    base.requires_grad_(True)


def _encoded(model: LanguageModel, text: str) -> list[int]:
    tokens = list(model.encode(Row(text=text)).tokens)
    if len(tokens) < 2:
        raise ArgumentError(f"{text!r} is too short to be learned from", "write a longer text")
    return tokens


def _meals(items: list[list[int]], size: int, count: int) -> Iterator[list[list[int]]]:
    waiting: list[list[int]] = []
    for _ in range(count):
        while len(waiting) < size:
            waiting += [items[index] for index in torch.randperm(len(items)).tolist()]
        yield waiting[:size]
        del waiting[:size]


def _padded(model: LanguageModel, items: Sequence[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids and mask, (rows, tokens), and which positions predict a token, (rows, tokens - 1).

    Padded on the right: with causal attention nothing sees it, and positions count from 0.
    """
    longest = max(map(len, items))
    ids = torch.zeros((len(items), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(items):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ids.to(model.device), mask.to(model.device), mask[:, 1:].bool().to(model.device)


def _likely(tuned: Any, ids: Tensor, mask: Tensor, counted: Tensor) -> Tensor:
    """Log-probabilities at the counted positions, (positions, vocabulary), float32."""
    logits = tuned(input_ids=ids, attention_mask=mask).logits[:, :-1][counted]
    return torch.log_softmax(logits.float(), -1)
