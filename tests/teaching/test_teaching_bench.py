"""The benchmark of teaching on a tiny model: a bad branch leaves nothing behind, and kills change no bit."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from toy_curriculum import bad_branch, write

MEASURE = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "teaching.py"))["measure"]


@pytest.fixture(scope="module")
def found(tiny_llama: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("bench")
    # What the benchmark takes for the bad branch is known by its names.
    planted = json.loads(json.dumps(bad_branch() | {"name": "planted"}).replace("unsay_", "bad_"))
    figures: dict[str, Any] = MEASURE(2, model=tiny_llama, planted=write(place, planted), banks=place)
    return figures


def test_the_bad_branch_is_taken_back_and_its_lessons_are_not_among_what_was_learned(found: dict[str, Any]) -> None:
    planted = found["planted"]
    assert planted["actions"]["stepped back"] == planted["steps_back_restored"] > 0
    assert planted["bad_examples_learned"] == [] and planted["given_up"]
    assert planted["base_identical"]


def test_it_kills_as_often_as_it_is_told_to_and_the_bits_are_the_same(found: dict[str, Any]) -> None:
    kills = found["kills"]
    assert kills["kills"] == sum(kills["killed_in"].values()) == 2
    assert kills["same_bits"]
