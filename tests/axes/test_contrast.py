"""Contrast files: what would make a worthless axis is refused before anything is built from it, with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_axis import toy_contrast, toy_texts, write_contrast

from overlay.axes import AxisLibrary, ContrastSet, find_words, read_contrast
from overlay.errors import AxisMissing, DocumentError

ROOT = Path(__file__).parents[2]


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def refuse(folder: Path, **changes: Any) -> tuple[Path, DocumentError]:
    path = write_contrast(folder, toy_contrast(**changes))
    with pytest.raises(DocumentError) as caught:
        read_contrast(path)
    assert caught.value.path == path and str(caught.value).startswith(f"{path}:{caught.value.line}: ")
    return path, caught.value


@pytest.mark.parametrize("group", ["positive", "negative", "neutral"])
@pytest.mark.parametrize("word", ["vowel", "Vowel", "VOWEL,", "open mouth"])
def test_a_text_that_names_the_state_is_refused_at_its_line(tmp_path: Path, group: str, word: str) -> None:
    texts = toy_texts("xyz")
    texts[3] = f"xxyyz a {word} here"
    path, error = refuse(tmp_path, **{group: texts})
    assert error.line == line_of(path, texts[3])
    assert f"{group}.3: this text names the state ('{word.rstrip(',').lower()}')" in error.problem


def test_a_foil_that_names_the_state_is_refused_at_its_line(tmp_path: Path) -> None:
    texts = toy_texts("xyz")
    texts[0] = "an open mouth"
    path, error = refuse(tmp_path, foils={"first": toy_texts("hjk"), "second": texts})
    assert error.line == line_of(path, texts[0]) and "foils.second.0" in error.problem


def test_words_of_the_second_language_count_too(tmp_path: Path) -> None:
    path, error = refuse(tmp_path, lexicon_ru=["нежность"], positive=[*toy_texts("aei", 11), "это нежность и всё"])
    assert error.line == line_of(path, "нежность и всё") and "positive.11" in error.problem


def test_a_word_that_only_contains_a_state_word_is_no_naming() -> None:
    find = find_words(("love", "care", "open mouth"))
    assert find("gloves, careful, Love-lies, open mouths") == ["love"]
    assert find("Lovely caretakers") == []
    assert find("LOVE and Open Mouth.") == ["love", "open mouth"]
    assert find_words(())("love") == []


def test_a_missing_twin_is_refused(tmp_path: Path) -> None:
    _, error = refuse(tmp_path, negative=toy_texts("bcdfg", 11))
    assert "12 positive and 11 negative texts" in error.problem


def test_a_text_on_both_sides_is_refused(tmp_path: Path) -> None:
    _, error = refuse(tmp_path, negative=toy_texts("aeiou"))
    assert "share a text" in error.problem


@pytest.mark.parametrize("group", ["positive", "negative", "neutral", "foils"])
def test_too_few_texts_for_a_held_out_check_are_refused(tmp_path: Path, group: str) -> None:
    few: Any = toy_texts("xyz", 7)
    path, error = refuse(tmp_path, **{group: {"few": few} if group == "foils" else few})
    assert error.line == line_of(path, "few:" if group == "foils" else f"{group}:") and "at least 8" in str(error)


@pytest.mark.parametrize("content", ["", "name: vowels\n", "name: vowels\npositive: []\nnegative: []\nneutral: []\n"])
def test_an_empty_contrast_set_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vowels.yaml"
    path.write_text(content)
    with pytest.raises(DocumentError) as caught:
        read_contrast(path)
    assert str(path) in str(caught.value) and "positive" in str(caught.value)


def test_an_axis_without_foils_is_refused(tmp_path: Path) -> None:
    path, error = refuse(tmp_path, foils={})
    assert error.line == line_of(path, "foils:")


def test_an_unknown_key_is_refused_at_its_line(tmp_path: Path) -> None:
    path, error = refuse(tmp_path, postive=["typo"])
    assert error.line == line_of(path, "postive:") and "'postive' is not a known key" in error.problem


def test_the_digest_changes_with_any_text_and_with_nothing_else() -> None:
    first = ContrastSet(**toy_contrast())
    assert ContrastSet(**toy_contrast(description="another")).digest == first.digest
    texts = toy_texts("npqrs")
    texts[-1] += "n"
    assert ContrastSet(**toy_contrast(neutral=texts)).digest != first.digest


def test_an_axis_that_was_never_written_is_missing_and_the_known_ones_are_named(tmp_path: Path) -> None:
    write_contrast(tmp_path / "written", toy_contrast("vowels"))
    write_contrast(tmp_path / "written", toy_contrast("liquids"))
    (tmp_path / "written" / "vowels.confirm.yaml").write_text("positive: [a]\nother: [b]\n")
    library = AxisLibrary(tmp_path / "written", tmp_path / "built")
    assert library.names == ("liquids", "vowels")
    with pytest.raises(AxisMissing, match="there is no axis 'vowel'") as caught:
        library.contrast("vowel")
    assert "liquids, vowels" in caught.value.next_step


def test_a_file_that_holds_another_axis_than_its_name_says_is_refused(tmp_path: Path) -> None:
    path = write_contrast(tmp_path, toy_contrast("vowels"))
    path.rename(tmp_path / "openness.yaml")
    with pytest.raises(DocumentError, match="vowels") as caught:
        AxisLibrary(tmp_path, tmp_path / "built").contrast("openness")
    assert str(tmp_path / "openness.yaml") in str(caught.value)


def test_the_shipped_axes_parse_and_none_of_their_texts_names_the_state() -> None:
    from overlay.axes.build import read_confirmation

    library = AxisLibrary(ROOT / "adapters" / "steering", ROOT / ".overlay" / "axes")
    assert "tenderness" in library.names
    for name in library.names:
        contrast = library.contrast(name)
        assert len(contrast.lexicon) > 10
        named = find_words(contrast.lexicon + contrast.lexicon_ru)
        confirmation = ROOT / "adapters" / "steering" / f"{name}.confirm.yaml"
        groups = [
            *contrast.groups().values(),
            *(read_confirmation(confirmation).values() if confirmation.exists() else ()),
        ]
        assert not [text for texts in groups for text in texts if named(text)]


def test_tenderness_has_the_foils_and_the_number_of_texts_it_promises() -> None:
    contrast = read_contrast(ROOT / "adapters" / "steering" / "tenderness.yaml")
    assert len(contrast.positive) == len(contrast.negative) >= 40
    assert {"anger", "fear", "pride"} <= set(contrast.foils) and len(contrast.foils) >= 5
