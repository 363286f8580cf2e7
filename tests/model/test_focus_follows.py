"""Of two sentences that contradict each other, the real model follows the one to which attention is raised."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real

BENCH = Path(__file__).parents[2] / "benchmarks" / "focus.py"


@pytest.fixture(scope="module")
def found(real_model: Any) -> dict[str, Any]:
    figures: dict[str, Any] = runpy.run_path(str(BENCH))["measure"](model=real_model)
    return figures


def test_the_items_are_sound() -> None:
    """Each sentence stands once in its prompt, holds its own answer and not the other's; none is a development item."""
    bench = runpy.run_path(str(BENCH))
    items = bench["ITEMS"]
    assert len(items) >= 24 and len(items) % 2 == 0
    assert len({item.question for item in (*items, *bench["DEVELOPMENT"])}) == len(items) + len(bench["DEVELOPMENT"])
    for item in items:
        for a_first in (True, False):
            assert all(item.text(a_first).count(sentence) == 1 for sentence in (item.a, item.b, item.aside))
        assert item.answers[0].strip() in item.a and item.answers[0].strip() not in item.b
        assert item.answers[1].strip() in item.b and item.answers[1].strip() not in item.a


@pytest.mark.parametrize("change", ["raised", "lowered"])
def test_focus_moves_the_answer_towards_the_favoured_sentence(found: dict[str, Any], change: str) -> None:
    effect = found[change]
    assert effect["in_direction"] > 0.75 * found["items"]
    assert effect["sign_test_p"] < 0.01
    assert effect["shift_interval"][0] > 0


@pytest.mark.parametrize("change", ["raised", "lowered"])
def test_the_followed_sentence_itself_changes(found: dict[str, Any], change: str) -> None:
    effect = found[change]
    assert effect["changes_with_focus"] > effect["changes_against"]
    assert effect["changes_with_focus"] >= 6
    assert effect["won_over"] > effect["lost"]


def test_focus_on_a_third_sentence_favours_neither(found: dict[str, Any]) -> None:
    for change in ("raised", "lowered"):
        assert abs(found["aside"][change]["shift"]) < found[change]["shift"] / 2
