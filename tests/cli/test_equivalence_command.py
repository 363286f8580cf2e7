"""The equivalence command: a ladder for a treatment, kept rung by rung, and told what is wrong before a model loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from adapters.tiny_home import TEMPLATE
from command import Command, command
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home, toy_settings, write_settings

from overlay.home import Home

QUICK = ("--budget", 4000, "--seeds", 1, "--length", 4, "--dtype", "float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a tiny model and an adapter trained on it; another tiny model lies beside it."""
    folder = tmp_path_factory.mktemp("equivalence")
    for name, seed in (("model", 0), ("other", 1)):
        tiny_module("llama", seed).save_pretrained(folder / name)
        byte_tokenizer().save_pretrained(folder / name)
    home = create_toy_home(folder / "home", "none", model=str(folder / "model"))
    for module in (home.folder / "adapters" / "prompts").glob("*.yaml"):
        module.unlink()
    recipe = home.folder / "adapters" / "lora" / "ends_in_z" / "recipe.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(TEMPLATE.format(name="ends_in_z", letter="z", steps=6))
    home.adapters.train("ends_in_z", str(folder / "model"), dtype="float32")
    return home


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], made: Home) -> Command:
    monkeypatch.setenv("OVERLAY_HOME", str(made.folder))
    return command(monkeypatch, capsys, "equivalence")


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    path = tmp_path / "queries.yaml"
    path.write_text("chat: false\nqueries: [one, two, three, four, five]\ninstructions: [End in z.]\nanchors: [zz]\n")
    return path


def test_an_adapter_gets_its_ladder_a_page_and_a_record_and_a_second_run_goes_on(
    overlay: Command, made: Home, queries: Path, tmp_path: Path
) -> None:
    asked = ("adapter:ends_in_z", "--queries", queries, *QUICK)
    done = overlay(*asked, "--out", tmp_path / "page.md", "--json")
    assert done.code == 0, done.told
    record = json.loads(done.out)
    assert record["treatment"] == "adapter:ends_in_z" and record["rungs"][0]["name"] == "nothing"
    assert record["nats_per_token"] > 0.01 and record["verdict"] in ("confirmed", "refuted", "undecided")
    assert {Path(path).suffix for path in record["files"]} == {".md", ".svg", ".png", ".json"}
    assert all(Path(path).is_file() for path in record["files"])
    assert "overlay equivalence adapter:ends_in_z" in (tmp_path / "page.md").read_text()
    (kept,) = (made.lived / "equivalence").iterdir()
    rungs = {path.name: path.stat().st_mtime_ns for path in kept.glob("rung-*.json")}
    assert len(rungs) == len(record["rungs"])
    shown = overlay(*asked)
    assert shown.code == 0 and "The claim" in shown.words and "instruction" in shown.out
    assert {path.name: path.stat().st_mtime_ns for path in kept.glob("rung-*.json")} == rungs
    assert json.loads((kept / "page.json").read_text())["rungs"] == record["rungs"]
    assert overlay(*asked, "--anew").code == 0
    assert {path.name: path.stat().st_mtime_ns for path in kept.glob("rung-*.json")} != rungs


def test_a_prompt_as_treatment_is_found_again(overlay: Command, tmp_path: Path) -> None:
    path = tmp_path / "queries.yaml"
    path.write_text("queries: [one, two, three, four]\ninstructions: [zz top, other]\n")
    done = overlay("prompt:zz top", "--queries", path, *QUICK, "--json")
    assert done.code == 0, done.told
    (instruction,) = [rung for rung in json.loads(done.out)["rungs"] if rung["name"] == "instruction"]
    assert instruction["prompt"] == "zz top" and instruction["held_out"]["value"] < 1e-4


def test_what_is_wrong_is_told_with_its_place(overlay: Command, made: Home, queries: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    for text, told in (("queries: []\n", "0 queries, and 4 are the fewest"), ("queries: [a]\n", "1 query, and 4")):
        bad.write_text(text)
        done = overlay("adapter:ends_in_z", "--queries", bad)
        assert done.code == 2 and f"{bad}:1: " in done.told and told in done.told
    few = overlay("adapter:ends_in_z")
    assert few.code == 2 and "2 held-out prompts" in few.told and "--queries FILE" in few.told
    assert overlay("adapter:klingon").code == 1 and overlay("klingon").code == 2
    assert overlay("adapter:ends_in_z", "--queries", queries, "--out", tmp_path / "page.html").code == 2
    module = made.folder / "adapters" / "prompts" / "charm.yaml"
    module.parent.mkdir(exist_ok=True)
    module.write_text("name: charm\nkind: anchor\nabout: a test\n")
    done = overlay("adapter:ends_in_z", "--queries", queries)
    module.unlink()
    assert done.code == 2 and f"{module}:2: " in done.told


def test_a_treatment_that_does_nothing_or_an_adapter_of_another_base_is_refused(
    overlay: Command, made: Home, queries: Path
) -> None:
    done = overlay("adapter:ends_in_z@0", "--queries", queries, *QUICK)
    assert done.code == 2 and "does nothing" in done.told
    settings = yaml.safe_load((made.folder / "agent.yaml").read_text())
    write_settings(made.folder, toy_settings("none", model=str(made.folder.parent / "other")))
    done = overlay("adapter:ends_in_z", "--queries", queries, *QUICK)
    write_settings(made.folder, settings)
    assert done.code == 1 and "this is another model" in done.told
