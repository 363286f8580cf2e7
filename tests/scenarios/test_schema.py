"""Schema and template: the published files are the code's, and editors never complain of what a check accepts."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from pydantic import ValidationError
from toy_scenario import toy_scenario

from overlay.document_schema import known_keys, schema_text
from overlay.documents import parse_document
from overlay.errors import ArgumentError
from overlay.scenarios import Scenario, read_scenario
from overlay.scenarios.schema import exposure_schema, scenario_schema
from overlay.scenarios.script import ExposureFile, Item
from overlay.scenarios.template import new_script

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "scenarios").glob("*.yaml"))
EXPOSURES = sorted((ROOT / "scenarios" / "exposures").glob("*.yaml"))
SCRIPT_SCHEMA = Draft7Validator(scenario_schema())
EXPOSURE_SCHEMA = Draft7Validator(exposure_schema())


def with_all_parts(script: str) -> str:
    """A template whose parts that may be there are there."""
    return re.sub(r"(?m)^#(?=\S|  )", "", script)


def structural(error: ValidationError) -> bool:
    """Whether parts of a script have the wrong type, form or keys, which a schema can see."""
    return all(one["type"] != "value_error" for one in error.errors())


def parts(node: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of all parts of a document."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*place, key)
        yield from parts(value, (*place, key))


def changed(document: Any, place: tuple[str | int, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of a document after `change` of the container and key at a place."""
    copied = copy.deepcopy(document)
    container = copied
    for key in place[:-1]:
        container = container[key]
    change(container, place[-1])
    return copied


def replaced(value: Any) -> Callable[[Any, Any], None]:
    return lambda container, key: container.__setitem__(key, value)


def removed(container: Any, key: Any) -> None:
    del container[key]


def misspelt(container: Any, key: Any) -> None:
    if isinstance(container, dict):
        container[f"{key}?"] = container.pop(key)


CHANGES = {
    "removed": removed,
    "misspelt": misspelt,
    "a number": replaced(-7),
    "a text": replaced("a text"),
    "empty": replaced(""),
    "a list": replaced([]),
    "a mapping": replaced({}),
    "nothing": replaced(None),
}


# --- what is published ---------------------------------------------------------------------------


def test_the_published_schemas_are_those_of_the_code() -> None:
    published = {
        ROOT / "scenarios" / "scenario.schema.json": scenario_schema(),
        ROOT / "scenarios" / "exposures" / "exposure.schema.json": exposure_schema(),
    }
    for path, schema in published.items():
        assert path.read_text(encoding="utf-8") == schema_text(schema), "overlay scenario schema --out writes it again"
        assert "$id" not in schema and schema["title"]
        Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_stock_scripts_fit_the_schema_that_their_first_line_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=scenario.schema.json\n")
    assert [error.message for error in SCRIPT_SCHEMA.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize("path", EXPOSURES, ids=lambda path: path.stem)
def test_stock_exposures_fit_their_schema(path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [error.message for error in EXPOSURE_SCHEMA.iter_errors(content)] == []
    assert not EXPOSURE_SCHEMA.is_valid(content | {"texts": []}) and ExposureFile.model_validate(content)


# --- the schema and the reader of scripts --------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_the_schema_and_the_check_agree_on_every_single_change_of_form(change: str) -> None:
    whole = yaml.safe_load(with_all_parts(new_script("whole")))
    refused = 0
    for place in parts(whole):
        document = changed(whole, place, CHANGES[change])
        seen = SCRIPT_SCHEMA.is_valid(document)
        try:
            Scenario.model_validate(document)
        except ValidationError as error:
            refused += 1
            if structural(error):
                assert not seen, f"an editor accepts {place}, {change}: {error}"
        else:
            assert seen, (
                f"an editor refuses {place}, {change}: {[e.message for e in SCRIPT_SCHEMA.iter_errors(document)]}"
            )
    assert refused > 50


@pytest.mark.parametrize(
    ("written", "fits"),
    [
        (["A scene."], True),
        ({"file": "tender_scenes"}, True),
        ({"session": "20260101-000000-aaaa"}, True),
        ({"state": {"vowels": 1}}, True),
        ([], False),
        ({}, False),
        ({"file": "one", "session": "two"}, False),
        ({"flie": "one"}, False),
    ],
)
def test_an_exposure_is_a_list_or_one_of_its_forms(written: Any, fits: bool) -> None:
    document = toy_scenario(exposure=written)
    assert SCRIPT_SCHEMA.is_valid(document) is fits
    if fits:
        Scenario.model_validate(document)
    else:
        with pytest.raises(ValidationError):
            Scenario.model_validate(document)


def test_a_step_and_a_ledger_detector_are_one_thing_in_the_schema_too() -> None:
    document = toy_scenario()
    for steps, fits in (([{"choose": {}}], True), ([{"choose": {}, "say": "No."}], False), ([{"id": "x"}], False)):
        document["trial"]["steps"] = steps
        assert SCRIPT_SCHEMA.is_valid(document) is fits
    ledger = {"name": "gave", "kind": "ledger"}
    for more, fits in (({"when": "logs < 12"}, True), ({"when": "logs < 12", "spent_at_least": 1}, False), ({}, False)):
        assert SCRIPT_SCHEMA.is_valid(toy_scenario(detectors=[ledger | more])) is fits


def test_names_of_resources_are_checked_by_the_schema() -> None:
    document = toy_scenario()
    document["trial"]["items"][0]["resources"] = {"Logs!": 1}
    assert not SCRIPT_SCHEMA.is_valid(document)


@pytest.mark.parametrize(
    ("place", "keys"),
    [
        ("nmae", set(Scenario.model_fields)),
        ("trial.items.3.paraphrase", set(Item.model_fields)),
        ("detectors.1.choice.optoin", {"name", "examples", "kind", "option", "step"}),
        ("trial.steps.0.free.tokens", {"asks", "max_tokens", "temperature"}),
        ("exposure.flie", {"texts", "file", "session", "state"}),
        ("nowhere.to.be.found", set()),
    ],
)
def test_known_keys_are_those_beside_the_place(place: str, keys: set[str]) -> None:
    assert set(known_keys(scenario_schema(), place)) == keys


# --- the template --------------------------------------------------------------------------------


def test_the_template_is_a_script_as_it_stands_and_with_all_its_parts(tmp_path: Path) -> None:
    script = new_script("night_shift")
    whole = with_all_parts(script)
    for number, text in enumerate((script, whole)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        assert read_scenario(path).name == "night_shift"
        assert SCRIPT_SCHEMA.is_valid(yaml.safe_load(text))
    content = yaml.safe_load(whole)
    assert set(content) == set(Scenario.model_fields)
    assert {kind for step in content["trial"]["steps"] for kind in step} >= {"say", "choose", "act", "free"}


@pytest.mark.parametrize("name", ["no", "null", "2026", "1e5", "0x1f", "2024-13-45", "2026-01-01", "a-b_c"])
def test_a_name_is_a_text_whatever_yaml_takes_it_for(name: str) -> None:
    assert parse_document(new_script(name), Scenario, "x.yaml").name == name


@pytest.mark.parametrize("name", ["", "Night", "night shift", "../night", "-night", "night.yaml", "ночь", "a\n", "a:b"])
def test_a_name_that_no_scenario_can_have_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="can't name a scenario"):
        new_script(name)


def test_a_schema_is_one_json_document() -> None:
    assert json.loads(schema_text(scenario_schema())) == scenario_schema()
