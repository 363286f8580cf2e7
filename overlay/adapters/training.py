"""Training: from a recipe to a LoRA adapter with its evidence.

The steps are taken in `descent.py`; here a model is given, what came of them is measured, and becomes a folder that
is complete or not there at all.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from overlay.adapters.adapter import MANIFEST, Adapter, example_digest, read_manifest
from overlay.adapters.checkpoint import Identity, checkpoint_folder, drop_checkpoint, read_checkpoint
from overlay.adapters.descent import IN_TRAINING, Descent
from overlay.adapters.drift import default_texts, measure_drift, store_drift
from overlay.adapters.drift_course import DriftCourse
from overlay.adapters.example import HeldOut
from overlay.adapters.fitting import write_lora
from overlay.adapters.recipe import Recipe
from overlay.errors import AdapterError, ArgumentError
from overlay.model import NOTHING, AdapterUse, Intervention, LanguageModel, Treatment, VolatilityGauge, neutral_texts
from overlay.probes import margins
from overlay.progress import Progress
from overlay.records import replace_folder, storage_errors, write_record


@torch.random.fork_rng()
def train(
    recipe: Recipe,
    model: str | LanguageModel,
    folder: Path,
    *,
    dtype: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    drift_every: int | None = None,
    progress: Progress | None = None,
) -> Adapter:
    """Train an adapter, measure it, and write `folder`/NAME.

    The folder is complete or not there at all; a model that was given is afterwards bit for bit what it was, and so
    are the caller's random numbers. On Ctrl-C the last state within the budget is measured and saved before
    KeyboardInterrupt goes on, unless there is none or an adapter is there already; a checkpoint stays beside it until
    a training of this name is done.

    Args:
        model: a resident model, which no other thread may use meanwhile, or the name of one to load for this alone,
            in the number format `dtype`.
        overrides: other `steps`, `seed` or `blocks` than the recipe's; they are written into the manifest.
        resume: go on from the checkpoint, to the same bits as without the interruption.
        drift_every: measure the drift after every so many steps as well, before the first and after the last, and
            keep its course in the adapter's drift map; it changes nothing of what is learned.

    Raises:
        AdapterError: the recipe doesn't fit the model, or training changed nothing, or it left the
            budget before the first check, or there is nothing to resume that fits.
        ArgumentError: an override can't be, or `drift_every` is below 1.
        ModelUnavailable, StorageFull
    """
    made_at, since = time.time(), time.monotonic()
    given = dict(overrides or {})
    if drift_every is not None and drift_every < 1:
        raise ArgumentError(f"a drift after every {drift_every} steps", "give 1 or more")
    shared = sorted(set(recipe.replay) & set(neutral_texts()))
    if shared:
        raise AdapterError(
            f"recipe '{recipe.name}' replays a text on which volatility is measured: {shared[0]!r}",
            "replace it: what is trained on can't measure",
        )
    effective = recipe.overridden(given)
    if isinstance(model, str):
        model = LanguageModel.load(model, dtype=dtype)
    descent = Descent(
        effective,
        given,
        Identity(effective.digest, model.digest, model.dtype),
        checkpoint_folder(folder, recipe.name),
        made_at,
        since,
        progress,
    )
    if resume:
        found, tensors = read_checkpoint(descent.checkpoint, descent.identity)
        descent = replace(descent, made_at=found.made_at, since=since - found.seconds)
    else:
        found, tensors = None, {}
        drop_checkpoint(descent.checkpoint)
    course = None
    if drift_every is not None:
        course = DriftCourse(model, effective, descent.checkpoint, reached=found.step if found else None)
        descent = replace(descent, on_step=course, every=drift_every)
    before = held_out_accuracy(model, effective.held_out)
    state, config, ended = descent.run(model, found, tensors)
    final = folder / recipe.name
    if state is None:
        drop_checkpoint(descent.checkpoint)
    if ended == "interrupted" and (state is None or _is_finished(final, recipe)):
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
            weights_sha256, config_sha256 = write_lora(made, state.weights, config)
            # What is measured is what was written, loaded the way it will be used.
            model.attach(IN_TRAINING, made)
            try:
                worn = Intervention(adapters=(AdapterUse(IN_TRAINING),))
                volatility = VolatilityGauge(model).measure(worn)
                after = held_out_accuracy(model, effective.held_out, worn)
                if course is not None:
                    texts = default_texts(effective, model)
                    drift = measure_drift(
                        model, worn, texts, name=recipe.name, weights_sha256=weights_sha256, progress=progress
                    )
                    store_drift(made, replace(drift, feedings=course.until(state.steps)))
            finally:
                model.detach(IN_TRAINING)
            adapter = Adapter(
                name=recipe.name,
                folder=final,
                aim=recipe.aim,
                recipe_digest=recipe.digest,
                base_model=model.name,
                base_digest=model.digest,
                dtype=model.dtype,
                weights_sha256=weights_sha256,
                config_sha256=config_sha256,
                held_out=len(effective.held_out),
                accuracy_before=before,
                accuracy_after=after,
                volatility_mean=volatility.mean,
                volatility_p95=volatility.p95,
                replay_kl=state.replay_kl,
                steps=state.steps,
                ended=ended,
                seconds=time.monotonic() - descent.since,
                seed=effective.seed,
                made_at=descent.made_at,
                notes=recipe.notes,
                examples=tuple(example_digest(example) for example in effective.examples),
                overrides=given,
            )
            write_record(made / MANIFEST, adapter.manifest())
            replace_folder(made, final, Path(place) / "replaced")
    if ended == "interrupted":
        raise KeyboardInterrupt
    drop_checkpoint(descent.checkpoint)
    return adapter


def _is_finished(folder: Path, recipe: Recipe) -> bool:
    """Whether a folder holds an adapter that a half-trained one must not replace: any but an earlier half of it."""
    if not folder.exists():
        return False
    try:
        known = read_manifest(folder)
    except AdapterError:
        return True
    return not (known.ended == "interrupted" and known.recipe_digest == recipe.digest)


def held_out_accuracy(model: LanguageModel, choices: Sequence[HeldOut], intervention: Intervention = NOTHING) -> float:
    """Share of the choices whose good option is likelier per token than the bad one, from 0 to 1."""
    return float((margins(model, choices, Treatment("held out", intervention)) > 0).mean())
