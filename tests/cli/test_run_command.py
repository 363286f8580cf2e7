"""The commands `run` and `report`: verdicts on screen and as JSON, runs that go on, and what is refused."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from adapters.tiny_home import TEMPLATE
from command import Command, command
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home
from toy_scenario import toy_scenario, write_scenario

from overlay.cli import main
from overlay.scenarios import run as run_module
from overlay.scenarios.cells import Group, Record
from overlay.scenarios.engine import LocalEngine

pytestmark = pytest.mark.real  # a home's frames are woken by the embedder

CORE = ["base", "treated", "sham", "reversed", "random_norm", "random_volatility"]
WHOLE: dict[str, Any] = {
    "neutral": ["Tin is a metal.", "Rope is sold by the yard."],
    "levels": {"topic": "Write on tin.", "prompted": "Be calm.", "adapter": "ends_in_z"},
    "positive_control": "Give all away.",
    "arms": [{"name": "slow", "instruction": "Be slow.", "adapters": {"ends_in_z": 0.5}}],
    "probes": {"free": ["What moved you?"], "max_tokens": 4},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Path:
    """A toy home with its model beside it, and an adapter that nobody trained yet."""
    place = tmp_path_factory.mktemp("run-command")
    tiny_module("llama").save_pretrained(place / "model")
    byte_tokenizer().save_pretrained(place / "model")
    home = create_toy_home(place / "home", embedder_folder, model=str(place / "model"))
    recipe = home.folder / "adapters" / "lora" / "ends_in_z" / "recipe.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(TEMPLATE.format(name="ends_in_z", letter="z", steps=3))
    return home.folder


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


@pytest.fixture
def run(overlay: Command, made: Path) -> Command:
    """`overlay run` in the toy home, with few directions."""
    return lambda *words: overlay("run", *words, "--home", made, "--dtype", "float32", "--directions", "2")


@dataclass(frozen=True)
class Finished:
    """A run of the toy script with few directions: where it lies, and what it printed."""

    script: Path
    out: Path
    printed: str

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "result.json").read_text())
        return found


@pytest.fixture(scope="module")
def finished(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    script, out = write_scenario(folder), folder / "out"
    words = ["overlay", "run", script, "--home", made, "--dtype", "float32", "--directions", "2", "--out", out]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setenv("COLUMNS", "240")
        patch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return Finished(script, out, printed.getvalue())


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Path:
    """That run, to be changed."""
    return Path(shutil.copytree(finished.out, tmp_path / "out"))


def cells_in(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "cells").iterdir())}


# --- one script ----------------------------------------------------------------------------------


def test_a_script_ends_in_a_verdict_on_screen_and_a_report(finished: Finished) -> None:
    result, words = finished.result, " ".join(finished.printed.split())
    assert result["verdict"] == "no change detected"
    assert "toy: no change detected" in words and result["headline"] in words
    assert result["reasons"] and all(" ".join(reason.split()) in words for reason in result["reasons"])
    assert f"State after the exposure: vowels {result['state']['vowels']:+.2f}" in words
    for name in ("base", "treated", "sham", "reversed", "random, same norm", "random, same volatility"):
        assert name in finished.printed
    assert f"Report: {finished.out / 'report.html'}" in words
    page = (finished.out / "report.html").read_text()
    assert "<svg" in page and result["headline"].split(":")[0] in page
    assert result["command"] == f"overlay run {finished.script} --arms core --directions 2"


def test_json_is_the_result_with_its_report_and_nothing_else(run: Command, finished: Finished, copied: Path) -> None:
    done = run(finished.script, "--out", copied, "--json")
    result = json.loads(done.out)
    assert done.code == 0 and done.out.count("\n") == 1
    assert result.pop("report") == str(copied / "report.html")
    assert result == json.loads((copied / "result.json").read_text())
    assert list(result["arms"]) == CORE and cells_in(copied) == cells_in(finished.out)


def test_a_negative_control_is_told_as_one_and_without_a_folder_a_run_lies_in_the_home(
    run: Command, made: Path, tmp_path: Path
) -> None:
    done = run(write_scenario(tmp_path, "placed", control="negative"))
    assert "placed (a negative control: nothing should change): no change detected" in done.out
    (folder,) = (made / ".overlay" / "runs").glob("placed-*")
    assert (folder / "result.json").exists() and f"Report: {folder / 'report.html'}" in done.out


def test_all_arms_are_run_the_adapter_trained_and_others_as_without_it(run: Command, tmp_path: Path) -> None:
    """An arm that shares its model with resident adapters does what it does alone."""
    script, out = write_scenario(tmp_path, **WHOLE), tmp_path / "all"
    core, whole = run(script, "--out", tmp_path / "core"), run(script, "--arms", "all", "--out", out)
    result = json.loads((out / "result.json").read_text())
    assert (core.code, whole.code) == (0, 0)
    assert list(result["arms"]) == [
        *(*CORE, "dose_0.5", "dose_1.5", "zeroed", "neutral", "shuffled"),
        *("topic", "prompted", "adapter", "positive_control", "slow"),
    ]
    assert [one["name"] for one in result["levels"]] == ["base", "topic", "prompted", "adapter", "state"]
    assert result["arms"]["adapter"]["volatility_mean"] > 0 and result["arms"]["adapter"]["shift"] != 0
    assert f"Asked about itself: {result['self_report']['verdict']}" in whole.out
    assert {one["ask"] for one in result["self_report"]["free"]} == {"What moved you?"}
    kept, known = cells_in(out), cells_in(tmp_path / "core")
    # Those of base and treated were asked about themselves in one run only.
    shared = {name: cell for name, cell in known.items() if json.loads(cell)["arm"] not in ("base", "treated")}
    assert shared and {name: kept[name] for name in shared} == shared


# --- several scripts -----------------------------------------------------------------------------


def test_several_scripts_have_a_verdict_each_and_one_together(run: Command, overlay: Command, tmp_path: Path) -> None:
    scripts = [write_scenario(tmp_path, name) for name in ("first", "second")]
    out = tmp_path / "out"
    done = run(*scripts, "--out", out)
    overall = json.loads((out / "overall.json").read_text())
    assert done.code == 0
    assert "first: no change detected" in done.out and "second: no change detected" in done.out
    assert f"All together: {overall['verdict']}" in done.out and overall["headline"] in done.words
    assert f"Report: {out / 'report.html'}" in done.out
    page = (out / "report.html").read_text()
    assert "first/report.html" in page and "second/report.html" in page

    printed = json.loads(run(*scripts, "--out", out, "--json").out)
    assert printed["overall"] == overall and [one["scenario"] for one in printed["runs"]] == ["first", "second"]

    (out / "report.html").unlink()
    (out / "first" / "report.html").unlink()
    done = overlay("report", out)
    assert done.code == 0 and f"All of them: {out / 'report.html'}" in done.out
    assert (out / "report.html").read_text() == page and (out / "first" / "report.html").exists()
    again = json.loads(overlay("report", out, "--json").out)
    assert again["overall"] == overall and again["report"] == str(out / "report.html")


def test_two_scripts_of_one_name_are_refused(run: Command, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    done = run(write_scenario(tmp_path), write_scenario(tmp_path / "other"), "--out", tmp_path / "out")
    assert done.code == 2 and "two scripts are named 'toy'" in done.told and not (tmp_path / "out").exists()


# --- going on ------------------------------------------------------------------------------------


class Interrupted(LocalEngine):
    """Ctrl-C after three groups."""

    def play(self, groups: Sequence[Group]) -> Iterator[tuple[Group, list[Record]]]:
        yield from super().play(groups[:3])
        raise KeyboardInterrupt


def test_a_stopped_run_says_where_it_can_go_on_and_goes_on_there(
    run: Command, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "LocalEngine", Interrupted)
        stopped = run(finished.script, "--out", out)
    assert stopped.code == 130 and f"add --out {out} to go on from there" in stopped.told
    assert "Traceback" not in stopped.told and not (out / "result.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert len(kept) == 3 * 12
    assert run(finished.script, "--out", out).code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert cells_in(out) == cells_in(finished.out)
    assert (out / "records.jsonl").read_bytes() == (finished.out / "records.jsonl").read_bytes()


def test_a_changed_promise_is_refused_and_going_on_all_the_same_is_said_for_good(
    run: Command, copied: Path, tmp_path: Path
) -> None:
    script = write_scenario(tmp_path, preregistration={"comparisons": ["treated", "reversed"]})
    refused = run(script, "--out", copied)
    assert refused.code == 2 and "before the preregistration was changed" in refused.told
    assert "--out" in refused.told and "--exploratory" in refused.told and "Traceback" not in refused.told
    for words in (["--exploratory"], []):
        done = run(script, "--out", copied, *words)
        assert done.code == 0 and "Exploratory: " in done.out
        assert "Exploratory: " in (copied / "report.html").read_text()
        assert json.loads((copied / "result.json").read_text())["exploratory"] is True


# --- reports and logs ----------------------------------------------------------------------------


def test_a_report_is_written_again_from_the_result_alone(overlay: Command, copied: Path, finished: Finished) -> None:
    tables = {path.name: path.read_bytes() for path in copied.rglob("*.csv")}
    for path in [copied / "report.html", *copied.rglob("*.csv")]:
        path.unlink()
    shutil.rmtree(copied / "cells")
    done = overlay("report", copied)
    assert done.code == 0 and f"toy: no change detected. {copied / 'report.html'}" in done.out
    assert {path.name: path.read_bytes() for path in copied.rglob("*.csv")} == tables != {}
    page = (copied / "report.html").read_text().replace(str(copied), str(finished.out))
    assert page == (finished.out / "report.html").read_text()
    printed = json.loads(overlay("report", copied, "--json").out)
    assert [one["report"] for one in printed["runs"]] == [str(copied / "report.html")]


def test_inspect_logs_are_written_when_asked_for(
    run: Command, overlay: Command, finished: Finished, copied: Path
) -> None:
    pytest.importorskip("inspect_ai")
    assert not (finished.out / "inspect").exists()
    done = run(finished.script, "--out", copied, "--inspect", "--json")
    logs = sorted((copied / "inspect").iterdir())
    assert done.code == 0 and len(logs) == len(CORE) and json.loads(done.out)["report"]
    shutil.rmtree(copied / "inspect")
    done = overlay("report", copied, "--inspect")
    assert done.code == 0 and sorted((copied / "inspect").iterdir()) == logs and str(logs[0]) in done.out


def test_a_folder_without_a_finished_run_has_no_report(overlay: Command, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        done = overlay("report", folder)
        assert done.code != 0 and f"{folder} holds no finished run" in done.told and "--out" in done.told
    (tmp_path / "result.json").write_text("{")
    done = overlay("report", tmp_path)
    assert done.code != 0 and "result.json can't be read" in done.told and "Traceback" not in done.told


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--arms", "some"], "use core or all"),
        (["--engine", "some"], "use local or ray"),
        (["--address", "here:1"], "--address goes with --engine ray"),
        (["--actors", "0"], "--actors"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_options_are_told_before_anything_is_done(
    run: Command, tmp_path: Path, words: list[str], told: str
) -> None:
    done = run(write_scenario(tmp_path), "--out", tmp_path / "out", *words)
    assert done.code == 2 and told in done.told and not (tmp_path / "out").exists()


def test_no_directions_are_refused(overlay: Command, made: Path, tmp_path: Path) -> None:
    done = overlay("run", write_scenario(tmp_path), "--home", made, "--directions", "0", "--out", tmp_path / "out")
    assert done.code == 2 and "--directions" in done.told and not (tmp_path / "out").exists()


def wrong(**changes: Any) -> dict[str, Any]:
    return toy_scenario("wrong") | changes


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (wrong(primary="nothing"), "'nothing' is none of the detectors"),
        (wrong(forbidden=["stores"]), "contains the forbidden word 'stores'"),
        (wrong(arms=[{"name": "treated"}]), "another arm is named 'treated'"),
        (wrong(preregistration={"comparisons": ["slow"]}), "'slow' is no arm"),
        (wrong(axes=["height"]), "there is no axis 'height'"),
        (wrong(levels={"adapter": "gone"}), "gone"),
    ],
    ids=["primary", "forbidden", "arm", "comparison", "axis", "adapter"],
)
def test_a_mistake_in_the_last_script_is_told_before_the_first_one_is_run(
    run: Command, tmp_path: Path, content: dict[str, Any], told: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    done = run(write_scenario(tmp_path), path, "--arms", "all", "--out", tmp_path / "out")
    assert done.code != 0 and told in done.told and "Traceback" not in done.told
    assert done.out == "" and not (tmp_path / "out").exists()


def test_a_script_that_is_not_there_is_told(run: Command, tmp_path: Path) -> None:
    done = run(tmp_path / "none.yaml", "--out", tmp_path / "out")
    assert done.code == 2 and "none.yaml" in done.told and "does not exist" in done.told
