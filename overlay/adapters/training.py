"""Training: from a recipe to a LoRA adapter with its evidence.

The loop is our own and not a library's trainer, for two reasons: each step takes two losses through
one model, the second of them against the same model with the adapter disabled; and training stops by
the divergence on replay text in nats, going back to the last state that was within the budget.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from overlay.adapters.adapter import CONFIG, MANIFEST, WEIGHTS, Adapter, Ended
from overlay.adapters.recipe import HeldOut, Recipe
from overlay.errors import AdapterError, ArgumentError
from overlay.model import NOTHING, AdapterUse, Intervention, LanguageModel, Row, VolatilityGauge, neutral_texts
from overlay.progress import Progress
from overlay.records import storage_errors, write_record

CHECK_EVERY = 4
"""Steps between two measurements on all replay texts. More of them cost time, fewer of them lose more steps."""

REPLAY_BATCH = 6
"""Replay texts a step: enough for a steady gradient, a third of a step's time."""

GRADIENT_NORM = 1.0
"""Gradients are clipped to this norm: one odd batch must not throw the adapter off."""


@dataclass(frozen=True)
class _Sequences:
    """Padded tokens of a batch (rows, tokens), and which positions predict a token that counts (rows, tokens - 1)."""

    ids: Tensor
    mask: Tensor
    counted: Tensor


@dataclass(frozen=True)
class _State:
    """LoRA weights after `steps` steps, and what they cost on the replay texts, nats per token."""

    steps: int
    replay_kl: float
    weights: dict[str, Tensor]


@torch.random.fork_rng()
def train(
    recipe: Recipe,
    model_name: str,
    folder: Path,
    *,
    dtype: str = "auto",
    progress: Progress | None = None,
) -> Adapter:
    """Train an adapter on a copy of the model loaded for this alone, measure it, and write `folder`/NAME.

    The folder is complete or not there at all, and the caller's random numbers stay what they would
    have been. On Ctrl-C the last state within the budget is measured
    and saved before KeyboardInterrupt goes on, unless there is none or an adapter is there already.

    Raises:
        AdapterError: the recipe doesn't fit the model, or training changed nothing, or it left the
            budget before the first check.
        ModelUnavailable, StorageFull
    """
    begun = time.monotonic()
    shared = sorted(set(recipe.replay) & set(neutral_texts()))
    if shared:
        raise AdapterError(
            f"recipe '{recipe.name}' replays a text on which volatility is measured: {shared[0]!r}",
            "replace it: what is trained on can't measure",
        )
    model = LanguageModel.load(model_name, dtype=dtype)
    before = held_out_accuracy(model, recipe.held_out)
    state, config, ended = _fit(recipe, model, progress)
    final = folder / recipe.name
    if ended == "interrupted" and (state is None or final.exists()):
        raise KeyboardInterrupt
    if state is None:
        raise AdapterError(
            f"after its first steps '{recipe.name}' cost more than its budget of {recipe.budget} nats on replay text",
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
                held_out=len(recipe.held_out),
                accuracy_before=before,
                accuracy_after=held_out_accuracy(model, recipe.held_out, worn),
                volatility_mean=volatility.mean,
                volatility_p95=volatility.p95,
                replay_kl=state.replay_kl,
                steps=state.steps,
                ended=ended,
                seconds=time.monotonic() - begun,
                seed=recipe.seed,
            )
            write_record(made / MANIFEST, adapter.manifest())
            if final.exists():
                final.rename(Path(place) / "replaced")
            made.rename(final)
    if ended == "interrupted":
        raise KeyboardInterrupt
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


def _fit(
    recipe: Recipe, model: LanguageModel, progress: Progress | None
) -> tuple[_State | None, dict[str, Any], Ended]:
    """The last state within the budget, the PEFT configuration that goes with it, and why training ended."""
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    layers = target_layers(model, recipe.blocks, recipe.modules)
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": recipe.rank,
        "lora_alpha": recipe.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": isinstance(model.module.get_submodule(layers[0]), Conv1D),
        "target_modules": layers,
    }
    examples = [_encode(model, example.prompt, example.target) for example in recipe.examples]
    replay = [_encode(model, "", text) for text in recipe.replay]
    torch.manual_seed(recipe.seed)
    with torch.enable_grad():
        settings = {key: value for key, value in config.items() if key != "peft_type"}
        with warnings.catch_warnings():
            # PEFT still asks transformers for a property that was renamed.
            warnings.simplefilter("ignore", FutureWarning)
            tuned = get_peft_model(model.module, LoraConfig(**settings))
        try:
            state, ended = _descend(recipe, model, tuned, examples, replay, progress)
        finally:
            model.module = tuned.unload()
    return state, config, ended


