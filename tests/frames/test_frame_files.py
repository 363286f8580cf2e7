"""Frames as people write them, and the line of every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from overlay.errors import DocumentError
from overlay.frames import AdapterPreference, RecallPreference, read_frames

GOOD = "name: {0}\ndescription: about {0}\ncues:\n  - a cue of {0}\n"


def test_frames_come_sorted_with_everything_that_was_written(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(
        GOOD.format("repair") + "questions: ['What broke?']\nvoices: [doubter]\nlinks:\n  care: 0.5\n  rest: -1\n"
        "recall: {tags: [tools], kinds: [read], boost: 0.2}\nadapter: {name: british, scale: 0.5}\n"
        "pushes: {calm: -0.5}\nforbids: [simpl*]\nthreshold: 0.6\n"
    )
    (tmp_path / "2.yaml").write_text(GOOD.format("care"))
    (tmp_path / "3.yaml").write_text(GOOD.format("rest"))
    (tmp_path / "notes.txt").write_text("no frame")
    care, repair, rest = read_frames(tmp_path)
    assert (care.name, repair.name, rest.name) == ("care", "repair", "rest")
    assert repair.links == {"care": 0.5, "rest": -1.0}
    assert (repair.questions, repair.voices, repair.forbids) == (("What broke?",), ("doubter",), ("simpl*",))
    assert repair.recall == RecallPreference(tags=("tools",), kinds=("read",), boost=0.2)
    assert (repair.adapter, repair.pushes) == (AdapterPreference(name="british", scale=0.5), {"calm": -0.5})
    assert (repair.threshold, care.threshold) == (0.6, 0.35)
    assert care.voices == ()


def test_no_folder_means_no_frames(tmp_path: Path) -> None:
    assert read_frames(tmp_path / "missing") == ()


@pytest.mark.parametrize(
    ("more", "line", "words"),
    [
        ("links:\n  other: 0.5\n  ghost: 0.5\n", 7, "ghost"),
        ("links:\n  other: 0\n", None, "other"),
        ("links:\n  other: 1.5\n", 6, "less than or equal to 1"),
        ("links:\n  other: .nan\n", 6, "finite"),
        ("links:\n  bad: 0.5\n", None, "itself"),
        ("threshold: 0\n", 5, "greater than 0"),
        ("threshhold: 0.5\n", 5, "not a known key"),
        ("questions: ['']\n", 5, "at least 1"),
        ("voices: [A Voice]\n", 5, "pattern"),
        ("name: bad\n", 5, "twice"),
        ("recall: {tgas: [a]}\n", 5, "not a known key"),
        ("recall:\n  tags: [a]\n  kinds: [gossip]\n", 7, "said"),
        ("adapter: {name: british, scale: 3}\n", 5, "less than or equal to 2"),
        ("pushes: {calm: 2}\n", 5, "less than or equal to 1"),
        ("pushes: {calm: 0}\n", 5, "does nothing"),
        ("voices: [nobody]\n", 5, "no such voice"),
        ("pushes: {rage: 1}\n", 5, "no such axis"),
        ("adapter: {scale: 1, name: ghostly}\n", 5, "no such adapter"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, more: str, line: int | None, words: str) -> None:
    (tmp_path / "bad.yaml").write_text(GOOD.format("bad") + more)
    (tmp_path / "other.yaml").write_text(GOOD.format("other"))
    with pytest.raises(DocumentError, match=words) as mistake:
        read_frames(tmp_path, voices=["doubter"], axes=["calm"], adapters=["british"])
    assert mistake.value.path == tmp_path / "bad.yaml"
    assert mistake.value.line == line or (line is None and mistake.value.line)


@pytest.mark.parametrize("left_out", ["name", "description", "cues"])
def test_a_frame_needs_name_description_and_cues(tmp_path: Path, left_out: str) -> None:
    written = {"name": "a", "description": "b", "cues": "[c]"}
    (tmp_path / "a.yaml").write_text("".join(f"{key}: {value}\n" for key, value in written.items() if key != left_out))
    with pytest.raises(DocumentError, match=f"'{left_out}' is missing"):
        read_frames(tmp_path)


def test_two_frames_of_one_name_are_refused_with_the_line_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD.format("same"))
    (tmp_path / "b.yaml").write_text("# a copy\n" + GOOD.format("same"))
    with pytest.raises(DocumentError, match=r"a\.yaml already") as mistake:
        read_frames(tmp_path)
    assert (mistake.value.path, mistake.value.line) == (tmp_path / "b.yaml", 2)
