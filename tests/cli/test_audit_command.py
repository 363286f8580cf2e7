"""The audit command: what leaked in a session is listed and ends in its own exit code; what is clean gives no alarm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Command, command
from tiny_models import byte_tokenizer, tiny_module
from toy_axis import toy_contrast, write_contrast
from toy_home import create_toy_home, toy_settings, write_settings
from toy_scenario import toy_scenario

from overlay import Agent
from overlay.audit import audit_lived
from overlay.errors import ArgumentError, RecordDamaged
from overlay.home import Home
from overlay.inner import StateNames, audit, lived_contexts, source_tokens
from overlay.model import LanguageModel
from overlay.records import append_record, read_journal, write_record
from overlay.scenarios import RunSettings, run_scenario
from overlay.scenarios.script import Scenario

SESSIONS = 10

LEAKED = 5


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def lived_home(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Path:
    """A toy home whose agent, a tiny model in a folder, lived through ten sessions of two turns."""
    place = tmp_path_factory.mktemp("audited")
    tiny_module("llama").save_pretrained(place / "model")
    byte_tokenizer().save_pretrained(place / "model")
    home = create_toy_home(place / "home", embedder_folder, model=str(place / "model"))
    axis = toy_contrast(description="Wide sounds that people make. Each text has its twin.")
    write_contrast(home.folder / "adapters" / "steering", axis)
    model = LanguageModel.load(str(place / "model"), dtype="float32")
    for number in range(SESSIONS):
        with Agent.open(home, model=model) as agent:
            agent.turn(f"What is volatility, asked for the time {number}? An open mouth says vowel.")
            agent.turn("And what is the budget?")
    return home.folder


@pytest.fixture
def home(lived_home: Path, tmp_path: Path) -> Home:
    return Home.open(shutil.copytree(lived_home, tmp_path / "home"))


def newest(home: Home) -> Path:
    return max(home.sessions.glob("*.jsonl"), key=lambda path: read_journal(path)[-1]["time"])


def plant(home: Home, change: Callable[[dict[str, Any]], object]) -> str:
    """Change the second turn of the newest session as somebody's program might have, and give the session's name."""
    journal = newest(home)
    records = read_journal(journal)
    change(records[1])
    journal.unlink()
    for record in records:
        append_record(journal, {key: value for key, value in record.items() if key in records[0]})
    return journal.stem


def reply(record: dict[str, Any]) -> list[dict[str, str]]:
    """The segments of the reply's last message."""
    segments: list[dict[str, str]] = record["contexts"][-1]["messages"][-1]["segments"]
    return segments


def voice(record: dict[str, Any]) -> list[dict[str, str]]:
    """The segments of the first voice's last message."""
    segments: list[dict[str, str]] = record["contexts"][0]["messages"][-1]["segments"]
    return segments


# --- clean sessions ------------------------------------------------------------------------------


def test_ten_clean_sessions_give_no_alarm(home: Home) -> None:
    sessions = sorted(path.stem for path in home.sessions.glob("*.jsonl"))
    assert len(sessions) == SESSIONS
    for name in sessions:
        found = audit_lived(home, name)
        assert found.leaks == () and found.unchecked == ()
        assert found.turns == 2 and found.contexts == 6 and found.segments > 20 and found.tokens > 1000
        assert "the source of each token (6 of 6 contexts against what the model got)" in found.checked
        assert any("near-paraphrases" in one for one in found.checked)


def test_a_clean_session_ends_well_and_says_what_was_looked_for(overlay: Command, home: Home) -> None:
    done = overlay("audit", "last", "--home", home.folder)
    assert done.code == 0 and done.out.startswith("No leak in 2 turns, 6 contexts, ")
    for words in ("words of 'vowels'", "inner speech, notes", "near-paraphrases by", "the source of each token"):
        assert f"looked for: {words}" in done.out
    assert "NOT" not in done.out


def test_the_help_says_the_exit_code(overlay: Command) -> None:
    assert "the exit code is 5 when something leaked" in overlay("audit", "--help").out


# --- planted leaks -------------------------------------------------------------------------------


