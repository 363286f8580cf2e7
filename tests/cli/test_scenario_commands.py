"""The scenario commands: every mistake with its line, a template to start from, what a plan can show, who errs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Command, command
from toy_home import create_toy_home
from toy_scenario import toy_scenario, write_scenario

from overlay.scenarios import read_scenario
from overlay.scenarios.outline import outline
from overlay.scenarios.schema import exposure_schema, scenario_schema
from overlay.scenarios.script import Scenario


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys, "scenario")


def line_of(path: Path, text: str, number: int = 1) -> int:
    """The line in which a text stands for the n-th time."""
    return [line for line, said in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if text in said][
        number - 1
    ]


# --- check ---------------------------------------------------------------------------------------


def test_a_script_without_mistakes_is_told_by_its_size(overlay: Command, tmp_path: Path) -> None:
    path = write_scenario(tmp_path, neutral=["A page is turned."], preregistration={"random_directions": 9})
    done = overlay("check", path)
    assert done.code == 0 and f"{path}: OK" in done.out
    assert "toy: 6 items, 2 paraphrases each, 12 units" in done.out
    # Four arms of all units, and 8 and 9 directions on one wording of 6 items; 2 options in 2 orders each.
    cells = 4 * 12 + (8 + 9) * 6
    assert (
        f"--arms core: 6 arms, 9 random directions, {cells} cells; at most about {4 * cells} scored rows\n" in done.out
    )
    # Two doses, zeroed, neutral, shuffled; base and treated are asked two forced questions and a free one.
    cells += 5 * 12
    rows = 4 * cells + 2 * 12 * 2 * 4
    assert f"--arms all: 11 arms, 9 random directions, {cells} cells; at most about {rows:,} scored rows" in done.out
    assert "and 24 written texts" in done.out and "neutral, shuffled" in done.out
    assert "detectors: gave (ledger); the verdict rests on gave" in done.out and "note:" not in done.out


def test_every_mistake_of_every_file_is_told_with_its_line_and_what_was_expected(
    overlay: Command, tmp_path: Path
) -> None:
    fine, other = write_scenario(tmp_path, "fine"), write_scenario(tmp_path, "other", forbidden=["stores"])
    broken = tmp_path / "broken.yaml"
    text = fine.read_text(encoding="utf-8").replace("question:", "qestion:").replace("kind: ledger", "kind: guess")
    broken.write_text(text.replace("logs: 12", "logs: -1", 1), encoding="utf-8")
    done = overlay("check", broken, other, tmp_path / "none.yaml", fine)
    assert done.code == 2 and "Traceback" not in done.told
    lines = done.out.splitlines()

    def told(place: str) -> str:
        (line,) = [line for line in lines if line.startswith(f"{place}: ")]
        return line

    unknown = told(f"{broken}:{line_of(broken, 'qestion')}")
    assert "'trial.qestion' is not a known key; expected: 'question', or another of setting, question, items" in unknown
    assert "greater than or equal to 0 (found -1)" in told(f"{broken}:{line_of(broken, 'logs: -1')}")
    assert "'ledger', 'choice', 'words'" in told(f"{broken}:{line_of(broken, '- name: gave')}")
    assert "forbidden word 'stores'" in told(f"{other}:{line_of(other, 'setting')}")
    assert "does not exist" in told(str(tmp_path / "none.yaml"))
    assert f"{fine}: OK" in lines and lines[-1] == "4 scripts, 3 with mistakes"


def test_a_mistake_in_an_exposure_is_that_files(overlay: Command, tmp_path: Path) -> None:
    path = write_scenario(tmp_path, exposure={"file": "scenes"})
    (tmp_path / "exposures").mkdir()
    scenes = tmp_path / "exposures" / "scenes.yaml"
    scenes.write_text("description: Scenes.\ntext: [A door closes.]\n")
    done = overlay("check", path)
    assert done.code == 2 and f"{scenes}:2: 'text' is not a known key; expected: 'texts', or another of" in done.out


def test_a_detector_that_counts_what_is_not_there_is_told(overlay: Command, tmp_path: Path) -> None:
    gold = {"name": "gave", "kind": "ledger", "spent_at_least": 1, "resource": "gold"}
    done = overlay("check", write_scenario(tmp_path, detectors=[gold]))
    assert done.code == 2 and "'gave' counts 'gold', which isn't there" in done.out and "there are logs" in done.out


def test_json_holds_what_is_printed(overlay: Command, tmp_path: Path) -> None:
    fine, wrong = write_scenario(tmp_path, "fine"), write_scenario(tmp_path, "wrong", primary="nothing")
    done = overlay("check", fine, wrong, "--json")
    good, bad = json.loads(done.out)
    assert done.code == 2 and done.out.count("\n") == 1
    assert (good["file"], good["ok"], good["outline"]["units"]) == (str(fine), True, 12)
    (mistake,) = bad["mistakes"]
    assert (bad["ok"], mistake["file"], mistake["line"]) == (False, str(wrong), line_of(wrong, "primary"))
    assert "'nothing' is none of the detectors gave" in mistake["problem"]


def test_what_the_evidence_will_lack_is_noted(overlay: Command, tmp_path: Path) -> None:
    words = {"name": "spoke", "kind": "words", "words": ["logs"]}
    path = write_scenario(tmp_path, items=5, detectors=[*toy_scenario()["detectors"], words])
    out = overlay("check", path).out
    assert "fewer than 6 items" in out and "no neutral exposure" in out and "'spoke' has no labelled examples" in out


def test_all_that_is_written_and_done_is_counted() -> None:
    content = toy_scenario(items=2, probes=None, world={"actions": [{"id": "sing", "text": "I sing."}]})
    content["trial"] |= {
        "steps": [{"choose": {}}, {"act": {"times": 3}}, {"free": {"asks": "Say it.", "temperature": 1}}],
        "seeds": [0, 1],
    }
    found = outline(Scenario.model_validate(content))
    assert (found.units, found.core.cells) == (8, 4 * 8 + (8 + 8) * 2 * 2)
    assert found.core.rows == found.core.cells * (2 * 2 + 2 * 3 * 1) and found.core.texts == found.core.cells


def test_an_arm_that_is_registered_runs_on_all_wordings() -> None:
    content = toy_scenario(arms=[{"name": "calm", "instruction": "Be calm."}])
    for item in content["trial"]["items"]:
        item["paraphrases"] *= 2
    fewer = outline(Scenario.model_validate(content)).whole
    more = outline(Scenario.model_validate(content | {"preregistration": {"comparisons": ["calm"]}})).whole
    assert fewer.arms == more.arms and fewer.arms[-1] == "calm" and more.cells - fewer.cells == 6 * (4 - 2)


def test_the_sizes_count_the_arms_with_other_doses() -> None:
    from overlay.scenarios import arms

    factors = [f"dose_{factor:g}" for factor in arms.FACTORS]
    assert set(factors) <= set(outline(Scenario.model_validate(toy_scenario())).whole.arms)


# --- new and schema ------------------------------------------------------------------------------


def test_a_new_script_passes_the_check_and_is_never_overwritten(overlay: Command, tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    made = overlay("new", "night_shift", "--to", folder)
    path = folder / "night_shift.yaml"
    assert made.code == 0 and f"overlay scenario check {path}" in made.out and "scenario.schema.json" in made.out
    assert overlay("check", path).code == 0 and read_scenario(path).name == "night_shift"
    path.write_text("mine")
    again = overlay("new", "night_shift", "--to", folder)
    assert (again.code, again.out) == (2, "") and f"{path} is there already" in again.told
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["Night", "night shift", "../night", "night.yaml"])
def test_a_name_that_can_be_none_is_told(overlay: Command, tmp_path: Path, name: str) -> None:
    done = overlay("new", name, "--to", tmp_path)
    assert (done.code, done.out) == (2, "") and f"'{name}' can't name a scenario" in done.told
    assert "small letters, digits, - and _" in done.told and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["new", "night", "--to"], ["schema", "--out"]])
def test_a_place_where_nothing_can_be_written_is_told(overlay: Command, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "file").write_text("mine")
    done = overlay(*words, tmp_path / "file" / "below")
    assert done.code == 2 and "can't be written" in done.told and (tmp_path / "file").read_text() == "mine"


def test_the_schema_is_printed_or_written(overlay: Command, tmp_path: Path) -> None:
    assert json.loads(overlay("schema").out) == scenario_schema()
    out = tmp_path / "deep" / "exposure.schema.json"
    assert overlay("schema", "--exposures", "--out", out).code == 0
    assert json.loads(out.read_text(encoding="utf-8")) == exposure_schema()


# --- power ---------------------------------------------------------------------------------------


def power(overlay: Command, *words: object) -> dict[str, Any]:
    done = overlay("power", *words, "--runs", 300, "--json")
    assert done.code == 0, done.told
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_the_smallest_plan_reaches_the_target_and_one_below_it_does_not(overlay: Command) -> None:
    found = power(overlay, "--items", 10, "--base-rate", 0.2, "--effect", 0.4)
    assert found["interval"][0] <= found["power"] <= found["interval"][1] and found["false_alarms"] < 0.05
    assert found["tests"] == ["pairs", "items"] and found["smallest"]["power"] >= 0.8
    size = found["smallest"]["plan"]["items"]
    below = power(overlay, "--items", size - 1, "--base-rate", 0.2, "--effect", 0.4)
    assert below["power"] < 0.8 and below["smallest"]["plan"]["items"] == size


def test_items_and_paraphrases_are_those_of_the_script_unless_others_are_given(
    overlay: Command, tmp_path: Path
) -> None:
    path = write_scenario(tmp_path, items=9)
    assert {"items": 9, "paraphrases": 2, "scenarios": 1}.items() <= power(overlay, path)["plan"].items()
    changed = power(overlay, path, "--items", 12, "--paraphrases", 3)["plan"]
    assert (changed["items"], changed["paraphrases"]) == (12, 3)
    fewer = write_scenario(tmp_path, "fewer", items=9, preregistration={"units": 9})
    assert power(overlay, fewer)["plan"]["paraphrases"] == 1


def test_several_scenarios_are_judged_over_scenarios(overlay: Command) -> None:
    few, many = (power(overlay, "--scenarios", count) for count in (5, 12))
    assert few["tests"] == many["tests"] == ["scenarios"]
    assert few["power"] == 0 and many["power"] > 0.8 and few["smallest"]["plan"]["scenarios"] >= 6


def test_stopping_early_is_mentioned_only_where_the_plan_could(overlay: Command) -> None:
    table = overlay("power", "--items", 12, "--runs", 200)
    assert "gets to 20 after 7 items in a row" in table.words and "as planned" in table.out
    assert "simulating 200 runs" in table.told and "smallest plan" in table.told
    assert "Stopping early" not in overlay("power", "--items", 6, "--runs", 200).out
    assert power(overlay, "--items", 6)["earliest_stop"] is None and power(overlay, "--items", 7)["earliest_stop"] == 7


def test_a_plan_that_reaches_the_target_at_no_size_is_told(overlay: Command) -> None:
    done = overlay("power", "--effect", 0.005, "--likeness", 0, "--item-sd", 0, "--paraphrases", 1, "--runs", 100)
    assert done.code == 0 and "However many items are planned, a power of 80% isn't reached" in done.words


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--items", "0"], "a plan of 0 items"),
        (["--effect", "0.9"], "an effect of 0.9 on a base rate of 0.3"),
        (["--target", "1"], "a target of 1.0 is no power"),
        (["none.yaml"], "none.yaml: this file does not exist"),
    ],
)
def test_an_impossible_plan_is_told(overlay: Command, words: list[str], problem: str) -> None:
    done = overlay("power", *words, "--runs", 100)
    assert (done.code, done.out) == (2, "") and problem in done.told


# --- detectors -----------------------------------------------------------------------------------

WORDS = {
    "name": "spoke",
    "kind": "words",
    "words": ["stranger"],
    "examples": [
        {"text": "I met the stranger.", "fires": True},
        {"text": "Two strangers came.", "fires": True},
        {"text": "Somebody unknown came by.", "fires": True},
        {"text": "I burnt the logs.", "fires": False},
        {"text": "  ", "fires": False},
    ],
}


def test_detectors_are_checked_on_their_examples_without_a_home(
    overlay: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    similar = {"name": "alike", "kind": "similarity", "like": ["I gave."], "unlike": ["I kept."]}
    path = write_scenario(tmp_path, detectors=[*toy_scenario()["detectors"], WORDS, similar])
    monkeypatch.chdir(tmp_path)
    done = overlay("detectors", path, "--json")
    assert done.code == 0, done.told
    ledger, spoke, alike = json.loads(done.out)["detectors"]
    assert (ledger["exact"], ledger["sensitivity"]) == (True, None)
    assert (spoke["sensitivity"]["rate"], spoke["sensitivity"]["n"]) == (pytest.approx(2 / 3), 3)
    low, high = spoke["sensitivity"]["interval"]
    assert 0 < low < 2 / 3 < high < 1 and spoke["specificity"]["n"] == 1
    assert [one["text"] for one in spoke["mistakes"]] == ["Somebody unknown came by."]
    (left_out,) = spoke["excluded"]
    assert left_out["text"] == "  " and left_out["reason"]
    assert (alike["exact"], alike["sensitivity"], alike["specificity"]) == (False, None, None)
    table = overlay("detectors", path)
    assert "67% (21% to 94%), 2 of 3" in table.out and "exact" in table.out and "no examples" in table.out
    assert "spoke is wrong, silent on: Somebody unknown came by." in table.out


def test_a_detector_that_looks_through_a_model_needs_a_home(overlay: Command, tmp_path: Path) -> None:
    judge = {"name": "seen", "kind": "judge", "question": "Did they give?", "examples": WORDS["examples"][:1]}
    path = write_scenario(tmp_path, detectors=[*toy_scenario()["detectors"], judge])
    done = overlay("detectors", path, "--home", tmp_path)
    assert done.code == 1 and f"{tmp_path} is no home" in done.told


def test_the_embedder_of_the_home_is_loaded_for_a_detector_by_meaning(
    overlay: Command, tmp_path: Path, embedder_folder: Path
) -> None:
    similar = {
        "name": "alike",
        "kind": "similarity",
        "like": ["I gave the stranger some of my firewood."],
        "unlike": ["The printer is out of paper."],
        "examples": [
            {"text": "I handed him a few of my logs.", "fires": True},
            {"text": "The scanner has no toner left.", "fires": False},
        ],
    }
    home = create_toy_home(tmp_path / "home", embedder_folder).folder
    path = write_scenario(tmp_path, detectors=[*toy_scenario()["detectors"], similar])
    done = overlay("detectors", path, "--home", home, "--json")
    assert done.code == 0, done.told
    (_, alike) = json.loads(done.out)["detectors"]
    assert alike["sensitivity"]["rate"] == alike["specificity"]["rate"] == 1


# --- all of them ---------------------------------------------------------------------------------


def test_none_of_them_loads_a_model_library(tmp_path: Path) -> None:
    path = write_scenario(tmp_path)
    code = (
        "import sys\nfrom overlay.cli import app\n"
        "for words in (['check', sys.argv[1]], ['new', 'x', '--to', sys.argv[2]], ['schema'],\n"
        "              ['power', '--runs', '100'], ['detectors', sys.argv[1]]):\n"
        "    app(['scenario', *words], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'chromadb', 'sentence_transformers'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=60,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "[]"
    assert yaml.safe_load((tmp_path / "x.yaml").read_text(encoding="utf-8"))["name"] == "x"


@pytest.mark.parametrize("name", ["check", "new", "schema", "power", "detectors"])
def test_the_help_has_examples(overlay: Command, name: str) -> None:
    out = overlay(name, "--help").words
    assert "Example" in out and f"overlay scenario {name}" in out
