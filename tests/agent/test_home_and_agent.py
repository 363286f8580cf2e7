"""Homes and agents: what was answered is kept through closing, killing and full disks; what is wrong is told."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_axis import BUDGET, LETTERS, toy_contrast, toy_texts, write_contrast
from toy_home import toy_settings, write_settings

from overlay import Agent, Home, Reply
from overlay.agent import Listener
from overlay.errors import (
    ArgumentError,
    AxisMissing,
    AxisUnproven,
    DocumentError,
    HomeError,
    HomeLocked,
    StorageFull,
)
from overlay.home import CONTENT_FOLDERS, create_home, stock_folder
from overlay.model import NO_VOLATILITY
from overlay.records import read_journal

TESTS = Path(__file__).parents[1]
VOWELS, CONSONANTS = toy_texts(LETTERS["positive"], 1, 8)[0], toy_texts(LETTERS["negative"], 1, 8)[0]


# --- homes ---------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_new_home_is_the_stock_home(tmp_path: Path) -> None:
    home = create_home(tmp_path / "deep" / "home")
    stock = stock_folder()
    expected = {name: data for part in CONTENT_FOLDERS for name, data in contents(stock / part).items()}
    assert {name.split("/", 1)[1] for name in contents(home.folder) if "/" in name} == set(expected)
    assert (home.folder / "agent.yaml").read_bytes() == (stock / "agent.yaml").read_bytes()
    assert home == Home.open(home.folder) and not home.lived.exists()


def test_a_new_home_may_be_made_in_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert create_home(tmp_path / "empty").folder == tmp_path / "empty"


@pytest.mark.parametrize("there", ["a file", "a hidden file", "a folder", "not a folder"])
def test_a_home_is_never_made_over_something_and_what_is_there_stays_untouched(tmp_path: Path, there: str) -> None:
    target = tmp_path / "mine"
    if there == "not a folder":
        target.write_text("mine")
    elif there == "a folder":
        (target / "memory").mkdir(parents=True)
    else:
        target.mkdir()
        (target / (".hidden" if "hidden" in there else "agent.yaml")).write_text("mine")
    before = sorted(tmp_path.rglob("*")), contents(tmp_path)
    with pytest.raises(HomeError, match="isn't an empty folder"):
        create_home(target)
    assert (sorted(tmp_path.rglob("*")), contents(tmp_path)) == before


def test_a_home_that_does_not_fit_on_the_disk_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(StorageFull):
        create_home(tmp_path / "home")
    assert not (tmp_path / "home").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageFull):
        create_home(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("place", [".", "nowhere"])
def test_a_folder_without_agent_yaml_is_no_home(tmp_path: Path, place: str) -> None:
    with pytest.raises(HomeError, match=r"no agent\.yaml") as caught:
        Home.open(tmp_path / place)
    assert "overlay init" in caught.value.next_step


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("name: a\nsystem: b\nbudgte: 0.1\n", 3, "'budgte' is not a known key"),
        ("name: a\nsystem: b\nstate:\n  axes:\n    x:\n      half_lief: 3\n", 6, "half_lief"),
        ("name: a\nsystem: b\nbudget: 0\n", 3, "budget"),
        ("name: a\nsystem: b\ndialogue: {mode: loud}\n", 3, "found 'loud'"),
        ("name: a\nsystem: b\nreply: {top_p: 0}\n", 3, "reply.top_p"),
        ("name: a\nsystem: 'b\n", 3, "not valid YAML"),
        ("name: a\nsystem: b\nadapter: {name: ../up}\n", 3, "adapter.name"),
    ],
)
def test_a_mistake_in_agent_yaml_is_told_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    (tmp_path / "agent.yaml").write_text(text)
    with pytest.raises(DocumentError, match=rf"agent\.yaml:{line}: ") as caught:
        Home.open(tmp_path)
    assert caught.value.line == line and said in str(caught.value)


# --- turns ---------------------------------------------------------------------------------------


def journalled(home: Path) -> list[dict[str, Any]]:
    """All turns of all sessions, oldest first."""
    records = [record for path in (home / ".overlay" / "sessions").glob("*.jsonl") for record in read_journal(path)]
    return sorted(records, key=lambda record: float(record["time"]))


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.real
def test_a_turn_tells_what_was_said_recalled_and_moved(agent: Agent, home: Path) -> None:
    reply = agent.turn("How is volatility measured?")
    assert reply.text and reply.text == reply.record.reply
    assert [entry.note.id for entry in reply.recalled] == [entry["id"] for entry in reply.record.recalled]
    assert any("volatility" in entry.note.id for entry in reply.recalled)
    assert all(entry.terms for entry in reply.recalled)
    assert set(reply.state) == {"vowels"} and reply.state == agent.state.values
    assert 0 <= reply.volatility.mean <= BUDGET
    assert {change.source for change in reply.changes} == {"read", "inner speech", "said"}
    assert reply.changes[-1].after == reply.state["vowels"]
    (record,) = journalled(home)
    assert record == json.loads(json.dumps(reply.record.__dict__)) and record["number"] == 1
    assert record["state_before"] == {"vowels": 0.0} and record["state_after"] == reply.state
    assert record["model_digest"] == agent.model.digest


@pytest.mark.real
def test_frames_that_a_turn_wakes_are_told_with_their_cause(agent: Agent) -> None:
    reply = agent.turn("How much is left, and how long will our supplies last?")
    assert reply.frames[0].frame.name == "ledger" and "supplies" in str(reply.frames[0].cause)
    assert reply.record.frames[0]["name"] == "ledger"
    assert reply.dialogue is not None and reply.dialogue.utterances[0].frame == "ledger"


@pytest.mark.real
def test_what_the_agent_reads_moves_its_state_and_the_state_acts_inside_the_budget(
    home: Path, embedder_folder: Path, tiny_llama: Any
) -> None:
    quiet = write_settings(home, toy_settings(embedder_folder, dialogue={"mode": "off"}))
    with Agent.open(quiet, model=tiny_llama) as agent:
        for _ in range(3):
            agent.live(VOWELS)
        up, raised = agent.state.values["vowels"], agent.intervention()
        for _ in range(6):
            agent.live(CONSONANTS)
        down, lowered = agent.state.values["vowels"], agent.intervention()
    assert up > 0.2 and down < -0.2
    assert raised.intervention.doses[0].coefficient > 0 > lowered.intervention.doses[0].coefficient
    assert 0 < raised.volatility.mean <= BUDGET and 0 < lowered.volatility.mean <= BUDGET


@pytest.mark.real
def test_every_part_of_the_replys_context_says_where_it_came_from_and_inner_speech_is_no_part(agent: Agent) -> None:
    agent.turn("How is volatility measured?")
    reply = agent.turn("And what is a budget?")
    *inner, context = reply.record.contexts
    assert context["purpose"] == "reply" and all(one["purpose"].startswith("voice:") for one in inner)
    sources = [segment["source"] for message in context["messages"] for segment in message["segments"]]
    assert sources[:3] == ["system", "user", "reply"] and sources[-1] == "user"
    assert reply.recalled and [f"note:{entry.note.id}" for entry in reply.recalled] == [
        source for source in sources if source.startswith("note:")
    ]
    assert {source.split(":")[0] for source in sources} <= {"system", "user", "reply", "note", "template"}
    told = " ".join(segment["text"] for message in context["messages"] for segment in message["segments"])
    assert inner and not any(said["text"] in told for said in reply.record.inner_speech if len(said["text"]) > 3)


@pytest.mark.real
def test_the_same_life_from_the_same_seed_is_the_same(built_home: Path, tmp_path: Path, tiny_llama: Any) -> None:
    lives = []
    for name in ("one", "two"):
        with Agent.open(shutil.copytree(built_home, tmp_path / name), model=tiny_llama) as agent:
            agent.live(VOWELS)
            reply = agent.turn("Well?")
            lives.append((reply.text, dict(reply.state), reply.record.inner_speech, reply.volatility))
    assert lives[0] == lives[1]


@pytest.mark.real
def test_without_axes_nothing_is_steered(home: Path, embedder_folder: Path, tiny_llama: Any) -> None:
    plain = write_settings(home, toy_settings(embedder_folder, state={}, dialogue={"mode": "off"}))
    with Agent.open(plain, model=tiny_llama) as agent:
        reply = agent.turn("Hello.")
    assert reply.text and reply.state == {} and reply.volatility == NO_VOLATILITY and reply.dialogue is None
    assert reply.record.doses == {}


@pytest.mark.real
def test_the_async_twin_answers_without_holding_up_the_loop(agent: Agent, home: Path) -> None:
    async def talk() -> Reply:
        return await agent.aturn("Hello.")

    reply = asyncio.run(talk())
    assert isinstance(reply, Reply) and [record["reply"] for record in journalled(home)] == [reply.text]


@pytest.mark.real
def test_cancelling_the_async_twin_keeps_what_was_said_so_far(agent: Agent, home: Path) -> None:
    async def talk() -> None:
        replying, loop = asyncio.Event(), asyncio.get_running_loop()
        go_on = threading.Event()

        def stage(name: str) -> None:
            if name == "replying":
                loop.call_soon_threadsafe(replying.set)
                go_on.wait(60)

        task = asyncio.create_task(agent.aturn("Hello.", listener=Listener(stage=stage)))
        await replying.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(talk())
    (record,) = journalled(home)
    assert record["ended"] == "cancelled" and len(record["reply_tokens"]) < 12
    assert agent.turn("Still there?").record.number == 2


@pytest.mark.real
def test_a_turn_of_nothing_and_a_closed_agent_are_refused(home: Path, tiny_llama: Any) -> None:
    agent = Agent.open(home, model=tiny_llama)
    with pytest.raises(ArgumentError, match="needs some text"):
        agent.turn(" \n")
    agent.close()
    agent.close()
    for speak in (agent.turn, agent.live):
        with pytest.raises(HomeError, match="closed"):
            speak("Hello.")
    assert journalled(home) == []


@pytest.mark.real
@pytest.mark.parametrize("stage", ["recalling", "thinking", "replying"])
def test_a_turn_that_fails_was_not_lived(agent: Agent, home: Path, stage: str) -> None:
    class Trouble(Exception):
        pass

    def fail(name: str) -> None:
        if name == stage:
            raise Trouble

    agent.live(VOWELS)
    before, notes = dict(agent.state.values), agent.memory.check().notes
    with pytest.raises(Trouble):
        agent.turn("Hello.", listener=Listener(stage=fail))
    assert agent.state.values == before and len(journalled(home)) == 1 and agent.memory.check().notes == notes
    assert not agent.model.steering.has_plan
    assert agent.turn("Hello.").record.number == 2


# --- closing, killing, full disks ----------------------------------------------------------------


@pytest.mark.real
def test_closing_and_opening_again_goes_on_where_it_was(home: Path, tiny_llama: Any) -> None:
    with Agent.open(home, model=tiny_llama) as agent:
        agent.live(VOWELS)
        reply = agent.turn("How much is left?")
        energies, notes = dict(agent.energies), agent.memory.check().notes
    with Agent.open(home, model=tiny_llama) as agent:
        assert agent.state.values == reply.state and agent.energies == energies
        assert agent.memory.check().notes == notes and agent.memory.check().is_whole
        assert len(journalled(home)) == 2
        later = agent.turn("And now?")
        assert later.record.state_before == reply.state
    assert [record["kind"] for record in journalled(home)] == ["lived", "turn", "turn"]


@pytest.mark.real
def test_a_damaged_journal_is_set_aside_told_and_its_whole_part_used(home: Path, tiny_llama: Any) -> None:
    with Agent.open(home, model=tiny_llama) as agent:
        states = [agent.turn(text).state for text in (VOWELS, CONSONANTS, VOWELS)]
        assert agent.notices == ()
    (journal,) = (home / ".overlay" / "sessions").glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"number":3', b'"number":9')]))
    with Agent.open(home, model=tiny_llama) as again:
        (notice,) = again.notices
        assert "3 was damaged" in notice and journal.with_name(f"{journal.name}.damaged").exists()
        assert dict(again.state.values) == states[1]
        again.turn("one more")
    assert [record["number"] for record in journalled(home)] == [1, 2, 1]


@pytest.mark.real
def test_words_that_an_awake_frame_forbids_are_in_no_reply_and_no_inner_speech(home: Path, tiny_llama: Any) -> None:
    """A frame that is awake forbids its words, in the reply and in the inner speech."""
    for path in (home / "memory" / "frames").glob("*.yaml"):
        frame = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**frame, "forbids": ["e*", "a*"], "threshold": 0.01}))
    with Agent.open(home, model=tiny_llama) as agent:
        reply = agent.turn("How much is left, and how long will our supplies last?")
    assert reply.frames and reply.dialogue is not None
    texts = [reply.text, *(said.text for said in reply.dialogue.utterances)]
    assert not any(re.search(r"(?i)(?<![^\W_])[ea]", text) for text in texts)


@pytest.mark.real
def test_in_spoken_mode_the_reply_hears_the_voices_and_the_ledger_says_so(home: Path, tiny_llama: Any) -> None:
    settings = yaml.safe_load((home / "agent.yaml").read_text())
    (home / "agent.yaml").write_text(yaml.safe_dump({**settings, "dialogue": {"mode": "spoken"}}))
    with Agent.open(home, model=tiny_llama) as agent:
        reply = agent.turn("How is volatility measured?")
    (context,) = [one for one in reply.record.contexts if one["purpose"] == "reply"]
    sources = [segment["source"] for segment in context["messages"][-1]["segments"]]
    assert reply.dialogue is not None and reply.dialogue.summary
    assert {f"voice:{voice}" for voice, _ in reply.dialogue.summary} <= set(sources)


@pytest.mark.real
def test_a_turn_becomes_a_note_that_later_sessions_recall(home: Path, tiny_llama: Any) -> None:
    with Agent.open(home, model=tiny_llama) as agent:
        agent.turn("The spare key lies under the third stone.")
    with Agent.open(home, model=tiny_llama) as agent:
        reply = agent.turn("Where is the spare key?")
    assert "The spare key lies under the third stone." in [entry.note.text for entry in reply.recalled]


@pytest.mark.real
def test_a_forgotten_turn_does_not_come_back_when_the_home_is_opened_again(home: Path, tiny_llama: Any) -> None:
    with Agent.open(home, model=tiny_llama) as agent:
        agent.turn("The spare key lies under the third stone.")
        place = f"session:{agent._session.name}:turn:1:user"
        assert place in agent.memory
        agent.memory.forget(place)
    with Agent.open(home, model=tiny_llama) as agent:
        assert place not in agent.memory


@pytest.mark.real
def test_an_axis_that_agent_yaml_no_longer_lists_is_dropped_and_a_new_one_begins_at_rest(
    home: Path, embedder_folder: Path, tiny_llama: Any
) -> None:
    with Agent.open(home, model=tiny_llama) as agent:
        agent.live(VOWELS)
    write_contrast(home / "adapters" / "steering", toy_contrast("others"))
    settings = toy_settings(embedder_folder, state={"axes": {"others": {"rest": 0.25}}})
    with Agent.open(write_settings(home, settings), model=tiny_llama) as agent:
        assert agent.state.values == {"others": 0.25}


def start_child(code: str, home: Path, **pipes: Any) -> subprocess.Popen[str]:
    """A process that opens the home's agent on the tiny model, as `agent`, and runs `code`."""
    prelude = (
        "import sys\n"
        "from tiny_models import byte_tokenizer, tiny_module\n"
        "from overlay import Agent\nfrom overlay.agent import Listener\nfrom overlay.errors import *\n"
        "from overlay.model import LanguageModel\n"
        "model = LanguageModel(tiny_module('llama'), byte_tokenizer(), 'tiny-llama')\n"
        "home = sys.argv[1]\n"
    )
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", prelude + code, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        **pipes,
    )


