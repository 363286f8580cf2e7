"""The probes command: banks from their first line on, and maps of what was done to a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from command import Command, command
from probes.toy_bank import toy_content, write_bank
from tiny_models import byte_tokenizer, tiny_module
from toy_home import create_toy_home

from overlay.home import Home

CHECKS = [
    {"id": f"check_{place}", "kind": "unrelated", "prompt": f"{place} and {place} make", "good": " two", "bad": " ten"}
    | {"expect": {"lacks": ["ten"]}, "max_tokens": 3}
    for place in ("one", "two", "three")
]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_module("llama").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def home(tmp_path: Path, model_folder: Path) -> Home:
    """A home with a tiny model and one bank of two cells."""
    home = create_toy_home(tmp_path / "home", "none", model=str(model_folder))
    for path in home.probes.glob("*.yaml"):
        path.unlink()
    write_bank(home.probes, toy_content(checks=CHECKS))
    return home


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Home) -> Command:
    monkeypatch.setenv("OVERLAY_HOME", str(home.folder))
    return command(monkeypatch, capsys, "probes")


def test_a_new_bank_passes_its_check_fits_the_schema_and_overwrites_nothing(overlay: Command, home: Home) -> None:
    from jsonschema import Draft7Validator

    made = overlay("new", "tides")
    assert made.code == 0 and "overlay probes check tides" in made.out
    done = overlay("check", "tides")
    assert (done.code, done.out) == (0, "1 probe banks: OK\n")
    assert "2 probes" in done.told
    schema = json.loads(overlay("schema").out)
    assert Draft7Validator(schema).is_valid(yaml.safe_load((home.probes / "tides.yaml").read_text()))
    assert "there already" in overlay("new", "tides").told


def test_the_stock_schema_is_the_one_of_the_program(overlay: Command) -> None:
    shipped = Path(__file__).parents[2] / "adapters" / "probes" / "bank.schema.json"
    assert overlay("schema").out == shipped.read_text(encoding="utf-8")


def test_a_check_lists_each_mistake_with_its_line_and_what_may_stand_there(overlay: Command, home: Home) -> None:
    path = home.probes / "letters.yaml"
    path.write_text(path.read_text().replace("  good: ' zzz'", "  goood: ' zzz'", 1), encoding="utf-8")
    line = path.read_text().splitlines().index("  goood: ' zzz'") + 1
    done = overlay("check")
    assert done.code == 2
    assert f"letters.yaml:{line}" in done.out
    assert "'good', or another of" in done.out
    (row,) = json.loads(overlay("check", "letters", "--json").out)
    assert not row["ok"]
    assert row["mistakes"][0]["line"] == line


def test_a_lone_probe_is_a_mistake_with_its_line(overlay: Command, home: Home) -> None:
    path = home.probes / "letters.yaml"
    path.write_text(path.read_text().replace("level: causality", "level: analogy", 1), encoding="utf-8")
    done = overlay("check", path)
    assert done.code == 2
    assert f":{path.read_text().splitlines().index('  level: analogy') + 1}: " in done.out
    assert "only probe of the cell analogy / logical / en" in done.out


def test_an_id_in_two_banks_is_a_mistake_of_the_folder(overlay: Command, home: Home) -> None:
    write_bank(home.probes, toy_content(name="more"))
    done = overlay("check", home.probes)
    assert done.code == 2
    assert "stands in letters.yaml as well" in done.out


def test_one_bank_of_the_home_is_checked_beside_its_others(overlay: Command, home: Home) -> None:
    write_bank(home.probes, toy_content(name="more"))
    done = overlay("check", "more")
    assert done.code == 2
    assert "more.yaml:" in done.out and "stands in letters.yaml as well" in done.out


def test_new_banks_can_be_measured_beside_each_other(overlay: Command) -> None:
    assert overlay("new", "tides").code == overlay("new", "moons").code == 0
    assert overlay("check").out == "3 probe banks: OK\n"


def test_a_place_that_cant_be_written_to_is_told_before_anything_is_measured(overlay: Command, home: Home) -> None:
    done = overlay("map", "base", "--out", home.folder / "agent.yaml" / "map.md")
    assert done.code == 2
    assert "can't be written" in done.told and "loading" not in done.told


def test_a_map_is_printed_and_written_in_every_form(overlay: Command, tmp_path: Path) -> None:
    page, plot, record = (tmp_path / f"map.{ending}" for ending in ("md", "png", "json"))
    done = overlay("map", "prompt:Say z, only z.", "--out", page, "--out", plot, "--out", record, "--dtype", "float32")
    assert done.code == 0, done.told
    assert "prompt:Say z, only z." in page.read_text()
    assert plot.read_bytes().startswith(b"\x89PNG")
    told = json.loads(record.read_text())
    assert [cell["level"] for cell in told["cells"]] == ["causality", "definition"]
    assert "causality" in done.out and "unchanged" in done.out


def test_a_map_of_chosen_cells_against_another_treatment(overlay: Command) -> None:
    done = overlay(
        "map",
        "axis:vowels@0.5",
        "--against",
        "axis:vowels@-0.5",
        "--level",
        "causality",
        "--json",
        "--dtype",
        "float32",
    )
    assert done.code == 0, done.told
    found = json.loads(done.out)
    assert (found["before"], found["after"]) == ("axis:vowels@-0.5", "axis:vowels@0.5")
    assert [cell["level"] for cell in found["cells"]] == ["causality"]
    assert any(probe["before"] != probe["after"] for probe in found["probes"])


def test_the_base_against_itself_changes_nothing(overlay: Command) -> None:
    done = overlay("map", "base", "--bank", "letters", "--dtype", "float32")
    assert done.code == 0
    assert "0 strengthened; 0 became possible; 0 sagged; 2 unchanged" in done.out


def test_answers_are_checked_under_both_treatments(overlay: Command) -> None:
    done = overlay("answers", "axis:vowels@0.1", "--judge", "--json", "--dtype", "float32")
    assert done.code == 0, done.told
    report = json.loads(done.out)
    assert list(report["kinds"]) == ["unrelated"]
    assert len(report["answers"]) == 3
    assert report["kinds"]["unrelated"]["judged"] is not None
    assert "unrelated" in overlay("answers", "base", "--dtype", "float32").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("map", "wish"), "is no treatment"),
        (("map", "adapter:nobody"), "no adapter 'nobody'"),
        (("map", "base", "--bank", "nobody"), "no bank 'nobody'"),
        (("map", "base", "--level", "rumour"), "no probe"),
        (("map", "base", "--out", "map.txt"), ".png"),
        (("answers", "base", "--topic", "nothing"), "no such checks"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(overlay: Command, arguments: tuple[str, ...], says: str) -> None:
    done = overlay(*arguments)
    assert done.code != 0
    assert says in done.told
    assert "->" in done.told
    assert "loading" not in done.told
