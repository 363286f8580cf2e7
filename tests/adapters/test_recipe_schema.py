"""The published schema of recipes is that of the code, and agrees with what is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from overlay.adapters import read_recipe
from overlay.adapters.schema import SCHEMA_FILE, recipe_schema
from overlay.document_schema import schema_text
from overlay.errors import DocumentError

STOCK = Path(__file__).parents[2] / "adapters" / "lora"
SCHEMA = Draft7Validator(recipe_schema())

WHOLE: dict[str, Any] = {
    "name": "short",
    "aim": "Test.",
    "examples": [{"prompt": "a ", "target": "bcd", "spans": [[0, 2]]}],
    "held_out": [{"prompt": "c ", "good": "b", "bad": "d"}],
    "replay": ["ordinary text"],
    "where": {"blocks": [0, 3], "modules": ["mlp"], "head": True, "tokens": ["mill"]},
    "safe_zone": {"quantile": 0.5, "widens_to": 0.9},
    "exempt": "targets",
    "notes": ["a note"],
}


def test_the_published_schema_is_that_of_the_code() -> None:
    assert (STOCK / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text(recipe_schema()), (
        "overlay adapters schema --out adapters/lora/recipe.schema.json writes it again"
    )
    Draft7Validator.check_schema(recipe_schema())


@pytest.mark.parametrize("path", sorted(STOCK.glob("*/recipe.yaml")), ids=lambda path: path.parent.name)
def test_stock_recipes_fit_the_schema_that_their_first_line_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=../recipe.schema.json\n")
    assert [error.message for error in SCHEMA.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"safe_zone": "none"},
        {"where": {"blocks": "all"}},
        {"examples": None, "generator": {"name": "british_spelling", "texts": ["The color of the sky."]}},
    ],
)
def test_what_is_read_fits_the_schema(tmp_path: Path, change: dict[str, Any]) -> None:
    document = {key: value for key, value in (WHOLE | change).items() if value is not None}
    read(tmp_path, document)
    assert [error.message for error in SCHEMA.iter_errors(document)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"nmae": "a"},
        {"name": "A Recipe"},
        {"blocks": "all"},
        {"where": {"blocks": "some"}},
        {"where": {"blocks": [1]}},
        {"where": {"layers": "all"}},
        {"safe_zone": "wide"},
        {"safe_zone": {"quantile": 0}},
        {"exempt": "words"},
        {"replay": []},
        {"examples": "a text"},
        {"examples": [{"prompt": "a"}]},
        {"steps": 0},
        {"examples": None},
        {"examples": None, "generator": {"name": "klingon", "texts": ["a"]}},
        {"examples": None, "generator": {"name": "british_spelling", "texts": ["The color."], "rate": 1}},
        {"examples": None, "generator": {"name": "misspelling", "texts": ["The letter."], "rate": 2}},
    ],
    ids=str,
)
def test_mistakes_of_form_are_refused_by_the_schema_and_the_reader(tmp_path: Path, change: dict[str, Any]) -> None:
    document = {key: value for key, value in (WHOLE | change).items() if value is not None}
    assert not SCHEMA.is_valid(document)
    with pytest.raises(DocumentError):
        read(tmp_path, document)


def read(folder: Path, document: dict[str, Any]) -> None:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(document, allow_unicode=True))
    read_recipe(folder / "recipe.yaml")
