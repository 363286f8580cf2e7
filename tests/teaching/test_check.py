"""What counts as a sag: a fall beyond the limit that the spread of a cell's probes doesn't explain."""

from __future__ import annotations

from overlay.probes import Probe
from overlay.teaching.check import means, sagging, watched_cells
from overlay.teaching.questions import Questions


def probes(count: int, name: str = "kept") -> list[Probe]:
    cell = {"level": "causality", "layer": "logical"}
    return [
        Probe.model_validate({"id": f"{name}{n}", "prompt": f"{name} {n}", "good": " a", "bad": " b", **cell})
        for n in range(count)
    ]


def fallen(held: list[Probe], falls: list[float]) -> tuple[dict[str, float], dict[str, float]]:
    before = {probe.id: 1.0 for probe in held}
    return before, {probe.id: 1.0 - fall for probe, fall in zip(held, falls, strict=True)}


def sags(falls: list[float]) -> bool:
    held = probes(len(falls))
    before, now = fallen(held, falls)
    cells = watched_cells(Questions({}, tuple(held)), 4)
    return bool(sagging(cells, now, before, before, 0.1))


def test_a_fall_that_all_probes_share_is_a_sag_and_one_within_their_spread_is_not() -> None:
    assert sags([0.2, 0.1, 0.15, 0.2, 0.1, 0.15, 0.12, 0.18])
    assert not sags([1.5, -1.0, 0.9, -0.6, 1.2, -1.1, 0.8, -0.5])
    assert not sags([0.09] * 8)


def test_in_a_cell_of_few_probes_every_fall_beyond_the_limit_counts() -> None:
    assert sags([1.5, -1.0, 0.9, -0.6])


def test_what_is_asked_for_is_a_cell_of_its_own_that_is_held_to_the_last_good_state_alone() -> None:
    kept, taught = probes(6), probes(6, "taught")
    questions = Questions({probe.id: probe for probe in taught}, (*taught, *kept))
    cells = watched_cells(questions, 4)
    assert {name: len(held) for name, held in cells.items()} == {
        "causality / logical / en": 6,
        "causality / logical / en, asked": 6,
    }
    # What is taught has risen by as much as the rest fell: together nothing would show.
    base, now = fallen([*taught, *kept], [-0.5] * 6 + [0.5] * 6)
    assert list(sagging(cells, now, base, base, 0.1)) == ["causality / logical / en"]
    assert means(cells, now) == {"causality / logical / en": 0.5, "causality / logical / en, asked": 1.5}
    higher = {name: margin + 1.0 for name, margin in now.items()}
    assert list(sagging(cells, higher, now, {name: 9.0 for name in now}, 0.1)) == ["causality / logical / en"]
    assert "causality / logical / en, asked" in sagging(cells, now, higher, base, 0.1)


def test_of_what_is_asked_for_one_lesson_undone_is_enough() -> None:
    taught = probes(8, "taught")
    questions = Questions({probe.id: probe for probe in taught}, tuple(taught))
    good, now = fallen(taught, [2.0, 1.6, -0.1, 0.0, -0.1, 0.1, 0.0, -0.1])
    cells = watched_cells(questions, 4)
    assert sagging(cells, now, good, now, 0.1)
    assert not sags([2.0, 1.6, -0.1, 0.0, -0.1, 0.1, 0.0, -0.1])