@pytest.mark.real
def test_a_home_that_another_process_has_open_is_refused_with_that_process(agent: Agent, home: Path) -> None:
    agent.turn("Hello.")
    before = journalled(home)
    child = start_child(
        "try: Agent.open(home, model=model)\nexcept HomeLocked as error: print(error.exit_code, error, flush=True)\n",
        home,
    )
    said, _ = child.communicate(timeout=120)
    assert said.startswith("3 ") and f"process {os.getpid()} has" in said
    assert agent.turn("Still mine?").record.number == 2 and journalled(home)[:1] == before


@pytest.mark.real
def test_a_home_that_this_process_has_open_already_is_refused(agent: Agent, home: Path, tiny_llama: Any) -> None:
    with pytest.raises(HomeLocked, match=str(os.getpid())):
        Agent.open(home, model=tiny_llama)


KILLED_AT = {
    # The reply is being generated: nothing of this turn was acknowledged.
    "replying": "def stage(name):\n    if name == 'replying': hang()\n",
    # The journal has the turn, the state file and the notes don't.
    "journalled": (
        "def stage(name): pass\n"
        "import overlay.agent\n"
        "overlay.agent.Agent._keep_traces = lambda *_: hang()\n"
    ),
}  # fmt: skip


@pytest.mark.real
@pytest.mark.parametrize("moment", sorted(KILLED_AT))
def test_a_killed_process_loses_no_turn_that_was_answered(home: Path, tiny_llama: Any, moment: str) -> None:
    child = start_child(
        "agent = Agent.open(home, model=model)\n"
        "agent.live('aeiou aeiou aeiou')\n"
        "print('answered', agent.turn('First.').text.encode().hex(), flush=True)\n"
        "def hang():\n    print('now', flush=True); sys.stdin.read()\n"
        f"{KILLED_AT[moment]}"
        "agent.turn('The second.', listener=Listener(stage=stage))\n",
        home,
    )
    assert child.stdout is not None
    answered = child.stdout.readline().split()
    assert child.stdout.readline() == "now\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    lived = journalled(home)
    assert [record["user"] for record in lived[:2]] == ["aeiou aeiou aeiou", "First."]
    assert [lived[1]["reply"].encode().hex()] == answered[1:]
    assert len(lived) == (2 if moment == "replying" else 3)
    with Agent.open(home, model=tiny_llama) as agent:
        assert agent.state.values == lived[-1]["state_after"] and agent.energies == lived[-1]["energies"]
        assert agent.memory.check().is_whole
        last = lived[-1]
        assert f"session:{last['session']}:turn:{last['number']}:user" in agent.memory
        assert agent.turn("Go on.").record.state_before == lived[-1]["state_after"]


