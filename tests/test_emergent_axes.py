"""Emergent axes of an agent: born of its own drift, accumulated like any other, told, replayed, and retired again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_home import create_toy_home
from typer.testing import CliRunner

from overlay import Agent, Home
from overlay.cli.command_line import app
from overlay.emergent import living
from overlay.inner import Drift, DriftSettings
from overlay.progress import SilentProgress
from overlay.records import read_journal
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


def test_a_session_in_which_an_axis_is_born_is_replayed_to_the_last_bit(home: Home, tiny_llama: Any) -> None:
    plant(home, tiny_llama, strength=3.0)
    with Agent.open(home, model=tiny_llama, clock=clock()) as agent:
        for said in ("hjk", "lmh", "hjk lmh", "lmh hjk"):
            agent.turn(said)
        assert "e1" in agent.state.values
    found = replay(home, "last", model=tiny_llama)
    assert found.is_identical and found.turns == 4 and found.changed == ()


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
