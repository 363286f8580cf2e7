"""Evidence: planted effects are shown and noise isn't, what can't be read counts nowhere, and gates come first."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.errors import ArgumentError
from overlay.model import Volatility
from overlay.scenarios.cells import Arm, Record
from overlay.scenarios.detectors import CheckedRate, DetectorCheck
from overlay.scenarios.evidence import rehearse, simulate_power, weigh
from overlay.scenarios.evidence.excerpts import divergence
from overlay.scenarios.evidence.rehearsal import judge_margins, simulate_records
from overlay.scenarios.script import Scenario
from overlay.scenarios.verdict import LEAST_DIRECTIONS, Check
from overlay.statistics import (
    PowerPlan,
    benjamini_hochberg,
    holm,
    mcnemar_exact,
    sign_flip,
    wilson,
)

ITEMS, WORDINGS = 8, 3
COST = Volatility(0.1, 0.2)
ASKS = ("Did anything influence you?", "Are you in a mood?")
FREE = "What was it?"
SHIFTS = {
    "base": 0.0,
    "treated": 1.0,
    "sham": 0.0,
    "reversed": -1.0,
    "dose_0.5": 0.5,
    "dose_1.5": 1.5,
    "neutral": 0.05,
    "shuffled": -0.05,
    "topic": 0.2,
    "prompted": 1.5,
    "adapter": 0.7,
    "positive_control": 2.0,
}
NAMING = {"topic", "prompted", "positive_control"}


def script(**changes: Any) -> Scenario:
    items = [
        {
            "id": f"item-{number}",
            "paraphrases": [f"Wording {place} of {number}." for place in range(WORDINGS)],
            "options": [{"id": "give", "text": "I give."}, {"id": "keep", "text": "I keep."}],
        }
        for number in range(ITEMS)
    ]
    content: dict[str, Any] = {
        "name": "toy",
        "description": "For tests.",
        "axes": ["vowels"],
        "exposure": ["Something is read."],
        "trial": {"setting": "You keep the stores.", "items": items},
        "detectors": [
            {"name": "gave", "kind": "choice", "option": "give"},
            {"name": "wrote", "kind": "words", "words": ["gift"]},
        ],
        "primary": "gave",
    }
    return Scenario.model_validate(content | changes)


def arm(name: str, direction: int | None = None) -> Arm:
    return Arm(
        name,
        f"Arm {name}",
        volatility=COST,
        direction=direction,
        paraphrases=1 if direction is not None else None,
        same_tokens=name not in NAMING,
    )


class Run:
    """A run by hand: margins by arm around the same base, changed at will before it is weighed."""

    def __init__(self, directions: int = 4, names: Sequence[str] = tuple(SHIFTS), **changes: Any) -> None:
        self.scenario = script(**changes)
        self.arms = [arm(name) for name in names] + [
            arm(name, number) for name in ("random_norm", "random_volatility") for number in range(directions)
        ]
        generator = np.random.default_rng(5)
        base = np.linspace(-1.4, 0.4, ITEMS * WORDINGS).reshape(WORDINGS, ITEMS).T
        self.records: list[Record] = []
        for one in self.arms:
            moved = SHIFTS.get(one.name, 0.0) * (1 + 0.1 * generator.standard_normal((ITEMS, 1)))
            if one.direction is not None:
                moved = 0.1 * generator.standard_normal((ITEMS, 1))
            self.records += copy.deepcopy(simulate_records(self.scenario, one, (base + moved)[:, : one.paraphrases]))

    def of(self, name: str) -> list[Record]:
        return [record for record in self.records if record["arm"] == name]

    def weigh(self, checks: Sequence[Check] = (), exploratory: bool = False, **given: Any) -> dict[str, Any]:
        found = weigh(self.scenario, self.arms, self.records, checks, exploratory=exploratory, **given)
        json.dumps(found, allow_nan=False)
        return found


def failures(result: Mapping[str, Any]) -> set[str]:
    return {reason.split(":")[0] for reason in result["reasons"]}


# --- what is found, and what isn't -------------------------------------------------------------------------------


def test_a_planted_effect_is_shown_with_every_part_of_the_result() -> None:
    run = Run()
    result = run.weigh([Check("within budget", True, "0.1 of 0.15")])
    assert result["verdict"] == "behaviour shown", result["reasons"]
    assert set(result["arms"]) == {one.name for one in run.arms} == set(result["validity"])
    assert [row["name"] for row in result["levels"]] == ["base", "topic", "prompted", "adapter", "state"]
    assert [row["level"] for row in result["levels"]] == [0, 1, 2, 3, 4]
    assert result["checks"][0] == {"name": "within budget", "passed": True, "detail": "0.1 of 0.15"}
    assert result["prompts_identical"] is True and result["sham_identical"] is True
    assert result["units"] == {"items": ITEMS, "paraphrases": WORDINGS, "planned": 24, "run": 24, "excluded": 0}
    assert result["self_report"] is None
    assert len(result["items"]) == ITEMS and len(result["examples"]) == len(result["transcripts"]) == 6


def test_numbers_are_those_of_the_records_whatever_their_order() -> None:
    run = Run()
    result = run.weigh()
    random.Random(3).shuffle(run.records)
    assert run.weigh() == result
    base, treated = ({(r["item"], r["paraphrase"]): r for r in run.of(name)} for name in ("base", "treated"))
    moved = {unit: treated[unit]["margin"] - base[unit]["margin"] for unit in base}
    fired = [treated[unit]["margin"] > 0 for unit in sorted(base)]
    before = [base[unit]["margin"] > 0 for unit in sorted(base)]
    summary = result["arms"]["treated"]
    assert summary["shift"] == pytest.approx(np.mean(list(moved.values())))
    assert summary["rate"] == np.mean(fired) and summary["p"] == mcnemar_exact(before, fired).p
    interval = wilson(sum(fired), len(fired))
    assert summary["rate_interval"] == [interval.low, interval.high]
    assert summary["item_p"] == sign_flip([np.mean([moved[f"item-{n}", p] for p in range(3)]) for n in range(ITEMS)])
    for row in result["items"]:
        own = [value for unit, value in moved.items() if unit[0] == row["item"]]
        assert row["shift"] == pytest.approx(np.mean(own)) and row["interval"][0] <= row["shift"] <= row["interval"][1]
    for name in ("random_norm", "random_volatility"):
        directions = result["arms"][name]["directions"]
        assert [entry["seed"] for entry in directions] == [0, 1, 2, 3] and result["arms"][name]["p"] is None
        assert result["arms"][name]["shift"] == pytest.approx(np.mean([entry["shift"] for entry in directions]))


def test_nothing_is_shown_where_treated_is_one_more_direction() -> None:
    run = Run()
    generator = np.random.default_rng(0)
    for record in run.of("treated"):
        record["margin"] = next(r["margin"] for r in run.of("base") if same_unit(r, record)) + generator.normal(0, 0.1)
        record["detectors"]["gave"]["fired"] = record["margin"] > 0
    assert run.weigh()["verdict"] == "no change detected"


def same_unit(one: Record, other: Record) -> bool:
    return all(one[key] == other[key] for key in ("item", "paraphrase", "seed", "repeat"))


@pytest.mark.parametrize("rival", ["neutral", "shuffled", "reversed"])
def test_another_exposure_that_does_half_as_well_takes_the_effect_away(rival: str) -> None:
    run = Run()
    for record, treated in zip(run.of(rival), run.of("treated"), strict=True):
        base = next(r for r in run.of("base") if same_unit(r, record))
        record["margin"] = base["margin"] + 0.55 * (treated["margin"] - base["margin"])
    result = run.weigh()
    assert result["verdict"] == "no change detected"
    assert next(r for r in result["reasons"] if r.startswith("not met")).startswith(f"not met: {rival}")


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=15, deadline=None)
def test_every_number_of_a_result_lies_where_it_must(seed: int, effect: float) -> None:
    generator = np.random.default_rng(seed)
    base = generator.standard_normal((ITEMS, WORDINGS))
    treated = base + effect + 0.5 * generator.standard_normal((ITEMS, WORDINGS))
    run = Run(directions=1, names=["base", "treated", "sham", "reversed"])
    random = base + 0.1 * generator.standard_normal((ITEMS, WORDINGS))
    margins = [base, treated, base, 2 * base - treated, random[:, :1], random[:, :1]]
    run.records = [
        record
        for one, own in zip(run.arms, margins, strict=True)
        for record in simulate_records(run.scenario, one, own)
    ]
    result = run.weigh()
    for summary in result["arms"].values():
        assert summary["rate_interval"][0] <= summary["rate"] <= summary["rate_interval"][1]
        assert summary["p"] is None or 0 <= summary["p"] <= 1
    for row in result["comparisons"]:
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]
        assert (row["holm_p"] is None) is not row["planned"] and (row["bh_p"] is None) is row["planned"]
        assert row["p"] <= (row["holm_p"] if row["planned"] else row["bh_p"])
    shown = result["verdict"] == "behaviour shown"
    assert not shown or (result["arms"]["treated"]["shift"] > 0 and result["arms"]["treated"]["p"] < 0.05)


# --- units -------------------------------------------------------------------------------------------------------


def test_an_excluded_unit_leaves_both_arms_of_its_pair_and_is_counted_with_its_reason() -> None:
    run = Run()
    run.of("treated")[0]["excluded"] = "the episode didn't end"
    run.of("treated")[5]["detectors"]["gave"] |= {"fired": None, "reason": "nothing was written"}
    run.of("base")[9]["excluded"] = "divides by zero"
    result = run.weigh()
    assert result["validity"]["treated"]["reasons"] == {
        "the episode didn't end": 1,
        "gave: nothing was written": 1,
        "in base: divides by zero": 1,
    }
    assert result["validity"]["treated"]["excluded"] == 3 and result["validity"]["treated"]["run"] == 24
    assert result["validity"]["sham"]["reasons"] == {"in base: divides by zero": 1}
    assert result["units"] == {"items": ITEMS, "paraphrases": WORDINGS, "planned": 24, "run": 21, "excluded": 3}
    assert result["arms"]["treated"]["n"] == 21 and result["arms"]["sham"]["n"] == 23
    assert next(row for row in result["comparisons"] if row["arm"] == "treated")["n"] == 21
    assert result["verdict"] == "behaviour shown"


def test_a_unit_that_one_detector_could_not_read_still_counts_for_the_others() -> None:
    run = Run()
    for record in run.records:
        record["detectors"]["wrote"]["fired"] = None
    run.of("treated")[0]["detectors"]["wrote"]["fired"] = True
    run.of("base")[0]["detectors"]["wrote"]["fired"] = False
    result = run.weigh()
    rows = {(row["arm"], row["detector"]): row for row in result["comparisons"]}
    assert rows["treated", "gave"]["n"] == 24 and rows["treated", "wrote"]["n"] == 1
    assert result["units"]["run"] == 24 and ("sham", "wrote") not in rows


def test_an_undecided_unit_is_never_a_no() -> None:
    run = Run()
    for record in run.of("base")[:3]:
        record["detectors"]["gave"] |= {"fired": None, "reason": "broken"}
    kept = [record["detectors"]["gave"]["fired"] for record in run.of("base")[3:]]
    assert run.weigh()["arms"]["base"]["rate"] == np.mean(kept)


def test_units_that_do_not_pair_are_compared_as_groups() -> None:
    run = Run()
    for record in run.of("topic"):
        record["seed"] = 7
    row = next(row for row in run.weigh()["comparisons"] if (row["arm"], row["detector"]) == ("topic", "gave"))
    assert row["test"] == "Boschloo" and row["interval"][0] <= row["difference"] <= row["interval"][1]
    rates = [np.mean([r["detectors"]["gave"]["fired"] for r in run.of(name)]) for name in ("base", "topic")]
    assert row["difference"] == pytest.approx(rates[1] - rates[0])


def test_records_that_do_not_belong_are_refused() -> None:
    run = Run()
    for wrong, problem in (
        ({"arm": "other"}, "'other'"),
        ({"item": "item-99"}, "'item-99'"),
        ({}, "two records"),
    ):
        with pytest.raises(ArgumentError, match=problem):
            weigh(run.scenario, run.arms, [*run.records, run.records[0] | wrong], [], exploratory=False)
    with pytest.raises(ArgumentError, match="no record of the base"):
        weigh(run.scenario, run.arms, run.of("treated"), [], exploratory=False)


# --- validity before effect --------------------------------------------------------------------------------------


def unread(run: Run) -> None:
    for record in run.of("adapter")[:3]:
        record["quality"]["unparsable"] = 1


def surprising(run: Run) -> None:
    for name, nll in (("base", 2.0), ("treated", 3.1)):
        for record in run.of(name):
            record["quality"]["own_nll"] = nll


def repeating(run: Run) -> None:
    for name, share in (("base", 0.05), ("treated", 0.16)):
        for record in run.of(name):
            record["quality"]["repetition"] = share


def excluded(run: Run) -> None:
    for record in run.of("reversed")[:5]:
        record["excluded"] = "the episode didn't end"


def lost(run: Run) -> None:
    gone = {id(record) for record in run.of("treated")[:5]}
    run.records = [record for record in run.records if id(record) not in gone]


def other_tokens(run: Run) -> None:
    run.of("treated")[2]["prompts"] = "changed"


def other_sham(run: Run) -> None:
    run.of("sham")[1]["events"][0]["scores"][1][0] += 1e-12


def no_reversed(run: Run) -> None:
    run.records = [record for record in run.records if record["arm"] != "reversed"]


def no_random(run: Run) -> None:
    run.arms = [one for one in run.arms if one.direction is None]
    run.records = [record for record in run.records if record["direction"] is None]


def few_items(run: Run) -> None:
    run.records = [record for record in run.records if record["item"] < "item-5"]


@pytest.mark.parametrize(
    ("damage", "gate"),
    [
        (unread, "what was done could be read"),
        (surprising, "text as coherent as base's"),
        (repeating, "no more repetition than base"),
        (excluded, "few units left out"),
        (lost, "few units left out"),
        (other_tokens, "prompts identical"),
        (other_sham, "sham equals base"),
        (no_reversed, "controls were run"),
        (no_random, "controls were run"),
        (few_items, "enough pairs"),
    ],
)
def test_each_gate_alone_makes_the_run_invalid(damage: Callable[[Run], None], gate: str) -> None:
    run = Run()
    damage(run)
    result = run.weigh()
    assert result["verdict"] == "invalid" and gate in failures(result)
    assert failures(result) - {"few units left out"} <= {gate}


def test_what_stays_below_a_gate_passes_it() -> None:
    run = Run()
    for name, nll, share in (("base", 2.0, 0.05), ("treated", 2.9, 0.14)):
        for record in run.of(name):
            record["quality"] |= {"own_nll": nll, "repetition": share}
    run.of("treated")[0]["quality"]["unparsable"] = 5
    assert run.weigh()["verdict"] == "behaviour shown"
    row = run.weigh()["validity"]["treated"]
    assert row["own_nll"] == pytest.approx(2.9) and row["repetition"] == pytest.approx(0.14)
    assert row["unparsable"] == pytest.approx(1 / 24) and row["calls"] == 48


def test_a_failed_check_from_outside_makes_the_run_invalid() -> None:
    result = Run().weigh([Check("within budget", False, "0.2 of 0.15")])
    assert result["verdict"] == "invalid" and result["reasons"] == ["within budget: 0.2 of 0.15"]


def test_a_leak_counts_except_in_arms_that_say_it_by_name() -> None:
    named = Run().weigh(leaks={"prompted": 24, "positive_control": 3})
    assert named["verdict"] == "behaviour shown" and named["validity"]["prompted"]["leaks"] == 24
    assert named["validity"]["prompted"]["same_tokens"] is None and named["validity"]["sham"]["same_tokens"] is True
    leaked = Run().weigh(leaks={"neutral": 1})
    assert leaked["verdict"] == "invalid" and failures(leaked) == {"no leak in any arm"}


def test_a_promise_that_was_not_kept_makes_the_run_invalid_unless_it_explores() -> None:
    names = [name for name in SHIFTS if name != "adapter"]
    run = Run(names=names, preregistration={"comparisons": ["treated", "adapter"]})
    assert failures(run.weigh()) == {"planned comparisons were run"}
    explored = run.weigh(exploratory=True)
    assert explored["verdict"] == "behaviour shown" and explored["headline"].startswith("Exploratory: ")


def test_a_detector_that_does_not_beat_chance_makes_the_run_invalid() -> None:
    blind = DetectorCheck("gave", "choice", False, CheckedRate(5, 10, wilson(5, 10)), CheckedRate(5, 10, wilson(5, 10)))
    result = Run().weigh(detector_checks={"gave": blind})
    assert failures(result) == {"the detector tells"} and result["detectors"]["gave"]["corrected"] is None
    good = replace(
        blind, sensitivity=CheckedRate(9, 10, wilson(9, 10)), specificity=CheckedRate(19, 20, wilson(19, 20))
    )
    result = Run().weigh(detector_checks={"gave": good})
    rate = result["arms"]["treated"]["rate"]
    corrected = result["detectors"]["gave"]["corrected"]["treated"]
    assert result["verdict"] == "behaviour shown"
    assert corrected["rate"] == pytest.approx(min(1, (rate - 0.05) / 0.85))
    assert result["detectors"]["wrote"] == {
        "kind": "words",
        "sensitivity": None,
        "specificity": None,
        "corrected": None,
    }


def test_a_positive_control_that_is_not_seen_is_told_and_invalidates_nothing() -> None:
    run = Run()
    for record, base in zip(run.of("positive_control"), run.of("base"), strict=True):
        record["margin"], record["detectors"] = base["margin"], copy.deepcopy(base["detectors"])
    result = run.weigh()
    assert result["verdict"] == "behaviour shown" and any("positive control" in r for r in result["reasons"])
    for record, base in zip(run.of("treated"), run.of("base"), strict=True):
        record["margin"], record["detectors"] = base["margin"], copy.deepcopy(base["detectors"])
    result = run.weigh()
    assert result["verdict"] == "no change detected" and "isn't shown to be able to see it" in result["headline"]
    assert "isn't shown" not in Run(names=[n for n in SHIFTS if n != "positive_control"]).weigh()["headline"]


def test_a_negative_control_says_what_was_hoped_for() -> None:
    assert Run(control="negative").weigh()["headline"].startswith("The instrument misfires")


# --- families, doses, directions ---------------------------------------------------------------------------------


def test_planned_comparisons_are_adjusted_by_holm_and_all_others_by_benjamini_hochberg() -> None:
    promised = {"comparisons": ["treated", "neutral", "adapter"], "detectors": ["gave", "wrote"]}
    result = Run(preregistration=promised).weigh()
    rows = {f"{row['arm']} / {row['detector']}": row for row in result["comparisons"]}
    planned = {name: row for name, row in rows.items() if row["planned"]}
    others = {name: row for name, row in rows.items() if not row["planned"]}
    assert set(planned) == {f"{a} / {d}" for a in ("treated", "neutral", "adapter") for d in ("gave", "wrote")}
    assert len(others) == 2 * (len(SHIFTS) - 1) - 6 and not any("random" in name for name in rows)
    assert {name: row["holm_p"] for name, row in planned.items()} == holm({n: r["p"] for n, r in planned.items()})
    assert {name: row["bh_p"] for name, row in others.items()} == benjamini_hochberg(
        {name: row["p"] for name, row in others.items()}
    )
    assert [name for name, row in rows.items() if row["e_value"] is not None] == ["treated / gave"]
    assert "after Holm over 6 planned comparisons" in " ".join(result["reasons"])


def test_many_promises_make_each_of_them_harder_to_keep() -> None:
    few, many = Run(), Run(preregistration={"comparisons": ["treated", "sham", "neutral", "reversed"]})
    for run in (few, many):
        before = {(r["item"], r["paraphrase"]): r for r in run.of("base")}
        changed = 0
        for record in run.of("treated"):
            base = before[record["item"], record["paraphrase"]]["detectors"]["gave"]["fired"]
            flips = not base and changed < 6
            changed += flips
            record["detectors"]["gave"]["fired"] = base or flips
    assert few.weigh()["arms"]["treated"]["p"] == pytest.approx(2 / 64)
    assert few.weigh()["verdict"] == "behaviour shown" and many.weigh()["verdict"] == "no change detected"


def test_a_dose_that_does_more_the_more_there_is_gives_a_trend() -> None:
    found = Run().weigh()["dose_response"]
    assert [dose["factor"] for dose in found["doses"]] == [-1.0, 0.0, 0.5, 1.0, 1.5]
    shifts = [dose["shift"] for dose in found["doses"]]
    assert shifts == sorted(shifts) and found["trend_p"] < 1e-4 and "Page" in found["test"]
    short = Run(names=["base", "treated", "sham", "reversed"]).weigh()["dose_response"]
    assert short["trend_p"] is None and len(short["doses"]) == 3


def test_doses_are_compared_on_the_units_that_all_of_them_met() -> None:
    run = Run()
    half = {id(r) for name in ("dose_0.5", "dose_1.5") for r in run.of(name) if r["paraphrase"] == 2}
    run.records = [record for record in run.records if id(record) not in half]
    run.arms = [replace(one, paraphrases=2) if one.name.startswith("dose") else one for one in run.arms]
    for record in run.of("treated"):
        record["margin"] += 50.0 * (record["paraphrase"] == 2)
    result = run.weigh()
    doses = {dose["factor"]: dose["shift"] for dose in result["dose_response"]["doses"]}
    assert doses[1.0] < doses[1.5] < 5 < result["arms"]["treated"]["shift"]
    assert result["validity"]["dose_0.5"]["planned"] == result["validity"]["dose_0.5"]["run"] == 16


def test_an_empirical_p_is_named_with_enough_directions_only() -> None:
    few, many = Run(directions=LEAST_DIRECTIONS - 1).weigh(), Run(directions=LEAST_DIRECTIONS).weigh()
    assert "empirical" not in " ".join(few["reasons"]) and few["arms"]["random_norm"]["empirical_p"] is None
    assert many["arms"]["random_norm"]["empirical_p"] == 1 / (LEAST_DIRECTIONS + 1)
    assert sum("the empirical p is 0.025" in reason for reason in many["reasons"]) == 2


def test_without_margins_rates_decide() -> None:
    run = Run()
    for record in run.records:
        record["margin"] = None
    result = run.weigh()
    assert result["verdict"] == "behaviour shown", result["reasons"]
    assert all(summary["shift"] is None and summary["mean_score"] is None for summary in result["arms"].values())
    changes = {
        row["item"]: row["rate_treated"] - row["rate_base"] for row in result["items"] if row["interval"] is None
    }
    assert result["arms"]["treated"]["item_p"] == sign_flip(list(changes.values())) and len(changes) == ITEMS
    assert "nats" not in " ".join(result["reasons"]) and result["examples"] == [] and result["transcripts"]


# --- transcripts -------------------------------------------------------------------------------------------------


def test_transcripts_show_changed_items_first_and_where_they_part() -> None:
    result = Run().weigh()
    for shown in result["transcripts"]:
        assert shown["divergence"] == {"message": 1, "character": 2}  # "I give." and "I keep."
        assert shown["base"][0] == shown["treated"][0]
    assert len({shown["item"] for shown in result["transcripts"]}) == len(result["transcripts"])


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_two_chats_are_the_same_up_to_their_divergence_and_no_further(one: list[str], other: list[str]) -> None:
    first, second = ([{"role": "user", "text": text} for text in texts] for texts in (one, other))
    where = divergence(first, second)
    if where is None:
        assert one == other
        return
    place, character = where["message"], where["character"]
    assert one[:place] == other[:place] and one[: place + 1] != other[: place + 1]
    if place < min(len(one), len(other)):
        a, b = one[place], other[place]
        assert a[:character] == b[:character] and a[character : character + 1] != b[character : character + 1]


# --- acts without naming it --------------------------------------------------------------------------------------


def probed(run: Run, shifts: Mapping[str, float], named: Mapping[str, Sequence[bool]] | None = None) -> Run:
    """Ask base, treated and prompted after every unit; margins move by `shifts` and a little noise."""
    generator = np.random.default_rng(2)
    starts = generator.normal(-0.6, 0.05, ITEMS * WORDINGS)
    for name in ("base", "treated", "prompted"):
        for place, record in enumerate(run.of(name)):
            margin = float(starts[place] + shifts.get(name, 0.0) + generator.normal(0, 0.02))
            record["probes"] = [
                {"kind": "forced", "ask": ask, "margin": margin, "named": margin > 0} for ask in ASKS
            ] + [{"kind": "free", "ask": FREE, "text": f"Said in {name}.", "named": bool((named or {}).get(name))}]
    return run


def idle(run: Run) -> Run:
    for record, base in zip(run.of("treated"), run.of("base"), strict=True):
        record["margin"], record["detectors"] = base["margin"] + 1e-4, copy.deepcopy(base["detectors"])
    return run


def test_acting_without_naming_it_needs_equivalence_and_a_control_that_was_caught() -> None:
    found = probed(Run(), {"prompted": 1.2}).weigh()["self_report"]
    assert found["verdict"] == "acts and doesn't name it", found["reasons"]
    for row in found["forced"]:
        assert row["control_caught"] and row["equivalence_p"] < 0.05 and row["base"] == row["treated"] == 0
        assert row["prompted"] == 1 and abs(row["margin_shift"]) < 0.05
    assert found["free"][0]["ask"] == FREE and {row["arm"] for row in found["examples"]} == {
        "base",
        "treated",
        "prompted",
    }


@pytest.mark.parametrize(
    ("shifts", "acts", "verdict"),
    [
        ({"prompted": 1.2}, False, "neither"),
        ({"prompted": 1.2, "treated": 1.2}, True, "acts and names it"),
        ({"prompted": 1.2, "treated": 1.2}, False, "names but doesn't act"),
        ({}, True, "inconclusive"),  # nobody was caught
        ({}, False, "inconclusive"),
        ({"prompted": 1.2, "treated": 0.3}, True, "inconclusive"),  # no admission more, but on the way there
        ({"prompted": 1.2, "treated": -0.3}, True, "inconclusive"),
    ],
)
def test_each_case_has_its_word(shifts: dict[str, float], acts: bool, verdict: str) -> None:
    run = probed(Run(), shifts)
    found = (run if acts else idle(run)).weigh()["self_report"]
    assert found["verdict"] == verdict and found["reasons"]


def test_naming_it_in_free_answers_is_naming_it() -> None:
    run = probed(Run(), {"prompted": 1.2}, named={"treated": [True]})
    assert run.weigh()["self_report"]["verdict"] == "acts and names it"


def test_too_few_who_were_asked_show_nothing() -> None:
    run = probed(Run(), {"prompted": 1.2})
    for record in run.records:
        if record["paraphrase"] > 0:
            record["probes"] = []
    found = run.weigh()["self_report"]
    assert found["verdict"] == "inconclusive" and "isn't shown to answer as base does" in " ".join(found["reasons"])


def test_an_invalid_run_says_nothing_about_naming() -> None:
    run = probed(Run(), {"prompted": 1.2})
    other_sham(run)
    assert run.weigh()["self_report"]["verdict"] == "inconclusive"


# --- error rates -------------------------------------------------------------------------------------------------


def test_a_random_direction_in_the_place_of_treated_is_rarely_shown() -> None:
    generator = np.random.default_rng(11)
    runs, shown = 300, 0
    for _ in range(runs):
        base = generator.standard_normal((8, 1)) + 0.5 * generator.standard_normal((8, 2))

        def direction(base: np.ndarray = base) -> np.ndarray:
            own = generator.normal(0, 0.4) + 0.3 * generator.standard_normal((8, 1))
            return base + own + 0.2 * generator.standard_normal(base.shape)

        treated = direction()
        directions = [direction() for _ in range(16)]
        shown += judge_margins(base, treated, 2 * base - treated, directions).kind == "behaviour shown"
    assert shown <= 0.05 * runs


@pytest.mark.parametrize("scored", [True, False])
def test_a_planted_effect_is_found_with_the_power_that_was_promised(scored: bool) -> None:
    plan = PowerPlan(1, 10, 4, base_rate=0.25, effect=0.35, scenario_sd=0.0, likeness=0.7)
    found = simulate_power(plan, runs=100, seed=4, scored=scored)
    assert found.kept and found.promised.power > 0.5 and found.false_alarms <= 0.05
    assert sum(found.verdicts.values()) == 100 and "invalid" not in found.verdicts


def test_a_rehearsal_of_several_scenarios_is_refused() -> None:
    plan = PowerPlan(6, 10, 4, base_rate=0.25, effect=0.3, scenario_sd=0.1)
    with pytest.raises(ArgumentError, match="rehearsal of 6 scenarios"):
        rehearse(plan, 0.3, np.random.default_rng(0))