PLANTED = {
    "a word": (lambda one: reply(one).append({"source": "system", "text": " A vowel."}), "state word", "system"),
    "an inflection": (lambda one: reply(one).append({"source": "reply", "text": " Vowels."}), "state word", "reply"),
    "a phrase": (
        lambda one: voice(one).append({"source": "frame:ledger", "text": " With open mouths."}),
        "state word",
        "frame:ledger",
    ),
    "a word in a mask": (
        lambda one: voice(one).append({"source": "mask:witness", "text": " You are a vowel."}),
        "state word",
        "mask:witness",
    ),
    "inner speech": (
        lambda one: reply(one).append({"source": "voice:witness", "text": " I see it."}),
        "inner speech",
        "voice:witness",
    ),
    "inner speech by another name": (
        lambda one: (
            one["inner_speech"][0].update(text="The rope on the left is the one that broke."),
            reply(one).append({"source": "template", "text": " The rope on the left is the one that broke."}),
        ),
        "inner speech",
        "template",
    ),
    "a note for a voice": (
        lambda one: voice(one).append({"source": "note:vault:axis", "text": " An axis is a direction."}),
        "misplaced note",
        "note:vault:axis",
    ),
    "a paraphrase": (
        lambda one: reply(one).append({"source": "template", "text": " Go on. Wide sounds that somebody makes."}),
        "near-paraphrase",
        "template",
    ),
    "text from nowhere": (
        lambda one: reply(one).append({"source": "elsewhere", "text": " Some text."}),
        "unknown source",
        "elsewhere",
    ),
    "another prompt for a voice": (
        lambda one: one["inner_speech"][0].update(prompt="0" * 24),
        "unknown tokens",
        "",
    ),
    "tokens from nowhere": (lambda one: one["prompt_tokens"].insert(40, 99), "unknown tokens", ""),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_leak_of_each_kind_is_found(overlay: Command, home: Home, planted: str) -> None:
    change, kind, source = PLANTED[planted]
    name = plant(home, change)
    done = overlay("audit", name, "--home", home.folder, "--json")
    assert done.code == LEAKED
    found = json.loads(done.out)
    (leak, *_) = [leak for leak in found["leaks"] if leak["kind"] == kind]
    assert (leak["source"], leak["turn"]) == (source, 2)
    assert leak["purpose"] == ("reply" if leak["place"] == 3 else found["leaks"][0]["purpose"])
    others = [path.stem for path in home.sessions.glob("*.jsonl") if path.stem != name]
    assert len(others) == SESSIONS - 1 and all(audit_lived(home, other).leaks == () for other in others[:2])


def test_leaks_are_listed_with_turn_context_source_and_excerpt(overlay: Command, home: Home) -> None:
    plant(home, lambda one: voice(one).append({"source": "frame:ledger", "text": " Count the vowels."}))
    done = overlay("audit", "last", "--home", home.folder)
    assert done.code == LEAKED
    (line,) = [line for line in done.out.splitlines() if "frame:ledger" in line]
    assert line.split()[0] == "2" and "1 (voice:" in line and "state word" in line and "Count the vowels." in line
    # The model never got these words: its prompt is another one than the segments tell.
    assert "unknown tokens" in done.out and "2 leaks in 2 turns, 6 contexts" in done.out


def test_what_a_voice_said_that_is_only_near_to_the_state_is_to_be_read_and_no_leak(
    overlay: Command, home: Home
) -> None:
    near = "Wide sounds that somebody makes."
    plant(home, lambda one: reply(one).append({"source": "reply", "text": f" {near}"}))
    records = read_journal(newest(home))
    tokens = source_tokens(lived_contexts(records)[-1].context, byte_tokenizer()).tokens
    plant(home, lambda one: one.update(prompt_tokens=list(tokens)))
    done = overlay("audit", "last", "--home", home.folder)
    assert done.code == 0 and done.out.startswith("No leak in 2 turns")
    heading, line = done.out.index("To be read"), done.out.index(near)
    assert heading < line
    found = json.loads(overlay("audit", "last", "--home", home.folder, "--json").out)
    assert found["leaks"] == [] and [one["excerpt"] for one in found["doubtful"]] == [near]


def test_an_axis_that_nobody_named_is_told_as_such(home: Home) -> None:
    plant(home, lambda one: one["state_after"].update(e1=0.1))
    assert any("'e1': the home has no contrast set" in one for one in audit_lived(home, "last").unchecked)
    write_record(home.lived / "emergent" / "axes" / "digest" / "e1.safetensors", b"")
    found = audit_lived(home, "last").unchecked
    assert "words of 'e1': it emerged, and nobody named it" in found


def test_spoken_inner_speech_may_stand_in_a_reply(home: Home) -> None:
    def speak(record: dict[str, Any]) -> None:
        record["dialogue_mode"] = "spoken"
        reply(record).append({"source": "voice:witness", "text": " I see it."})

    journal = newest(home)
    records = read_journal(journal)
    speak(records[1])
    found = [leak for one in lived_contexts(records) for leak in audit([one.context], (), silent=one.silent)]
    assert found == []


# --- what can't be looked for --------------------------------------------------------------------


def test_what_cannot_be_looked_for_is_told(overlay: Command, home: Home, tmp_path: Path) -> None:
    other = toy_settings(tmp_path / "away", model=str(tmp_path / "gone"))
    write_settings(home.folder, other)
    (home.folder / "adapters" / "steering" / "vowels.yaml").unlink()
    done = overlay("audit", "last", "--home", home.folder)
    assert done.code == 0
    told = [line for line in done.out.splitlines() if "NOT looked for" in line]
    assert len(told) == 3
    for words in (
        "words of 'vowels': the home has no contrast set",
        "near-paraphrases: ",
        "the source of each token: ",
    ):
        assert any(words in line for line in told)


def test_a_session_of_another_model_is_not_traced_with_this_ones_tokens(home: Home, tmp_path: Path) -> None:
    tiny_module("llama", seed=1).save_pretrained(tmp_path / "other")
    byte_tokenizer().save_pretrained(tmp_path / "other")
    settings = yaml.safe_load((home.folder / "agent.yaml").read_text(encoding="utf-8"))
    changed = write_settings(home.folder, settings | {"model": str(tmp_path / "other")})
    found = audit_lived(changed, "last")
    assert found.leaks == () and any("another model than" in one for one in found.unchecked)


def test_an_imported_axis_has_no_words(home: Home) -> None:
    names = StateNames.of(home.axes.contrast("vowels"))
    assert names.words == ("vowel", "open mouth") and names.axis == "vowels"
    (home.folder / "adapters" / "steering" / "vowels.yaml").unlink()
    write_contrast(home.folder / "adapters" / "steering", toy_contrast("vowels", lexicon=[]))
    found = audit_lived(home, "last")
    assert "words of 'vowels': its axis has no lexicon" in found.unchecked


@pytest.mark.parametrize("name", ["nothing", "../agent", "20260101-000000-aaaa"])
def test_a_session_that_is_not_there_is_told(overlay: Command, home: Home, name: str) -> None:
    done = overlay("audit", name, "--home", home.folder)
    assert (done.code, done.out) == (2, "")
    assert f"there is no session or run '{name}'" in done.told and newest(home).stem in done.told


def test_a_home_without_sessions_has_no_last_one(home: Home) -> None:
    shutil.rmtree(home.sessions)
    with pytest.raises(ArgumentError, match="no session yet"):
        audit_lived(home, "last")


# --- scenario runs -------------------------------------------------------------------------------


def test_a_run_is_audited_by_its_script_and_the_tokens_that_were_scored(overlay: Command, home: Home) -> None:
    out = home.runs / "toy-1"
    script = Scenario.model_validate(toy_scenario(items=2, forbidden=["throat"]))
    run_scenario(script, home, out=out, settings=RunSettings(directions=1), dtype="float32")
    for name in (out, "toy-1"):
        done = overlay("audit", name, "--home", home.folder, "--json")
        found = json.loads(done.out)
        assert (done.code, found["leaks"], found["contexts"]) == (0, [], 9)
        assert any("against those that were scored" in one for one in found["checked"])
        assert any("the inner dialogue of the exposure" in one for one in found["unchecked"])
    kept = json.loads((out / "scenario.json").read_text(encoding="utf-8"))
    kept["scenario"]["trial"]["items"][0]["paraphrases"][0] += " The vowels and throats are dry."
    write_record(out / "scenario.json", json.dumps(kept))
    done = overlay("audit", out, "--home", home.folder, "--json")
    leaks = json.loads(done.out)["leaks"]
    assert done.code == LEAKED
    assert {(leak["kind"], leak["word"]) for leak in leaks} == {
        ("state word", "vowels"),
        ("unknown tokens", "paraphrase 1"),
        ("state word", "throats"),
    }


def test_cells_from_before_a_change_of_the_script_are_no_leak(home: Home) -> None:
    out = home.runs / "toy-3"
    for number, setting in enumerate(("You keep the stores.", "You keep all stores.")):
        content = toy_scenario(items=2, probes=None)
        content["trial"]["setting"] = setting
        settings = RunSettings(directions=1, exploratory=number > 0)
        run_scenario(Scenario.model_validate(content), home, out=out, settings=settings, dtype="float32")
    found = audit_lived(home, "toy-3")
    cells = len((out / "records.jsonl").read_text(encoding="utf-8").splitlines())
    assert len(list((out / "cells").iterdir())) == 2 * cells and found.leaks == ()
    assert f"the tokens of {cells} trials against those that were scored" in found.checked


def test_a_run_that_cannot_be_read_is_told(home: Home) -> None:
    folder = home.runs / "toy-2"
    write_record(folder / "scenario.json", json.dumps({"digest": "x"}))
    with pytest.raises(RecordDamaged, match="no readable run"):
        audit_lived(home, "toy-2")
