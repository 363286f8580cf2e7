"""Emergent axes of an agent: born of its own drift, accumulated like any other, told, replayed, and retired again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_home import create_toy_home
from typer.testing import CliRunner

from overlay import Agent, Home
from overlay.cli.command_line import app
from overlay.emergent import living, outlook
from overlay.fork import fork, relive
from overlay.inner import Drift, DriftSettings, Emergence, ordinary_subjects
from overlay.progress import SilentProgress
from overlay.records import append_record, read_journal
from overlay.replay import replay
from overlay.session import session_path
from overlay.state import present, reset

pytestmark = pytest.mark.real

TURNS = 20
Opening = Callable[..., Agent]


def settings(**emergent: Any) -> dict[str, Any]:
    return {
        "axes": {"vowels": {"half_life": 4, "gain": 0.3}},
        "emergent": {"after": 8, "every": 1, "shuffles": 199} | emergent,
        "newborn": {"gain": 0.5},
    }


@pytest.fixture
def home(tmp_path: Path, embedder_folder: Path) -> Home:
    return create_toy_home(tmp_path / "home", embedder_folder, state=settings())


def plant(home: Home, model: Any, strength: float, turns: int = TURNS, seed: int = 0) -> None:
    """Drift as a life on one theme leaves it: a direction that stays, in every block, on top of what the home's voices
    say about ordinary things."""
    generator = np.random.default_rng(seed)
    with Agent.open(home, model=model) as agent:
        assert agent._emergents is not None
        neutral = agent._emergents._spoken_neutrally(SilentProgress())
    mean = neutral.samples.mean(0)
    theme = generator.standard_normal(mean.shape)
    theme *= neutral.norms[:, None] / np.linalg.norm(theme, axis=1, keepdims=True)
    drift = Drift.none(*mean.shape, model.digest, DriftSettings())
    for turn in range(turns):
        # The sum of two samples' deviations varies as one sample does, times the root of two.
        one, other = neutral.samples[generator.integers(len(neutral.samples), size=2)] - mean
        lived = mean + strength * theme + (one + other) / np.sqrt(2)
        drift = drift.observe(lived.astype(np.float32), neutral.level, turn=f"then:{turn}")
    drift.save(home.lived / "emergent" / "drift.safetensors")


def clock() -> Callable[[], float]:
    return map(float, itertools.count(1_900_000_000, 60)).__next__


def records(home: Home) -> list[dict[str, Any]]:
    return read_journal(session_path(home.sessions, "last"))


def test_an_axis_is_born_accumulates_is_told_and_taken_up_again(home: Home, tiny_llama: Any) -> None:
    plant(home, tiny_llama, strength=3.0)
    with Agent.open(home, model=tiny_llama, clock=clock()) as agent:
        assert set(agent.state.values) == {"vowels"}
        agent.live("hjk")
        assert set(agent.state.values) == {"vowels"}, "one look is not enough"
        agent.live("lmh")
        assert set(agent.state.values) == {"vowels", "e1"} and agent.state.values["e1"] == 0.0
        agent.turn("hjk lmh")
        felt = agent.state.values["e1"]
        assert felt != 0.0
    kinds = [record["kind"] for record in records(home)]
    assert kinds.count("emerged") >= 2 and kinds[-1] == "emerged"
    born = next(event for record in records(home) for event in record["events"] if event["kind"] == "born")
    assert born["axis"] == "e1" and "e1 was born" in born["words"]
    (turn,) = [record for record in records(home) if record["kind"] == "turn"]
    assert {change["axis"] for change in turn["changes"]} == {"vowels", "e1"}
    assert turn["made_with"]["axes"]["e1"] == living(home)["e1"]
    assert {one.axis: one.value for one in present(home, 1_900_000_000.0)}["e1"] == felt
    with Agent.open(home, model=tiny_llama, clock=clock()) as agent:
        assert agent.state.values["e1"] == felt and agent.influence.axes["e1"].method == "emergent"
    assert reset(home, 1_900_009_000.0) is not None
    assert {one.value for one in present(home, 1_900_009_000.0)} == {0.0}


def test_neutral_speech_is_asked_what_a_life_of_its_subjects_would_be_asked(home: Home, tiny_llama: Any) -> None:
    """Other masks or questions would be drift that no subject caused."""
    subjects = ordinary_subjects()[:6]
    with Agent.open(home, model=tiny_llama, clock=clock()) as agent:
        asked = [[(one.voice.name, one.frame, one.question) for one in turns] for turns in agent.mind.asked(subjects)]
        for subject in subjects:
            agent.live(subject)
    lived = [
        [(one["voice"], one["frame"], one["question"]) for one in record["inner_speech"] if one["round"] == 1]
        for record in records(home)
    ]
    assert asked == lived and len({question for turns in asked for *_, question in turns}) > 1


def test_a_session_in_which_an_axis_is_born_is_replayed_to_the_last_bit(home: Home, tiny_llama: Any) -> None:
    plant(home, tiny_llama, strength=3.0)
    with Agent.open(home, model=tiny_llama, clock=clock()) as agent:
        for said in ("hjk", "lmh", "hjk lmh", "lmh hjk"):
            agent.turn(said)
        assert "e1" in agent.state.values
    found = replay(home, "last", model=tiny_llama)
    assert found.is_identical and found.turns == 4 and found.changed == ()


def test_a_fork_from_before_a_birth_has_no_axis_and_gives_birth_to_it_at_the_same_turn(
    home: Home, tmp_path: Path, tiny_llama: Any
) -> None:
    plant(home, tiny_llama, strength=3.0)
    said = ("hjk", "lmh", "hjk lmh", "lmh hjk")
    with Agent.open(home, model=tiny_llama, clock=clock()) as agent:
        for one in said:
            agent.turn(one)
    kept = records(home)
    born = next(place for place, one in enumerate(kept) if one["kind"] == "emerged")
    made = fork(home, "last", kept[born - 2]["number"], tmp_path / "before")
    assert living(made.home) == {} and outlook(made.home).axes == ()
    cut = Drift.load(made.home.lived / "emergent" / "drift.safetensors")
    later = Drift.load(home.lived / "emergent" / "drift.safetensors")
    assert cut.count == TURNS + 1 and cut.turns == later.turns[: TURNS + 1]
    assert outlook(made.home).looks == outlook(home).looks - 3
    (*relived,) = relive(made, model=tiny_llama)
    assert [one.now for one in relived] == [one.was for one in relived] and len(relived) == 3
    assert [one.state_now for one in relived] == [one.state_was for one in relived]
    again = records(made.home)
    assert [one["events"] for one in again] == [one["events"] for one in kept]
    assert living(made.home) == living(home)
    assert Drift.load(made.home.lived / "emergent" / "drift.safetensors").turns == later.turns


def test_a_fork_from_after_a_birth_has_the_axis_as_it_was_in_force_and_knows_its_age(
    home: Home, tmp_path: Path, tiny_llama: Any
) -> None:
    plant(home, tiny_llama, strength=3.0)
    with Agent.open(home, model=tiny_llama, clock=clock()) as agent:
        for one in ("hjk", "lmh", "hjk lmh", "lmh hjk"):
            agent.live(one)
    kept = records(home)
    turn = next(one for one in reversed(kept) if one["kind"] == "lived")
    made = fork(home, "last", turn["number"], tmp_path / "after")
    assert living(made.home) == {"e1": turn["made_with"]["axes"]["e1"]}
    (axis,), (now,) = outlook(made.home).axes, outlook(home).axes
    assert (axis.name, axis.born, axis.age) == ("e1", now.born, now.age - 1)
    bare = fork(home, "last", turn["number"], tmp_path / "bare", with_state=False)
    assert living(bare.home) == living(made.home)
    with Agent.open(bare.home, model=tiny_llama, session=bare.session) as agent:
        assert agent.state.values == {"vowels": 0.0, "e1": 0.0}
        agent.live("hjk")
        assert Drift.load(bare.home.lived / "emergent" / "drift.safetensors").count == TURNS + 5


def test_a_newborn_axis_is_not_filled_by_its_first_turn(home: Home, tiny_llama: Any) -> None:
    """The planted life lies six deviations of neutral speech away on the axis, as lives on one theme do."""
    plant(home, tiny_llama, strength=3.0)
    with Agent.open(home, model=tiny_llama, clock=clock()) as agent:
        agent.live("hjk")
        agent.live("lmh")
        axis = agent.influence.axes["e1"]
        drift = Drift.load(home.lived / "emergent" / "drift.safetensors")
        neutral = agent._emergents._spoken_neutrally(SilentProgress())  # type: ignore[union-attr]
    lived = [axis.project(one + neutral.level) for one in drift.recent[:TURNS]]
    assert 0.7 < np.median(lived) < 1.3 and max(lived) < 3


def test_the_command_is_readable_on_eighty_columns(
    home: Home, tiny_llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(home, tiny_llama, strength=3.0)
    with Agent.open(home, model=tiny_llama) as agent:
        for one in ("hjk", "lmh", "hjk lmh"):
            agent.live(one)
    path = home.lived / "emergent" / "emergence.safetensors"
    emergence, (own, *others) = Emergence.load(path), records(home)
    session, long = own["session"], "a long thing that somebody said on one of those evenings"
    loads = tuple((f"{session}:{number}", 0.5 - number / 10) for number in (1, 2))
    replace(emergence, axes=(replace(emergence.axes[0], born=f"{session}:2", loadings=loads),)).save(path)
    journal = session_path(home.sessions, session)
    journal.unlink()
    for one in (own | {"user": long}, *others):
        append_record(journal, one)

    def told() -> list[str]:
        done = CliRunner().invoke(app, ["axes", "emergent", "--home", str(home.folder)])
        assert done.exit_code == 0, done.output
        return done.stdout.splitlines()

    monkeypatch.setenv("COLUMNS", "80")
    lines = told()
    assert max(map(len, lines)) <= 80 and not any(session in line for line in lines)
    (row,) = [line for line in lines if "e1" in line.split()[:1]]
    assert "turn 2" in row
    first, second = (next(place for place, line in enumerate(lines) if f"turn {n}:" in line) for n in (1, 2))
    assert second == first + 1 and "+0.400 turn 1: a long thing that somebody" in lines[first]
    append_record(home.sessions / "20200101-000000-aaaa.jsonl", own | {"session": "20200101-000000-aaaa"})
    assert any(f"{session}:1" in line for line in told()), "with several sessions each turn has its session's name"


def test_without_a_theme_nothing_is_born_and_without_the_setting_nothing_is_gathered(
    home: Home, tmp_path: Path, embedder_folder: Path, tiny_llama: Any
) -> None:
    plant(home, tiny_llama, strength=0.0)
    with Agent.open(home, model=tiny_llama) as agent:
        agent.live("hjk")
        agent.live("lmh")
        assert set(agent.state.values) == {"vowels"}
    off = create_toy_home(tmp_path / "off", embedder_folder)
    with Agent.open(off, model=tiny_llama) as agent:
        agent.live("hjk")
    assert not (off.lived / "emergent").exists()


def test_what_a_killed_process_did_not_gather_is_gathered_when_the_home_is_opened(home: Home, tiny_llama: Any) -> None:
    with Agent.open(home, model=tiny_llama) as agent:
        agent.live("hjk")
        before = (home.lived / "emergent" / "drift.safetensors").read_bytes()
        agent.live("lmh")
        after = Drift.load(home.lived / "emergent" / "drift.safetensors")
    (home.lived / "emergent" / "drift.safetensors").write_bytes(before)
    Agent.open(home, model=tiny_llama).close()
    again = Drift.load(home.lived / "emergent" / "drift.safetensors")
    assert again.turns == after.turns and again.count == 2
    np.testing.assert_allclose(again.mean, after.mean, atol=1e-5)


def test_the_command_tells_what_lives_and_when_it_looks_again(home: Home, tiny_llama: Any) -> None:
    def told(*options: str) -> Any:
        done = CliRunner().invoke(app, ["axes", "emergent", "--home", str(home.folder), *options])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if options else done.stdout

    assert told("--json") == {"on": True, "turns": 0, "looks": 0, "next_look": 8, "axes": []}
    plant(home, tiny_llama, strength=3.0)
    with Agent.open(home, model=tiny_llama) as agent:
        agent.live("hjk")
        agent.live("the second turn")
    (axis,) = told("--json")["axes"]
    assert axis["name"] == "e1" and axis["p"] <= 0.01 and axis["in_force"] == living(home)["e1"]
    assert "e1" in told() and "22 turns of inner speech, 2 looks" in told()
