"""Training: from a recipe to a LoRA adapter with its evidence.

Loss = cross-entropy on the target tokens inside the safe zone + anchor · KL(base ‖ tuned) on replay texts.

The loop is our own and not transformers' Trainer or one of TRL's, though the adapter is PEFT's:

- A step takes two losses on two batches through one model, one of them against the same model without its
  adapter, and token weights from a quantile over the batch. A Trainer's unit is one batch and one loss, so all of
  that would stand in an overridden `compute_loss` with a dataset that smuggles the second batch in. TRL's trainers
  keep a reference model too, but for preferences and rewards, and measure it on what the model generates.
- Training ends by the divergence on replay text in nats, and what is saved is the last state that was within the
  budget, not the last or the lowest loss.
- Interrupted and resumed has to equal uninterrupted bit for bit. A Trainer replays its data loader up to the step;
  here the order of batches is a state of its own that is saved with the optimizer's.
- Weights of the base stay marked as trainable, and gradients are asked for by name, so none is computed for them:
  what is trained then runs through the same kernels as what is worn, and on some CPUs a frozen bfloat16 weight takes
  a slower one. SmolLM2-135M in bfloat16 on one core with AVX512-BF16: 3.1 s a step so and 3.2 s with the base
  frozen (medians of three undisturbed steps), equal to the bit, with 2.10 and 2.03 GB of memory at the most.
- It is some hundred lines without distributed training, callbacks and logging services, none of which are needed
  for adapters that are trained in minutes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from overlay.adapters.adapter import CONFIG, MANIFEST, WEIGHTS, Adapter, Ended, example_digest
from overlay.adapters.batch_order import BatchOrder
from overlay.adapters.checkpoint import (
    Identity,
    Progressed,
    checkpoint_folder,
    drop_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from overlay.adapters.example import Example, HeldOut
from overlay.adapters.recipe import Recipe
from overlay.adapters.reference import Reference, counted_logits
from overlay.adapters.safe_zone import token_weights, zone_share
from overlay.adapters.sequences import Sequence as Tokens
from overlay.adapters.sequences import encode, pad
from overlay.errors import AdapterError
from overlay.model import (
    NOTHING,
    AdapterUse,
    Intervention,
    LanguageModel,
    Row,
    VolatilityGauge,
    neutral_texts,
    without_peft_warnings,
)
from overlay.progress import Progress
from overlay.records import storage_errors, write_record

CHECK_EVERY = 4
"""Steps between two measurements on all replay texts, each followed by a checkpoint.

