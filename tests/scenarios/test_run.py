"""A run: the same tokens in all arms, a sham that is base bit for bit, a budget that holds, and nothing run twice."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts, write_contrast
from toy_home import create_toy_home, toy_settings, write_settings

from overlay.errors import ArgumentError, AxisMissing, AxisUnproven, OverlayError, RecordDamaged, StorageFull
from overlay.home import Home
from overlay.progress import SilentProgress
from overlay.scenarios import RunSettings, Scenario, run_scenario, run_scenarios
from overlay.scenarios import run as run_module
from overlay.scenarios.cells import Group, Record
from overlay.scenarios.engine import LocalEngine
from overlay.scenarios.limits import RANDOM_PARAPHRASES

DIRECTIONS = 2
ITEMS = 6
ARMS = {"base", "treated", "sham", "reversed", "random_norm", "random_volatility"}
CORE = RunSettings(directions=DIRECTIONS)
ALL = RunSettings("all", DIRECTIONS)


def toy_script(**changes: Any) -> Scenario:
    """Six items of two paraphrases; options of different lengths, the behaviour first in every other item."""
    items = []
    for number in range(ITEMS):
        options = [
            {"id": "give", "text": f"I give {number + 1} away.", "effects": {"logs": -1 - number}},
            {"id": "keep", "text": "I keep all of it."},
        ]
        items.append(
            {
                "id": f"item-{number}",
                "resources": {"logs": 12},
                "paraphrases": [
                    f"There are 12 logs at place {number}.",
                    f"Place {number} has 12 logs, all of them dry.",
                ],
                "options": options if number % 2 else options[::-1],
            }
        )
    content: dict[str, Any] = {
        "name": "toy",
        "description": "For tests.",
        "axes": ["vowels"],
        "exposure": toy_texts(LETTERS["positive"], 3, 11),
        "trial": {"setting": "You keep the stores.", "question": "What now?", "items": items},
        "detectors": [
            {"name": "gave", "kind": "ledger", "spent_at_least": 1},
            {"name": "gave_much", "kind": "ledger", "spent_at_least": 4},
        ],
        "primary": "gave",
    }
    return Scenario(**content | changes)


WHOLE: dict[str, Any] = {
    "neutral": toy_texts(LETTERS["neutral"], 2, 5),
    "levels": {"topic": "Write on tin.", "prompted": "Be calm."},
    "positive_control": "Give all away.",
    "arms": [{"name": "mine", "doses": [{"axis": "vowels", "dose": 0.5}]}],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Home:
    return create_toy_home(tmp_path_factory.mktemp("toy") / "home", embedder_folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, home: Home, tiny_llama: Any) -> tuple[dict[str, Any], Path]:
    """One whole run: its result and its folder."""
    out = tmp_path_factory.mktemp("run") / "out"
    return run_scenario(toy_script(), home, model=tiny_llama, out=out, settings=CORE), out


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, home: Home, tiny_llama: Any) -> tuple[dict[str, Any], Path]:
    """A run of all arms that need no adapter."""
    out = tmp_path_factory.mktemp("all") / "out"
    script = toy_script(**WHOLE, probes={"free": ["What moved you?"], "max_tokens": 4})
    return run_scenario(script, home, model=tiny_llama, out=out, settings=ALL), out


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """Everything of a result but how long it took and where it lies."""
    again = {key: value for key, value in result["again"].items() if key != "files"}
    return {key: value for key, value in result.items() if key not in ("seconds", "records")} | {"again": again}


def records_in(out: Path) -> list[Record]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text(encoding="utf-8").splitlines()]


def cells_in(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "cells").iterdir())}


def key(record: Record) -> tuple[str, int]:
    return record["item"], record["paraphrase"]


# --- what a run says -----------------------------------------------------------------------------


@pytest.mark.real
def test_a_result_names_all_that_a_reader_needs(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    assert {"verdict", "reasons", "headline", "arms", "prompts_identical", "sham_identical", "seconds"} <= set(result)
    assert result["verdict"] in ("behaviour shown", "no change detected", "invalid") and result["reasons"]
    assert set(result["arms"]) == ARMS and result["exploratory"] is False
    wanted = {"label", "n", "rate", "rate_interval", "mean_score", "score_interval", "p", "volatility_mean", "leaks"}
    for name, arm in result["arms"].items():
        assert wanted <= set(arm)
        assert arm["n"] == ITEMS * (RANDOM_PARAPHRASES * DIRECTIONS if name.startswith("random") else 2)
        assert arm["rate_interval"][0] <= arm["rate"] <= arm["rate_interval"][1]
        assert arm["score_interval"][0] <= arm["mean_score"] <= arm["score_interval"][1]
        assert (arm["p"] is not None) == (name in ("treated", "sham", "reversed"))
    assert result["model"] == {"name": "tiny-llama", "digest": result["model"]["digest"], "dtype": "float32"}
    assert json.loads((out / "result.json").read_text()) == result


@pytest.mark.real
def test_no_check_is_told_twice(everything: tuple[dict[str, Any], Path], finished: tuple[dict[str, Any], Path]) -> None:
    for result, _ in (everything, finished):
        names = [check["name"] for check in result["checks"]]
        assert len(set(names)) == len(names)


@pytest.mark.real
def test_the_trial_has_the_same_tokens_in_every_arm_that_names_nothing(
    everything: tuple[dict[str, Any], Path],
) -> None:
    result, out = everything
    assert result["prompts_identical"] is True
    by_unit: dict[tuple[str, int], dict[bool, set[str]]] = {}
    for record in records_in(out):
        by_unit.setdefault(key(record), {True: set(), False: set()})[record["same_tokens"]].add(record["prompts"])
    assert len(by_unit) == ITEMS * 2
    for found in by_unit.values():
        assert len(found[True]) == 1 and len(found[False]) == 3 and not found[True] & found[False]
    assert len(set.union(*(found[True] for found in by_unit.values()))) == ITEMS * 2


@pytest.mark.real
def test_sham_is_base_bit_for_bit_and_treated_is_not(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    assert result["sham_identical"] is True and result["arms"]["sham"]["volatility_mean"] == 0
    done: dict[str, list[Any]] = {}
    for record in records_in(out):
        who = ("cell", "arm", "direction", "intervention")
        done.setdefault(record["arm"], []).append({name: record[name] for name in record if name not in who})
    assert done["sham"] == done["base"] != done["treated"] != done["reversed"]
    assert result["arms"]["sham"]["shift"] == 0 and result["arms"]["sham"]["p"] == 1


@pytest.mark.real
def test_treated_stays_inside_the_budget_and_the_random_arms_are_matched_to_it(
    finished: tuple[dict[str, Any], Path],
) -> None:
    result, _ = finished
    treated = result["arms"]["treated"]["volatility_mean"]
    assert 0 < treated <= result["budget"] == BUDGET
    for direction in result["arms"]["random_volatility"]["directions"]:
        assert direction["volatility_mean"] == pytest.approx(treated, rel=0.06)
    shifts = [entry["shift"] for entry in result["arms"]["random_norm"]["directions"]]
    assert len(shifts) == DIRECTIONS == len(set(shifts))
    assert result["arms"]["random_norm"]["shift"] == pytest.approx(sum(shifts) / DIRECTIONS)


@pytest.mark.real
def test_the_exposure_is_told_step_by_step_to_the_state_that_acts(finished: tuple[dict[str, Any], Path]) -> None:
    result, _ = finished
    path = result["state_path"]
    assert result["state"]["vowels"] > 0.1
    assert path[-1]["state"]["vowels"] == pytest.approx(result["state"]["vowels"])
    assert [step["step"] for step in path] == list(range(1, len(path) + 1))
    assert sum(step["source"] == "read" for step in path) == 3


@pytest.mark.real
def test_every_record_says_what_was_chosen_and_what_that_did_to_the_stock(
    finished: tuple[dict[str, Any], Path],
) -> None:
    _, out = finished
    script = toy_script()
    for record in records_in(out):
        item = next(item for item in script.trial.items if item.id == record["item"])
        (event,) = record["events"]
        spent = record["before"]["logs"] - record["after"]["logs"]
        assert spent == (1 + script.trial.items.index(item) if event["chosen"] == "give" else 0)
        fired = {name: finding["fired"] for name, finding in record["detectors"].items()}
        assert fired == {"gave": spent >= 1, "gave_much": spent >= 4}
        assert (event["chosen"] == "give") == (record["margin"] > 0)
        by_order = [scores[0] - scores[1] for scores in event["scores"]]
        assert record["margin"] == pytest.approx(sum(by_order) / 2)
        assert (record["promise"], record["script"]) == (script.promise, script.digest)


@pytest.mark.real
def test_rates_and_shifts_are_those_of_the_records(finished: tuple[dict[str, Any], Path]) -> None:
    result, out = finished
    records = records_in(out)
    base = {key(record): record for record in records if record["arm"] == "base"}
    for name, arm in result["arms"].items():
        own = [record for record in records if record["arm"] == name]
        assert arm["rate"] == pytest.approx(sum(record["detectors"]["gave"]["fired"] for record in own) / len(own))
        shifts = [record["margin"] - base[key(record)]["margin"] for record in own]
        assert arm["shift"] == (None if name == "base" else pytest.approx(math.fsum(shifts) / len(shifts)))


@pytest.mark.real
def test_all_arms_that_the_script_allows_are_run_and_asked(everything: tuple[dict[str, Any], Path]) -> None:
    result, out = everything
    more = {"dose_0.5", "dose_1.5", "zeroed", "neutral", "shuffled", "topic", "prompted", "positive_control", "mine"}
    assert set(result["arms"]) == set(result["validity"]) == ARMS | more
    assert [one["factor"] for one in result["dose_response"]["doses"]] == [-1, 0, 0.5, 1, 1.5]
    assert [one["name"] for one in result["levels"]] == ["base", "topic", "prompted", "state"]
    assert result["arms"]["zeroed"]["shift"] == 0 == result["arms"]["zeroed"]["volatility_mean"]
    asked = {record["arm"] for record in records_in(out) if record["probes"]}
    assert asked == {"base", "treated", "prompted"} and result["self_report"]["verdict"]
    assert {name for name, row in result["validity"].items() if row["same_tokens"] is None} == {
        *("topic", "prompted", "positive_control")
    }


# --- nothing is run twice, and what else is run changes nothing ----------------------------------


@pytest.mark.real
def test_a_second_call_runs_no_cell_again_and_finds_the_same(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, out = finished
    journal, cells = (out / "records.jsonl").read_bytes(), cells_in(out)
    # A call would raise: exposures, measured doses and cells are all known.
    monkeypatch.setattr(tiny_llama, "score", None)
    monkeypatch.setattr(tiny_llama, "generate", None)
    again = run_scenario(toy_script(), home, model=tiny_llama, out=out, settings=CORE)
    assert numbers(again) == numbers(result)
    assert (out / "records.jsonl").read_bytes() == journal and cells_in(out) == cells


@pytest.mark.real
def test_a_record_does_not_depend_on_which_other_arms_are_run(home: Home, tiny_llama: Any, tmp_path: Path) -> None:
    script = toy_script(**WHOLE, probes=None)
    run_scenario(script, home, model=tiny_llama, out=tmp_path / "all", settings=ALL)
    run_scenario(script, home, model=tiny_llama, out=tmp_path / "core", settings=CORE)
    whole, core = cells_in(tmp_path / "all"), cells_in(tmp_path / "core")
    assert len(core) == ITEMS * (4 * 2 + 2 * DIRECTIONS) < len(whole)
    assert {name: whole[name] for name in core} == core


@pytest.mark.real
def test_to_be_asked_afterwards_changes_nothing_that_was_done(
    everything: tuple[dict[str, Any], Path], finished: tuple[dict[str, Any], Path]
) -> None:
    def done(out: Path) -> dict[Any, Any]:
        return {
            (record["arm"], record["direction"], *key(record)): (record["events"], record["margin"], record["prompts"])
            for record in records_in(out)
        }

    asked, plain = done(everything[1]), done(finished[1])
    assert {who: asked[who] for who in plain} == plain


class Interrupts(SilentProgress):
    """Presses Ctrl-C after so many steps of the arms."""

    def __init__(self, after: int) -> None:
        self.left = after

    def step(self, description: str, done: int | None, total: int | None) -> None:
        if description == "toy: running the arms":
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt


@pytest.mark.real
def test_an_interrupted_run_keeps_its_cells_and_goes_on_to_the_same_end(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    result, out = finished
    again, whole = tmp_path / "again", cells_in(out)
    kept: dict[str, bytes] = {}
    for after in (2, 1):
        with pytest.raises(KeyboardInterrupt):
            run_scenario(toy_script(), home, model=tiny_llama, out=again, settings=CORE, progress=Interrupts(after))
        assert not tiny_llama.steering.has_plan and not (again / "result.json").exists()
        before, kept = kept, cells_in(again)
        assert set(before) < set(kept) < set(whole) and all(whole[name] == kept[name] for name in kept)
    # A kill in the middle of a cell leaves this beside it.
    (again / "cells" / f".{min(kept)}.abcd1234").write_text('{"cell": ')
    resumed = run_scenario(toy_script(), home, model=tiny_llama, out=again, settings=CORE)
    assert cells_in(again) == whole
    assert (again / "records.jsonl").read_bytes() == (out / "records.jsonl").read_bytes()
    assert numbers(resumed) == numbers(result)


class Breaks(LocalEngine):
    """An engine that dies after so many groups."""

    groups = 0

    def play(self, groups: Sequence[Group]) -> Iterator[tuple[Group, list[Record]]]:
        for number, played in enumerate(super().play(groups)):
            if number == self.groups:
                raise RuntimeError("the engine died")
            yield played


@pytest.mark.real
@pytest.mark.parametrize("groups", [0, 1, 5])
def test_a_run_whose_engine_died_goes_on_to_the_same_cells(
    finished: tuple[dict[str, Any], Path],
    home: Home,
    tiny_llama: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    groups: int,
) -> None:
    result, out = finished
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "LocalEngine", Breaks)
        patch.setattr(Breaks, "groups", groups)
        with pytest.raises(RuntimeError, match="the engine died"):
            run_scenario(toy_script(), home, model=tiny_llama, out=tmp_path, settings=CORE)
    assert len(list((tmp_path / "cells").glob("*.json"))) == (2 * min(groups, 4) + max(0, groups - 4)) * ITEMS
    resumed = run_scenario(toy_script(), home, model=tiny_llama, out=tmp_path, settings=CORE)
    assert cells_in(tmp_path) == cells_in(out) and numbers(resumed) == numbers(result)


@pytest.mark.real
def test_cells_lost_from_the_middle_of_a_batch_come_back_the_same(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    result, out = finished
    again = Path(shutil.copytree(out, tmp_path / "again"))
    for name in list(cells_in(out))[::5]:
        (again / "cells" / name).unlink()
    resumed = run_scenario(toy_script(), home, model=tiny_llama, out=again, settings=CORE)
    assert numbers(resumed) == numbers(result) and cells_in(again) == cells_in(out)
    assert (again / "records.jsonl").read_bytes() == (out / "records.jsonl").read_bytes()


@pytest.mark.real
def test_a_full_disk_leaves_finished_cells_and_the_run_goes_on_when_there_is_room(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, out = finished
    room = 1 + 15  # the marker of the folder, and then cells
    written: list[Any] = []
    finish = os.replace

    def fill(source: Any, target: Any) -> None:
        if len(written) == room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finish(source, target)
        written.append(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fill)
        with pytest.raises(StorageFull, match="disk is full"):
            run_scenario(toy_script(), home, model=tiny_llama, out=tmp_path, settings=CORE)
    kept, whole = cells_in(tmp_path), cells_in(out)
    assert len(kept) == 15 and all(whole[name] == kept[name] for name in kept)
    resumed = run_scenario(toy_script(), home, model=tiny_llama, out=tmp_path, settings=CORE)
    assert cells_in(tmp_path) == whole and numbers(resumed) == numbers(result)


@pytest.mark.real
def test_more_directions_add_cells_and_change_none(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    result, out = finished
    again = Path(shutil.copytree(out, tmp_path / "again"))
    settings = RunSettings(directions=DIRECTIONS + 1)
    more = run_scenario(toy_script(), home, model=tiny_llama, out=again, settings=settings)
    after, before = cells_in(again), cells_in(out)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2 * RANDOM_PARAPHRASES * ITEMS
    assert more["arms"]["treated"] == result["arms"]["treated"]


@pytest.mark.real
def test_a_unit_whose_world_fails_is_left_out_with_its_reason_and_the_run_says_how_many(
    home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    """In item 0 a rule divides by 0 after the first step, whatever was done."""
    content = json.loads(toy_script(probes=None).model_dump_json())
    content["trial"]["items"][0]["facts"] = {"divisor": 1}
    for item in content["trial"]["items"][1:]:
        item["facts"] = {"divisor": 9}
    content["world"] = {"rules": [{"name": "share", "when": "1 / (divisor - step) > 5"}]}
    result = run_scenario(Scenario(**content), home, model=tiny_llama, out=tmp_path, settings=RunSettings(directions=1))
    records = records_in(tmp_path)
    assert {record["item"] for record in records if record["excluded"]} == {"item-0"}
    assert all("zero" in record["excluded"] for record in records if record["item"] == "item-0")
    assert result["units"]["excluded"] == 2 and result["units"]["run"] == 2 * (ITEMS - 1)
    for name, row in result["validity"].items():
        ((reason, count),) = row["reasons"].items()
        assert "zero" in reason and count == row["excluded"] == (1 if name.startswith("random") else 2)
    assert "item-0" not in {row["item"] for row in result["items"] if row["shift"] is not None}


# --- several scripts -----------------------------------------------------------------------------


@pytest.mark.real
def test_several_scripts_have_a_folder_each_and_one_word_together(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    scripts = [toy_script(), toy_script(name="other", control="negative")]
    document = run_scenarios(scripts, home, out=tmp_path, settings=CORE, model=tiny_llama)
    assert [result["scenario"] for result in document["runs"]] == ["toy", "other"]
    assert numbers(document["runs"][0]) == numbers(finished[0])
    assert cells_in(tmp_path / "toy") == cells_in(finished[1])
    assert {one["scenario"]: one["control"] for one in document["overall"]["scenarios"]} == {
        "toy": None,
        "other": "negative",
    }
    assert json.loads((tmp_path / "overall.json").read_text()) == document["overall"]


@pytest.mark.real
def test_two_scripts_of_one_name_are_refused_before_anything_is_written(home: Home, tmp_path: Path) -> None:
    scripts = [toy_script(), toy_script(description="Another one.")]
    with pytest.raises(ArgumentError, match="two scripts are named 'toy'"):
        run_scenarios(scripts, home, out=tmp_path / "out", settings=CORE)
    assert not (tmp_path / "out").exists()


# --- what was promised ---------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"detectors": [{"name": "gave", "kind": "choice", "option": "give"}]}, "the preregistration"),
        ({"preregistration": {"comparisons": ["treated", "reversed"]}}, "the preregistration"),
        ({"description": "Changed by a word."}, "the script"),
    ],
    ids=["detectors", "comparisons", "description"],
)
def test_a_changed_script_is_refused_and_its_folder_untouched(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, changes: dict[str, Any], what: str
) -> None:
    _, out = finished
    before = {path: path.read_bytes() for path in sorted(out.rglob("*.*"))}
    with pytest.raises(ArgumentError, match=f"holds records from before {what} was changed") as caught:
        run_scenario(toy_script(**changes), home, model=tiny_llama, out=out, settings=CORE)
    assert "--out" in caught.value.next_step and "--exploratory" in caught.value.next_step
    assert {path: path.read_bytes() for path in sorted(out.rglob("*.*"))} == before


@pytest.mark.real
def test_what_goes_on_after_a_change_is_exploratory_for_good(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    again = Path(shutil.copytree(finished[1], tmp_path / "again"))
    changed = toy_script(preregistration={"comparisons": ["treated", "reversed"]})
    allowed = replace(CORE, exploratory=True)
    found = [run_scenario(changed, home, model=tiny_llama, out=again, settings=one) for one in (allowed, CORE)]
    found.append(run_scenario(toy_script(), home, model=tiny_llama, out=again, settings=allowed))
    found.append(run_scenario(toy_script(), home, model=tiny_llama, out=again, settings=CORE))
    for result in found:
        assert result["exploratory"] is True and result["headline"].startswith("Exploratory: ")
    assert finished[0]["exploratory"] is False and not finished[0]["headline"].startswith("Exploratory")
    assert {record["promise"] for record in records_in(again)} == {toy_script().promise}
    assert found[0]["promise"] == changed.promise != toy_script().promise
    with pytest.raises(ArgumentError, match="was changed"):
        run_scenario(changed, home, model=tiny_llama, out=again, settings=CORE)


@pytest.mark.real
def test_fewer_units_than_promised_make_the_run_invalid(home: Home, tiny_llama: Any, tmp_path: Path) -> None:
    script = toy_script(preregistration={"units": 20, "random_directions": 1})
    result = run_scenario(script, home, model=tiny_llama, out=tmp_path)
    assert result["verdict"] == "invalid" and result["again"]["directions"] == 1
    assert "enough units: 6 items and 12 units; 6 items and 20 units are the least" in result["reasons"]


# --- what is refused, and what is invalid --------------------------------------------------------


@pytest.mark.real
def test_a_damaged_marker_or_cell_is_told_by_its_path(
    finished: tuple[dict[str, Any], Path], home: Home, tiny_llama: Any, tmp_path: Path
) -> None:
    _, out = finished
    again = Path(shutil.copytree(out, tmp_path / "again"))
    (again / "scenario.json").write_text("{")
    with pytest.raises(RecordDamaged, match=r"scenario\.json"):
        run_scenario(toy_script(), home, model=tiny_llama, out=again)
    shutil.copy(out / "scenario.json", again)
    first, second, *_ = cells_in(out)
    for content in (b"nonsense", b"[]", cells_in(out)[second]):
        (again / "cells" / first).write_bytes(content)
        with pytest.raises(RecordDamaged, match=first.replace(".", r"\.")):
            run_scenario(toy_script(), home, model=tiny_llama, out=again, settings=CORE)


@pytest.mark.real
def test_a_missing_axis_or_adapter_is_told_before_a_model_is_loaded_or_a_folder_made(
    home: Home, tmp_path: Path
) -> None:
    with pytest.raises(AxisMissing, match="there is no axis 'tenderness'") as caught:
        run_scenario(toy_script(axes=["vowels", "tenderness"]), home, out=tmp_path / "out")
    assert "vowels" in caught.value.next_step
    for changes in ({"levels": {"adapter": "gone"}}, {"arms": [{"name": "mine", "adapters": {"gone": 1}}]}):
        with pytest.raises(OverlayError, match="'gone'"):
            run_scenario(toy_script(**changes), home, out=tmp_path / "out", settings=ALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.real
def test_an_axis_that_does_not_pass_its_checks_is_no_evidence(
    home: Home, embedder_folder: Path, tiny_llama: Any, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(home.folder, tmp_path / "home"))
    write_contrast(
        other / "adapters" / "steering", toy_contrast("blind", positive=toy_texts(LETTERS["negative"], seed=1))
    )
    opened = write_settings(other, toy_settings(embedder_folder))
    with pytest.raises(AxisUnproven, match="'blind'"):
        run_scenario(toy_script(axes=["blind"]), opened, model=tiny_llama, out=tmp_path / "out")


@pytest.mark.real
def test_a_forced_axis_is_named_as_unproven_in_the_result_and_its_reasons(
    home: Home, tiny_llama: Any, tmp_path: Path, finished: tuple[dict[str, Any], Path]
) -> None:
    opened = Home.open(shutil.copytree(home.folder, tmp_path / "home"))
    axis = opened.axes.load("vowels", tiny_llama.digest)
    weak = replace(axis, evidence=replace(axis.evidence, auroc={"negative": 0.6}), forced=True)
    weak.save(opened.lived / "axes")
    result = run_scenario(toy_script(), opened, model=tiny_llama, out=tmp_path / "out", settings=CORE)
    assert result["unproven_axes"] == ["vowels"]
    assert "axis 'vowels' is unproven and was forced: held-out AUROC against negative is 0.60" in result["reasons"][-1]
    assert finished[0]["unproven_axes"] == [] and not any("unproven" in reason for reason in finished[0]["reasons"])


@pytest.mark.real
def test_an_exposure_that_does_not_raise_its_axis_is_told_with_what_it_left(
    home: Home, tiny_llama: Any, tmp_path: Path, everything: tuple[dict[str, Any], Path]
) -> None:
    assert not any("exposure:" in reason for reason in everything[0]["reasons"])
    swapped = toy_script(exposure=toy_texts(LETTERS["negative"], 2, 11))
    result = run_scenario(swapped, home, model=tiny_llama, out=tmp_path / "out", settings=CORE)
    left = result["state"]["vowels"]
    assert left < 0
    assert f"noted: exposure: it left 'vowels' at {left:+.2f}, no higher than +0.00 (rest)" in result["reasons"]


@pytest.mark.parametrize("directions", [0, -1])
def test_an_effect_is_never_measured_without_its_controls(directions: int) -> None:
    with pytest.raises(ArgumentError, match=f"{directions} random directions"):
        RunSettings(directions=directions)


@pytest.mark.real
def test_a_word_of_the_state_in_the_trial_makes_the_run_invalid(home: Home, tiny_llama: Any, tmp_path: Path) -> None:
    trial = toy_script().trial
    leaking = toy_script(trial=trial.model_copy(update={"question": "Which Vowel now?"}).model_dump())
    result = run_scenario(leaking, home, model=tiny_llama, out=tmp_path / "out", settings=CORE)
    assert result["verdict"] == "invalid" and any(reason.startswith("no leak:") for reason in result["reasons"])
    assert {leak["word"] for leak in result["leaks"]} == {"vowel"}
    for name, arm in result["arms"].items():
        assert arm["leaks"] == result["validity"][name]["leaks"] == len(result["leaks"]) == 1


@pytest.mark.real
def test_an_arm_that_is_there_to_name_the_state_is_no_leak(home: Home, tiny_llama: Any, tmp_path: Path) -> None:
    script = toy_script(levels={"prompted": "Speak in vowels, with an open mouth."}, probes=None)
    result = run_scenario(script, home, model=tiny_llama, out=tmp_path, settings=RunSettings("all", 1))
    assert result["validity"]["prompted"]["run"] == 2 * ITEMS
    assert not any("leak" in reason for reason in result["reasons"]) and result["leaks"] == []


@pytest.mark.real
def test_too_few_items_make_the_run_invalid(home: Home, tiny_llama: Any, tmp_path: Path) -> None:
    trial = toy_script().trial
    small = toy_script(trial=trial.model_copy(update={"items": trial.items[:2]}).model_dump())
    result = run_scenario(small, home, model=tiny_llama, out=tmp_path / "out", settings=CORE)
    assert result["verdict"] == "invalid" and any(
        reason.startswith("enough units: 2 items") for reason in result["reasons"]
    )


@pytest.mark.real
@pytest.mark.parametrize("settings", [CORE, ALL], ids=["core", "all"])
def test_an_exposure_that_moves_nothing_makes_the_run_invalid(
    home: Home, tiny_llama: Any, tmp_path: Path, settings: RunSettings
) -> None:
    script = toy_script(exposure={"state": {"vowels": 0.0}}, probes=None)
    result = run_scenario(script, home, model=tiny_llama, out=tmp_path / "out", settings=settings)
    assert result["verdict"] == "invalid"
    assert any(reason.startswith("a state built up") for reason in result["reasons"])
