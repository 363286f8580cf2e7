"""`overlay adapters import`, `export` and `mix`, as typed in a home whose model is tiny."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import Command, command
from test_exchange import made_by_peft

import overlay.cli.adapter_exchange as exchange_commands
from overlay.adapters.exchange import NOT_PROVEN
from overlay.cli.adapters import app
from overlay.home import Home

pytest_plugins = ["tiny_home"]


@pytest.fixture
def place(trained_home: Any, tmp_path: Path) -> Path:
    """A home with the tiny model and its trained adapters."""
    folder = tmp_path / "home"
    (folder / "adapters").mkdir(parents=True)
    shutil.copytree(trained_home.written, folder / "adapters" / "lora")
    shutil.copytree(trained_home.built, folder / ".overlay" / "adapters")
    (folder / "agent.yaml").write_text(f"name: Ada\nsystem: You are brief.\nmodel: {trained_home.model_folder}\n")
    return folder


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    assert exchange_commands.app is app
    monkeypatch.setenv("OVERLAY_HOME", str(place))
    return command(monkeypatch, capsys, "adapters")


def test_what_is_exported_is_imported_again_and_says_what_it_costs(run: Command, place: Path, tmp_path: Path) -> None:
    assert run("export", "ends_in_z", tmp_path / "out").code == 0
    done = run("import", tmp_path / "out", "--name", "back", "--dtype", "float32", "--json")
    assert done.code == 0, done.told
    facts = json.loads(done.out)
    original = Home.open(place).adapters.load("ends_in_z")
    assert (facts["name"], facts["origin"], facts["remark"]) == ("back", "imported", "")
    assert facts["volatility_mean"] == pytest.approx(original.volatility_mean, rel=1e-3)
    assert "back" in Home.open(place).adapters.names


def test_another_base_needs_force_and_the_remark_is_told(run: Command, tmp_path: Path) -> None:
    folder = made_by_peft(tmp_path / "theirs", "someone/else")
    refused = run("import", folder)
    assert refused.code == 1 and "--force" in refused.told
    done = run("import", folder, "--force", "--dtype", "float32")
    assert done.code == 0 and NOT_PROVEN in done.told and "theirs: " in done.words


def test_a_mixture_is_made_by_its_weights(run: Command, place: Path) -> None:
    done = run("mix", "ends_in_z=0.5", "ends_in_k=-0.25", "--name", "both", "--dtype", "float32")
    assert done.code == 0, done.told
    assert Home.open(place).adapters.load("both").parts == {"ends_in_z": 0.5, "ends_in_k": -0.25}


@pytest.mark.parametrize(
    ("typed", "code", "says"),
    [
        (("mix", "ends_in_z", "ends_in_k=1", "--name", "both"), 2, "'ends_in_z' is no adapter with its weight"),
        (("mix", "ends_in_z=1", "ends_in_z=2", "--name", "both"), 2, "stands here twice"),
        (("mix", "absent=1", "ends_in_z=2", "--name", "both"), 1, "there is no adapter 'absent'"),
        (("export", "absent", "out"), 1, "there is no adapter 'absent'"),
        (("import", "absent"), 1, "no folder and no hub id"),
        (("import", "absent", "--name", "ends_in_z"), 1, "already"),
        (("mix", "ends_in_z=1", "ends_in_k=1", "--name", "ends_in_k"), 1, "already"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(run: Command, typed: tuple[str, ...], code: int, says: str) -> None:
    done = run(*typed)
    assert (done.code, says in done.told) == (code, True), done.told
