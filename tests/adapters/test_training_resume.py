"""An interrupted training that is resumed ends where an uninterrupted one does, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from overlay.adapters import Recipe, check_adapter, train
from overlay.adapters.batch_order import BatchOrder
from overlay.adapters.drift import stored_drift
from overlay.adapters.drift_course import read_feedings
from overlay.errors import AdapterError, ArgumentError, OverlayError

pytest_plugins = ["tiny_home"]

STEPS = 9


class CtrlC:
    """Interrupts at one step, as the key does."""

    def __init__(self, at: int | None = None) -> None:
        self._at = at
        self.seen: list[int | None] = []

    def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        self.seen.append(done)
        if done == self._at:
            raise KeyboardInterrupt


@pytest.fixture
def long(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"steps": STEPS})


def fit(home: Any, recipe: Recipe, **options: Any) -> Any:
    return train(recipe, str(home.model_folder), home.built, dtype="float32", **options)


def begin(home: Any, recipe: Recipe, at: int, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(home, recipe, progress=CtrlC(at), **options)


def checkpoint(home: Any) -> Path:
    return Path(home.built / ".ends_in_z.training")


def test_interrupted_anywhere_and_resumed_equals_uninterrupted_bit_for_bit(home: Any, long: Recipe) -> None:
    whole = fit(home, long)
    again = train(long, str(home.model_folder), home.built.parent / "other", dtype="float32")
    assert again.weights_sha256 == whole.weights_sha256
    for at in range(2, STEPS + 1):
        begin(home, long, at)
        resumed = fit(home, long, resume=True)
        assert resumed.weights_sha256 == whole.weights_sha256
        assert (resumed.replay_kl, resumed.steps, resumed.ended) == (whole.replay_kl, STEPS, "steps")
        assert not checkpoint(home).exists()


def test_interrupted_again_and_again_it_still_ends_the_same(home: Any, long: Recipe) -> None:
    whole = fit(home, long).weights_sha256
    begin(home, long, 3)
    for at in (5, 9):
        begin(home, long, at, resume=True)
    assert fit(home, long, resume=True).weights_sha256 == whole


def test_token_rows_and_the_head_are_resumed_as_well(home: Any, long: Recipe) -> None:
    for where in ({"tokens": ("z",)}, {"head": True}):
        recipe = long.model_copy(update={"where": long.where.model_copy(update=where)})
        whole = fit(home, recipe).weights_sha256
        begin(home, recipe, 6)
        assert fit(home, recipe, resume=True).weights_sha256 == whole


def test_resuming_starts_behind_the_last_checkpoint(home: Any, long: Recipe) -> None:
    begin(home, long, 7)
    # An adapter of what was reached is there meanwhile.
    assert check_adapter(home.built / "ends_in_z").steps == 4
    watcher = CtrlC()
    assert fit(home, long, resume=True, progress=watcher).steps == STEPS
    assert watcher.seen == [5, 6, 7, 8, 9]


def test_a_training_that_is_begun_anew_forgets_the_interrupted_one(home: Any, long: Recipe) -> None:
    begin(home, long, 7)
    fit(home, long)
    with pytest.raises(AdapterError, match="no training to resume"):
        fit(home, long, resume=True)


def test_what_does_not_belong_to_a_checkpoint_is_refused_with_words(home: Any, long: Recipe, tiny_llama: Any) -> None:
    begin(home, long, 7, overrides={"steps": 8})
    with pytest.raises(AdapterError, match=r"begun by another recipe, or with other options .*--steps 8") as caught:
        fit(home, long, resume=True)
    assert "give the same recipe and options" in str(caught.value)
    with pytest.raises(AdapterError, match="another recipe"):
        fit(home, long.model_copy(update={"rank": 3}), resume=True, overrides={"steps": 8})
    with pytest.raises(AdapterError, match="begun in float32, and this is bfloat16"):
        train(long, str(home.model_folder), home.built, dtype="bfloat16", resume=True, overrides={"steps": 8})
    other = home.built.parent / "other-model"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        noisy = home.load_model().module
        with torch.no_grad():
            noisy.get_input_embeddings().weight.add_(torch.randn(1))
    noisy.save_pretrained(other)
    tiny_llama.tokenizer.save_pretrained(other)
    with pytest.raises(AdapterError, match="begun on another model"):
        train(long, str(other), home.built, dtype="float32", resume=True, overrides={"steps": 8})
    assert fit(home, long, resume=True, overrides={"steps": 8}).steps == 8


@pytest.mark.parametrize("harm", ["cut", "gone", "not_json", "format"])
def test_a_damaged_checkpoint_is_refused_with_words(home: Any, long: Recipe, harm: str) -> None:
    begin(home, long, 7)
    (tensors,) = checkpoint(home).glob("*.safetensors")
    record = checkpoint(home) / "checkpoint.json"
    if harm == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    elif harm == "gone":
        tensors.unlink()
    elif harm == "not_json":
        record.write_text("{")
    else:
        record.write_text(json.dumps({**json.loads(record.read_text()), "format": 99}))
    with pytest.raises(OverlayError, match=r"is not what was written|can't be read as a checkpoint") as caught:
        fit(home, long, resume=True)
    assert "without --resume" in str(caught.value)


def test_overrides_stand_in_the_manifest_and_the_recipe_stays_what_it_was(home: Any, recipe: Recipe) -> None:
    overrides = {"blocks": [0, 0], "steps": 3, "seed": 4}
    adapter = fit(home, recipe, overrides=overrides)
    assert (adapter.overrides, adapter.steps, adapter.seed) == (overrides, 3, 4)
    assert adapter.recipe_digest == recipe.digest
    assert home.library.load("ends_in_z") == adapter
    with pytest.raises(ArgumentError, match="'rank' can't be set"):
        fit(home, recipe, overrides={"rank": 4})


def test_every_item_comes_once_before_any_comes_again_and_the_order_can_be_taken_up() -> None:
    order = BatchOrder(5, 2, seed=3)
    drawn = [index for _ in range(5) for index in order.next()]
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == [0, 1, 2, 3, 4]
    state = order.state()
    expected = [order.next() for _ in range(7)]
    other = BatchOrder(5, 2, seed=99)
    other.restore(*state)
    assert [other.next() for _ in range(7)] == expected
    assert BatchOrder(2, 8, seed=0).next() in ([0, 1], [1, 0])


def test_the_drift_is_followed_through_an_interruption_and_changes_nothing_of_what_is_learned(
    home: Any, long: Recipe
) -> None:
    plain = fit(home, long)
    assert not (plain.folder / "drift.json").exists()
    whole = fit(home, long, drift_every=4)
    assert whole.weights_sha256 == plain.weights_sha256
    found = stored_drift(whole.folder)
    assert found is not None
    assert [one.feedings for one in found.feedings] == [0, 4, 8, STEPS]
    assert max(found.feedings[0].drift.hidden) < 1e-9 < min(found.feedings[-1].drift.hidden)
    assert (found.name, found.weights_sha256) == (long.name, whole.weights_sha256)
    assert check_adapter(whole.folder) == whole
    begin(home, long, 7, drift_every=4)
    assert [one.feedings for one in read_feedings(checkpoint(home) / "feedings.json")] == [0, 4]
    resumed = fit(home, long, resume=True, drift_every=4)
    assert resumed.weights_sha256 == whole.weights_sha256
    again = stored_drift(resumed.folder)
    assert again is not None and again.feedings == found.feedings
    with pytest.raises(ArgumentError, match="after every 0 steps"):
        fit(home, long, drift_every=0)
