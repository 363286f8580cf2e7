"""The frames command: mistakes with their lines, drawings, traces that change nothing, and forgetting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Command, command

from overlay.frames import LearnedWeights, read_learned, write_learned
from overlay.home import Home, create_home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return create_home(tmp_path / "home")


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys, "frames")


def test_stock_frames_have_no_mistakes(overlay: Command, home: Home) -> None:
    done = overlay("check", "--home", home.folder)
    assert (done.code, done.out) == (0, "18 frames: OK\n")


def test_mistakes_stand_with_line_and_what_was_expected(overlay: Command, home: Home) -> None:
    path = home.frames / "ledger.yaml"
    path.write_text("name: ledger\ndescription: d\ncuse: [a]\nthreshold: 2\n")
    done = overlay("check", "--home", home.folder)
    assert done.code == 2
    assert f"{path}:3: 'cuse' is not a known key; expected: 'cues', or another of" in done.out
    assert f"{path}:4: threshold" in done.out
    (listed,) = [one for one in json.loads(overlay("check", path, "--json").out) if not one["ok"]]
    assert [one["line"] for one in listed["mistakes"]][:2] == [3, 4]


@pytest.mark.parametrize(
    "wrong", ["links: {ghost: 1}", "voices: [ghost]", "pushes: {ghost: 1}", "adapter: {name: ghost}"]
)
def test_what_leads_nowhere_in_this_home_is_a_mistake(overlay: Command, home: Home, wrong: str) -> None:
    (home.frames / "mine.yaml").write_text(f"name: mine\ndescription: d\ncues: [c]\n{wrong}\n")
    done = overlay("check", "--home", home.folder)
    assert done.code == 2 and "mine.yaml:4:" in done.out and "'ghost'" in done.out


def test_a_new_frame_is_without_mistakes_and_overwrites_nothing(overlay: Command, home: Home) -> None:
    assert overlay("new", "shorter_way", "--home", home.folder).code == 0
    assert overlay("check", "--home", home.folder).out == "19 frames: OK\n"
    again = overlay("new", "shorter_way", "--home", home.folder)
    assert again.code == 2 and "there already" in again.told


def test_show_draws_the_frames_at_rest_with_what_was_learned(overlay: Command, home: Home, tmp_path: Path) -> None:
    write_learned(home.lived / "frames.json", LearnedWeights({"origin": {"ledger": 0.25}}, 4))
    assert "Nothing was said yet" in overlay("show", "--home", home.folder).out
    rows = json.loads(overlay("show", "--home", home.folder, "--json").out)
    assert rows["learned_turns"] == 4 and len(rows["frames"]) == 18
    origin = next(one for one in rows["frames"] if one["name"] == "origin")
    assert {"to": "ledger", "weight": 0.25, "learned": 0.25} in origin["links"]
    html, dot = tmp_path / "frames.html", tmp_path / "frames.dot"
    assert overlay("show", "--home", home.folder, "--html", html, "--dot", dot).code == 0
    assert "<svg" in html.read_text() and dot.read_text().startswith("digraph")


def test_reset_forgets_what_was_learned_and_nothing_else(overlay: Command, home: Home) -> None:
    assert "Nothing was learned" in overlay("reset", "--home", home.folder).out
    path = home.lived / "frames.json"
    write_learned(path, LearnedWeights({"origin": {"ledger": 0.25}}, 4))
    assert overlay("reset", "--home", home.folder).code == 0
    assert read_learned(path).changes == {}
    path.write_text("torn")
    assert overlay("show", "--home", home.folder).code == 1
    assert overlay("reset", "--home", home.folder).code == 0
    assert overlay("show", "--home", home.folder).code == 0


@pytest.mark.real
def test_a_trace_says_what_woke_what_and_what_it_would_do(overlay: Command, home: Home) -> None:
    text = "We have spent most of the budget. How much is left for everybody?"
    found = json.loads(overlay("trace", text, "--home", home.folder, "--json").out)
    assert found["active"][0] == "ledger"
    first = found["frames"][0]
    assert (first["name"], first["cause"]["cue"]) == ("ledger", first["match"]["cue"])
    assert first["match"]["standing"] > 2
    assert found["effects"]["questions"][0][0] == "ledger"
    words = overlay("trace", text, "--home", home.folder).words
    assert "asks: What has been spent so far?" in words and "calls: accountant" in words
    assert not list(home.sessions.glob("*"))
    quiet = overlay("trace", "The castle has four round towers.", "--home", home.folder)
    assert "active: " not in quiet.out and quiet.code == 0
