"""Volatility is a divergence: exactly zero where nothing is done, never below, more for more, the same each time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from overlay.model import NO_VOLATILITY, NOTHING, Dose, Intervention, Volatility, VolatilityGauge, neutral_texts

TEXTS = ("The bridge was closed for repair.", "Granite cools slowly.", "x", "Rain in the north by the evening.")


@pytest.fixture(scope="module")
def gauge(tiny_llama: Any) -> VolatilityGauge:
    return VolatilityGauge(tiny_llama, TEXTS)


def steer(model: Any, make: Any, dose: float, seed: int = 0, span: Any = "all") -> Intervention:
    return Intervention((Dose(make(model, seed), dose, tuple(range(model.layers)), span),))


def test_nothing_costs_exactly_nothing(gauge: VolatilityGauge) -> None:
    assert gauge.measure(NOTHING) == NO_VOLATILITY == Volatility(0.0, 0.0)
    assert gauge.measure(Intervention()) == NO_VOLATILITY


def test_a_dose_of_zero_costs_exactly_nothing(tiny_model: Any, random_direction: Any) -> None:
    """It is measured with the hooks acting, in every architecture."""
    measured = VolatilityGauge(tiny_model, TEXTS).per_token(steer(tiny_model, random_direction, 0.0))
    assert all((kl == 0).all() for kl in measured)


def test_no_position_has_a_negative_cost(gauge: VolatilityGauge, tiny_llama: Any, random_direction: Any) -> None:
    for seed, dose in enumerate((1e-6, 1e-3, 0.05, 1.0, -1.0, 50.0)):
        for kl in gauge.per_token(steer(tiny_llama, random_direction, dose, seed)):
            assert np.isfinite(kl).all() and (kl >= 0).all()


def test_cost_is_given_for_each_token_of_each_text(
    gauge: VolatilityGauge, tiny_llama: Any, random_direction: Any
) -> None:
    found = gauge.per_token(steer(tiny_llama, random_direction, 0.1))
    assert [len(kl) for kl in found] == [len(text) for text in TEXTS]  # one token a byte
    pooled = np.concatenate(found)
    measured = gauge.measure(steer(tiny_llama, random_direction, 0.1))
    assert measured.mean == pytest.approx(float(pooled.mean())) and measured.p95 >= measured.mean


def test_cost_is_the_divergence_of_the_base_from_the_influenced_model(tiny_llama: Any, random_direction: Any) -> None:
    """KL(base ‖ influenced) of one text, computed from plain logits."""
    import torch

    from overlay.model import Row

    intervention = steer(tiny_llama, random_direction, 0.4)
    text = TEXTS[0]
    tokens = [tiny_llama.encode(Row(text=text)).tokens]
    ((_, base),) = tiny_llama.logits(tokens, [Row(text=text)])
    ((_, bent),) = tiny_llama.logits(tokens, [Row(text=text, intervention=intervention)])
    expected = torch.nn.functional.kl_div(
        bent.log_softmax(-1), base.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    (found,) = VolatilityGauge(tiny_llama, (text,)).per_token(intervention)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)
    assert found.mean() > 0.001


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sign", [1, -1])
def test_cost_grows_with_the_dose(
    gauge: VolatilityGauge, tiny_llama: Any, random_direction: Any, seed: int, sign: int
) -> None:
    costs = [
        gauge.measure(steer(tiny_llama, random_direction, sign * dose, seed)).mean for dose in (0.0, 0.02, 0.06, 0.2)
    ]
    assert costs == sorted(costs) and costs[1] < costs[2] < costs[3]


def test_a_measurement_repeated_by_another_gauge_is_equal(tiny_llama: Any, random_direction: Any) -> None:
    first, second = VolatilityGauge(tiny_llama, TEXTS), VolatilityGauge(tiny_llama, TEXTS)
    interventions = [steer(tiny_llama, random_direction, 0.1, seed) for seed in range(3)]
    forwards = [first.measure(intervention) for intervention in interventions]
    assert [second.measure(intervention) for intervention in interventions[::-1]] == forwards[::-1]
    assert [first.measure(intervention) for intervention in interventions] == forwards


def test_no_plan_is_left_after_a_measurement(gauge: VolatilityGauge, tiny_llama: Any, random_direction: Any) -> None:
    gauge.measure(steer(tiny_llama, random_direction, 0.3, 7))
    assert not tiny_llama.steering.has_plan


def test_the_neutral_texts_are_the_fixed_set() -> None:
    assert len(neutral_texts()) == len(set(neutral_texts())) == 16
    assert all(text.strip() == text and len(text) > 60 for text in neutral_texts())
