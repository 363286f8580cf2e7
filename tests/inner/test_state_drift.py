"""Drift: a decayed mean of the agent's own activations, bounded in size, and whole again from its file or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from overlay.errors import ArgumentError, RecordDamaged, WrongBaseModel
from overlay.inner import Drift, DriftSettings, neutral_activations
from overlay.model import Row, neutral_texts

LAYERS, WIDTH = 3, 4
NEUTRAL = np.full((LAYERS, WIDTH), 0.5, np.float32)


def activations(seed: int, size: float = 1.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal((LAYERS, WIDTH)) * size).astype(np.float32)


def gathered(count: int, **settings: Any) -> Drift:
    drift = Drift.none(LAYERS, WIDTH, "model", DriftSettings(**settings))
    for number in range(count):
        drift = drift.observe(activations(number), NEUTRAL, turn=f"s:{number}")
    return drift


def same(one: Drift, other: Drift) -> bool:
    facts = ("settings", "model_digest", "weight", "turns", "count")
    return (
        one.mean.tobytes() == other.mean.tobytes()
        and one.recorded.tobytes() == other.recorded.tobytes()
        and all(getattr(one, fact) == getattr(other, fact) for fact in facts)
    )


def test_no_drift_is_zero_everywhere() -> None:
    drift = gathered(0)
    assert not drift.mean.any() and drift.recorded.shape == (0, LAYERS, WIDTH) and drift.count == 0


def test_the_first_drift_is_the_distance_from_neutral() -> None:
    drift = gathered(1)
    np.testing.assert_array_equal(drift.mean, activations(0) - NEUTRAL)
    np.testing.assert_array_equal(drift.recorded, [activations(0) - NEUTRAL])
    assert drift.mean.dtype == drift.recorded.dtype == np.float32 and drift.turns == ("s:0",)


@given(st.floats(0.5, 500), st.integers(1, 20))
def test_the_mean_weighs_each_drift_by_half_a_half_life_later(half_life: float, count: int) -> None:
    drift = gathered(count, half_life=half_life)
    weights = np.array([2 ** (-(count - 1 - number) / half_life) for number in range(count)])
    drifts = np.array([activations(number) - NEUTRAL for number in range(count)], np.float64)
    expected = np.tensordot(weights / weights.sum(), drifts, axes=1)
    np.testing.assert_allclose(drift.mean, expected, rtol=1e-4, atol=1e-5)
    assert drift.weight == pytest.approx(weights.sum())


def test_a_half_life_by_the_clock_goes_by_seconds_alone() -> None:
    drift = Drift.none(1, 1, "m", DriftSettings(half_life="1 hour"))
    zero = np.zeros((1, 1), np.float32)
    drift = drift.observe(zero + 3, zero, turn="a")
    later = drift.observe(zero, zero, turn="b", turns=9.0, seconds=3600.0)
    assert later.mean[0, 0] == pytest.approx(3 * 0.5 / 1.5)
    assert drift.observe(zero, zero, turn="b", turns=9.0).mean[0, 0] == pytest.approx(1.5)


@given(st.lists(st.tuples(st.integers(0, 99), st.floats(0, 1e30), st.floats(0, 1e6)), max_size=20))
def test_the_mean_never_leaves_what_was_observed(lived: list[Any]) -> None:
    drift = Drift.none(LAYERS, WIDTH, "model")
    for seed, size, turns in lived:
        drift = drift.observe(activations(seed, size), NEUTRAL, turn="x", turns=turns)
        low, high = drift.recorded.min(0), drift.recorded.max(0)
        room = 1e-6 * np.abs(drift.recorded).max(0)
        assert (drift.mean >= low - room).all() and (drift.mean <= high + room).all()


@pytest.mark.parametrize("keep", [1, 5, 64])
def test_only_the_last_drifts_are_kept_and_they_know_their_turns(keep: int) -> None:
    drift = gathered(12, keep=keep)
    kept = min(12, keep)
    assert drift.turns == tuple(f"s:{number}" for number in range(12 - kept, 12)) and drift.count == 12
    np.testing.assert_array_equal(drift.recorded, [activations(number) - NEUTRAL for number in range(12 - kept, 12)])


def test_an_observation_leaves_the_drift_before_it_as_it_was() -> None:
    before = gathered(3)
    mean, recorded = before.mean.copy(), before.recorded.copy()
    before.observe(activations(9), NEUTRAL, turn="x")
    np.testing.assert_array_equal(before.mean, mean)
    np.testing.assert_array_equal(before.recorded, recorded)
    with pytest.raises(ValueError, match="read-only"):
        before.mean[0, 0] = 1.0


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(wrong: float) -> None:
    broken = activations(0)
    broken[1, 2] = wrong
    with pytest.raises(ArgumentError, match="aren't finite"):
        gathered(1).observe(broken, NEUTRAL, turn="s:9")


def test_shapes_that_do_not_fit_and_time_that_runs_backwards_are_refused() -> None:
    with pytest.raises(ArgumentError, match="activations have shape"):
        gathered(0).observe(activations(0)[:2], NEUTRAL, turn="x")
    with pytest.raises(ArgumentError, match="neutral mean have shape"):
        gathered(0).observe(activations(0), NEUTRAL[:, :1], turn="x")
    with pytest.raises(ArgumentError, match="have passed"):
        gathered(0).observe(activations(0), NEUTRAL, turn="x", turns=-1.0)


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"keep": 9999}, {"half_life": 0}, {"half_life": "soon"}])
def test_settings_out_of_range_are_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        DriftSettings(**wrong)


def test_its_strength_is_told_in_residual_norms() -> None:
    drift = gathered(1)
    norms = np.array([1.0, 2.0, 4.0], np.float32)
    np.testing.assert_allclose(drift.strength(norms), np.linalg.norm(activations(0) - NEUTRAL, axis=1) / norms)


# --- its file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 7])
def test_what_is_saved_is_read_back_bit_for_bit_and_goes_on_alike(tmp_path: Path, count: int) -> None:
    drift = gathered(count, keep=5, half_life="2 days")
    drift.save(tmp_path / "deep" / "drift.safetensors")
    found = Drift.load(tmp_path / "deep" / "drift.safetensors", "model", drift.settings)
    assert same(found, drift)
    assert same(*(one.observe(activations(99), NEUTRAL, turn="x") for one in (found, drift)))


def test_a_smaller_memory_drops_the_oldest(tmp_path: Path) -> None:
    gathered(7).save(tmp_path / "drift.safetensors")
    found = Drift.load(tmp_path / "drift.safetensors", "model", DriftSettings(keep=2))
    assert found.turns == ("s:5", "s:6") and len(found.recorded) == 2 and found.count == 7


def test_saving_again_replaces_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "drift.safetensors"
    for count in (1, 2):
        gathered(count).save(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name] and Drift.load(path, "model").count == 2


def test_any_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "drift.safetensors"
    gathered(2).save(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            found = Drift.load(path, "model")
        except RecordDamaged as error:
            assert str(path) in error.problem and error.next_step
        else:
            assert same(found, gathered(2)), place


@pytest.mark.parametrize("content", [None, b"", b"no safetensors", b"\xff" * 64])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "drift.safetensors").write_bytes(content)
    with pytest.raises(RecordDamaged, match=r"drift\.safetensors"):
        Drift.load(tmp_path / "drift.safetensors", "model")


def test_the_drift_of_another_model_is_refused(tmp_path: Path) -> None:
    gathered(1).save(tmp_path / "drift.safetensors")
    with pytest.raises(WrongBaseModel, match="another model"):
        Drift.load(tmp_path / "drift.safetensors", "other")


def test_neutral_texts_drift_nowhere_on_average(tiny_llama: Any) -> None:
    neutral = neutral_activations(tiny_llama)
    assert neutral.shape == (tiny_llama.layers, tiny_llama.width) and neutral.dtype == np.float32
    drift = Drift.none(*neutral.shape, tiny_llama.digest, DriftSettings(half_life=10_000))
    for seen in tiny_llama.observe([Row(text=text) for text in neutral_texts()]):
        drift = drift.observe(seen.activations, neutral, turn="neutral")
    # A half-life of 10,000 turns weighs them almost alike.
    np.testing.assert_allclose(drift.mean, 0, atol=2e-3 * np.abs(drift.recorded).max())
