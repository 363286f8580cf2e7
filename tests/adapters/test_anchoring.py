"""Recognition rises for what is one thing to the model, and for nothing else."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from overlay.adapters.anchoring import (
    BEHIND,
    TEMPLATES,
    Anchoring,
    AnchoringWatch,
    Bounds,
    ConceptCurve,
    Recognition,
    bootstrap_mean,
    concept_vectors,
    pairwise_margins,
)
from overlay.adapters.anchoring_plot import draw_anchoring
from overlay.adapters.feeding import Diet, feed
from overlay.errors import AdapterError, ArgumentError
from overlay.model import NOTHING, Row

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "anchoring.py"

REPLAY = ("The river rises in the hills.", "A list, in order: 1, 2, 3.")

SHORT = tuple(TEMPLATES[:5])


def vectors(strength: float, words: int = 6, templates: int = 12, width: int = 64, seed: int = 0) -> Any:
    """Random vectors (words, templates, 2, width); the first word's share a direction of the given strength."""
    drawn = np.random.default_rng(seed)
    made = drawn.standard_normal((words, templates, 2, width))
    made[0] += strength * drawn.standard_normal(width)
    return made


def test_a_shared_direction_gives_a_margin_and_none_gives_none() -> None:
    for block in bootstrap_mean(pairwise_margins(vectors(2.0), 0, range(2, 6))):
        assert block.low > 0.3
        assert block.low < block.value < block.high
    for which in (0, 1):
        for block in bootstrap_mean(pairwise_margins(vectors(0.0), which, range(2, 6))):
            assert block.low < 0 < block.high


def test_what_all_words_share_and_what_the_context_brings_are_no_margin() -> None:
    made = vectors(0.0)
    plain = pairwise_margins(made, 0, range(2, 6))
    drawn = np.random.default_rng(1)
    common = made + 10 * drawn.standard_normal(made.shape[-1])
    assert np.allclose(pairwise_margins(common, 0, range(2, 6)), plain)
    in_context = made + 2 * drawn.standard_normal((1, *made.shape[1:]))
    for block in bootstrap_mean(pairwise_margins(in_context, 0, range(2, 6))):
        assert abs(block.value) < 0.05


def test_margins_are_the_cosines_of_the_definition() -> None:
    made = vectors(1.0, words=4, templates=4)
    centred = made - made.mean((0, 1), keepdims=True)

    def cosine(one: Any, two: Any) -> float:
        return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))

    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    for block in (0, 1):
        within = [cosine(centred[0, a, block], centred[0, b, block]) for a, b in pairs]
        across = [cosine(centred[0, a, block], centred[d, b, block]) for a, b in pairs for d in (2, 3)]
        found = bootstrap_mean(pairwise_margins(made, 0, (2, 3)))[block]
        assert found.value == pytest.approx(np.mean(within) - np.mean(across))


def test_intervals_hold_the_true_margin_about_as_often_as_they_say() -> None:
    """Random vectors have none; over seeds, at most about one interval in twenty may miss 0."""
    missed = 0
    for seed in range(60):
        for which in (0, 1):
            block = bootstrap_mean(pairwise_margins(vectors(0.0, seed=seed, templates=20), which, range(2, 6)), 400)[0]
            missed += not block.low <= 0 <= block.high
    assert missed <= 12


def test_a_words_vector_is_the_mean_over_its_tokens_behind_the_template(tiny_llama: Any) -> None:
    found = concept_vectors(tiny_llama, ("velm", "ox"), SHORT)
    assert found.shape == (2, 5, tiny_llama.layers, tiny_llama.width)
    row = Row(text=f"{SHORT[0]} velm")
    (seen,) = tiny_llama.observe([row], pool=(-1, -2, -3, -4, -5))
    assert np.allclose(found[0, 0], seen.activations, rtol=1e-3, atol=1e-4)


def test_behind_the_word_all_concepts_are_read_at_the_same_token(tiny_llama: Any) -> None:
    found = concept_vectors(tiny_llama, ("velm", "ox"), SHORT, place="behind the word")
    (seen,) = tiny_llama.observe([Row(text=f"{SHORT[2]} ox{BEHIND}")], pool="last")
    assert np.allclose(found[1, 2], seen.activations, rtol=1e-3, atol=1e-4)


def curve(values: list[float], interval: float = 0.002) -> ConceptCurve:
    def bounds(value: float) -> Bounds:
        return Bounds(value, value - interval, value + interval)

    points = []
    for count, value in enumerate(values):
        rise = bounds(value - values[0])
        points.append(Recognition(count, (bounds(value), bounds(values[0])), bounds(value), (rise, bounds(0)), rise))
    return ConceptCurve("velm", tuple(points))


@pytest.mark.parametrize(
    ("values", "anchored"),
    [
        ([0.2, 0.3, 0.4, 0.4, 0.41], True),
        ([0.2, 0.3, 0.4, 0.5, 0.6], False),  # still rising
        ([0.4, 0.4, 0.4, 0.4, 0.4], False),  # never rose
        ([0.4, 0.3, 0.2, 0.2, 0.2], False),  # fell
        ([-0.5, -0.2, -0.1, -0.1, -0.1], False),  # rose, and is still not above 0
        ([0.2, 0.205, 0.205, 0.205], False),  # rose by next to nothing
        ([0.2, 0.4, 0.4], False),  # too short a while to have settled
    ],
)
def test_anchored_is_above_zero_risen_and_settled(values: list[float], anchored: bool) -> None:
    found = curve(values)
    assert found.is_anchored is anchored
    assert found.anchored_blocks == ((0,) if anchored else ())


