"""The reprogram commands: off until asked for, what is due and every decision told, done, undone, mistakes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import Command, command
from reprogramming_home import GUARD, SESSION, create_home, live, live_whole
from tiny_models import byte_tokenizer, tiny_module
from toy_axis import BUDGET, LETTERS

from overlay.home import Home
from overlay.model import LanguageModel, VolatilityGauge


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys, "reprogram")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reprogram-model")
    tiny_module("llama").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def make(folder: Path, model_folder: Path, guard: dict[str, Any] | None = GUARD) -> Home:
    """A home whose axis is built."""
    home = create_home(folder, guard, model=str(model_folder))
    model = LanguageModel.load(str(model_folder), dtype="float32")
    home.axes.ready("vowels", model, VolatilityGauge(model), BUDGET)
    return home


def test_it_is_off_until_agent_yaml_asks_for_it(overlay: Command, tmp_path: Path) -> None:
    folder = create_home(tmp_path / "home", None).folder
    done = overlay("--home", folder)
    assert done.code == 0 and "is off: agent.yaml has no `reprogramming`" in done.out
    assert json.loads(overlay("--home", folder, "--json").out) == {
        "on": False,
        "settings": None,
        "due": None,
        "decisions": [],
    }
    refused = overlay("run", "--home", folder)
    assert refused.code == 1 and "off" in refused.told and "agent.yaml" in refused.told
    assert overlay("undo", "--home", folder).code == 1 and not (folder / ".overlay").exists()


def test_what_is_due_is_told_with_its_turns(overlay: Command, tmp_path: Path) -> None:
    home = create_home(tmp_path / "home")
    assert "Nothing is due: 'vowels' has to stay at 0.8 or beyond for 4 turns" in overlay("--home", home.folder).words
    assert overlay("run", "--home", home.folder).out == "Nothing is due.\n"
    assert overlay("run", "--json", "--home", home.folder).out == "null\n"
    live_whole(home)
    done = overlay("--home", home.folder)
    assert f"stayed above +0.8 for 8 turns, from turn 9 of {SESSION} to turn 16" in done.words
    assert "an update of the axis from 16 own texts" in done.words and "No decision was made yet" in done.words
    found = json.loads(overlay("--home", home.folder, "--json").out)
    assert found["on"] and found["settings"]["threshold"] == 0.8 and len(found["due"]["turns"]) == 8
    assert all(own.startswith(SESSION) for pair in found["due"]["pairs"] for own in pair)


def test_a_run_adopts_and_undo_puts_back_and_both_are_listed(
    overlay: Command, tmp_path: Path, model_folder: Path
) -> None:
    home = make(tmp_path / "home", model_folder)
    live_whole(home)
    file = home.lived / "axes" / "vowels.safetensors"
    old = file.read_bytes()
    tried = overlay("run", "--dry-run", "--dtype", "float32", "--home", home.folder)
    assert tried.code == 0 and "adopted (dry run: nothing was changed" in tried.words and file.read_bytes() == old
    done = overlay("run", "--dtype", "float32", "--home", home.folder)
    assert done.code == 0 and "Decision 1, 'vowels': adopted; 'vowels' now reads and acts as it was grown" in done.words
    assert "AUROC on fresh texts: negative 1.00 -> 1.00, liquids 1.00 -> 1.00" in done.words
    assert "cosine to the axis before" in done.words and file.read_bytes() != old
    undone = json.loads(overlay("undo", "--json", "--home", home.folder).out)
    assert undone["outcome"] == "undone" and file.read_bytes() == old
    listed = json.loads(overlay("--home", home.folder, "--json").out)["decisions"]
    assert [one["outcome"] for one in listed] == ["adopted", "undone"] and listed[1] == undone
    table = overlay("--home", home.folder).words
    assert "adopted" in table and "undone" in table
    again = overlay("undo", "--home", home.folder)
    assert again.code == 1 and "left to be undone" in again.told


def test_a_refusal_tells_every_reason(overlay: Command, tmp_path: Path, model_folder: Path) -> None:
    home = make(tmp_path / "home", model_folder)
    live_whole(home, LETTERS["foil"])
    found = json.loads(overlay("run", "--json", "--dtype", "float32", "--home", home.folder).out)
    assert found["outcome"] == "rolled back" and any("liquids" in reason for reason in found["reasons"])
    table = overlay("--home", home.folder).words
    assert "rolled back" in table and "AUROC against liquids" in table


def test_what_is_in_the_way_is_told_and_dropped_without_a_model(overlay: Command, tmp_path: Path) -> None:
    home = create_home(tmp_path / "home", model="no-such-model")
    live(home, [1.0] * 5)
    assert "In the way: 0 own texts have a twin" in overlay("--home", home.folder).words
    done = overlay("run", "--home", home.folder)
    assert done.code == 0 and "dropped; nothing was built" in done.words
    assert "dropped" in overlay("--home", home.folder).words


def test_what_was_left_out_is_told_once(overlay: Command, tmp_path: Path) -> None:
    home = create_home(tmp_path / "home", model="no-such-model")
    live(home, [1.0] * 5, [("e", "")] * 5)
    for words in ((), ("run", "--dry-run"), ("run",)):
        told = overlay(*words, "--home", home.folder).words
        assert told.count("left out:") == told.count("too short") == 1, told
        assert told.count("0 own texts have a twin") == 1


def test_an_option_that_would_be_overlooked_is_refused(overlay: Command, tmp_path: Path) -> None:
    done = overlay("--home", tmp_path, "run")
    assert done.code == 2 and "--home" in done.told and "overlay reprogram run --home" in done.told


@pytest.mark.parametrize("words", [(), ("run",), ("undo",)])
def test_the_help_has_examples(overlay: Command, words: tuple[str, ...]) -> None:
    done = overlay(*words, "--help")
    assert done.code == 0 and "Example" in done.out and "--json" in done.out


def test_looking_and_undoing_load_no_model_library(tmp_path: Path) -> None:
    home = create_home(tmp_path / "home")
    live_whole(home)
    code = (
        "import sys\nfrom overlay.cli import app\n"
        "app(['reprogram', '--json', '--home', sys.argv[1]], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'chromadb', 'sentence_transformers', 'sklearn'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home.folder)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "[]" and json.loads(done.stdout)["due"]
