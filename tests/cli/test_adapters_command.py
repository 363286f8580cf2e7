"""The adapters command: recipes from the first line on, training that can be interrupted, and what it led to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from adapters.tiny_home import TEMPLATE
from command import Command, command
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home

from overlay.adapters import check_adapter
from overlay.home import Home

STOCK = ("british_spelling", "causes", "misspelling", "old_orthography", "tender_texts", "terse_style")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_module("llama").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path, model_folder: Path) -> Home:
    """A home with a tiny model and one more recipe, `ends_in_z`, that nobody trained."""
    home = create_toy_home(tmp_path / "home", "none", model=str(model_folder))
    write(home, TEMPLATE.format(name="ends_in_z", letter="z", steps=6))
    return home


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Home) -> Command:
    monkeypatch.setenv("OVERLAY_HOME", str(home.folder))
    return command(monkeypatch, capsys, "adapters")


def write(home: Home, text: str, name: str = "ends_in_z") -> Path:
    path = home.folder / "adapters" / "lora" / name / "recipe.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def interrupt(overlay: Command, monkeypatch: pytest.MonkeyPatch, at: int, *options: object) -> tuple[object, str]:
    """Press Ctrl-C at a step of a training; how it ended and what it told."""
    from overlay.progress import ConsoleProgress

    def step(self: object, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        if description.startswith("training") and done == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ConsoleProgress, "step", step)
        done = overlay("train", "ends_in_z", "--dtype", "float32", *options)
    return done.code, done.told


def test_a_new_recipe_has_no_mistakes_fits_the_schema_can_be_trained_and_overwrites_nothing(
    overlay: Command, home: Home
) -> None:
    from jsonschema import Draft7Validator

    from overlay.adapters.schema import recipe_schema

    made = overlay("new", "short_answers")
    assert made.code == 0 and "overlay adapters check short_answers" in made.out
    path = home.folder / "adapters" / "lora" / "short_answers" / "recipe.yaml"
    text = path.read_text()
    assert Draft7Validator(recipe_schema()).is_valid(yaml.safe_load(text))
    assert "overlay adapters train short_answers\n" in text
    assert overlay("check", "short_answers").out == "1 adapters: OK\n"
    done = overlay("train", "short_answers", "--steps", 1, "--dtype", "float32")
    assert done.code == 0, done.told
    again = overlay("new", "short_answers")
    assert again.code == 2 and "there already" in again.told and path.read_text() == text
    assert overlay("new", "Short").code == 2


def test_every_part_of_the_template_may_be_there(overlay: Command, home: Home) -> None:
    overlay("new", "mine")
    path = home.folder / "adapters" / "lora" / "mine" / "recipe.yaml"
    text = path.read_text()
    for line in ("#licence", "#notes", "#  head", "#  tokens", "#exempt"):
        assert f"\n{line}" in text
        text = text.replace(f"\n{line}", f"\n{line[1:]}")
    path.write_text(text)
    assert overlay("check", "mine").out == "1 adapters: OK\n"


def test_stock_recipes_have_no_mistakes(overlay: Command) -> None:
    done = overlay("check", *STOCK)
    assert (done.code, done.out) == (0, "6 adapters: OK\n")
    assert overlay("check").out == "7 adapters: OK\n"


def test_mistakes_stand_with_line_and_what_was_expected(overlay: Command, home: Home) -> None:
    path = write(
        home,
        "name: ends_in_z\naim: a\nanchr: 1\nwhere:\n  modulse: [mlp]\nreplay: [a]\nexamples: [{target: ab}]\n"
        "held_out: [{prompt: c, good: d, bad: e}]\n",
    )
    done = overlay("check", "ends_in_z")
    assert done.code == 2
    assert f"{path}:3: 'anchr' is not a known key; expected: 'anchor', or another of" in done.out
    assert f"{path}:5: 'where.modulse' is not a known key; expected: 'modules', or another of blocks" in done.out
    (listed,) = json.loads(overlay("check", "ends_in_z", "--json").out)
    assert not listed["ok"] and [one["line"] for one in listed["mistakes"]] == [3, 5]
    assert overlay("check", "klingon").code == 1


def test_a_trained_adapter_is_checked_and_shown_with_what_it_was_measured_to_do(overlay: Command, home: Home) -> None:
    done = overlay("train", "ends_in_z", "--dtype", "float32", "--blocks", "0-1", "--steps", 2, "--seed", 5, "--json")
    assert done.code == 0, done.told
    facts = json.loads(done.out)
    assert facts["overrides"] == {"blocks": [0, 1], "steps": 2, "seed": 5} and facts["steps"] == 2
    assert overlay("check", "ends_in_z").code == 0
    shown = overlay("show", "ends_in_z").out
    for words in (
        " -> ",
        "of 2 choices",
        "ended by steps",
        "blocks 0-1: attention, mlp",
        "3 examples, 2 choices",
        "seed 5",
    ):
        assert words in shown
    document = json.loads(overlay("show", "ends_in_z", "--json").out)
    assert document["adapter"] == facts and document["recipe"]["where"]["blocks"] == "all"
    (listed,) = [one for one in json.loads(overlay("list", "--json").out) if one["name"] == "ends_in_z"]
    assert listed["trained"] and listed["problem"] == "" and listed["adapter"] == facts
    weights = home.adapters.built / "ends_in_z" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    harmed = overlay("check", "ends_in_z")
    assert harmed.code == 2 and "is not what was trained" in harmed.out


def test_an_interrupted_training_says_how_to_go_on_and_does(
    overlay: Command, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, told = interrupt(overlay, monkeypatch, 5, "--seed", 3)
    assert code == 130
    assert "stopped after step 4; to go on: overlay adapters train ends_in_z --resume --seed 3" in told
    assert check_adapter(home.adapters.built / "ends_in_z").ended == "interrupted"
    assert "after step 4" in overlay("show", "ends_in_z").out
    refused = overlay("train", "ends_in_z", "--dtype", "float32", "--resume")
    assert refused.code == 1 and "with other options" in refused.told
    done = overlay("train", "ends_in_z", "--dtype", "float32", "--resume", "--seed", 3)
    assert done.code == 0, done.told
    resumed = check_adapter(home.adapters.built / "ends_in_z")
    assert (resumed.ended, resumed.steps) == ("steps", 6)
    overlay("train", "ends_in_z", "--dtype", "float32", "--seed", 3)
    assert check_adapter(home.adapters.built / "ends_in_z").weights_sha256 == resumed.weights_sha256


def test_starting_anew_says_what_is_given_up(overlay: Command, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(overlay, monkeypatch, 2)
    done = overlay("train", "ends_in_z", "--dtype", "float32")
    assert done.code == 0 and "interrupted at step 1 is given up" in done.told


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--blocks", "3"), "is no range of blocks"),
        (("--blocks", "2-1"), "blocks: write all, or [first, last]"),
        (("--steps", "0"), "steps: "),
        (("--seed", "-1"), "seed: "),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_loaded(
    overlay: Command, options: tuple[str, str], says: str
) -> None:
    done = overlay("train", "ends_in_z", *options)
    assert done.code == 2 and says in done.told and "loading" not in done.told


def test_remove_asks_and_leaves_the_recipe_unless_it_is_asked_for_too(
    overlay: Command, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    nothing = overlay("remove", "ends_in_z", "--yes")
    assert nothing.code == 1 and "isn't trained" in nothing.told
    interrupt(overlay, monkeypatch, 5)
    built, recipe = home.adapters.built, home.folder / "adapters" / "lora" / "ends_in_z"
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert overlay("remove", "ends_in_z").code == 130
    assert (built / "ends_in_z").is_dir()
    assert overlay("remove", "ends_in_z", "--yes").code == 0
    assert list(built.iterdir()) == [] and recipe.is_dir()
    assert overlay("remove", "ends_in_z", "--recipe", "--yes").code == 0
    assert not recipe.exists()
    assert overlay("remove", "ends_in_z", "--yes").code == 1


def test_an_adapter_that_the_agent_wears_is_not_removed(overlay: Command, home: Home) -> None:
    settings = home.folder / "agent.yaml"
    settings.write_text(settings.read_text() + "adapter: {name: ends_in_z}\n")
    done = overlay("remove", "ends_in_z", "--recipe", "--yes")
    assert done.code != 0 and "agent.yaml, under `adapter`, asks for the adapter" in done.told
    assert (home.folder / "adapters" / "lora" / "ends_in_z").is_dir()


def test_an_adapter_that_a_frame_or_a_module_asks_for_is_not_removed(overlay: Command, home: Home) -> None:
    settings = home.folder / "agent.yaml"
    plain = settings.read_text()
    settings.write_text(plain + "modules: {aim: adapter:ends_in_z@1}\n")
    assert "under `modules`, asks for the adapter" in overlay("remove", "ends_in_z", "--recipe", "--yes").told
    settings.write_text(plain)
    home.frames.mkdir(parents=True, exist_ok=True)
    (home.frames / "zed.yaml").write_text(
        "name: zed\ndescription: Looks for the end.\ncues: [That is the end of it.]\nadapter: {name: ends_in_z}\n"
    )
    told = overlay("remove", "ends_in_z", "--recipe", "--yes").told
    (home.frames / "zed.yaml").unlink()
    assert "the frame 'zed' asks for the adapter" in told


def test_the_schema_is_written_where_it_is_asked_for(overlay: Command, tmp_path: Path) -> None:
    printed = overlay("schema").out
    out = tmp_path / "deep" / "recipe.schema.json"
    assert overlay("schema", "--out", out).out == f"{out}\n"
    assert out.read_text() == printed and json.loads(printed)["title"] == "Overlay recipe"
