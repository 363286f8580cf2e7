"""What memory and frames do in an agent's turns: what is kept of a turn, what frames ask for, what they learn."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_home import create_fading_home

from overlay.agent import Agent, prepare_mind
from overlay.errors import DocumentError
from overlay.fork import fork
from overlay.frames import NOTHING_LEARNED, read_learned
from overlay.home import Home
from overlay.replay import replay
from overlay.turn import Life

pytestmark = pytest.mark.real

COUNTING = "How much is left, and how long will our supplies last?"
BOTH = "How much is left, who pays for this, and how would they see it from their side?"


def rewrite(home: Path, frame: str, **changes: Any) -> None:
    path = home / "memory" / "frames" / f"{frame}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | changes
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


# --- what is kept of a turn ----------------------------------------------------------------------


def test_a_turns_notes_stand_in_their_session_with_what_they_read_on_the_axes(agent: Agent) -> None:
    first, second = (agent.turn(text).record for text in ("The spare key lies under the third stone.", "Anna has it."))
    place = f"session:{first.session}:turn"
    said = [agent.memory.get(f"{place}:{number}:user") for number in (1, 2)]
    assert [note.stream for note in said] == [f"session:{first.session}"] * 2
    assert [note.place for note in said] == [2, 4] and agent.memory.get(f"{place}:1:reply").place == 3
    for note, record in zip(said, (first, second), strict=True):
        (read,) = [change["z"] for change in record.changes if change["source"] == "read"]
        assert note.state == {"vowels": read}


def test_a_reply_that_only_repeats_what_was_recalled_is_no_new_note(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = agent.memory.remember("The ferry to the island leaves at seven.", kind="fact", source="harbour").note
    answered = Life.answer

    def parrots(life: Life, *args: Any, **options: Any) -> Any:
        lived, answer = answered(life, *args, **options)
        return lived, replace(answer, completion=replace(answer.completion, text=known.text))

    monkeypatch.setattr(Life, "answer", parrots)
    record = agent.turn("When does the ferry to the island leave?").record
    assert known.id in [note["id"] for note in record.recalled] and record.reply == known.text
    assert f"session:{record.session}:turn:1:reply" not in agent.memory
    assert f"session:{record.session}:turn:1:user" in agent.memory


def test_a_file_of_the_vault_that_cannot_be_read_is_told_and_the_others_are_there(home: Path, tiny_llama: Any) -> None:
    (home / "memory" / "notes" / "broken.md").write_bytes(b"\x00\x01\x02 no text")
    with Agent.open(home, model=tiny_llama) as agent:
        (notice,) = agent.notices
        assert "broken.md" in notice and "vault:volatility" in agent.memory


# --- the state in recall -------------------------------------------------------------------------


def test_a_raised_state_brings_congruent_notes_up_and_a_resting_one_changes_nothing(agent: Agent) -> None:
    for where, z in (("north", 3.0), ("south", -3.0)):
        text = f"The path on the {where} side of the hill was muddy after the rain."
        agent.memory.remember(text, kind="said", source=where, state={"vowels": z})
    ask = "Was the path on the hill muddy?"
    order = {
        state: [one.note.source for one in agent.memory.recall(ask, 2, state=values)]
        for state, values in (("up", {"vowels": 1.0}), ("down", {"vowels": -1.0}))
    }
    assert order == {"up": ["north", "south"], "down": ["south", "north"]}
    resting, none = (agent.memory.recall(ask, 5, state=state) for state in ({"vowels": 0.0}, None))
    assert [one.note.id for one in resting] == [one.note.id for one in none]
    assert [one.score for one in resting] == pytest.approx([one.score for one in none], abs=1e-6)


# --- what active frames do -----------------------------------------------------------------------


def test_an_active_frame_decides_which_notes_are_recalled(home: Path, tiny_llama: Any) -> None:
    rewrite(home, "ledger", recall={"tags": ["stores"], "kinds": ["fact"], "boost": 1.0})
    with Agent.open(home, model=tiny_llama) as agent:
        for tag in ("weather", "stores"):
            text = f"Six jars of oil are left in the {tag} room, which lasts until spring."
            agent.memory.remember(text, kind="fact", source=tag, tags=[tag])
        agent.memory.remember("How much oil is left for our supplies?", kind="said", source="talk")
        reply = agent.turn(COUNTING)
    assert reply.frames[0].frame.name == "ledger"
    assert {one.note.kind for one in reply.recalled} == {"fact"} and reply.recalled[0].note.source == "stores"
    assert reply.recalled[0].terms["tags"] > 0


def test_folds_are_not_recalled_into_replies(agent: Agent) -> None:
    from overlay.memory import fold

    for number in range(12):
        agent.memory.remember(f"Stone {number} of the wall was laid in year {number}.", kind="fact", source="wall")
    fold(agent.memory)
    assert any(one.note.kind == "fold" for one in agent.memory.recall("stones of the wall", 10))
    assert not any(one.note.kind == "fold" for one in agent.turn("Which stone of the wall was laid first?").recalled)


def test_an_active_frame_asks_its_questions_and_without_frames_others_are_asked(home: Path, tiny_llama: Any) -> None:
    rewrite(home, "ledger", questions=["What is on the shelf?"])
    asked = []
    for _ in range(2):
        with Agent.open(home, model=tiny_llama) as agent:
            dialogue = agent.turn(COUNTING).dialogue
        assert dialogue is not None
        asked.append({said.question for said in dialogue.utterances})
        shutil.rmtree(home / "memory" / "frames")
        (home / "memory" / "frames").mkdir()
    assert "What is on the shelf?" in asked[0] and not asked[0] & asked[1]


def test_an_active_frame_pushes_an_axis_by_its_energy(home: Path, tiny_llama: Any) -> None:
    rewrite(home, "ledger", pushes={"vowels": 1.0})
    with Agent.open(home, model=tiny_llama) as agent:
        reply = agent.turn(COUNTING)
    (pushed,) = [change for change in reply.changes if change.source == "frames"]
    assert pushed.after > pushed.before and pushed.cause == "frame ledger"
    assert pushed.share == pytest.approx(reply.frames[0].energy)


def test_an_active_frame_wears_its_adapter_inside_the_budget(tmp_path: Path, embedder_folder: Path) -> None:
    home = create_fading_home(tmp_path, embedder_folder)
    settings = yaml.safe_load((home.folder / "agent.yaml").read_text())
    settings["state"] = {"axes": {"vowels": {"gain": 0.0}}}
    (home.folder / "agent.yaml").write_text(yaml.safe_dump(settings))
    rewrite(home.folder, "ledger", adapter={"name": "ends_in_z", "scale": 0.5})
    with Agent.open(home.folder) as agent:
        worn, bare = agent.turn(COUNTING), agent.turn("Vowels are open sounds.")
        assert [use["name"] for use in worn.record.adapters] == ["ends_in_z"] and worn.record.adapters[0][
            "scale"
        ] <= 0.5
        assert 0 < worn.volatility.mean <= home.settings.budget
        if not any(one.frame.name == "ledger" for one in bare.frames):
            assert not bare.record.adapters
    assert replay(Home.open(home.folder), "last").is_identical


def test_a_frame_that_names_what_is_not_there_is_a_mistake_with_its_line(home: Path, tiny_llama: Any) -> None:
    rewrite(home, "ledger", pushes={"nowhere": 0.5})
    with pytest.raises(DocumentError, match=r"ledger\.yaml:\d+.*nowhere"):
        Agent.open(home, model=tiny_llama)


def test_on_other_axes_a_frames_push_is_left_out(home: Path, tiny_llama: Any, embedder_folder: Path) -> None:
    from overlay.agent import open_embedder
    from overlay.progress import SilentProgress

    rewrite(home, "ledger", pushes={"vowels": 0.5})
    opened = Home.open(home)
    embedder = open_embedder(opened)
    assert "ledger" in prepare_mind(opened, tiny_llama, embedder, SilentProgress()).settings.pushes
    assert not prepare_mind(opened, tiny_llama, embedder, SilentProgress(), []).settings.pushes


# --- what frames learn ---------------------------------------------------------------------------


def test_what_frames_learn_is_kept_replayed_and_taken_along_by_a_fork(
    home: Path, tiny_llama: Any, tmp_path: Path
) -> None:
    for name in ("ledger", "other_side"):
        rewrite(home, name, threshold=0.05)
    with Agent.open(home, model=tiny_llama) as agent:
        first = agent.turn(BOTH)
        assert {"ledger", "other_side"} <= {one.frame.name for one in first.frames}
        after_first = agent.learned
        agent.turn(BOTH)
        learned = agent.learned
        session = first.record.session
    assert after_first.changes["ledger"]["other_side"] < learned.changes["ledger"]["other_side"]
    assert read_learned(Home.open(home).learned_frames) == learned
    with Agent.open(home, model=tiny_llama) as again:
        assert again.learned == learned
    assert replay(Home.open(home), session, model=tiny_llama).is_identical
    made = fork(Home.open(home), session, 1, tmp_path / "fork")
    assert read_learned(made.home.learned_frames) == after_first


def test_a_turn_that_was_killed_before_its_traces_is_learned_from_when_the_home_opens_again(
    home: Path, tiny_llama: Any
) -> None:
    with Agent.open(home, model=tiny_llama) as agent:
        agent.turn(BOTH)
        learned = agent.learned
    opened = Home.open(home)
    # As a kill between the journal and what follows from it leaves a home.
    opened.learned_frames.unlink()
    (opened.lived / "state" / "state.json").unlink()
    with Agent.open(home, model=tiny_llama) as again:
        assert again.learned == learned != NOTHING_LEARNED
