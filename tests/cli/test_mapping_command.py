"""The map command: from an aim to a table, a page with its heatmap, and one document for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import command
from mapping.toy_aim import RECIPE, toy_map
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home
from typer.testing import CliRunner

from overlay.adapters import Where, read_recipe
from overlay.cli.mapping import app
from overlay.errors import AdapterError, ArgumentError
from overlay.home import Home
from overlay.mapping import map_path
from overlay.model import resolve_model


@pytest.fixture
def home(tmp_path: Path) -> Home:
    tiny_module("llama").save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    home = create_toy_home(tmp_path / "home", "none", model=str(tmp_path / "model"))
    path = home.folder / "adapters" / "lora" / "ends_in_z" / "recipe.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(RECIPE)
    return home


def run(home: Home, *words: object) -> Any:
    quick = ("--seeds", "1", "--null-seeds", "0", "--steps", "1", "--batch", "2", "--p95", "0.01", "--dtype", "float32")
    return CliRunner().invoke(app, [*quick, *map(str, words), "--home", str(home.folder)])


def test_a_map_is_drawn_kept_and_shown(home: Home, tmp_path: Path) -> None:
    page = tmp_path / "map.md"
    done = run(home, "ends_in_z", "--out", page)
    assert done.exit_code == 0, done.output
    assert "Nothing was claimed of its place." in done.output
    assert "![Heatmap](map.svg)" in page.read_text()
    assert (tmp_path / "map.svg").read_text().startswith("<?xml")
    assert len(list((home.lived / "maps").glob("*/ends_in_z.json"))) == 1
    again = run(home, "ends_in_z", "--json")
    document = json.loads(again.stdout)
    assert len(document["places"]) == 14 and len(document["cells"]) == 14
    assert document["verdict"] is None
    assert {"gain", "null_gain", "beyond_null", "accuracy", "parameters"} <= set(document["places"][0])


def test_what_cannot_be_mapped_is_said_before_anything_is_measured(home: Home, tmp_path: Path) -> None:
    for words, kind, says in (
        (("peace",), AdapterError, "no aim 'peace'"),
        (("ends_in_z", "--p95", "0"), ArgumentError, "p95 above 0"),
        (("ends_in_z", "--out", tmp_path / "map.pdf"), ArgumentError, "none of .md, .png and .svg"),
    ):
        done = run(home, *words)
        assert isinstance(done.exception, kind)
        assert says in str(done.exception)
    assert not (home.lived / "maps").exists()


def test_a_recipe_begins_at_the_best_place_of_a_map(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OVERLAY_HOME", str(home.folder))
    overlay = command(monkeypatch, capsys, "adapters")
    digest = resolve_model(home.settings.model).digest
    assert digest is not None
    path = map_path(home.lived / "maps", digest, "toy")
    path.parent.mkdir(parents=True)
    nothing = overlay("new", "there", "--from-map", "toy")
    assert nothing.code == 2 and "draw it: `overlay map toy`" in nothing.told
    path.write_text(toy_map({"early both": 2.0, "head": 0.5}).to_json())
    done = overlay("new", "there", "--from-map", "toy")
    assert done.code == 0, done.told
    recipe = read_recipe(home.folder / "adapters" / "lora" / "there" / "recipe.yaml")
    assert recipe.where == Where(blocks=(0, 0), modules=("attention",))
    assert (recipe.rank, recipe.alpha) == (2, 4.0)
    assert overlay("check", "there").out == "1 adapters: OK\n"
    path.write_text(toy_map({"early both": 0.0, "head": 0.0}, null=0.5).to_json())
    assert "beyond the null" in overlay("new", "elsewhere", "--from-map", "toy").told