More of them cost time, fewer of them lose more steps.
"""

GRADIENT_NORM = 1.0
"""Gradients are clipped to this norm: one odd batch must not throw the adapter off."""


@dataclass(frozen=True)
class _State:
    """LoRA weights after `steps` steps, and what they cost on the replay texts, nats per token."""

    steps: int
    replay_kl: float
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class _Begun:
    """What stays the same throughout one training: its recipe, overrides applied, and what it is known by."""

    recipe: Recipe
    overrides: Mapping[str, Any]
    identity: Identity
    checkpoint: Path
    made_at: float
    since: float
    progress: Progress | None


@torch.random.fork_rng()
def train(
    recipe: Recipe,
    model_name: str,
    folder: Path,
    *,
    dtype: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Adapter:
    """Train an adapter on a copy of the model loaded for this alone, measure it, and write `folder`/NAME.

    The folder is complete or not there at all, and the caller's random numbers stay what they would have been. On
    Ctrl-C the last state within the budget is measured and saved before KeyboardInterrupt goes on, unless there is
    none or an adapter is there already; a checkpoint stays beside it until a training of this name is done.

    Args:
        overrides: other `steps`, `seed` or `blocks` than the recipe's; they are written into the manifest.
        resume: go on from the checkpoint, to the same bits as without the interruption.

    Raises:
        AdapterError: the recipe doesn't fit the model, or training changed nothing, or it left the
            budget before the first check, or there is nothing to resume that fits.
        ArgumentError: an override can't be.
        ModelUnavailable, StorageFull
    """
    made_at, since = time.time(), time.monotonic()
    given = dict(overrides or {})
    shared = sorted(set(recipe.replay) & set(neutral_texts()))
    if shared:
        raise AdapterError(
            f"recipe '{recipe.name}' replays a text on which volatility is measured: {shared[0]!r}",
            "replace it: what is trained on can't measure",
        )
    effective = recipe.overridden(given)
    model = LanguageModel.load(model_name, dtype=dtype)
    begun = _Begun(
        effective,
        given,
        Identity(effective.digest, model.digest, model.dtype),
        checkpoint_folder(folder, recipe.name),
        made_at,
        since,
        progress,
    )
    if resume:
        found, tensors = read_checkpoint(begun.checkpoint, begun.identity)
        begun = replace(begun, made_at=found.made_at, since=since - found.seconds)
    else:
        found, tensors = None, {}
        drop_checkpoint(begun.checkpoint)
    before = held_out_accuracy(model, effective.held_out)
    state, config, ended = _fit(begun, model, found, tensors)
    final = folder / recipe.name
    if ended == "interrupted" and (state is None or final.exists()):
        raise KeyboardInterrupt
    if state is None:
        raise AdapterError(
            f"after its first steps '{recipe.name}' cost more than its budget of {effective.budget} nats on replay "
            "text",
            "lower learning_rate, raise anchor, or raise budget",
        )
    with storage_errors(final):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{recipe.name}.", dir=folder) as place:
            # The folder that is renamed lies inside, so that what remains is always cleaned up.
            made = Path(place) / recipe.name
            weights_sha256 = _write(made / WEIGHTS, _safetensors(state.weights))
            config_sha256 = _write(made / CONFIG, json.dumps(config, indent=2).encode())
            # What is measured is what was written, loaded the way it will be used.
            model.attach(recipe.name, made)
            worn = Intervention(adapters=(AdapterUse(recipe.name),))
            volatility = VolatilityGauge(model).measure(worn)
            adapter = Adapter(
                name=recipe.name,
                folder=final,
                aim=recipe.aim,
                recipe_digest=recipe.digest,
                base_model=model_name,
                base_digest=model.digest,
                dtype=model.dtype,
                weights_sha256=weights_sha256,
                config_sha256=config_sha256,
                held_out=len(effective.held_out),
                accuracy_before=before,
                accuracy_after=held_out_accuracy(model, effective.held_out, worn),
                volatility_mean=volatility.mean,
                volatility_p95=volatility.p95,
                replay_kl=state.replay_kl,
                steps=state.steps,
                ended=ended,
                seconds=time.monotonic() - begun.since,
                seed=effective.seed,
                made_at=begun.made_at,
                notes=recipe.notes,
                examples=tuple(example_digest(example) for example in effective.examples),
                overrides=given,
            )
            write_record(made / MANIFEST, adapter.manifest())
            if final.exists():
                final.rename(Path(place) / "replaced")
            made.rename(final)
    if ended == "interrupted":
        raise KeyboardInterrupt
    drop_checkpoint(begun.checkpoint)
    return adapter


def held_out_accuracy(model: LanguageModel, choices: Sequence[HeldOut], intervention: Intervention = NOTHING) -> float:
    """Share of the choices whose good option is likelier per token than the bad one, from 0 to 1."""
    rows = [Row(text=item.prompt, options=(item.good, item.bad), intervention=intervention) for item in choices]
    scored = [result.per_token for result in model.score(rows)]
    return sum(good > bad for good, bad in scored) / len(scored)


def target_layers(model: LanguageModel, blocks: str | tuple[int, int], modules: Sequence[str]) -> list[str]:
    """Full names of the linear layers that a recipe's `blocks` and `modules` mean in this model.

    Raises:
        AdapterError: the model has no such block or layer.
    """
    from transformers.pytorch_utils import Conv1D

    first, last = (0, model.layers - 1) if isinstance(blocks, str) else blocks
    if last >= model.layers:
        raise AdapterError(
            f"blocks: [{first}, {last}] reaches beyond this model's {model.layers} blocks",
            f"give blocks from 0 to {model.layers - 1}, or all",
        )
    names = {id(module): name for name, module in model.module.named_modules()}
    found: list[str] = []
    seen: set[str] = set()
    for block in model.blocks.modules[first : last + 1]:
        for name, layer in block.named_modules():
            if isinstance(layer, nn.Linear | Conv1D):
                own, part = name.rsplit(".", 1)[-1], name.split(".", 1)[0]
                kind = "attention" if "attn" in part or "attention" in part else "mlp"
                seen.update((own, kind))
                if own in modules or kind in modules:
                    found.append(names[id(layer)])
    unknown = [name for name in modules if name not in seen]
    if unknown:
        raise AdapterError(
            f"modules: '{unknown[0]}' is no linear layer in the blocks of '{model.name}'",
            f"use one of {', '.join(sorted(seen))}",
        )
    return found


def token_ids(model: LanguageModel, words: Sequence[str]) -> list[int]:
    """The rows of the embedding that a recipe's `tokens` mean: of each word as written, and after a space.

    Raises:
        AdapterError: neither is one token of this model.
    """
    found: list[int] = []
    for word in words:
        forms = [list(model.tokenizer(form, add_special_tokens=False)["input_ids"]) for form in (word, f" {word}")]
        rows = [tokens[0] for tokens in forms if len(tokens) == 1]
        if not rows:
            pieces = [model.tokenizer.decode([token]) for token in forms[0]]
            raise AdapterError(
                f"tokens: '{word}' is no single token of '{model.name}', but {len(pieces)}: {pieces}",
                "name words that are one token, or let modules learn it",
            )
        found += rows
    return list(dict.fromkeys(found))


def _lora_settings(recipe: Recipe, model: LanguageModel) -> dict[str, Any]:
    """The PEFT configuration that a recipe means in this model. Raises AdapterError."""
    from transformers.pytorch_utils import Conv1D

    where = recipe.where
    layers = target_layers(model, where.blocks, where.modules) if where.modules else []
    if where.head:
        head, embedding = model.module.get_output_embeddings(), model.module.get_input_embeddings()
        if where.tokens and head.weight is embedding.weight:
            raise AdapterError(
                f"the head of '{model.name}' shares its weights with the embedding, so rows of `tokens` learn in both",
                "leave out either head or tokens",
            )
        layers.append(next(name for name, part in model.module.named_modules() if part is head))
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": isinstance(model.module.get_submodule(layers[0]), Conv1D),
        "target_modules": layers,
    }
    if where.tokens:
        settings["trainable_token_indices"] = token_ids(model, where.tokens)
    return settings


def _fit(
    begun: _Begun, model: LanguageModel, found: Progressed | None, tensors: Mapping[str, Tensor]
) -> tuple[_State | None, dict[str, Any], Ended]:
    """The last state within the budget, the PEFT configuration that goes with it, and why training ended."""
    from peft import LoraConfig, get_peft_model

    recipe = begun.recipe
    config = _lora_settings(recipe, model)
    examples = [encode(model, example, whole=recipe.exempt == "targets") for example in recipe.examples]
    replay = [encode(model, Example(target=text)) for text in recipe.replay]
    torch.manual_seed(recipe.seed)
    base = model.module
    with torch.enable_grad():
        try:
            with without_peft_warnings():
                tuned = get_peft_model(
                    base, LoraConfig(**{key: value for key, value in config.items() if key != "peft_type"})
                )
            state, ended = _descend(begun, model, tuned, examples, replay, found, tensors)
        finally:
            _unwrap(base)
    return state, config, ended


def _descend(
    begun: _Begun,
    model: LanguageModel,
    tuned: Any,
    examples: list[Tokens],
    replay: list[Tokens],
    found: Progressed | None,
    tensors: Mapping[str, Tensor],
) -> tuple[_State | None, Ended]:
    recipe = begun.recipe
    learned = {name: weight for name, weight in tuned.named_parameters() if weight.requires_grad}
    if not learned:
        raise AdapterError(f"recipe '{recipe.name}' leaves nothing to train", "widen its blocks or modules")
    parameters = list(learned.values())
    # As PEFT leaves it, the base is frozen; see above why it must not be.
    tuned.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.0)
    start = _lora_weights(tuned)
    reference = Reference(tuned, replay, model.device)
    orders = {
        "examples": BatchOrder(len(examples), recipe.batch, recipe.seed),
        # A stream of its own, or equally many examples and groups would come in the same order.
        "replay": BatchOrder(len(reference.groups), 1, recipe.seed + 1),
    }
    surprisals = reference.surprisals(_used(recipe, examples)) if recipe.safe_zone else {}
    kept: _State | None = None
    first = 1
    if found is not None:
        _restore(learned, optimizer, orders, found, tensors)
        kept = _State(found.step, found.replay_kl, _lora_weights(tuned))
        first = found.step + 1
    ended: Ended = "steps"
    cost = kept.replay_kl if kept else 0.0
    try:
        for step in range(first, recipe.steps + 1):
            chosen = orders["examples"].next()
            batch = pad([examples[index] for index in chosen], model.device)
            nats = functional.cross_entropy(counted_logits(tuned, batch).float(), batch.answers, reduction="none")
            if recipe.safe_zone:
                exempt = torch.tensor([mark for index in chosen for mark in examples[index].exempt], device=nats.device)
                share = zone_share(recipe.safe_zone, step, recipe.steps)
                weights = token_weights(torch.cat([surprisals[index] for index in chosen]), exempt, share)
            else:
                weights = torch.full_like(nats, 1 / len(nats))
            total = (weights * nats).sum()
            (group,) = orders["replay"].next()
            if recipe.anchor:
                anchor = reference.divergence(group).mean()
                total = total + recipe.anchor * anchor
                cost = anchor.item()
            if not torch.isfinite(total):
                raise AdapterError(
                    f"training '{recipe.name}' diverged at step {step}: the loss is {total.item()}",
                    "lower learning_rate",
                )
            for weight, gradient in zip(parameters, torch.autograd.grad(total, parameters), strict=True):
                weight.grad = gradient
            nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            optimizer.step()
            if begun.progress:
                learned_share = int((weights > 0).sum()) / len(weights)
                detail = (
                    f"loss {total.item():.2f}, replay KL {cost:.3f} nats per token, {learned_share:.0%} of the target "
                    "tokens learned from"
                )
                begun.progress.step(f"training {recipe.name}", step, recipe.steps, detail)
            if step == 1 or step % CHECK_EVERY == 0 or step == recipe.steps:
                cost = reference.whole_divergence()
                if not cost <= recipe.budget:
                    ended = "budget"
                    break
                kept = _State(step, cost, _lora_weights(tuned))
                _save(begun, learned, optimizer, orders, kept)
    except KeyboardInterrupt:
        ended = "interrupted"
    if kept is not None and all(torch.equal(tensor, start[name]) for name, tensor in kept.weights.items()):
        drop_checkpoint(begun.checkpoint)
        raise AdapterError(f"training '{recipe.name}' changed nothing", "raise learning_rate or steps")
    return kept, ended


def _used(recipe: Recipe, examples: list[Tokens]) -> dict[int, Tokens]:
    """The examples that any step will come to, by their index: a short training sees few of many."""
    order = BatchOrder(len(examples), recipe.batch, recipe.seed)
    used = {index for _ in range(recipe.steps) for index in order.next()}
    return {index: examples[index] for index in sorted(used)}


_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def _save(
    begun: _Begun,
    learned: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    orders: Mapping[str, BatchOrder],
    kept: _State,
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, weight in learned.items():
        tensors[f"weight/{name}"] = weight
        tensors |= {f"{moment}/{name}": optimizer.state[weight][moment] for moment in _MOMENTS}
    waiting: dict[str, list[int]] = {}
    for name, order in orders.items():
        tensors[f"random/{name}"], waiting[name] = order.state()
    progressed = Progressed(
        identity=begun.identity,
        overrides=dict(begun.overrides),
        step=kept.steps,
        replay_kl=kept.replay_kl,
        seconds=time.monotonic() - begun.since,
        made_at=begun.made_at,
        waiting=waiting,
    )
    write_checkpoint(begun.checkpoint, progressed, tensors)


@torch.no_grad()
def _restore(
    learned: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    orders: Mapping[str, BatchOrder],
    found: Progressed,
    tensors: Mapping[str, Tensor],
) -> None:
    for name, weight in learned.items():
        weight.copy_(tensors[f"weight/{name}"])
        moments = {moment: tensors[f"{moment}/{name}"] for moment in _MOMENTS}
        # AdamW counts its steps on the CPU, wherever the weights lie.
        optimizer.state[weight] = {key: one if key == "step" else one.to(weight) for key, one in moments.items()}
    for name, order in orders.items():
        order.restore(tensors[f"random/{name}"], found.waiting[name])


def _lora_weights(tuned: Any) -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}


def _unwrap(base: Any) -> None:
    """Put the base's own layers back in place, also when wrapping them failed half-way.

    PEFT's `unload` leaves an embedding with replaced rows wrapped.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for parent in list(base.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, AuxiliaryTrainingWrapper):
                setattr(parent, name, part.original_module)
            elif isinstance(part, BaseTunerLayer):
                setattr(parent, name, part.get_base_layer())
    if hasattr(base, "peft_config"):
        del base.peft_config
    base.requires_grad_(True)


def _safetensors(weights: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return bytes(save(weights, metadata={"format": "pt"}))


def _write(path: Path, content: bytes) -> str:
    write_record(path, content)
    return hashlib.sha256(content).hexdigest()
