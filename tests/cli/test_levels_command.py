"""The command `levels`: a page from one command, the same as JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Command, command
from levels.levels_home import WORDS, create_levels_home

pytestmark = pytest.mark.real  # a home's frames are woken by the embedder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Path:
    return create_levels_home(tmp_path_factory.mktemp("levels-command"), embedder_folder).folder


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


def test_one_command_writes_the_page_and_prints_what_it_says(overlay: Command, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs" / "vowels.md"
    words = ("levels", "vowels", "--home", home, "--dtype", "float32", *WORDS)
    done = overlay(*words, "--out", out)
    assert done.code == 0, done.told
    page = out.read_text(encoding="utf-8")
    first = page.splitlines()[2]
    assert first in done.words and str(out) in done.out
    assert "comparing the levels of vowels" in done.told
    assert "overlay levels vowels --seeds 2 --directions 1" in page
    assert out.with_suffix(".svg").is_file()

    printed = overlay(*words, "--json")
    result = json.loads(printed.out)
    assert printed.code == 0 and " ".join(result["summary"]) == first
    assert result["files"][0] == str(home / ".overlay" / "levels" / "vowels" / "page.md")


def test_what_is_refused(overlay: Command, home: Path) -> None:
    unknown = overlay("levels", "joy", "--home", home)
    assert unknown.code == 1 and "there is no axis 'joy'" in unknown.told
    page = overlay("levels", "vowels", "--home", home, "--out", "page.html")
    assert page.code == 2 and "doesn't end in .md" in page.told