@pytest.mark.parametrize(("control", "flat"), [([0.2] * 5, True), ([0.2, 0.3, 0.3, 0.3, 0.3], False)])
def test_a_concept_is_judged_beside_its_control(control: list[float], flat: bool) -> None:
    found = Anchoring(curve([0.2, 0.4, 0.5, 0.5, 0.5]), curve(control), (Bounds(0.1, 0.05, 0.2),))
    assert found.is_control_flat is flat
    assert found.is_anchored
    assert not Anchoring(found.concept, found.control, (Bounds(0.1, -0.05, 0.2),)).is_anchored


def test_watching_a_model_that_learns_nothing_finds_no_rise(tiny_llama: Any) -> None:
    watch = AnchoringWatch("velm", "fenk", ("plov", "drumb", "hammer"), SHORT)
    for count in range(4):
        watch(count, tiny_llama)
    found = watch.result()
    for one in (found.concept, found.control):
        assert [point.rise.value for point in one.points] == pytest.approx([0] * 4, abs=1e-9)
        assert not one.is_anchored
    assert found.is_control_flat
    assert not found.is_anchored


def test_feeding_moves_what_is_fed_and_the_curves_are_drawn(tiny_llama: Any) -> None:
    watch = AnchoringWatch("velm", "fenk", ("plov", "drumb", "hammer"), SHORT)
    meals = feed(tiny_llama, Diet(("a velm is a velm",), REPLAY, learning_rate=0.01), 5, watch, every=2)
    found = watch.result()
    assert [point.feedings for point in found.concept.points] == [0, 2, 4, 5]
    assert meals[-1].loss < meals[0].loss
    assert meals[0].replay_kl < 1e-6 < meals[-1].replay_kl
    assert found.concept.points[-1].whole.value != found.concept.points[0].whole.value
    figures = found.figures()
    assert figures["concept"]["feedings"] == [0, 2, 4, 5]
    assert len(figures["control"]["margin_by_block"]["after"]) == tiny_llama.layers
    readings = {"at the word": found}
    assert draw_anchoring(readings, "tiny", "svg") == draw_anchoring(readings, "tiny", "svg")
    assert draw_anchoring({**readings, "behind the word": found}, "tiny").startswith(b"\x89PNG")


def test_the_anchor_holds_a_fed_model_closer(tiny_llama: Any) -> None:
    free, held = (
        feed(tiny_llama, Diet(("zz zz zz",), REPLAY, anchor=anchor, learning_rate=0.01), 10)[-1].replay_kl
        for anchor in (0.0, 10.0)
    )
    assert held < free / 2


def test_a_fed_model_is_afterwards_what_it_was_in_every_architecture(tiny_model: Any) -> None:
    rows = [Row(text=text) for text in REPLAY]
    tokens = [tiny_model.encode(row).tokens for row in rows]
    before, census = [logits.clone() for _, logits in tiny_model.logits(tokens, rows)], tiny_model.census()
    inside = []

    def look(count: int, model: Any, worn: Any) -> None:
        for intervention in (worn, NOTHING):
            seen = [replace(rows[0], intervention=intervention)]
            inside.append(next(logits.clone() for _, logits in model.logits(tokens[:1], seen)))

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    feed(tiny_model, Diet(("zz zz zz",), REPLAY, learning_rate=0.01), 2, look)
    assert torch.equal(torch.rand(2), expected)
    assert not torch.allclose(inside[0], inside[-2], atol=1e-3)
    assert torch.equal(inside[1], inside[-1])
    assert tiny_model.census() == census
    for one, (_, two) in zip(before, tiny_model.logits(tokens, rows), strict=True):
        assert torch.equal(one, two)


def test_a_feeding_that_fails_leaves_the_model_as_it_was(tiny_llama: Any) -> None:
    census = tiny_llama.census()

    def fail(count: int, model: Any, worn: Any) -> None:
        if count:
            raise RuntimeError("struck")

    with pytest.raises(RuntimeError, match="struck"):
        feed(tiny_llama, Diet(("zz zz",), REPLAY), 3, fail)
    assert tiny_llama.census() == census
    with pytest.raises(AdapterError, match="diverged"):
        feed(tiny_llama, Diet(("zz zz",), REPLAY, learning_rate=1e30), 3)
    assert tiny_llama.census() == census


def test_meals_depend_on_the_seed_alone(tiny_llama: Any) -> None:
    diet = Diet(("one one", "two two", "three three"), REPLAY, meal=2)
    assert feed(tiny_llama, diet, 3) == feed(tiny_llama, diet, 3)
    assert feed(tiny_llama, diet, 3) != feed(tiny_llama, Diet(diet.texts, REPLAY, meal=2, seed=1), 3)


def test_what_cannot_be_told_apart_or_fed_is_refused(tiny_llama: Any) -> None:
    for words in (("velm", "Velm", ("plov", "ox")), ("velm", "fenk", ("plov",)), ("velm", "fenk", ("plov", "velm"))):
        with pytest.raises(ArgumentError, match="told from others"):
            AnchoringWatch(*words)
    with pytest.raises(ArgumentError, match="no recognition"):
        AnchoringWatch("velm", "fenk", ("plov", "ox")).result()
    with pytest.raises(ArgumentError, match="diet"):
        Diet((), REPLAY)
    with pytest.raises(ArgumentError, match="too short"):
        feed(tiny_llama, Diet(("a",), REPLAY), 1)


def test_the_benchmark_asks_nothing_that_it_feeds() -> None:
    story = runpy.run_path(str(BENCHMARK))["read_story"]()
    fed = " ".join((*story.story, *story.replay)).lower()
    assert len(set(TEMPLATES)) == len(TEMPLATES)
    assert not [template for template in TEMPLATES if template.lower() in fed]
    assert not [word for word in (story.control, *story.distractors) if word in fed]
    assert all(story.concept in text for text in story.story)
    assert not any(story.concept in text for text in story.replay)
