"""Training writes a whole adapter or nothing, stays within its budget, and measures what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from overlay.adapters import Recipe, check_adapter, read_recipe, train
from overlay.adapters.targets import target_layers
from overlay.errors import AdapterError
from overlay.model import Row, VolatilityGauge, neutral_texts

pytest_plugins = ["tiny_home"]


def fit(home: Any, recipe: Recipe, **options: Any) -> Any:
    return train(recipe, str(home.model_folder), home.built, dtype="float32", **options)


def elsewhere(recipe: Recipe, **where: Any) -> Recipe:
    return recipe.model_copy(update={"where": recipe.where.model_copy(update=where)})


class Watcher:
    """Remembers the steps it was told of, and presses Ctrl-C at one of them."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.seen: list[tuple[int | None, int | None]] = []
        self.detail = ""
        self._interrupt_at = interrupt_at

    def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        self.seen.append((done, total))
        self.detail = detail
        if done == self._interrupt_at:
            raise KeyboardInterrupt


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_trained_adapter_is_three_files_that_pass_their_checks(home: Any, recipe: Recipe) -> None:
    watcher = Watcher()
    adapter = fit(home, recipe, progress=watcher)
    assert contents(home.built) == ["ends_in_z"]
    assert contents(adapter.folder) == ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    model = home.load_model()
    assert check_adapter(adapter.folder, model.digest) == adapter
    assert (adapter.steps, adapter.ended, adapter.held_out) == (recipe.steps, "steps", 2)
    assert watcher.seen == [(step, 5) for step in range(1, 6)]
    assert "loss" in watcher.detail and "replay KL" in watcher.detail
    assert "100% of the target tokens learned from" in watcher.detail


def test_targets_become_likelier_and_the_manifest_holds_what_can_be_measured_again(trained_home: Any) -> None:
    model = trained_home.load_model()
    library = trained_home.library
    adapter = library.load("ends_in_z", model.digest)
    recipe = library.recipe("ends_in_z")
    with library.worn(model, "ends_in_z") as worn:
        base, tuned = model.score(
            [Row(text="five ", options=("z",)), Row(text="five ", options=("z",), intervention=worn)]
        )
        choices = model.score([Row(text=i.prompt, options=(i.good, i.bad), intervention=worn) for i in recipe.held_out])
        neutral = VolatilityGauge(model).measure(worn)
        replay = VolatilityGauge(model, recipe.replay).per_token(worn)
    assert tuned.total[0] > base.total[0] + 1
    assert adapter.accuracy_after == sum(good > bad for good, bad in (c.per_token for c in choices)) / len(choices)
    assert (neutral.mean, neutral.p95) == pytest.approx((adapter.volatility_mean, adapter.volatility_p95), rel=1e-4)
    # A replay text's last position predicts nothing that is known, so training leaves it out.
    predicted = [value for text in replay for value in text[:-1].tolist()]
    assert sum(predicted) / len(predicted) == pytest.approx(adapter.replay_kl, rel=1e-3)


def test_the_seed_decides_the_weights_and_the_callers_random_numbers_stay_untouched(home: Any, recipe: Recipe) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = fit(home, recipe).weights_sha256
    assert torch.equal(torch.rand(3), expected)
    assert fit(home, recipe).weights_sha256 == first
    assert fit(home, recipe.model_copy(update={"seed": 1})).weights_sha256 != first


def test_training_goes_back_to_the_last_state_within_the_budget(home: Any, recipe: Recipe) -> None:
    free = recipe.model_copy(update={"anchor": 0.0, "steps": 16})
    wild = fit(home, free)
    assert wild.ended == "steps"
    budget = wild.replay_kl / 2
    kept = fit(home, free.model_copy(update={"budget": budget}))
    assert kept.ended == "budget"
    assert 0 < kept.replay_kl <= budget
    assert kept.steps < 16


def test_the_anchor_keeps_the_model_closer_to_the_base(home: Any, recipe: Recipe) -> None:
    loose = fit(home, recipe.model_copy(update={"anchor": 0.0, "steps": 16}))
    anchored = fit(home, recipe.model_copy(update={"anchor": 10.0, "steps": 16}))
    assert anchored.replay_kl < loose.replay_kl / 2


