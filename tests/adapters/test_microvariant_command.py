"""The command `adapters variants`: a text's or a file's variants with their costs, and mistakes that end at once."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from command import Command, command
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home

importlib.import_module("overlay.cli.microvariants")

TEXT = "It is warm [here] today."


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys, "adapters", "variants")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tiny_module("llama").save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    return create_toy_home(tmp_path / "home", "unused", model=str(tmp_path / "model")).folder


def test_json_holds_each_variant_with_its_costs_within_the_budget(overlay: Command, home: Path) -> None:
    done = overlay(TEXT, "--budget", 0.01, "--count", 12, "--home", home, "--dtype", "float32", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["text"] == TEXT and len(found["variants"]) == 12
    assert all(max(one["aligned"], one["probe"]) <= 0.01 and one["text"] != TEXT for one in found["variants"])
    assert found["yields"]["marked_word"]["accepted"] >= 1


def test_a_file_is_read_and_its_variants_come_in_the_order_of_feeding(
    overlay: Command, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text(TEXT + "\n", encoding="utf-8")
    options = ("--budget", 0.01, "--count", 8, "--in-order", "--home", home, "--dtype", "float32")
    found = json.loads(overlay(tmp_path / "note.txt", *options, "--json").out)
    assert found["text"] == TEXT == found["variants"][0]["text"]
    assert all(0 <= one["jump"] <= 0.01 for one in found["variants"])


def test_the_table_shows_texts_as_they_are(overlay: Command, home: Path) -> None:
    done = overlay(TEXT, "--budget", 0.01, "--count", 6, "--home", home, "--dtype", "float32")
    assert done.code == 0 and "edited tokens" in done.out and "[here]" in done.out
    assert "6 variants within 0.01 nats per token" in done.out


def test_a_budget_of_nothing_is_refused(overlay: Command, home: Path) -> None:
    done = overlay(TEXT, "--budget", 0, "--home", home)
    assert done.code == 2 and "above 0" in done.told


def test_the_drift_of_each_variant_is_drawn_or_refused_before_anything_is_measured(
    overlay: Command, home: Path, tmp_path: Path
) -> None:
    words = (TEXT, "--count", 6, "--budget", 0.01, "--home", home, "--dtype", "float32")
    done = overlay(*words, "--drift", tmp_path / "drift.svg")
    assert done.code == 0 and "drift.svg" in done.words
    drawn = (tmp_path / "drift.svg").read_text()
    assert drawn.startswith("<?xml") and len(drawn) > 10_000
    refused = overlay(*words, "--drift", tmp_path / "drift.txt")
    assert refused.code != 0 and ".png" in refused.told and "measuring" not in refused.told
