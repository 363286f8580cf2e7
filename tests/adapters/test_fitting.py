"""A fitting learns beside a resident model, which is measured as tuned and as base meanwhile and is untouched after."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from overlay.adapters import Example, Fitting, Where, check_adapter, encode, train
from overlay.errors import AdapterError, ArgumentError
from overlay.model import AdapterUse, Intervention, Message, Row, Sampling, VolatilityGauge

pytest_plugins = ["tiny_home"]

REPLAY = ("The river rises in the hills.", "A list, in order: 1, 2, 3.")
CHAT = tuple(Message(role, "A longer message, long enough to be kept.") for role in ("user", "assistant", "user"))


def examples(model: Any) -> list[Any]:
    return [encode(model, Example(prompt="one ", target="zzz")), encode(model, Example(target="z stands alone"))]


def fitting(model: Any, **options: Any) -> Fitting:
    return Fitting(model, Where(), **({"rank": 2, "learning_rate": 0.02, "replay": REPLAY} | options))


def logits(model: Any, *worn: Any) -> list[torch.Tensor]:
    rows = [Row(text="five and then z", **({"intervention": one} if one else {})) for one in (worn or (None,))]
    return [found.clone() for _, found in model.logits([model.encode(row).tokens for row in rows], rows)]


def everything(model: Any) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def test_inside_rows_that_name_it_are_tuned_and_others_are_the_base_to_the_bit(tiny_model: Any) -> None:
    before, census, weights = logits(tiny_model)[0], tiny_model.census(), everything(tiny_model)
    layers = [type(part) for part in tiny_model.module.modules()]
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with fitting(tiny_model) as opened:
        assert torch.equal(logits(tiny_model, opened.intervention())[0], before)
        for _ in range(3):
            opened.step(examples(tiny_model), replay=range(opened.groups))
        tuned, base = logits(tiny_model, opened.intervention(), None)
        assert torch.allclose(base, before, atol=1e-5)
        assert torch.equal(logits(tiny_model)[0], before)
        assert not torch.allclose(tuned, base, atol=1e-2)
        half = logits(tiny_model, opened.intervention(0.5))[0]
        assert not torch.allclose(half, tuned, atol=1e-3) and not torch.allclose(half, base, atol=1e-3)
        assert tiny_model.census().is_silent
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(logits(tiny_model)[0], before)
    assert tiny_model.census() == census
    assert [type(part) for part in tiny_model.module.modules()] == layers
    assert not hasattr(tiny_model.module, "peft_config")
    after = everything(tiny_model)
    assert after.keys() == weights.keys() and all(torch.equal(after[name], one) for name, one in weights.items())


def test_all_three_verbs_see_what_is_learned_and_nothing_encoded_before_it(tiny_llama: Any) -> None:
    with fitting(tiny_llama) as opened:
        worn = opened.intervention()

        def seen() -> tuple[Any, ...]:
            row = Row(CHAT, intervention=worn, options=("z", "q"), sampling=Sampling(max_tokens=4))
            (scored,), (made,) = tiny_llama.score([row]), tiny_llama.generate([row])
            return scored.total, made.tokens, tiny_llama.observe([row])[0].activations

        first = seen()
        assert seen()[0] == first[0]
        for _ in range(6):
            opened.step(examples(tiny_llama))
        now = seen()
        assert now[0] != first[0]
        assert abs(now[2] - first[2]).max() > 1e-3
        # What was kept of the prompt's beginning is that of these weights, as if nothing had been encoded before.
        tiny_llama.prefixes.clear()
        assert seen()[0] == pytest.approx(now[0], abs=1e-4)


def test_steps_teach_and_the_anchor_holds(tiny_llama: Any) -> None:
    moved = []
    for anchor in (0.0, 10.0):
        with fitting(tiny_llama) as opened:
            assert opened.replay_kl() == 0.0
            losses = [opened.step(examples(tiny_llama), replay=(0,), anchor=anchor) for _ in range(12)]
            assert losses[-1].loss < losses[0].loss
            assert (losses[0].replay_kl is None) == (anchor == 0)
            moved.append(opened.replay_kl())
            tuned, base = tiny_llama.score(
                [
                    Row(text="one ", options=("zzz",), intervention=opened.intervention()),
                    Row(text="one ", options=("zzz",)),
                ]
            )
            assert tuned.total[0] > base.total[0]
            gauge = VolatilityGauge(tiny_llama, REPLAY)
            assert gauge.measure(opened.intervention()).mean > 0
    assert moved[1] < moved[0] / 2


def test_a_safe_zone_leaves_surprising_tokens_out(tiny_llama: Any) -> None:
    with fitting(tiny_llama) as opened:
        batch = examples(tiny_llama)
        assert opened.step(batch).learned_share == 1
        assert opened.step(batch, share=0.5).learned_share == pytest.approx(0.5, abs=0.1)


def test_a_state_that_is_restored_goes_on_to_the_same_bits(tiny_llama: Any) -> None:
    batch = examples(tiny_llama)
    with fitting(tiny_llama) as opened:
        start = opened.state()
        for _ in range(3):
            opened.step(batch, replay=(0,))
        good, weights = opened.state(), opened.weights()
        for _ in range(2):
            opened.step(batch, replay=(0,))
        end = opened.weights()
        opened.restore(good)
        assert all(torch.equal(one, weights[name]) for name, one in opened.weights().items())
        assert opened.intervention() == opened.intervention(1.0)
        for _ in range(2):
            opened.step(batch, replay=(0,))
        assert all(torch.equal(one, end[name]) for name, one in opened.weights().items())
        opened.restore(start)
        assert opened.replay_kl() == 0.0
        with pytest.raises(ArgumentError, match="not weights of this fitting"):
            opened.load({})
    # Another one of the same seed begins alike, and takes the state over.
    with fitting(tiny_llama) as other:
        assert all(torch.equal(one, start[f"weight/{name}"]) for name, one in other.weights().items())
        other.restore(good)
        for _ in range(2):
            other.step(batch, replay=(0,))
        assert all(torch.equal(one, end[name]) for name, one in other.weights().items())
    with fitting(tiny_llama, seed=1) as third:
        assert any(not torch.equal(one, start[f"weight/{name}"]) for name, one in third.weights().items())


@pytest.mark.parametrize("where", [{}, {"head": True}, {"tokens": ("z", "k")}, {"blocks": (1, 1), "modules": ("mlp",)}])
def test_what_is_saved_acts_as_what_was_fitted(tiny_llama: Any, tmp_path: Any, where: dict[str, Any]) -> None:
    before = logits(tiny_llama)[0]
    with Fitting(tiny_llama, Where(**where), rank=2, learning_rate=0.02) as opened:
        for _ in range(3):
            opened.step(examples(tiny_llama))
        worn = logits(tiny_llama, opened.intervention())[0]
        opened.save(tmp_path)
        tiny_llama.attach("saved", tmp_path)
        saved = Intervention(adapters=(AdapterUse("saved"),))
        assert torch.equal(logits(tiny_llama, saved)[0], worn)
        tiny_llama.detach("saved")
        assert torch.equal(logits(tiny_llama, opened.intervention())[0], worn)
    assert torch.equal(logits(tiny_llama)[0], before)


def test_whatever_is_raised_inside_leaves_the_base_as_it_was(tiny_llama: Any) -> None:
    before, census = logits(tiny_llama)[0], tiny_llama.census()

    def raising(*_: Any) -> None:
        raise KeyboardInterrupt

    for strike in ("between", "in the pass", "diverging"):
        with pytest.raises((KeyboardInterrupt, AdapterError)), fitting(tiny_llama) as opened:
            opened.step(examples(tiny_llama))
            if strike == "between":
                raise KeyboardInterrupt
            if strike == "diverging":
                opened.learning_rate = 1e30
                for _ in range(3):
                    opened.step(examples(tiny_llama))
            handle = tiny_llama.blocks.modules[1].register_forward_hook(raising)
            try:
                opened.step(examples(tiny_llama))
            finally:
                handle.remove()
        assert tiny_llama.census() == census
        assert torch.equal(logits(tiny_llama)[0], before)
    with pytest.raises(AdapterError, match="beyond this model"):
        Fitting(tiny_llama, Where(blocks=(0, 9)))
    assert tiny_llama.census() == census


def test_two_can_be_open_at_once_under_names_of_their_own_and_a_closed_one_does_nothing(tiny_llama: Any) -> None:
    census = tiny_llama.census()
    with fitting(tiny_llama) as one:
        one.step(examples(tiny_llama))
        alone = logits(tiny_llama, one.intervention())[0]
        with pytest.raises(AdapterError, match="already attached"):
            fitting(tiny_llama).__enter__()
        with Fitting(tiny_llama, Where(blocks=(0, 1)), name="second", learning_rate=0.02) as two:
            for _ in range(2):
                two.step(examples(tiny_llama))
            assert torch.equal(logits(tiny_llama, one.intervention())[0], alone)
            both = logits(tiny_llama, one.intervention() + two.intervention())[0]
            assert not torch.allclose(both, alone, atol=1e-3)
        assert torch.equal(logits(tiny_llama, one.intervention())[0], alone)
    assert tiny_llama.census() == census
    for use in (lambda: one.step(examples(tiny_llama)), one.state, lambda: one.load({"a": torch.zeros(1)})):
        with pytest.raises(ArgumentError, match=r"isn't open|not weights"):
            use()
    with pytest.raises(ArgumentError, match="no examples"), fitting(tiny_llama) as opened:
        opened.step([])
    with pytest.raises(ArgumentError, match="no replay texts"), fitting(tiny_llama, replay=()) as opened:
        opened.replay_kl()


def test_a_resident_model_is_trained_on_to_the_same_bits_and_left_as_it_was(home: Any, recipe: Any) -> None:
    fresh = train(recipe, str(home.model_folder), home.built, dtype="float32")
    model = home.load_model()
    model.attach("ends_in_z", fresh.folder)
    census, before = model.census(), logits(model)[0]
    again = train(recipe, model, home.built.parent / "other")
    assert again.weights_sha256 == fresh.weights_sha256
    assert (again.volatility_mean, again.accuracy_after, again.base_digest) == (
        fresh.volatility_mean,
        fresh.accuracy_after,
        fresh.base_digest,
    )
    assert check_adapter(again.folder, model.digest) == again
    assert model.census() == census
    assert torch.equal(logits(model)[0], before)