def _descend(
    recipe: Recipe,
    model: LanguageModel,
    tuned: Any,
    examples: list[tuple[list[int], int]],
    replay: list[tuple[list[int], int]],
    progress: Progress | None,
) -> tuple[_State | None, Ended]:
    parameters = [parameter for parameter in tuned.parameters() if parameter.requires_grad]
    if not parameters:
        raise AdapterError(f"recipe '{recipe.name}' leaves nothing to train", "widen its blocks or modules")
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.0)
    start = _lora_weights(tuned)
    kept: _State | None = None
    ended: Ended = "steps"
    example_batches = _shuffled_batches(examples, recipe.batch)
    replay_batches = _shuffled_batches(replay, REPLAY_BATCH)
    try:
        for step in range(1, recipe.steps + 1):
            learned = _pad(model, next(example_batches))
            logits = tuned(input_ids=learned.ids, attention_mask=learned.mask).logits[:, :-1]
            answers = learned.ids[:, 1:]
            loss = functional.cross_entropy(logits[learned.counted].float(), answers[learned.counted])
            anchor = _replay_kl(tuned, _pad(model, next(replay_batches))).mean()
            total = loss + recipe.anchor * anchor
            if not torch.isfinite(total):
                raise AdapterError(
                    f"training '{recipe.name}' diverged at step {step}: the loss is {total.item()}",
                    "lower learning_rate",
                )
            optimizer.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            optimizer.step()
            if progress:
                detail = f"loss {total.item():.2f}, replay KL {anchor.item():.3f} nats per token"
                progress.step(f"training {recipe.name}", step, recipe.steps, detail)
            if step == 1 or step % CHECK_EVERY == 0 or step == recipe.steps:
                cost = _whole_replay_kl(model, tuned, replay)
                if not cost <= recipe.budget:
                    ended = "budget"
                    break
                kept = _State(step, cost, _lora_weights(tuned))
    except KeyboardInterrupt:
        ended = "interrupted"
    if kept is not None and all(torch.equal(tensor, start[name]) for name, tensor in kept.weights.items()):
        raise AdapterError(f"training '{recipe.name}' changed nothing", "raise learning_rate or steps")
    return kept, ended


def _replay_kl(tuned: Any, texts: _Sequences) -> Tensor:
    """KL(base ‖ tuned) at each counted position, nats."""
    with torch.no_grad(), tuned.disable_adapter():
        base = tuned(input_ids=texts.ids, attention_mask=texts.mask).logits[:, :-1][texts.counted]
        base = base.float().log_softmax(-1)
    logits = tuned(input_ids=texts.ids, attention_mask=texts.mask).logits[:, :-1][texts.counted]
    return functional.kl_div(logits.float().log_softmax(-1), base, reduction="none", log_target=True).sum(-1)


@torch.no_grad()
def _whole_replay_kl(model: LanguageModel, tuned: Any, replay: list[tuple[list[int], int]]) -> float:
    parts = [
        _replay_kl(tuned, _pad(model, replay[first : first + REPLAY_BATCH]))
        for first in range(0, len(replay), REPLAY_BATCH)
    ]
    return float(torch.cat(parts).mean())


def _lora_weights(tuned: Any) -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}


def _encode(model: LanguageModel, prompt: str, target: str) -> tuple[list[int], int]:
    """Tokens of prompt and target, encoded as `score` encodes prompt and option; how many belong to the prompt."""
    if not prompt:
        tokens = list(model.tokenizer(target)["input_ids"])
        # The first token has nothing before it to be predicted from.
        if len(tokens) < 2:
            raise ArgumentError(f"{target!r} is too short to be learned from", "write a longer text")
        return tokens, 1
    head = list(model.tokenizer(prompt)["input_ids"])
    return head + list(model.tokenizer(target, add_special_tokens=False)["input_ids"]), len(head)


def _shuffled_batches(items: list[tuple[list[int], int]], size: int) -> Iterator[list[tuple[list[int], int]]]:
    def endless() -> Iterator[tuple[list[int], int]]:
        while True:
            for index in torch.randperm(len(items)).tolist():
                yield items[index]

    source = endless()
    while True:
        yield list(islice(source, min(size, len(items))))


def _pad(model: LanguageModel, items: Sequence[tuple[list[int], int]]) -> _Sequences:
    """Right-padded: with causal attention nothing sees the padding, and positions count from 0."""
    longest = max(len(tokens) for tokens, _ in items)
    ids = torch.zeros((len(items), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    counted = torch.zeros((len(items), longest - 1), dtype=torch.bool)
    for row, (tokens, prompt) in enumerate(items):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        counted[row, prompt - 1 : len(tokens) - 1] = True
    return _Sequences(ids.to(model.device), mask.to(model.device), counted.to(model.device))


def _safetensors(weights: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return bytes(save(weights, metadata={"format": "pt"}))


def _write(path: Path, content: bytes) -> str:
    write_record(path, content)
    return hashlib.sha256(content).hexdigest()
