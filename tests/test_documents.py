"""Documents: every mistake in a file that a person wrote is told with its line, and none ends in a bare exception."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from overlay.documents import Document, MistakeAt, parse_document, read_document
from overlay.errors import DocumentError


class Part(Document):
    size: Annotated[int, Field(ge=0)]
    label: str = ""


class Whole(Document):
    name: str
    parts: tuple[Part, ...] = ()
    table: dict[str, Part] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_twins(self) -> Whole:
        sizes = [part.size for part in self.parts]
        for index, size in enumerate(sizes):
            if size in sizes[:index]:
                raise MistakeAt(("parts", index, "size"), f"a second part of size {size}")
        return self


def refuse(text: str) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        parse_document(text, Whole, "some/file.yaml")
    return caught.value


def test_what_is_right_is_read() -> None:
    whole = parse_document("name: a\nparts:\n  - {size: 1}\ntable:\n  x: {size: 2, label: y}\n", Whole, "f")
    assert whole == Whole(name="a", parts=(Part(size=1),), table={"x": Part(size=2, label="y")})


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("name: a\nsise: 3\n", 2, "'sise' is not a known key"),
        ("name: a\nparts:\n- size: 1\n- size: -2\n", 4, "parts.1.size"),
        ("name: a\nparts:\n- size: 1\n- label: only\n", 4, "'parts.1.size' is missing"),
        ("# a comment\n\nparts: []\n", 3, "'name' is missing"),
        ("name: a\ntable:\n  x:\n    size: 1\n    color: red\n", 5, "'table.x.color' is not a known key"),
        ("name: a\nparts: nothing\n", 2, "(found 'nothing')"),
        ("name: a\nname: b\n", 2, "'name' stands twice"),
        ("name: a\ntable:\n  x: {size: 1}\n  x: {size: 2}\n", 4, "'x' stands twice"),
        ("name: a\n  parts: []\n", 2, "not valid YAML"),
        ("name: 'a\nparts: []\n", 3, "not valid YAML"),
        ("name: a\nparts: [1, 2\n", 3, "not valid YAML"),
        ("name: a\nparts: {? [1, 2] : 3}\n", 2, "not valid YAML"),
        ("name: a\ntable: *nowhere\n", 2, "not valid YAML"),
        ("name: !!python/object:os.system a\n", 1, "not valid YAML"),
        ("", 1, "empty"),
        ("# nothing but a comment\n", 1, "empty"),
        ("- a\n- b\n", 1, "the file"),
        ("just words\n", 1, "the file"),
        ("name: a\nparts:\n- size: 1\n- label: x\n  size: 1\n", 5, "a second part of size 1"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, said: str) -> None:
    error = refuse(text)
    assert (error.line, error.path) == (line, Path("some/file.yaml"))
    assert said in str(error) and str(error).startswith(f"some/file.yaml:{line}: ")
    assert error.next_step and error.exit_code == 2


@pytest.mark.parametrize(
    "text",
    ["name: 2024-13-45\n", "name: &n [*n]\n", "name: a\ntable: &t {x: *t}\n", f"name: {'9' * 5000}\n", "name: \x00\n"],
    ids=["no such date", "inside itself", "map inside itself", "endless number", "zero byte"],
)
def test_text_that_trips_the_yaml_reader_is_a_mistake_too(text: str) -> None:
    assert "some/file.yaml" in str(refuse(text))


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines() -> None:
    error = refuse("size: 1\nname: a\nparts:\n- size: x\n- {}\n")
    lines = [1, 4, 5]
    places = [str(error).index(f"line {line}:" if line > 1 else ":1:") for line in lines]
    assert error.line == 1 and places == sorted(places)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_as_a_document(text: str) -> None:
    try:
        found = parse_document(text, Whole, "f")
    except DocumentError as error:
        assert error.line is None or 1 <= error.line <= text.count("\n") + text.count("\r") + 3
    else:
        assert isinstance(found, Whole)


def test_a_file_that_cannot_be_read_is_told_by_its_path(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: für\n".encode("latin-1"))
    cases: list[tuple[Any, str]] = [
        (tmp_path / "missing.yaml", "does not exist"),
        (latin, "not UTF-8"),
        (tmp_path, "can't be read"),
    ]
    for path, said in cases:
        with pytest.raises(DocumentError, match=said) as caught:
            read_document(path, Whole)
        assert str(path) in str(caught.value) and caught.value.next_step


def test_a_document_never_changes() -> None:
    part = Part(size=1)
    with pytest.raises(ValueError, match="frozen"):
        part.size = 2  # type: ignore[misc]
