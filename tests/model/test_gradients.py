"""Gradients of a likelihood with respect to what is added behind a block: against what adding it really does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from overlay.errors import ArgumentError, InterventionError
from overlay.model import Direction, Dose, Intervention, LanguageModel, LogitBias, Message, Row

ROWS = [
    Row(text="one two three", options=(" four five",)),
    Row(text="a rather longer beginning of a text, so that rows are padded", options=(" and its end",)),
    Row(messages=(Message("user", "What do you do?"),), options=("I wait.",)),
]


def test_a_small_dose_changes_the_likelihood_as_the_gradient_says(tiny_model: LanguageModel) -> None:
    loaded = tiny_model
    found = loaded.gradients(ROWS)
    assert all(one.shape == (loaded.layers, loaded.width) and one.dtype == np.float32 for one in found)
    draw = np.random.default_rng(0)
    for block in range(loaded.layers):
        vectors = np.zeros((loaded.layers, loaded.width), np.float32)
        vectors[block] = draw.standard_normal(loaded.width)
        vectors[block] /= np.linalg.norm(vectors[block])
        direction = Direction("drawn", vectors, np.ones(loaded.layers, np.float32))
        step = 1e-3  # small: an activation such as ReLU bends at once
        ends = []
        for sign in (1, -1):
            intervention = Intervention((Dose(direction, sign * step, (block,)),))
            scored = loaded.score([replace(row, intervention=intervention) for row in ROWS])
            ends.append(np.array([one.per_token[0] for one in scored]))
        measured = (ends[0] - ends[1]) / (2 * step)
        told = np.array([one[block] @ vectors[block] for one in found])
        np.testing.assert_allclose(measured, told, rtol=0.03, atol=2e-3)


def test_gradients_come_in_order_alone_or_together_and_leave_nothing_behind(tiny_llama: LanguageModel) -> None:
    before, scored = tiny_llama.census(), tiny_llama.score(ROWS)
    steps: list[int] = []
    together = tiny_llama.gradients(ROWS * 5, progress=steps.append)
    for row, one in zip(ROWS, together, strict=False):
        np.testing.assert_allclose(one, tiny_llama.gradients([row])[0], rtol=1e-3, atol=1e-6)
    assert steps[-1] == len(together) == 15 and tiny_llama.census() == before
    assert tiny_llama.score(ROWS) == scored
    assert all(weight.grad is None for weight in tiny_llama.module.parameters())


@pytest.mark.parametrize("options", [(), ("",), ("one", "two")])
def test_a_row_without_exactly_one_option_is_refused(tiny_llama: LanguageModel, options: tuple[str, ...]) -> None:
    with pytest.raises(ArgumentError, match="one option"):
        tiny_llama.gradients([Row(text="one two", options=options)])


def test_a_row_with_an_intervention_is_refused(tiny_llama: LanguageModel) -> None:
    with pytest.raises(InterventionError, match="bare model"):
        tiny_llama.gradients([replace(ROWS[0], intervention=Intervention(biases=(LogitBias(" one", 1.0),)))])
