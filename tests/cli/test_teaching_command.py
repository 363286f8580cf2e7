"""The teach command: mistakes with their lines, a walk that can be stopped, a verdict and its page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from command import Command, command
from teaching.toy_curriculum import edge, toy_curriculum, write
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home

from overlay.home import Home


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_module("llama").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path, model_folder: Path) -> Home:
    """A home with a tiny model and the toy curriculum alone."""
    home = create_toy_home(tmp_path / "home", "none", model=str(model_folder))
    curricula = home.folder / "adapters" / "curricula"
    shutil.rmtree(curricula, ignore_errors=True)
    curricula.mkdir()
    write(curricula, toy_curriculum())
    return home


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Home) -> Command:
    monkeypatch.setenv("OVERLAY_HOME", str(home.folder))
    return command(monkeypatch, capsys, "teach")


def test_a_curriculum_is_walked_to_an_adapter_with_a_verdict_and_a_page(
    overlay: Command, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overlay.progress import ConsoleProgress

    def step(self: object, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        if (description, done) == ("teaching", 5):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ConsoleProgress, "step", step)
        stopped = overlay("toy")
    assert stopped.code == 130 and "toy: stopped; the same command goes on from there" in stopped.told
    assert home.adapters.names.count("toy") == 0
    other = overlay("toy", "--seed", 3)
    assert other.code == 1 and "was begun with another curriculum, or other settings" in other.told
    done = overlay("toy")
    assert done.code == 0 and "the shuffled twin: " in done.out and "8 steps kept, 2 checks, 0 steps back" in done.out
    page = (home.lived / "teaching" / "toy" / "page.md").read_text()
    assert page.startswith("# toy: everything ends in z\n\n**Teaching along the graph: ")
    assert "| held_out_1 | " in page and "| definition / lexical / en | " in page and "| ended | " in page
    assert home.adapters.load("toy").origin == "taught"
    again = overlay("toy", "--json")
    facts = json.loads(again.out)
    assert facts["words"] in done.out and facts["adapter"]["name"] == "toy" and len(facts["comparison"]["probes"]) == 6


def test_mistakes_are_listed_with_file_and_line_and_nothing_is_taught(overlay: Command, home: Home) -> None:
    assert overlay("--check").out == "1 curricula: OK\n"
    content = toy_curriculum(name="broken", strat="say_one")
    content["edges"] += [edge("ask_last", "nowhere")]
    path = write(home.folder / "adapters" / "curricula", content)
    done = overlay("--check")
    line = path.read_text().splitlines().index("strat: say_one") + 1
    assert done.code == 2 and f"{path}:{line}: 'strat' is not a known key; expected: 'start'" in done.out
    path.write_text(yaml.safe_dump(toy_curriculum(name="broken", edges=[]), sort_keys=False))
    done = overlay("broken", "--check", "--json")
    (found,) = json.loads(done.out)
    assert not found["ok"] and len(found["mistakes"]) == 5 and "is an orphan" in found["mistakes"][0]["problem"]
    assert overlay("broken").code == 2 and not (home.lived / "teaching").exists()


def test_what_examples_do_for_each_other_is_measured_and_kept(overlay: Command, home: Home) -> None:
    done = overlay("toy", "--learn-edges", "--json")
    facts = json.loads(done.out)
    names = [f"say_{word}" for word in ("one", "two", "three", "four")]
    assert done.code == 0 and list(facts["lowered"]) == names and set(facts["loss"]) == set(names)
    # All of them end in the same: what is learned on one lowers the loss on every other.
    assert all(gain > 0 for row in facts["lowered"].values() for gain in row.values())
    file = Path(facts["file"])
    kept = file.read_bytes()
    assert overlay("toy", "--learn-edges").code == 0 and file.read_bytes() == kept


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "no curriculum is named"),
        (("missing",), "there is no curriculum 'missing'"),
        (("missing.yaml",), "this file does not exist"),
        (("toy", "--steps", 0), "steps: Input should be greater than or equal to 1"),
        (("toy", "--map", "spelling"), "spelling"),
        (("toy", "--out", "page.html"), "doesn't end in .md"),
    ],
)
def test_what_can_not_be_is_told(overlay: Command, arguments: tuple[object, ...], told: str) -> None:
    done = overlay(*arguments)
    assert done.code and told in done.told and "Traceback" not in done.told


def test_its_schema_is_printed_for_editors(overlay: Command) -> None:
    schema = json.loads(overlay("--schema").out)
    assert {"start", "nodes", "edges", "held_out", "replay"} <= set(schema["properties"])
