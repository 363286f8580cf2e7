"""Modules of meaning in an agent's replies: picked for the query by what they do, named in the ledger, replayed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_home import build_along_reading, create_fading_home, toy_settings, write_settings

from overlay.agent import Agent
from overlay.audit import audit_lived
from overlay.errors import AdapterError, AxisMissing, DocumentError
from overlay.home import Home
from overlay.records import read_journal
from overlay.replay import replay, session_journal
from overlay.session import LAST

pytestmark = pytest.mark.real

LIBRARY = {
    "consonants": {"kind": "anchor", "about": "a text without vowels", "text": "kkkkkkkkkkkkkkkk"},
    "zeds": {"kind": "few_shot", "about": "answers of one letter", "examples": [{"prompt": "go", "target": "zzzz"}]},
    "endless": {"kind": "anchor", "about": "longer than any budget", "text": "b c d f g " * 60},
}


def with_modules(folder: Path, embedder: Path | str, aim: str, tokens: int = 120) -> Home:
    """The home with a library of its own and modules in agent.yaml."""
    prompts = folder / "adapters" / "prompts"
    shutil.rmtree(prompts, ignore_errors=True)
    prompts.mkdir(parents=True)
    for name, content in LIBRARY.items():
        (prompts / f"{name}.yaml").write_text(yaml.safe_dump({"name": name} | content), encoding="utf-8")
    return write_settings(folder, toy_settings(embedder, recall={"count": 0}, modules={"aim": aim, "tokens": tokens}))


def modules_of(record: Any) -> list[str]:
    """The modules in the context of a turn's reply, in their order."""
    (reply,) = [one for one in record.contexts if one["purpose"] == "reply"]
    sources = [segment["source"] for message in reply["messages"] for segment in message["segments"]]
    return list(dict.fromkeys(source for source in sources if source.startswith("module:")))


def test_modules_are_picked_for_each_query_within_their_budget_and_the_turn_is_replayed(
    home: Path, embedder_folder: Path, tiny_llama: Any
) -> None:
    opened = with_modules(home, embedder_folder, "axis:vowels@-2")
    build_along_reading(opened, tiny_llama)
    with Agent.open(opened, model=tiny_llama) as agent:
        found = [modules_of(agent.turn(text).record) for text in ("What is left?", "Who pays for this now?")]
        without = agent.mind.modules.pick(tiny_llama, "What is left?", ())
    assert any(found), "nothing was ever picked"
    assert not any("module:endless" in names for names in found)
    assert without.tokens <= 120 and without.influence > 0
    assert replay(opened, LAST, model=tiny_llama).difference is None
    # The ledger knows where these segments come from.
    assert not [leak for leak in audit_lived(opened, LAST).leaks if leak.kind.startswith("unknown")]


def test_a_changed_library_is_told_when_a_turn_comes_out_differently(
    home: Path, embedder_folder: Path, tiny_llama: Any
) -> None:
    opened = with_modules(home, embedder_folder, "axis:vowels@-2")
    build_along_reading(opened, tiny_llama)
    with Agent.open(opened, model=tiny_llama) as agent:
        assert modules_of(agent.turn("What is left?").record)
    (home / "adapters" / "prompts" / "consonants.yaml").unlink()
    (home / "adapters" / "prompts" / "zeds.yaml").unlink()
    difference = replay(opened, LAST, model=tiny_llama).difference
    assert difference is not None and "modules changed" in difference.reasons


def test_an_adapter_that_is_aimed_at_is_resident_while_the_agent_lives(tmp_path: Path, embedder_folder: Path) -> None:
    folder = create_fading_home(tmp_path, embedder_folder).folder
    model = str(tmp_path / "model")
    settings = toy_settings(embedder_folder, model=model, modules={"aim": "adapter:ends_in_z@2", "tokens": 200})
    with Agent.open(write_settings(folder, settings), dtype="float32") as agent:
        assert list(agent.model.adapters) == ["ends_in_z"]
        agent.turn("What is left?")
        assert agent.intervention().intervention.adapters == (), "the reply wears what it only aims at"
        assert "ends_in_z" in read_journal(session_journal(agent.home, LAST))[-1]["made_with"]["adapters"]
    assert not agent.model.adapters


@pytest.mark.parametrize(
    ("aim", "error", "says"),
    [
        ("axis:nobody", AxisMissing, "no axis 'nobody'"),
        ("adapter:nobody", AdapterError, "nobody"),
        ("prompt:Be kind", DocumentError, "modules.aim"),
        ("state", DocumentError, "modules.aim"),
    ],
)
def test_an_aim_that_is_none_is_refused(
    home: Path, embedder_folder: Path, tiny_llama: Any, aim: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Agent.open(with_modules(home, embedder_folder, aim), model=tiny_llama)
    assert not tiny_llama.adapters