def test_nothing_is_written_when_the_first_step_leaves_the_budget(home: Any, recipe: Recipe) -> None:
    with pytest.raises(AdapterError, match="more than its budget"):
        fit(home, recipe.model_copy(update={"budget": 1e-9}))
    assert contents(home.built) == []


def test_an_interruption_saves_the_last_checked_state(home: Any, recipe: Recipe) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(home, recipe, progress=Watcher(interrupt_at=3))
    adapter = check_adapter(home.built / "ends_in_z")
    assert (adapter.steps, adapter.ended) == (1, "interrupted")


def test_an_interruption_before_the_first_check_writes_nothing(home: Any, recipe: Recipe) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(home, recipe, progress=Watcher(interrupt_at=1))
    assert contents(home.built) == []


def test_an_interruption_never_replaces_a_finished_adapter(home: Any, recipe: Recipe) -> None:
    finished = fit(home, recipe)
    with pytest.raises(KeyboardInterrupt):
        fit(home, recipe.model_copy(update={"seed": 7}), progress=Watcher(interrupt_at=3))
    assert check_adapter(finished.folder) == finished
    assert contents(home.built) == [".ends_in_z.training", "ends_in_z"]


def test_training_that_changes_nothing_is_refused(home: Any, recipe: Recipe) -> None:
    with pytest.raises(AdapterError, match="changed nothing"):
        fit(home, recipe.model_copy(update={"learning_rate": 1e-300}))
    assert contents(home.built) == []


def test_a_text_on_which_volatility_is_measured_cannot_be_replayed(home: Any, recipe: Recipe) -> None:
    with pytest.raises(AdapterError, match="can't measure"):
        fit(home, recipe.model_copy(update={"replay": (*recipe.replay, neutral_texts()[0])}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"blocks": (1, 3)}, "beyond this model's 3 blocks"),
        ({"modules": ("attention", "absent_proj")}, "'absent_proj' is no linear layer"),
        ({"modules": ("lm_head",)}, "'lm_head' is no linear layer"),
        ({"tokens": ("zebra",)}, "'zebra' is no single token"),
    ],
)
def test_what_the_model_does_not_have_cannot_be_trained(
    home: Any, recipe: Recipe, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(AdapterError, match=says):
        fit(home, elsewhere(recipe, **change))
    assert contents(home.built) == []


def test_only_the_named_blocks_and_modules_learn(home: Any, recipe: Recipe) -> None:
    from safetensors.numpy import load_file

    adapter = fit(home, elsewhere(recipe, blocks=(1, 1), modules=("q_proj", "mlp")))
    layers = {key.split(".lora_")[0] for key in load_file(adapter.folder / "adapter_model.safetensors")}
    inside = "base_model.model.model.layers.1."
    assert layers == {inside + name for name in ("self_attn.q_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")}


def test_attention_and_mlp_are_found_in_every_architecture(tiny_model: Any) -> None:
    attention = target_layers(tiny_model, "all", ("attention",))
    mlp = target_layers(tiny_model, (0, 1), ("mlp",))
    assert len(attention) % 3 == 0
    assert mlp
    assert not set(attention) & set(mlp)
    assert not any(name.endswith(("lm_head", "embed_out")) for name in attention + mlp)


@pytest.mark.real
def test_british_spelling_carries_over_to_words_it_was_never_shown(real_model: Any, tmp_path: Path) -> None:
    """Eight bold steps instead of the recipe's 24 careful ones, to be quick."""
    stock = read_recipe(Path(__file__).parents[2] / "adapters" / "lora" / "british_spelling" / "recipe.yaml")
    quick = stock.model_copy(update={"steps": 8, "learning_rate": 1e-3, "anchor": 1.0, "budget": 0.5})
    adapter = train(quick, real_model.name, tmp_path)
    assert adapter.accuracy_before <= 0.5
    assert adapter.accuracy_after >= 0.75
    assert adapter.volatility_mean < 0.5
    assert check_adapter(adapter.folder, real_model.digest) == adapter
