"""Overall: each scenario is one piece of evidence, and what doesn't count is listed with its reason."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.errors import ArgumentError
from overlay.scenarios.overall import overall
from overlay.statistics import holm, sign_flip

Result = dict[str, Any]


def result(name: str, verdict: str = "no change detected", **changes: Any) -> Result:
    """A result with as much as an overall verdict reads: shift .1, both p .5, unless changed."""
    numbers = {"shift": 0.1, "p": 0.5, "item_p": 0.4, "rate": 0.05} | changes
    return {
        "scenario": name,
        "verdict": verdict,
        "headline": changes.get("headline", "So it is."),
        "control": changes.get("control"),
        "primary": "gave",
        "arms": {
            "base": {},
            "treated": {"shift": numbers["shift"], "shift_interval": None}
            | {key: numbers[key] for key in ("p", "item_p")},
        },
        "comparisons": [
            {"arm": "sham", "detector": "gave", "difference": 9.0},
            {"arm": "treated", "detector": "other", "difference": 9.0},
            {"arm": "treated", "detector": "gave", "difference": numbers["rate"]},
        ],
    }


def shown(name: str, p: float = 0.001, **changes: Any) -> Result:
    return result(name, "behaviour shown", p=p, item_p=p / 2, **changes)


def rows(found: Result) -> dict[str, Result]:
    return {row["scenario"]: row for row in found["scenarios"]}


def test_a_scenario_that_holds_after_holm_is_shown_and_named() -> None:
    results = [shown("stores"), *(result(f"other-{number}") for number in range(5))]
    found = overall(results)
    json.dumps(found, allow_nan=False)
    assert found["verdict"] == "behaviour shown" and "1 of 6 scenarios" in found["headline"]
    assert "stores" in found["headline"] and rows(found)["stores"]["holm_p"] == pytest.approx(0.006)


def test_a_scenario_that_stands_alone_but_not_among_many_is_not_shown() -> None:
    results = [shown("stores", p=0.02), *(result(f"other-{number}") for number in range(5))]
    assert overall(results[:1])["verdict"] == "behaviour shown"
    assert overall(results)["verdict"] == "no change detected"
    assert rows(overall(results))["stores"]["holm_p"] == pytest.approx(0.12)


def test_a_small_p_without_the_scenarios_own_verdict_shows_nothing() -> None:
    found = overall([result("stores", p=1e-6, item_p=1e-6), result("post")])
    assert found["verdict"] == "no change detected"


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9))
@settings(max_examples=12, deadline=None)
def test_the_numbers_are_those_of_the_statistics_over_scenarios(drawn: list[tuple[float, float, float]]) -> None:
    results = [result(f"s{place}", shift=shift, p=p, item_p=item_p) for place, (shift, p, item_p) in enumerate(drawn)]
    found = overall(results)
    shifts = [shift for shift, _, _ in drawn]
    assert found["sign_flip_p"] == sign_flip(shifts) and found["shift"] == pytest.approx(np.mean(shifts))
    larger = {f"s{place}": max(p, item_p) for place, (_, p, item_p) in enumerate(drawn)}
    assert {row["scenario"]: row["p"] for row in found["scenarios"]} == larger
    assert {row["scenario"]: row["holm_p"] for row in found["scenarios"]} == holm(larger)
    assert (found["shift_interval"] is None) is (len(drawn) < 2)
    assert found["verdict"] == "no change detected"


@pytest.mark.parametrize(
    "extra",
    [
        result("control", control="negative", shift=-5.0, p=0.9),
        result("broken", "invalid", shift=5.0, p=1e-9),
        shown("stores_ru", p=1e-9, shift=3.0, rate=0.9),
    ],
)
def test_what_does_not_count_is_listed_and_changes_no_number(extra: Result) -> None:
    results = [shown("stores"), *(result(f"other-{number}", shift=0.1 * number) for number in range(6))]
    without, found = overall(results), overall([*results, extra])
    row = rows(found)[extra["scenario"]]
    assert not row["counted"] and row["holm_p"] is None and row["left_out"]
    assert any(extra["scenario"] in reason for reason in found["reasons"])
    same = ("verdict", "headline", "sign_flip_p", "shift", "shift_interval", "rate_sign_flip_p")
    assert {key: found[key] for key in same} == {key: without[key] for key in same}
    assert found["scenarios"][:-1] == without["scenarios"]


def test_a_russian_scenario_without_its_english_original_counts() -> None:
    found = overall([shown("stores_ru"), result("post")])
    assert rows(found)["stores_ru"]["counted"] and found["verdict"] == "behaviour shown"


def test_a_negative_control_that_changed_makes_the_whole_run_invalid() -> None:
    found = overall([shown("stores"), shown("control", control="negative")])
    assert found["verdict"] == "invalid" and "misfires" in found["headline"] and "control" in found["headline"]


def test_nothing_that_counts_is_invalid() -> None:
    found = overall([result("stores", "invalid"), result("control", control="negative")])
    assert found["verdict"] == "invalid" and found["sign_flip_p"] is None and found["shift"] is None


def test_a_tilt_over_scenarios_is_told_as_that_and_no_more() -> None:
    found = overall([result(f"s{number}", shift=0.1 + 0.01 * number) for number in range(7)])
    assert found["verdict"] == "no change detected" and "tilted the preference" in found["headline"]
    away = overall([result(f"s{number}", shift=-0.1 - 0.01 * number) for number in range(7)])
    assert away["verdict"] == "no change detected" and "tilted" not in away["headline"]


def test_scenarios_of_free_text_count_by_their_rates() -> None:
    results: Sequence[Result] = [result("told", shift=None), result("stores", shift=0.2), result("post", shift=0.4)]
    found = overall(results)
    assert found["shift"] == pytest.approx(0.3) and found["rate_difference"] == pytest.approx(0.05)
    assert rows(found)["told"]["counted"] and rows(found)["told"]["holm_p"] is not None


def test_an_exploratory_run_makes_all_of_it_exploratory() -> None:
    found = overall([result("stores", headline="Exploratory: no."), result("post")])
    assert found["headline"].startswith("Exploratory: ")


def test_no_result_and_the_same_scenario_twice_are_refused() -> None:
    for results in ([], [result("stores"), result("stores")]):
        with pytest.raises(ArgumentError):
            overall(results)
