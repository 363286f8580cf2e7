"""Schemas of documents: what editors are told is what is read, and a check knows which keys may stand at a place."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft7Validator
from pydantic import Field, StringConstraints, ValidationError

from overlay.document_schema import document_schema, known_keys, part_schema, schema_text
from overlay.documents import Document, new_document, parse_document, require_name
from overlay.errors import ArgumentError

Word = Annotated[str, StringConstraints(pattern=r"^[a-z]+$")]


class Path(Document):
    kind: Literal["path"]
    span: tuple[int, int]


class Gate(Document):
    kind: Literal["gate"]
    needs: dict[Word, int] = Field(default_factory=dict)


class Garden(Document):
    """Where something grows."""

    name: Word
    parts: tuple[Annotated[Path | Gate, Field(discriminator="kind")], ...] = ()
    behind: Gate | list[str] | None = None


SCHEMA = document_schema(Garden, "Test garden")


@pytest.mark.parametrize(
    ("document", "fits"),
    [
        ({"name": "a", "parts": [{"kind": "path", "span": [1, 2]}, {"kind": "gate", "needs": {"key": 1}}]}, True),
        ({"name": "a", "behind": {"kind": "gate"}}, True),
        ({"name": "A"}, False),
        ({"name": "a", "parts": [{"kind": "path", "span": ["1", "b"]}]}, False),
        ({"name": "a", "parts": [{"kind": "path", "span": [1, 2, 3]}]}, False),
        ({"name": "a", "parts": [{"kind": "gate", "needs": {"Key!": 1}}]}, False),
        ({"name": "a", "parts": [{"kind": "gate", "span": [1, 2]}]}, False),
        ({"name": "a", "prats": []}, False),
    ],
    ids=str,
)
def test_a_schema_of_draft_7_accepts_and_refuses_what_reading_does(document: dict[str, Any], fits: bool) -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert Draft7Validator(SCHEMA).is_valid(document) is fits
    if fits:
        Garden.model_validate(document)
    else:
        with pytest.raises(ValidationError):
            Garden.model_validate(document)


def test_a_schema_has_its_title_alone_and_a_part_has_none() -> None:
    assert SCHEMA["title"] == "Test garden" and SCHEMA["description"] == "Where something grows."
    assert "title" not in SCHEMA["properties"]["name"] and "title" not in part_schema(Garden)
    assert json.loads(schema_text(SCHEMA)) == SCHEMA


@pytest.mark.parametrize(
    ("place", "keys"),
    [
        ("nmae", {"name", "parts", "behind"}),
        ("parts.0.path.spna", {"kind", "span"}),
        ("parts.3.gate.need", {"kind", "needs"}),
        ("parts.0.x", {"kind", "span", "needs"}),
        ("behind.need", {"kind", "needs"}),
        ("behind.needs.key", set()),
        ("nowhere.to.be.found", set()),
    ],
)
def test_known_keys_are_those_that_may_stand_beside_a_place(place: str, keys: set[str]) -> None:
    assert set(known_keys(SCHEMA, place)) == keys


def test_a_name_is_refused_where_the_documents_own_field_refuses_it() -> None:
    require_name("rose", Garden, "a garden", "small letters")
    for name in ("", "Rose", "two words", "a\n"):
        with pytest.raises(ArgumentError, match="can't name a garden") as caught:
            require_name(name, Garden, "a garden", "small letters")
        assert caught.value.next_step == "small letters"


def test_a_new_document_has_its_name_wherever_the_template_leaves_it_open() -> None:
    text = new_document("no", "overlay.adapters")
    assert "overlay adapters check no\n" in text and "overlay adapters train no\n" in text

    class Named(Document, extra="ignore"):
        name: str

    assert parse_document(text, Named, "x.yaml").name == "no"
