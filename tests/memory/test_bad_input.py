"""What a memory is given and can't use: it says so in plain words, and nothing is written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overlay.documents import parse_document
from overlay.errors import ArgumentError, DocumentError, NoteError
from overlay.memory import LARGEST_TEXT, Memory, MemorySettings, NewNote, without_control_characters

Opener = Callable[..., Memory]

NOBODY = 65_534


@pytest.mark.parametrize(
    ("text", "place"),
    [("one\ntwo \x00 three", r"character 9 \(line 2\).*U\+0000"), ("\x1b[31mred", "U\\+001B"), ("a\x9bb", "U\\+009B")],
)
def test_control_characters_are_refused_with_their_place(memory: Memory, text: str, place: str) -> None:
    with pytest.raises(ArgumentError, match=place):
        memory.remember(text, kind="said", source="s")
    with pytest.raises(ArgumentError, match="control character"):
        memory.remember("text", kind="said", source="s", title=text)
    assert memory.count() == 0
    memory.remember(without_control_characters(text), kind="said", source="s")
    assert memory.count() == 1


def test_a_text_that_is_too_large_is_refused_with_advice(memory: Memory) -> None:
    for text in ("x" * (LARGEST_TEXT + 1), "ё" * (LARGEST_TEXT // 2 + 1)):
        with pytest.raises(ArgumentError, match="10 MB") as refusal:
            memory.remember(text, kind="read", source="s")
        assert "several notes" in refusal.value.next_step
    assert memory.count() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"importance": 1.5},
        {"importance": float("nan")},
        {"expires_at": float("inf")},
        {"place": 3},
        {"stream": "s", "place": -1},
        {"height": 1},
        {"state": {"care": float("nan")}},
        {"state": {" ": 1.0}},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        NewNote("text", "said", "s", **wrong)


def test_vectors_that_are_no_numbers_are_refused(memory: Memory, embedder: Any) -> None:
    embed = type(embedder).embed
    embedder.embed = lambda texts: embed(embedder, texts) * float("nan")
    with pytest.raises(NoteError, match="finite"):
        memory.remember("text", kind="said", source="s")
    assert memory.count() == 0


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("index: ftp://x", "server"),
        ("exact_below: -1", "exact_below"),
        ("weights: {text: 0.5, smell: 1}", "'smell' is no term"),
        ("weights: {text: -1}", "text is -1"),
        ("weights: {text: yes}", "text is True"),
        ("passage_words: 1", "passage_words"),
        ("colour: red", "'colour' is not a known key"),
    ],
)
def test_mistakes_in_the_settings_are_named_with_their_line(written: str, expected: str) -> None:
    with pytest.raises(DocumentError, match=expected) as refusal:
        parse_document(f"minimum_score: 0\n{written}\n", MemorySettings, "agent.yaml")
    assert refusal.value.line == 2


def test_settings_that_are_right_are_taken() -> None:
    read = parse_document("index: http://localhost:8000\nweights: {links: 0}\n", MemorySettings, "agent.yaml")
    assert (read.index, read.weights.links) == ("http://localhost:8000", 0)
    assert read.weights.text == MemorySettings().weights.text


def test_a_server_that_can_not_be_reached_is_named(open_memory: Opener) -> None:
    with pytest.raises(NoteError, match=r"http://127\.0\.0\.1:9") as refusal:
        open_memory(index="http://127.0.0.1:9")
    assert "start it" in refusal.value.next_step
    assert open_memory().count() == 0  # the refusal let go of the lock


@pytest.fixture
def guarded(embedder: Any) -> Iterator[Path]:
    """A memory in a folder that this process may read and not write."""
    # pytest's own folders can't be entered by anybody else.
    folder = Path(tempfile.mkdtemp(prefix="overlay-guarded-"))
    try:
        with Memory.open(folder, embedder) as memory:
            memory.remember("a blue door", kind="fact", source="s", note_id="door")
        for path in folder.rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        folder.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if is_root:
                os.seteuid(0)
            folder.chmod(0o755)
            for path in folder.rglob("*"):
                path.chmod(0o755)
    finally:
        shutil.rmtree(folder)


def test_a_folder_that_can_not_be_written_is_read_and_says_why_it_is_not_written(guarded: Path, embedder: Any) -> None:
    with pytest.raises(NoteError, match="can't be written") as refusal:
        Memory.open(guarded, embedder)
    assert "reading only" in refusal.value.next_step
    with Memory.open(guarded, embedder, read_only=True) as memory:
        assert memory.recall("blue door")[0].note.id == "door"
        with pytest.raises(NoteError, match="reading only"):
            memory.remember("x", kind="said", source="s")
    with pytest.raises(NoteError, match="can't be written"):
        Memory.open(guarded / "new", embedder)
