"""`overlay axes calibrate` prints what it measured, writes one page, and refuses what would mean nothing at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home

from overlay.axes import load_axis
from overlay.cli import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toy home whose model is a tiny one in a folder, with the axis "vowels"."""
    tiny_module("llama").save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    monkeypatch.setenv("COLUMNS", "200")
    return create_toy_home(tmp_path / "home", "unused", model=str(tmp_path / "model")).folder


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["overlay", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return (end.value.code or 0, *capsys.readouterr())

    return run


def test_one_command_makes_the_page_the_plot_and_the_numbers(overlay: Any, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs"
    code, said, _ = overlay(
        "axes", "calibrate", "vowels", "--quick", "--doses", 7, "--directions", 1, "--out", out, "--home", home
    )
    assert code == 0 and "Dose-response" in said and "Random directions of the same volatility" in said
    assert sorted(path.name for path in out.iterdir()) == ["vowels.json", "vowels.md", "vowels.png", "vowels.svg"]
    assert str(out / "vowels.md") in said and "overlay axes calibrate vowels" in (out / "vowels.md").read_text()
    axis = load_axis(home / ".overlay" / "axes" / "vowels.safetensors")
    assert axis.calibration.response is not None and axis.calibration.sweep is not None


def test_json_is_one_document_with_everything(overlay: Any, home: Path) -> None:
    code, said, _ = overlay(
        "axes", "calibrate", "vowels", "--quick", "--doses", 7, "--directions", 1, "--json", "--home", home
    )
    found = json.loads(said)
    assert code == 0 and found["axis"] == "vowels" and found["budget_dose"] <= found["limit"]
    assert {"response", "random", "sweep", "coherence", "costs", "findings", "files", "seconds"} <= set(found)
    assert all(Path(path).stat().st_size for path in found["files"].values())
    assert Path(found["files"]["page"]).parent == home / ".overlay" / "axes"


@pytest.mark.parametrize(
    "wrong", [("vowels", "--doses", 8), ("vowels", "--doses", 5), ("vowels", "--directions", 0), ("consonants",)]
)
def test_what_would_mean_nothing_is_refused_before_a_model_is_loaded(
    overlay: Any, home: Path, wrong: tuple[object, ...]
) -> None:
    code, _, told = overlay("axes", "calibrate", *wrong, "--home", home)
    assert code in (1, 2) and told and "loading" not in told
    assert not (home / ".overlay" / "axes").exists()
