"""Replays and forks: a session lived again is the same to the last bit, and what differs is told with its reason."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_axis import LETTERS, toy_texts
from toy_home import create_fading_home, create_toy_home
from typer.testing import CliRunner

from overlay import Agent, Home
from overlay.agent import Listener
from overlay.audit import audit_lived
from overlay.cli.command_line import app
from overlay.errors import ArgumentError, HomeError, RecordDamaged
from overlay.fork import fork, relive
from overlay.memory import Memory
from overlay.model import LanguageModel
from overlay.records import append_record, read_journal
from overlay.replay import replay, session_journal
from overlay.reprogramming import Decision, decisions
from overlay.session import session_path

pytestmark = pytest.mark.real

VOWELS, CONSONANTS = (toy_texts(LETTERS[name], 30, 8) for name in ("positive", "negative"))
TURNS = 20


def clock() -> Callable[[], float]:
    return map(float, itertools.count(1_900_000_000, 60)).__next__


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Path:
    """A home in which twenty turns were lived in two sittings: with dialogue, recall and an adapter that fades in."""
    folder = tmp_path_factory.mktemp("lived")
    home = create_fading_home(folder, embedder_folder, dialogue={"rounds": 2, "voices": 2})
    with Agent.open(home, dtype="float32", clock=clock()) as agent:
        for place in range(12):
            agent.turn((VOWELS if place % 4 else CONSONANTS)[place])
        session = agent._session.name
    with Agent.open(home, dtype="float32", session=session, clock=clock()) as agent:
        agent.live(VOWELS[12])
        agent.reset_state()
        cancelled = threading.Event()
        for place in range(14, TURNS):
            listener = Listener(piece=lambda piece: cancelled.set()) if place == 16 else None
            agent.turn(VOWELS[place], listener=listener, cancelled=cancelled if place == 16 else None)
    return folder


@pytest.fixture
def home(lived: Path, tmp_path: Path) -> Home:
    """A copy of it that a test may change."""
    return Home.open(shutil.copytree(lived / "home", tmp_path / "home"))


def records(home: Home) -> list[dict[str, Any]]:
    return read_journal(session_path(home.sessions, "last"))


def rewrite(home: Home, changed: list[dict[str, Any]]) -> None:
    path = session_path(home.sessions, "last")
    path.unlink()
    for record in changed:
        append_record(path, record)


def test_twenty_turns_with_dialogue_recall_and_a_fading_adapter_come_out_the_same(home: Home) -> None:
    kept = records(home)
    assert len(kept) == TURNS and {record["kind"] for record in kept} == {"turn", "lived", "reset"}
    assert any(record["adapters"] for record in kept) and not all(record["adapters"] for record in kept)
    assert any(record["recalled"] for record in kept) and any(record["ended"] == "cancelled" for record in kept)
    assert [record["number"] for record in kept if record["opened"]] == [1, 13]
    before = {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}
    found = replay(home, "last")
    assert found.is_identical and found.changed == ()
    said = sum(len(one["tokens"]) for record in kept for one in record["inner_speech"])
    assert found.turns == TURNS - 1 and found.tokens == said + sum(len(record["reply_tokens"]) for record in kept)
    assert {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()} == before


def test_a_replay_needs_no_memory_and_can_run_while_an_agent_is_open(home: Home) -> None:
    (home.lived / "memory.db").unlink()
    with Agent.open(home, dtype="float32") as agent:
        assert replay(home, "last").is_identical
        assert set(agent.model.adapters) == {"ends_in_z"}


def test_an_already_loaded_model_is_left_as_it_was(home: Home) -> None:
    model = LanguageModel.load(home.settings.model, dtype="float32")
    before = model.census()
    assert replay(home, "last", model=model).is_identical and model.census() == before


@pytest.mark.parametrize(
    ("place", "change", "where"),
    [
        (4, lambda one: one["reply_tokens"].__setitem__(2, 65), "the reply"),
        (4, lambda one: one["prompt_tokens"].__setitem__(30, 65), "the reply's prompt"),
        (5, lambda one: one["inner_speech"][1]["tokens"].__setitem__(0, 65), "what .* said in round 1"),
        (6, lambda one: one["state_after"].update(vowels=0.5), "the state's vowels"),
        (6, lambda one: one["doses"].update(vowels=0.5), "the dose of vowels"),
        (7, lambda one: one["changes"][0].update(z=0.5), "what read .* did to vowels"),
    ],
)
def test_the_first_difference_is_told_with_its_place(
    home: Home, place: int, change: Callable[[dict[str, Any]], object], where: str
) -> None:
    changed = records(home)
    change(changed[place])
    rewrite(home, changed)
    found = replay(home, "last").difference
    assert found is not None and found.turn == place + 1 and found.reasons == ()
    assert re.fullmatch(where, found.where)
    if where == "the reply":
        assert found.token == 3 and found.was != found.now


def test_what_changed_since_is_the_reason(home: Home) -> None:
    settings = yaml.safe_load((home.folder / "agent.yaml").read_text())
    settings["reply"]["temperature"] = 1.3
    (home.folder / "agent.yaml").write_text(yaml.safe_dump(settings))
    voice = next(home.voices.glob("*.yaml"))
    voice.write_text(yaml.safe_dump(yaml.safe_load(voice.read_text()) | {"mask": "Say something else."}))
    found = replay(Home.open(home.folder), "last")
    assert found.difference is not None and found.difference.turn == 1
    assert found.difference.reasons == ("agent.yaml changed", "voices changed")
    other = replay(home, "last", dtype="bfloat16")
    assert any("dtype was float32, is bfloat16" in words for words in other.changed)


def test_sessions_that_are_not_there_or_say_too_little_are_refused(home: Home) -> None:
    with pytest.raises(ArgumentError, match="no session 'nobody'"):
        replay(home, "nobody")
    rewrite(home, [record | {"made_with": {}} for record in records(home)])
    with pytest.raises(RecordDamaged, match="doesn't say what it rests on"):
        replay(home, "last")


# --- going on with a session ------------------------------------------------------------------------


def test_the_newest_session_can_be_gone_on_with_and_its_turns_stand_in_the_context(home: Home) -> None:
    (name,) = [path.stem for path in home.sessions.glob("*.jsonl")]
    with Agent.open(home, dtype="float32", session=name) as agent:
        record = agent.turn("hjk").record
    assert record.session == name and record.number == TURNS + 1
    shown = [part["text"] for message in record.contexts[-1]["messages"] for part in message["segments"]]
    assert records(home)[TURNS - 1]["reply"] in shown
    with Agent.open(home, dtype="float32") as agent:
        other = agent.turn("hjk").record
    assert other.session != name and len(other.contexts[-1]["messages"]) == 2
    with pytest.raises(ArgumentError, match="is not the newest session"):
        Agent.open(home, dtype="float32", session=name)


# --- forks ---------------------------------------------------------------------------------------------


def test_a_fork_knows_what_had_happened_by_then_and_nothing_later(home: Home, tmp_path: Path) -> None:
    kept = records(home)
    before = {path: path.read_bytes() for path in home.sessions.rglob("*")}
    made = fork(home, "last", 5, tmp_path / "fork")
    assert [one["number"] for one in records(made.home)] == [1, 2, 3, 4, 5]
    assert [one.user for one in made.follows] == [one["user"] for one in kept[5:]] and made.replies == 13
    with Agent.open(made.home, dtype="float32", session=made.session) as agent:
        assert dict(agent.state.values) == kept[4]["state_after"] and agent.energies == kept[4]["energies"]
        said = {note.id for note in agent.memory.notes() if note.id.startswith("session:")}
        assert {int(one.split(":")[3]) for one in said} == {1, 2, 3, 4, 5}
        assert agent.memory.check().is_whole
        assert agent.turn("hjk").record.number == 6
    assert {path: path.read_bytes() for path in home.sessions.rglob("*")} == before


def test_a_fork_without_state_is_at_rest_and_its_later_turns_show_what_the_state_did(
    home: Home, tmp_path: Path
) -> None:
    made = fork(home, "last", 10, tmp_path / "with")
    bare = fork(home, "last", 10, tmp_path / "without", with_state=False)
    assert records(bare.home)[-1]["kind"] == "reset" and set(records(bare.home)[-1]["state_after"].values()) == {0.0}
    short = [replace(one, follows=one.follows[:2]) for one in (made, bare)]
    kept, rested = (list(relive(one, dtype="float32")) for one in short)
    assert [turn.user for turn in kept] == [turn.user for turn in rested]
    begun = [records(one.home)[-2]["state_before"]["vowels"] for one in (made, bare)]
    assert begun[0] == records(home)[9]["state_after"]["vowels"] > 0.1 and begun[1] == 0.0
    assert kept[0].was == rested[0].was == made.follows[0].reply
    # Both speak with the luck of the original: what they differ by is the state.
    luck = [[one["seed"] for one in records(one.home)[-2:]] for one in (made, bare)]
    assert luck[0] == luck[1] == [one["seed"] for one in records(home)[10:12]]


def test_a_relived_fork_with_the_state_kept_gives_the_originals_replies_and_state_to_the_last_bit(
    home: Home, tmp_path: Path
) -> None:
    """It was lived in float32, in two sittings, with a turn that was only read, a reset and times that passed."""
    original = records(home)
    for turn, until in ((3, 5), (11, 15)):
        made = fork(home, "last", turn, tmp_path / f"fork-{turn}")
        assert made.dtype == "float32"
        short = replace(made, follows=tuple(one for one in made.follows[: until - turn]))
        relived = list(relive(short))
        assert [one.now for one in relived] == [one.was for one in relived] and relived
        assert not any(one.doubt for one in relived)
        for was, now in zip(original[:until], records(made.home), strict=True):
            for fact in ("reply_tokens", "prompt_tokens", "state_after", "doses", "seconds", "seed", "kind"):
                assert was[fact] == now[fact], (turn, was["number"], fact)
            # The clock of the second sitting was set back; a fork's goes on.
            assert was["time"] == now["time"] or was["number"] > 12
        assert replay(made.home, "last").is_identical


def test_where_the_common_turns_come_out_differently_the_originals_replies_are_no_control(
    home: Home, tmp_path: Path
) -> None:
    made = fork(home, "last", 4, tmp_path / "fork")
    changed = yaml.safe_load((made.home.folder / "agent.yaml").read_text())
    (made.home.folder / "agent.yaml").write_text(yaml.safe_dump(changed | {"system": "You answer in rhymes."}))
    other = replace(made, home=Home.open(made.home.folder), follows=made.follows[:1])
    (relived,) = relive(other)
    assert "turn 1" in relived.doubt and "agent.yaml changed" in relived.doubt


def test_a_fork_takes_the_decisions_of_its_time_and_no_later_ones(home: Home, tmp_path: Path) -> None:
    kept = records(home)
    for number, place in enumerate((2, 4, 9), start=1):
        decision = Decision(number, kept[place]["time"], "vowels", "axis", "dropped", kept[place]["time"])
        append_record(home.lived / "reprogramming.jsonl", asdict(decision))
    made = fork(home, "last", 6, tmp_path / "fork")
    assert decisions(made.home) == decisions(home)[:2] and len(decisions(home)) == 3


@pytest.mark.parametrize("place", ["inside", "memory/notes/inside", ".overlay/inside", ".overlay/sessions/../inside"])
def test_a_fork_inside_the_home_is_refused_and_leaves_nothing(home: Home, place: str) -> None:
    before = sorted(home.folder.rglob("*"))
    with pytest.raises(HomeError, match="lies in the home") as told:
        fork(home, "last", 3, home.folder / place)
    assert str(home.folder) in told.value.next_step and sorted(home.folder.rglob("*")) == before


def test_without_a_turn_a_fork_has_all_of_them_and_follows_nothing(home: Home, tmp_path: Path) -> None:
    made = fork(home, "last", None, tmp_path / "fork")
    assert (made.turn, made.follows) == (TURNS, ()) and len(records(made.home)) == TURNS


def test_a_fork_never_lies_over_something_and_leaves_nothing_half_made(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArgumentError, match="has no turn 99"):
        fork(home, "last", 99, tmp_path / "fork")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(HomeError, match="isn't an empty folder"):
        fork(home, "last", 3, tmp_path / "full")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("broken")

    monkeypatch.setattr(Memory, "open", fail)
    with pytest.raises(OSError, match="broken"):
        fork(home, "last", 3, tmp_path / "fork")
    assert not (tmp_path / "fork").exists()


# --- the commands ----------------------------------------------------------------------------------------


def test_the_commands_say_what_was_found(home: Home, tmp_path: Path) -> None:
    run = CliRunner().invoke
    listed = json.loads(run(app, ["sessions", "--home", str(home.folder), "--json"]).stdout)
    assert [one["turns"] for one in listed] == [TURNS - 1], "a reset is no turn"
    same = run(app, ["replay", "last", "--home", str(home.folder)])
    assert same.exit_code == 0 and "Identical: 19 turns" in same.stdout
    assert f"replaying {listed[0]['session']}" in same.stderr and "replaying last" not in same.stderr
    changed = records(home)
    changed[1]["reply_tokens"][0] = 65
    rewrite(home, changed)
    differs = run(app, ["replay", "last", "--home", str(home.folder), "--json"])
    assert differs.exit_code == 6 and json.loads(differs.stdout)["difference"]["where"] == "the reply"
    to = str(tmp_path / "other")
    made = run(app, ["fork", "last", "--turn", "18", "--to", to, "--relive", "--home", str(home.folder), "--json"])
    relived = json.loads(made.stdout)["relived"]
    assert made.exit_code == 0 and len(relived) == 2
    made = run(app, ["fork", "last", "--to", f"{to}2", "--relive", "--dtype", "float32", "--home", str(home.folder)])
    assert made.exit_code == 0 and f"after turn {TURNS}" in made.stdout and "Nothing was said after" in made.stdout
    refused = run(app, ["fork", "last", "--to", str(home.folder / "in"), "--home", str(home.folder)])
    assert isinstance(refused.exception, HomeError)


def test_a_session_can_be_named_by_its_journal(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = session_path(home.sessions, "last")
    monkeypatch.chdir(home.folder)
    for name in (str(path), str(path.relative_to(home.folder)), f".overlay/sessions/{path.name}"):
        assert session_journal(home, name) == path
    elsewhere = shutil.copy(path, tmp_path / path.name)
    for name in (str(elsewhere), f"{home.sessions}/nobody.jsonl"):
        with pytest.raises(ArgumentError, match="is no journal of a session of"):
            session_journal(home, name)
    assert replay(home, str(path)).session == path.stem
    assert fork(home, str(path), 2, tmp_path / "fork").session == path.stem
    assert audit_lived(home, str(path)) == audit_lived(home, path.stem)


# --- the embedded model --------------------------------------------------------------------------------


def test_a_session_of_the_embedded_model_comes_out_the_same(
    tmp_path: Path, embedder_folder: Path, real_model: LanguageModel
) -> None:
    home = create_toy_home(
        tmp_path / "home", embedder_folder, state={}, dialogue={"rounds": 2, "voices": 2}, reply={"max_tokens": 12}
    )
    with Agent.open(home, model=real_model) as agent:
        for said in ("What is volatility?", "And what is a budget?", "Say that in other words.", "Thank you!"):
            agent.turn(said)
    found = replay(home, "last", model=real_model)
    assert found.is_identical and found.turns == 4
