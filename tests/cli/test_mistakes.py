"""Mistakes: an error that lists several is told as several, to people and to programs, with the exit code of files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from overlay.cli.mistakes import MISTAKEN, Mistake, mistakes_of, print_mistakes, tell_checked
from overlay.document_schema import document_schema
from overlay.documents import Document, read_document
from overlay.errors import DocumentError


class Leaf(Document):
    size: int
    colour: str = ""


class Tree(Document):
    name: str
    leaf: Leaf


@pytest.fixture
def mistakes(tmp_path: Path) -> list[Mistake]:
    (tmp_path / "tree.yaml").write_text("nmae: oak\nleaf:\n  size: big\n  color: red\n  zzz: 1\n")
    with pytest.raises(DocumentError) as caught:
        read_document(tmp_path / "tree.yaml", Tree)
    return mistakes_of(caught.value, document_schema(Tree, "Tree"))


def test_each_mistake_has_its_line_and_an_unknown_key_what_may_stand_there(mistakes: list[Mistake]) -> None:
    assert [(one.line, one.expected) for one in mistakes] == [
        (1, "'name', or another of name, leaf"),
        (3, ""),
        (4, "'colour', or another of size, colour"),
        (5, "one of size, colour"),
        (1, ""),
    ]
    assert [bool(one.next_step) for one in mistakes] == [False] * 4 + [True]
    assert mistakes[1].problem.startswith("leaf.size: ") and mistakes[-1].problem == "'name' is missing"


def test_mistakes_are_printed_with_file_and_line_and_the_advice_once(
    mistakes: list[Mistake], capsys: pytest.CaptureFixture[str]
) -> None:
    print_mistakes(mistakes)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == f"{mistakes[0].file}:1: 'nmae' is not a known key; expected: 'name', or another of name, leaf"
    assert last.startswith("  -> ")
    print_mistakes([Mistake("a.yaml", None, "it does not exist")])
    assert capsys.readouterr().out == "a.yaml: it does not exist\n"


def test_what_was_checked_is_counted_and_ends_with_an_exit_code_only_if_something_is_wrong(
    mistakes: list[Mistake], capsys: pytest.CaptureFixture[str]
) -> None:
    tell_checked({"a": [], "b": []}, "trees", as_json=False)
    assert capsys.readouterr().out == "2 trees: OK\n"
    with pytest.raises(typer.Exit) as ended:
        tell_checked({"a": [], "b": mistakes}, "trees", as_json=False)
    assert ended.value.exit_code == MISTAKEN and capsys.readouterr().out.endswith("\n2 trees, 1 with mistakes\n")


def test_programs_get_every_mistake_of_everything_that_was_checked(
    mistakes: list[Mistake], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        tell_checked({"a": [], "b": mistakes}, "trees", key="name", as_json=True)
    good, bad = json.loads(capsys.readouterr().out)
    assert good == {"name": "a", "ok": True, "mistakes": []}
    assert bad["name"] == "b" and not bad["ok"] and len(bad["mistakes"]) == len(mistakes)
    assert set(bad["mistakes"][0]) == {"file", "line", "problem", "expected", "next_step"}
