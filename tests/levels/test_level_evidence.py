"""Evidence: a planted change is found, none is found where there is none, and random directions have their say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from overlay.levels.evidence import Comparison, compare, difference
from overlay.levels.level import LEVELS
from overlay.levels.quantity import Quantity

LEANING = Quantity("choice", "choices", "leaning", "nats per token", is_planned=True)
SIDE = Quantity("surprise", "text", "surprise", "nats per token")
RIGHT = Quantity("grammar", "abilities", "right", "share", is_planned=True)

Records = list[dict[str, Any]]


def units(values: Sequence[float | None], name: str = "choice", wordings: int = 1) -> Records:
    """One unit a value, so many of them an item."""
    return [
        {"cluster": f"{place // wordings}", "unit": f"{place}", "values": {name: value}}
        for place, value in enumerate(values)
    ]


def only(found: Sequence[Comparison], level: str) -> Comparison:
    (one,) = [one for one in found if one.level == level]
    return one


def drawn(generator: np.random.Generator, shift: float = 0.0, items: int = 20) -> list[float]:
    return (shift + 0.1 * generator.standard_normal(items)).tolist()


def test_a_planted_change_is_found_and_has_its_size() -> None:
    generator = np.random.default_rng(0)
    base = drawn(generator)
    records = {
        "base": units(base),
        "adapter": units([value + change for value, change in zip(base, drawn(generator, 0.3), strict=True)]),
    }
    found, _ = compare(records, [LEANING])
    one = only(found, "adapter")
    assert one.word == "up" and one.holm is not None and one.holm < 0.05
    assert one.low is not None and one.high is not None
    assert one.low < 0.3 < one.high and one.change == pytest.approx(0.3, abs=0.1)


def test_in_a_true_null_hardly_any_page_finds_anything() -> None:
    generator = np.random.default_rng(1)
    alarms = 0
    for _ in range(12):
        base = np.array(drawn(generator, items=12))
        records: Mapping[str, Records] = {
            name: units((base + (0 if name == "base" else drawn(generator, items=12))).tolist())
            for name in ("base", *LEVELS)
        }
        alarms += any(one.word != "no change detected" for one in compare(records, [LEANING])[0])
    # 5% of 12, and what chance adds to that in one of a thousand test runs.
    assert alarms <= 3


@pytest.mark.parametrize(("random", "word"), [(0.05, "up"), (0.6, "no more than random directions"), (-0.6, "up")])
def test_a_state_must_go_further_than_every_random_direction(random: float, word: str) -> None:
    generator = np.random.default_rng(2)
    base = np.array(drawn(generator))
    changed = {"state": 0.3, "adapter": 0.3, "random_1": 0.01, "random_2": random}
    records = {"base": units(base.tolist())} | {
        name: units((base + drawn(generator, shift)).tolist()) for name, shift in changed.items()
    }
    found, changes = compare(records, [LEANING])
    assert only(found, "state").word == word
    assert only(found, "adapter").word == "up"
    assert changes["choice"] == [only(found, "random_1").change, only(found, "random_2").change]


def test_what_was_not_planned_is_never_called_found() -> None:
    found, _ = compare({"base": units([0.0] * 20, "surprise"), "state": units([1.0] * 20, "surprise")}, [SIDE])
    one = only(found, "state")
    assert one.change == 1 and one.holm is None and one.word == "no change detected"


def test_wordings_of_one_item_are_not_independent() -> None:
    generator = np.random.default_rng(3)
    items = np.array(drawn(generator, 0.02, 12))
    found = []
    for own, each in ((items, 1), (np.repeat(items, 8), 8)):
        records = {"base": units([0.0] * len(own), wordings=each), "topic": units(own.tolist(), wordings=each)}
        found.append(only(compare(records, [LEANING])[0], "topic"))
    assert found[0].p == pytest.approx(found[1].p) and found[0].clusters == found[1].clusters == 12


def test_units_that_one_level_could_not_read_are_left_out_of_both() -> None:
    records = {"base": units([1.0, 5.0, 3.0]), "topic": units([2.0, None, 4.0])}
    one = only(compare(records, [LEANING])[0], "topic")
    assert (one.n, one.base, one.own, one.change) == (2, 2.0, 3.0, 1.0)


def test_yes_and_no_are_tested_exactly_and_have_an_interval_even_where_nothing_changed() -> None:
    right = [1.0] * 30 + [0.0] * 10
    found, _ = compare(
        {"base": units(right, "grammar"), "topic": units(right, "grammar"), "state": units([0.0] * 40, "grammar")},
        [RIGHT],
    )
    same, lost = only(found, "topic"), only(found, "state")
    assert same.is_identical and same.p == 1 and same.low is not None and same.low < 0
    assert lost.word == "down" and lost.change == -0.75 and not lost.is_identical


def test_two_levels_are_compared_with_each_other_and_not_where_one_was_not_asked() -> None:
    records = {"base": units([0.0] * 8), "state": units([1.0] * 8), "topic": []}
    found = difference(records, LEANING, "base", "state")
    assert found is not None and found["change"] == 1 and found["against"] == "base"
    assert difference(records, LEANING, "base", "topic") is None
