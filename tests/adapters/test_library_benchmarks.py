"""What the adapters' benchmarks ask: their questions are whole, balanced, and shared with no stock adapter."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from overlay.adapters import read_recipe
from overlay.model import Row

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "adapters" / "lora").glob("*/recipe.yaml"))


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "forgetting.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_no_stock_adapter_has_seen_a_question(bench: dict[str, Any], path: Path) -> None:
    recipe = read_recipe(path)
    seen = "\n".join([example.prompt + example.target for example in recipe.examples] + list(recipe.replay))
    for question in [*bench["minimal_pairs"](), *bench["causality"]()]:
        assert all(question.prompt + option not in seen for option in question.options)


def test_right_answers_are_counted_as_right_wherever_they_stand(bench: dict[str, Any], tiny_llama: Any) -> None:
    question = bench["Question"]
    asked = [("one two", (" three", " four five six"), right) for right in (0, 1)]
    for by_token in (True, False):
        found = bench["answers"](tiny_llama, [question("k", *each, by_token) for each in asked])
        (scored,) = tiny_llama.score([Row(text=asked[0][0], options=asked[0][1])])
        likelihoods = list(scored.per_token if by_token else scored.total)
        likelier = likelihoods.index(max(likelihoods))
        assert list(found) == [right == likelier for right in (0, 1)]


def test_the_change_is_in_points_and_counts_each_way(bench: dict[str, Any]) -> None:
    before = [True] * 60 + [False] * 40
    after = [True] * 50 + [False] * 45 + [True] * 5
    found = bench["_change"](before, after)
    assert (found["change"], found["lost"], found["won"]) == (-5.0, 10, 5)
    assert found["interval"][0] < -5 < found["interval"][1]
