"""A comparison of levels in a toy home: what is matched, what must equal base, and what is never asked twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Command, command
from levels.levels_home import LEVELS as SAID
from levels.levels_home import SMALL, WORDS, create_levels_home
from toy_scenario import toy_scenario, write_scenario

from overlay.errors import AdapterError, ArgumentError, AxisMissing, ScenarioError
from overlay.home import Home
from overlay.levels import LevelSettings, compare_levels, read_subject, write_page
from overlay.levels.level import LEVELS
from overlay.scenarios.arms import MATCHING_TOLERANCE

pytestmark = pytest.mark.real  # a home's frames are woken by the embedder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Home:
    return create_levels_home(tmp_path_factory.mktemp("levels"), embedder_folder)


@pytest.fixture(scope="module")
def result(home: Home) -> dict[str, Any]:
    return compare_levels(home, "vowels", settings=SMALL, dtype="float32")


def test_adapter_state_and_random_directions_cost_the_same_and_prompts_say_what_they_cost(
    result: dict[str, Any],
) -> None:
    by_name = {level["name"]: level for level in result["levels"]}
    costs = [by_name[name]["volatility"]["mean"] for name in ("adapter", "state", "random_1")]
    assert max(costs) / min(costs) < (1 + MATCHING_TOLERANCE) / (1 - MATCHING_TOLERANCE)
    assert min(by_name["adapter"]["scale"], by_name["state"]["scale"]) < 1
    assert max(by_name["adapter"]["scale"], by_name["state"]["scale"]) == 1
    assert by_name["topic"]["volatility"] is None and by_name["instruction"]["volatility"] is None
    assert by_name["topic"]["chat_volatility"]["mean"] > 0 and by_name["instruction"]["chat_volatility"]["mean"] > 0
    assert by_name["base"]["chat_volatility"]["mean"] == by_name["sham"]["chat_volatility"]["mean"] == 0


def test_sham_and_cleared_prompts_are_base_in_every_unit_and_the_levels_are_not(result: dict[str, Any]) -> None:
    assert result["sham_is_base"]
    assert [row["is_base"] for row in result["clearing"]] == [True, True, False, False]
    compared = {(one["quantity"], one["level"]): one for one in result["comparisons"]}
    for level in LEVELS:
        assert not compared["likelihood", level]["is_identical"]
        assert not compared["choice", level]["is_identical"]
    inside = {row["level"]: row["inside"] for row in result["clearing"]}
    assert inside["adapter"] is None
    assert inside["state"]["choice"]["change"] != compared["choice", "state"]["change"]


def test_every_planned_quantity_is_measured_under_every_level(result: dict[str, Any]) -> None:
    planned = {quantity["name"] for quantity in result["quantities"] if quantity["is_planned"]}
    found = {(one["quantity"], one["level"]): one for one in result["comparisons"]}
    for name in planned:
        assert result["random"][name]
        for level in LEVELS:
            assert found[name, level]["holm"] is not None
    assert found["choice", "state"]["n"] == found["unrelated choice", "state"]["n"] == 6
    assert found["admits", "topic"]["n"] == 6
    assert found["reads", "adapter"]["clusters"] <= SMALL.prompts


def test_asked_again_only_what_is_missing_is_asked_and_nothing_changes(home: Home, result: dict[str, Any]) -> None:
    cells = sorted((home.levels / "vowels" / "cells").glob("*.json"))
    written = {path: path.stat().st_mtime_ns for path in cells}
    cells[0].unlink()
    again = compare_levels(home, "vowels", settings=SMALL, dtype="float32")
    assert again == result
    now = {path: path.stat().st_mtime_ns for path in cells}
    assert [path for path in cells if now[path] != written[path]] == cells[:1]


def test_the_page_tells_what_was_found_and_its_numbers_lie_beside_it(result: dict[str, Any], tmp_path: Path) -> None:
    page, plot, numbers = write_page(result, tmp_path / "vowels.md")
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# Four levels of vowels\n\n{' '.join(result['summary'])}\n")
    assert text.count("no change detected") > 3
    for level in ("topic prompt", "instruction", "adapter", "accumulated state"):
        assert f". {level} |" in text
    assert SAID["topic"] in text and SAID["prompted"] in text
    assert plot.read_bytes().startswith(b"<?xml") and "(vowels.svg)" in text
    assert json.loads(numbers.read_text(encoding="utf-8")) == result
    columns = [len(line.replace("\\|", "").split("|")) for line in text.splitlines() if line.startswith("|")]
    assert set(columns) <= {6, 7, 8, 9, 10}


def test_a_script_that_scores_no_choice_is_left_out_and_said_so(home: Home, tmp_path: Path) -> None:
    writes = toy_scenario("writes", levels=SAID)
    writes["trial"]["steps"] = [{"free": {"max_tokens": 4}}]
    writes["detectors"] = [{"name": "gave", "kind": "words", "words": ["give"], "examples": []}]
    path = home.scenarios / "writes.yaml"
    path.write_text(yaml.safe_dump(writes, sort_keys=False), encoding="utf-8")
    other = write_scenario(home.scenarios, "aside", levels=SAID | {"topic": "Write on rope."})
    try:
        subject = read_subject(home, "vowels")
        assert [script.name for script in subject.scripts] == ["aside"] or {
            script.name for script in subject.scripts
        } == {"sorting", "stores"}
        assert dict(subject.left_out)["writes"] == "scores no single choice"
        with pytest.raises(ScenarioError, match="scores no single choice"):
            read_subject(home, "vowels", scripts=[path])
    finally:
        path.unlink()
        other.unlink()


def test_bad_input_is_refused_with_what_to_do(home: Home, tmp_path: Path) -> None:
    with pytest.raises(AxisMissing, match="no axis 'joy'"):
        read_subject(home, "joy")
    with pytest.raises(AdapterError, match="no adapter 'nobody'"):
        read_subject(home, "vowels", adapter="nobody")
    silent = write_scenario(tmp_path, "silent")
    with pytest.raises(ScenarioError, match=r"has no levels\.topic"):
        read_subject(home, "vowels", scripts=[silent])
    with pytest.raises(ScenarioError, match="no script"):
        read_subject(home, "vowels", scripts=[home.scenarios / "sorting.yaml"])
    with pytest.raises(ArgumentError, match="directions 0"):
        LevelSettings(directions=0)


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


def test_one_command_writes_the_page_and_prints_what_it_says(
    overlay: Command, home: Home, result: dict[str, Any], tmp_path: Path
) -> None:
    """What the comparison above has kept is gone on from."""
    out = tmp_path / "docs" / "vowels.md"
    words = ("levels", "vowels", "--home", home.folder, "--dtype", "float32", *WORDS)
    done = overlay(*words, "--out", out)
    assert done.code == 0, done.told
    page = out.read_text(encoding="utf-8")
    first = page.splitlines()[2]
    assert first in done.words and str(out) in done.out
    assert "comparing the levels of vowels" in done.told
    assert "overlay levels vowels --seeds 2 --directions 1" in page
    assert out.with_suffix(".svg").is_file()

    printed = overlay(*words, "--json")
    found = json.loads(printed.out)
    assert printed.code == 0 and " ".join(found["summary"]) == first
    assert found["files"][0] == str(home.folder / ".overlay" / "levels" / "vowels" / "page.md")


def test_what_the_command_refuses(overlay: Command, home: Home) -> None:
    unknown = overlay("levels", "joy", "--home", home.folder)
    assert unknown.code == 1 and "there is no axis 'joy'" in unknown.told
    page = overlay("levels", "vowels", "--home", home.folder, "--out", "page.html")
    assert page.code == 2 and "doesn't end in .md" in page.told