@pytest.mark.real
def test_a_full_disk_takes_back_the_turn_and_keeps_the_earlier_ones(
    agent: Agent, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.turn("First.")
    before, state = journalled(home), dict(agent.state.values)
    with monkeypatch.context() as patch:
        patch.setattr("overlay.records.os.fsync", full_disk)
        with pytest.raises(StorageFull, match="disk is full"):
            agent.turn("Second.")
    assert journalled(home) == before and agent.state.values == state
    assert agent.turn("Second.").record.number == 2
    assert [record["user"] for record in journalled(home)] == ["First.", "Second."]


@pytest.mark.real
def test_a_disk_that_fills_up_behind_the_journal_loses_nothing_that_the_journal_has(
    home: Path, tiny_llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Agent.open(home, model=tiny_llama) as agent:
        agent.turn("First.")
        with monkeypatch.context() as patch:
            patch.setattr("overlay.records.os.replace", full_disk)  # the state file
            with pytest.raises(StorageFull):
                agent.turn("Second.")
    lived = journalled(home)
    with Agent.open(home, model=tiny_llama) as agent:
        assert agent.state.values == lived[-1]["state_after"] and agent.memory.check().is_whole
        for record in lived:
            assert f"session:{record['session']}:turn:{record['number']}:user" in agent.memory


# --- what can't be opened ------------------------------------------------------------------------


@pytest.mark.real
def test_an_axis_that_nobody_wrote_is_missing_and_the_home_is_free_again(
    home: Path, embedder_folder: Path, tiny_llama: Any
) -> None:
    write_settings(home, toy_settings(embedder_folder, state={"axes": {"vowel": {}}}))
    for _ in range(2):  # a lock that was kept would make the second try fail otherwise
        with pytest.raises(AxisMissing, match="no axis 'vowel'") as caught:
            Agent.open(home, model=tiny_llama)
        assert "vowels" in caught.value.next_step


@pytest.mark.real
def test_an_axis_that_does_not_pass_its_checks_is_refused(home: Path, tiny_llama: Any) -> None:
    same = toy_texts(LETTERS["negative"], seed=1)
    write_contrast(home / "adapters" / "steering", toy_contrast(positive=same))
    with pytest.raises(AxisUnproven, match="'vowels' did not pass"):
        Agent.open(home, model=tiny_llama)


@pytest.mark.real
def test_a_mistake_in_a_frame_or_voice_is_told_with_its_file_and_line(home: Path, tiny_llama: Any) -> None:
    for place, text in (("voices/z.yaml", "name: z\nmsk: x\n"), ("frames/z.yaml", "name: z\ncue: [x]\n")):
        path = home / "memory" / place
        path.write_text(text)
        with pytest.raises(DocumentError) as caught:
            Agent.open(home, model=tiny_llama)
        assert (caught.value.path, caught.value.line) == (path, 2)
        path.unlink()
