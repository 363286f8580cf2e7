"""What a map says of a claim follows from what was measured, and is drawn and written as it was found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping.toy_aim import toy_map, toy_recipe

from overlay.errors import ArgumentError
from overlay.mapping import best_place, draw_map, map_page, map_table, places_by_gain
from overlay.mapping.random_labels import random_labels
from overlay.mapping.scaling import scale_to
from overlay.mapping.spread import crossed
from overlay.mapping.verdict import verdict
from overlay.model import Volatility

GRID = [f"{depth} {part}" for depth in ("early", "middle", "late", "all") for part in ("attention", "mlp", "both")]
EVERYWHERE = {**dict.fromkeys(GRID, 1.0), "head": 1.0, "tokens": 1.0}


def with_gain(region: str, gain: float) -> dict[str, float]:
    return {name: gain if name.split()[0] == region else value for name, value in EVERYWHERE.items()}


def test_a_claim_stands_where_its_region_leads_all_others() -> None:
    found = verdict(toy_map(with_gain("early", 2.0)))
    assert found is not None
    assert found.outcome == "stands"
    assert set(found.rivals) == {"middle", "late", "head", "tokens"}
    assert all(lead.low > 0.8 for lead in found.rivals.values())


def test_a_claim_falls_where_another_region_leads_it() -> None:
    found = verdict(toy_map(with_gain("late", 2.0)))
    assert found is not None
    assert (found.outcome, "late blocks gain more" in found.reason) == ("falls", True)


def test_a_claim_is_open_where_regions_are_alike_or_nothing_goes_beyond_the_null() -> None:
    alike = verdict(toy_map(EVERYWHERE, noise=1.0))
    assert alike is not None and alike.outcome == "undecided" and "can't be told from" in alike.reason
    nothing = verdict(toy_map({**dict.fromkeys(EVERYWHERE, 0.0), "early both": 0.05}, null=0.3))
    assert nothing is not None and nothing.outcome == "undecided" and "not beyond the null" in nothing.reason
    assert verdict(toy_map(EVERYWHERE, claimed="")) is None
    missing = verdict(toy_map({"early both": 1.0}, claimed="head"))
    assert missing is not None and missing.outcome == "undecided"


def test_places_are_ranked_by_gain_and_none_is_best_where_none_is_beyond_the_null() -> None:
    found = toy_map({**EVERYWHERE, "middle mlp": 3.0, "head": 0.1}, null=0.5)
    ranked = [place.name for place in places_by_gain(found)]
    assert ranked[0] == "middle mlp" and "head" not in ranked
    assert best_place(found).blocks == (0, 0)
    assert found.null_gain("head") == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ArgumentError, match="beyond the null"):
        best_place(toy_map(dict.fromkeys(EVERYWHERE, 0.0), null=0.5))


def test_a_map_is_written_as_table_page_and_the_same_plot_every_time() -> None:
    from rich.console import Console

    found = toy_map(with_gain("early", 2.0))
    page = map_page(found, "toy.svg")
    console = Console(width=250)
    with console.capture() as captured:
        console.print(map_table(found))
    for name in EVERYWHERE:
        assert f"| {name} |" in page
        assert name in captured.get()
    assert '"It is best taught there." stands: early blocks gain more' in page
    assert "![Heatmap](toy.svg)" in page
    assert draw_map(found, "svg") == draw_map(found, "svg")
    assert draw_map(found).startswith(b"\x89PNG")
    assert draw_map(toy_map({"head": 1.0}, claimed="")) != draw_map(found)


def test_an_interval_holds_the_mean_and_widens_with_either_seeds_or_items() -> None:
    random = np.random.default_rng(0)
    quiet = crossed(random.normal(1, 0.1, (3, 40)))
    assert quiet.low < quiet.value < quiet.high
    seeds = crossed(random.normal(1, 0.1, (3, 40)) + np.array([[-1.0], [0.0], [1.0]]))
    items = crossed(random.normal(1, 0.1, (3, 40)) + random.normal(0, 2, 40))
    assert seeds.high - seeds.low > 3 * (quiet.high - quiet.low)
    assert items.high - items.low > 3 * (quiet.high - quiet.low)
    assert crossed(np.ones((1, 5))) == crossed(np.ones((1, 5)))


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-4, 50), st.floats(1.0, 3.0), st.floats(0.05, 2.0))
def test_a_strength_is_found_whatever_the_curve(steepness: float, power: float, wanted: float) -> None:
    tried = []

    def measure(scale: float) -> Volatility:
        tried.append(scale)
        return Volatility(0.0, steepness * scale**power)

    found = scale_to(measure, wanted, first=1.0, largest=16.0)
    assert all(0 < scale <= 16 for scale in tried)
    if found.reached:
        assert found.volatility.p95 == pytest.approx(wanted, rel=0.05)
    else:
        assert steepness * 16**power < wanted and found.scale == 16


def test_random_labels_teach_good_and_bad_alike_and_measure_other_choices(tmp_path) -> None:  # type: ignore[no-untyped-def]
    choices = toy_recipe(tmp_path).held_out
    seen = set()
    for seed in range(5):
        examples, measured = random_labels(choices, seed)
        assert len(examples) == len(measured) == 5
        shown = {example.prompt for example in examples}
        assert not shown & {choices[index].prompt for index in measured}
        assert sorted(example.target for example in examples) in (["q", "q", "z", "z", "z"],)
        seen.add(measured)
    assert len(seen) > 1
    assert random_labels(choices, 3) == random_labels(choices, 3)
