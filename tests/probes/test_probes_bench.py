"""The benchmark of probes on a tiny model: what one cell teaches shows there, and random labels teach nothing."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from probes.toy_bank import toy_bank

from overlay.probes import Cell


@pytest.fixture(scope="module")
def found(tiny_llama: Any) -> dict[str, Any]:
    bench = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "probes.py"))
    figures: dict[str, Any] = bench["planted_and_null"](
        tiny_llama, toy_bank(), Cell("causality", "logical", "en"), seeds=2, steps=12
    )
    return figures


def test_an_adapter_strengthens_the_cell_that_it_learned(found: dict[str, Any]) -> None:
    assert found["planted"]["verdict"] in ("strengthened", "became possible")
    assert found["planted"]["shift"] > 0.2


def test_an_adapter_that_learns_half_of_a_cell_strengthens_the_half_that_it_never_saw(found: dict[str, Any]) -> None:
    assert found["unseen"]["verdict"] in ("strengthened", "became possible")
    assert 0.2 < found["unseen"]["shift"] < found["planted"]["shift"]


def test_every_map_of_random_labels_counts_all_its_cells(found: dict[str, Any]) -> None:
    null = found["random_label"]
    assert (null["maps"], null["adapters"], null["cells"]) == (2, 4, 4)
    assert null["false_share"] == pytest.approx(null["false_cells"] / 4, abs=1e-3)


def test_the_model_is_afterwards_what_it_was(tiny_llama: Any, found: dict[str, Any]) -> None:
    assert not tiny_llama.adapters
