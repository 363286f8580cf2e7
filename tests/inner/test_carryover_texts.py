"""The texts of the carry-over benchmark: what they must not share, and that exposures differ in content alone."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from overlay.home import Home

ROOT = Path(__file__).parents[2]


@pytest.mark.real
def test_items_share_no_content_word_with_the_axis_or_with_any_exposure() -> None:
    bench = runpy.run_path(str(ROOT / "benchmarks" / "carryover.py"))
    assert len(bench["ITEMS"]) >= 12
    assert bench["shared_words"](Home.open(ROOT)) == set()
    planted = [*bench["ITEMS"], ("You are warming milk.", "Tally it.", "Debug it.")]
    bench["shared_words"].__globals__["ITEMS"] = planted
    assert bench["shared_words"](Home.open(ROOT)) == {"warm", "milk"}


def test_balanced_replies_differ_in_neither_length_nor_first_word_and_need_comes_first_as_often_as_the_task() -> None:
    bench = runpy.run_path(str(ROOT / "benchmarks" / "carryover.py"))
    items = bench["BALANCED"]
    lengths = [(len(give.split()), len(keep.split())) for _, give, keep in items]
    assert all(abs(give - keep) <= 1 for give, keep in lengths)
    assert abs(sum(give for give, _ in lengths) - sum(keep for _, keep in lengths)) <= 2
    assert all(reply.startswith("I ") for _, *replies in items for reply in replies)
    assert len(items) == len({situation for situation, *_ in items}) == 48


def test_exposures_have_the_same_form() -> None:
    bench = runpy.run_path(str(ROOT / "benchmarks" / "carryover.py"))
    words = {name: [len(text.split()) for text in texts] for name, texts in bench["EXPOSURES"].items()}
    assert {len(found) for found in words.values()} == {6}
    means = [sum(found) / len(found) for found in words.values()]
    assert max(means) / min(means) < 1.35
    assert all(text.endswith(".") and text.count(".") == 1 for texts in bench["EXPOSURES"].values() for text in texts)
