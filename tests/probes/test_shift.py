"""The verdict rule: how seldom it speaks where nothing happened, and that it finds what was planted."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.errors import ArgumentError
from overlay.probes import LEAST_SHIFT, ProbeMargin, weigh
from overlay.probes.shift import counted

CELLS, PROBES = 20, 12


@pytest.fixture(autouse=True)
def _frozen() -> Iterator[None]:
    """statsmodels collects garbage on every call, which takes long after a session's worth of imports."""
    gc.freeze()
    yield
    gc.unfreeze()


def margins(before: np.ndarray, shifts: np.ndarray) -> list[ProbeMargin]:
    return [
        ProbeMargin(str(place), float(one), float(one + shift))
        for place, (one, shift) in enumerate(zip(before, shifts, strict=True))
    ]


def adapter(seed: int, means: np.ndarray, spread: float = 0.3, heavy: bool = False) -> dict[int, list[ProbeMargin]]:
    """A simulated adapter: cells of margins around the model's own, each shifted by its mean and by its own noise."""
    generator = np.random.default_rng(seed)
    noise = generator.standard_t(3, (CELLS, PROBES)) / 3**0.5 if heavy else generator.normal(size=(CELLS, PROBES))
    before = generator.normal(0.2, 0.8, (CELLS, PROBES))
    return {cell: margins(before[cell], means[cell] + spread * noise[cell]) for cell in range(CELLS)}


def false_cells(adapters: int, spread: float, heavy: bool, drawn: float) -> float:
    """The share of cells that are called changed where every true shift is at most the least one."""
    wrong = 0
    for seed in range(adapters):
        means = np.random.default_rng(10_000 + seed).uniform(-drawn, drawn, CELLS)
        wrong += sum(one.verdict != "unchanged" for one in weigh(adapter(seed, means, spread, heavy)).values())
    return wrong / (adapters * CELLS)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("drawn", [0.0, LEAST_SHIFT])
def test_at_most_a_twentieth_of_cells_is_false_where_nothing_happened(heavy: bool, drawn: float) -> None:
    assert false_cells(adapters=40, spread=0.3, heavy=heavy, drawn=drawn) <= 0.05


def test_an_adapter_that_moves_every_cell_by_the_least_shift_changed_nothing() -> None:
    """A sharper or flatter model moves all cells alike, a little: a test of no shift at all would call that one."""
    for seed in range(20):
        found = weigh(adapter(seed, np.full(CELLS, LEAST_SHIFT), spread=0.05))
        assert counted(found.values())["unchanged"] >= CELLS - 1


def test_a_planted_shift_is_found_in_its_cell_and_nowhere_else() -> None:
    hits = strays = 0
    for seed in range(40):
        means = np.zeros(CELLS)
        means[7] = 0.6
        found = weigh(adapter(seed, means))
        hits += found[7].verdict in ("strengthened", "became possible")
        strays += sum(one.verdict != "unchanged" for cell, one in found.items() if cell != 7)
    assert hits >= 36
    assert strays <= 0.05 * (40 * (CELLS - 1))


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=14), st.lists(st.floats(-2, 2), min_size=2, max_size=14))
@settings(max_examples=40, deadline=None)
def test_what_one_treatment_strengthens_its_opposite_lets_sag(before: list[float], after: list[float]) -> None:
    count = min(len(before), len(after))
    there = [ProbeMargin(str(place), before[place], after[place]) for place in range(count)]
    back = [replace(one, before=one.after, after=one.before) for one in there]
    ((first,), (second,)) = (weigh({"cell": held}).values() for held in (there, back))
    assert first.p == second.p
    assert first.shift == pytest.approx(-second.shift)
    assert (first.verdict == "sagged") == (second.verdict in ("strengthened", "became possible"))
    assert first.interval.low <= first.shift + 1e-9
    assert first.shift <= first.interval.high + 1e-9


def test_it_became_possible_only_where_it_was_not_above_chance() -> None:
    rise = np.full(PROBES, 1.0)
    found = weigh({"new": margins(np.full(PROBES, -0.5), rise), "known": margins(np.full(PROBES, 0.5), rise)})
    assert found["new"].verdict == "became possible"
    assert (found["new"].right_before, found["new"].right_after) == (0, PROBES)
    assert found["known"].verdict == "strengthened"


def test_margins_that_rise_and_stay_wrong_are_strengthened_only() -> None:
    (found,) = weigh({"cell": margins(np.full(PROBES, -3.0), np.full(PROBES, 1.0))}).values()
    assert found.verdict == "strengthened"


def test_more_cells_ask_for_more_evidence() -> None:
    """Six equal shifts give p = 2 / 2^6: enough for a cell alone, not for one of many."""
    moved = margins(np.zeros(6), np.full(6, 0.4))
    still = margins(np.zeros(6), np.zeros(6))
    assert weigh({0: moved})[0].verdict == "became possible"
    assert weigh({0: moved, 1: still})[0].verdict == "unchanged"


def test_a_group_of_one_probe_and_a_least_shift_below_zero_are_refused() -> None:
    held = margins(np.zeros(2), np.ones(2))
    with pytest.raises(ArgumentError, match="one item says nothing"):
        weigh({"cell": held[:1]})
    with pytest.raises(ArgumentError, match="least shift"):
        weigh({"cell": held}, least_shift=-0.1)
