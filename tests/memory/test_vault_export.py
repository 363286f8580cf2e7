"""Export, import into an empty memory, export: the same files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overlay.errors import ArgumentError, DocumentError
from overlay.memory import Memory, NewNote, export_lines, export_markdown, import_path
from overlay.memory.note import without_control_characters
from overlay.memory.vaults.exporting import CONTENTS


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def bare(memory: Memory) -> list[Any]:
    """All that two memories of the same notes have in common."""
    return [(note, memory.sources(note.id)) for note in memory.notes()]


# Whole texts of a few signs that are special somewhere, and any other signs.
SPECIAL = ["---", "\n", "\r\n", "\r", "...", " ", "\t", ": ", "#", "[[a]]", '"', "'", "\\", "{", "- ", "чай", "й", "é"]
SPECIAL += ["🍵", "\u2028", "\x85", "\ufeff", "null", "1e-05", "~", "!!x", "&a", "*a", "%", "\x0b", "\x0c", "\uffff"]
PIECES = st.one_of(
    st.sampled_from(SPECIAL),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=6).map(without_control_characters),
)
TEXTS = st.lists(PIECES, min_size=1, max_size=8).map("".join).filter(str.strip)
NAMES = st.one_of(
    TEXTS,
    st.sampled_from(
        ["vault:a/b", "vault:A/b", "vault:a/b.md", "vault:a", "vault:a.md/b", "../../etc/passwd", "con", "."]
    ),
    st.sampled_from(
        ["/", "//", "a//b", "vault:..", "note:1", "x" * 300, "ж/" * 120 + "x", "a\u0301", "\u00e1", "a ", "a."]
    ),
)
TIMES = st.one_of(
    st.floats(-1e11, 1e11, allow_nan=False),
    st.floats(1.6e9, 1.8e9),
    st.sampled_from([0.0, -0.0, 1e-05, 1e16, 1e300, 5e-324, 0.1, -62135596800.0, 253402300799.9]),
)


@st.composite
def new_notes(draw: st.DrawFn) -> NewNote:
    stream = draw(st.one_of(st.just(""), TEXTS))
    return NewNote(
        draw(TEXTS),
        draw(st.sampled_from(["said", "thought", "read", "fact"])),
        draw(TEXTS),
        note_id=draw(NAMES),
        title=draw(st.one_of(st.none(), st.just(""), TEXTS)),
        tags=tuple(draw(st.lists(TEXTS, max_size=2))),
        links=tuple(draw(st.lists(NAMES, max_size=2))),
        event_at=draw(st.one_of(st.none(), TIMES)),
        importance=draw(st.one_of(st.none(), st.floats(0, 1))),
        pinned=draw(st.booleans()),
        # Far away: what has expired is swept when a memory is opened.
        expires_at=draw(st.one_of(st.none(), st.floats(1e12, 1e15))),
        namespace="",
        stream=stream,
        place=draw(st.one_of(st.none(), st.integers(0, 2**53 - 1))) if stream else None,
        state=draw(st.dictionaries(TEXTS, st.floats(-9, 9), max_size=2)),
    )


Step = tuple[str, Any]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), new_notes()),
        st.tuples(st.just("replace"), st.tuples(st.integers(0, 9), TEXTS)),
        st.tuples(st.just("retire"), st.integers(0, 9)),
        st.tuples(st.just("again"), st.tuples(st.integers(0, 9), TEXTS)),
    ),
    min_size=1,
    max_size=8,
)


def live(memory: Memory, clock: Any, steps: list[Step]) -> None:
    """Let notes come, change and go."""
    for action, value in steps:
        clock.now += 1.1
        if action == "write":
            memory.remember_many([value])
            continue
        number = value if isinstance(value, int) else value[0]
        standing = [note for note in memory.notes() if note.is_current]
        if number >= len(standing):
            continue
        note = standing[number]
        if action == "replace":
            memory.supersede(note.id, value[1], source="later")
        elif action == "retire":
            memory.retire(note.id)
        else:
            memory.remember_many([NewNote(note.text, note.kind, value[1], note_id=note.id)])


@pytest.fixture
def fresh(open_memory: Callable[..., Memory]) -> Callable[[], tuple[Memory, Path]]:
    """Opens one empty memory after another, each with a folder for what is exported from it."""
    numbers = itertools.count()

    def open_it() -> tuple[Memory, Path]:
        memory = open_memory(f"home-{next(numbers)}")
        return memory, memory.folder.parent / f"{memory.folder.name}-out"

    return open_it


@pytest.mark.parametrize("form", ["markdown", "lines"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_export_import_export_is_the_same_to_the_last_byte(
    fresh: Callable[[], tuple[Memory, Path]], clock: Any, form: str, steps: list[Step]
) -> None:
    memory, out = fresh()
    live(memory, clock, steps)
    other, other_out = fresh()
    clock.now += 1_000
    if form == "markdown":
        count = export_markdown(memory, out)
        report = import_path(other, out)
        assert export_markdown(other, other_out) == count
        assert files_of(other_out) == files_of(out)
    else:
        count = export_lines(memory, out / "notes.jsonl")
        report = import_path(other, out / "notes.jsonl")
        assert export_lines(other, other_out / "notes.jsonl") == count
        assert (other_out / "notes.jsonl").read_bytes() == (out / "notes.jsonl").read_bytes()
    assert report.skipped == ()
    assert len(report.added) == count
    assert bare(other) == bare(memory)
    assert other.check().is_whole
    memory.close()
    other.close()


def test_importing_an_export_again_changes_nothing(memory: Memory, tmp_path: Path, clock: Any) -> None:
    memory.remember("old", kind="fact", source="a", note_id="x", title="Title")
    clock.now = 2_000.0
    memory.supersede("x", "new", source="b")
    memory.remember("gone", kind="said", source="a", note_id="y")
    memory.retire("y")
    export_markdown(memory, tmp_path / "out")
    export_lines(memory, tmp_path / "out.jsonl")
    journal = memory.journal()
    for path in (tmp_path / "out", tmp_path / "out.jsonl"):
        report = import_path(memory, path)
        assert (report.added, report.changed, report.skipped) == ((), (), ())
        assert set(report.unchanged) == {"x", "x@1", "y"}
    assert memory.journal() == journal


def test_an_exported_file_can_be_edited(memory: Memory, tmp_path: Path) -> None:
    memory.remember("green tea", kind="fact", source="a", note_id="vault:tea", tags=["drink"])
    out = tmp_path / "out"
    export_markdown(memory, out)
    path = out / "vault" / "tea.md"
    path.write_text(path.read_text().replace("green tea", "black tea"))
    (out / "new.md").write_text("---\nid: mine\nkind: fact\ntags: [x]\n---\nA new one\n")
    (out / "lost.md").write_text("no front matter")
    (out / "odd.md").write_text("---\nid: odd\nkind: rumour\n---\nx")
    report = import_path(memory, out)
    assert (report.changed, report.added) == (("vault:tea",), ("mine",))
    assert memory.get("vault:tea").text == "black tea"
    assert memory.get("vault:tea@1").text == "green tea"
    assert (memory.get("mine").text, memory.get("mine").tags) == ("A new one", ("x",))
    assert {(one.file.name, one.line) for one in report.skipped} == {("lost.md", 1), ("odd.md", 3)}


def test_a_past_note_never_takes_the_place_of_another(memory: Memory, open_memory: Any, tmp_path: Path) -> None:
    memory.remember("old", kind="fact", source="a", note_id="x")
    memory.retire("x")
    export_lines(memory, tmp_path / "out.jsonl")
    other = open_memory("other")
    other.remember("something else", kind="fact", source="b", note_id="x")
    report = import_path(other, tmp_path / "out.jsonl")
    assert [(one.line, "'x'" in one.problem) for one in report.skipped] == [(1, True)]
    assert other.get("x").text == "something else"
    assert other.get("x").is_current


def test_an_import_that_was_cut_short_puts_the_history_back_when_it_goes_on(
    memory: Memory, open_memory: Any, tmp_path: Path, clock: Any
) -> None:
    memory.remember("old", kind="fact", source="a", note_id="x")
    clock.now = 2_000.0
    memory.supersede("x", "new", source="b")
    memory.remember("gone", kind="said", source="a", note_id="y")
    memory.retire("y")
    export_lines(memory, tmp_path / "out.jsonl")
    clock.now = 9_000.0
    other = open_memory("other")
    # The last write before the history is put back goes through `retire`: there it stops.
    other.retire = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        import_path(other, tmp_path / "out.jsonl")
    other.close()
    other = open_memory("other")
    assert set(import_path(other, tmp_path / "out.jsonl").added) == {"x", "x@1", "y"}
    assert bare(other) == bare(memory)
    assert other.check().is_whole


def stop(note_id: str) -> None:
    raise KeyboardInterrupt


def test_file_names_are_safe_and_each_is_one_note_s(memory: Memory, tmp_path: Path) -> None:
    ids = ["../../etc/passwd", "/abs", "con", "a:b/nul.txt", "Tea", "tea", "tea ", "vault:x.md/y", "vault:x", ".hidden"]
    ids += ["a" * 400, "ж" * 400, "d/" * 300 + "end", 'what? "this" <or> that|*', "..", ".", "/", "чай/й", "чай/й"]
    for number, note_id in enumerate(ids):
        memory.remember(f"text {number}", kind="fact", source="a", note_id=note_id)
    out = tmp_path / "deep" / "out"
    assert export_markdown(memory, out) == len(ids)
    assert {path.name for path in tmp_path.iterdir()} == {"deep", memory.folder.name}
    files = set(files_of(out)) - {CONTENTS}
    assert len({file.casefold() for file in files}) == len(ids)
    for file in files:
        assert len(file.encode()) <= 220
        for part in PurePosixPath(file).parts:
            assert not set('<>:"|?*\\') & set(part)
            assert not part.startswith(".")
            assert part == part.strip()
            assert part.split(".")[0].lower() not in {"con", "nul"}
    assert json.loads((out / CONTENTS).read_text())["format"] == 1


def test_an_export_replaces_an_earlier_one_and_nothing_else(memory: Memory, tmp_path: Path) -> None:
    memory.remember("a secret", kind="fact", source="a", note_id="vault:secret/one")
    memory.remember("open", kind="fact", source="a", note_id="b")
    out = tmp_path / "out"
    export_markdown(memory, out)
    (out / "mine.md").write_text("written by somebody")
    memory.forget("vault:secret/one")
    export_markdown(memory, out)
    assert set(files_of(out)) == {CONTENTS, "b.md", "mine.md"}
    assert not (out / "vault").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.txt").write_text("x")
    with pytest.raises(ArgumentError, match="not empty"):
        export_markdown(memory, tmp_path / "full")


def test_an_edited_list_of_contents_removes_nothing_outside(memory: Memory, tmp_path: Path) -> None:
    memory.remember("open", kind="fact", source="a", note_id="b")
    out = tmp_path / "out"
    export_markdown(memory, out)
    (tmp_path / "precious.md").write_text("x")
    (out / CONTENTS).write_text(json.dumps({"format": 1, "notes": ["../precious.md", "b.md"]}))
    export_markdown(memory, out)
    assert (tmp_path / "precious.md").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', '{"format": 2, "notes": []}'])
def test_a_damaged_list_of_contents_is_an_error(memory: Memory, tmp_path: Path, content: str) -> None:
    memory.remember("open", kind="fact", source="a", note_id="b")
    out = tmp_path / "out"
    export_markdown(memory, out)
    (out / CONTENTS).write_text(content)
    with pytest.raises(DocumentError):
        import_path(memory, out)
    with pytest.raises(DocumentError):
        export_markdown(memory, out)


def test_a_forgotten_note_and_folds_are_in_no_export(memory: Memory, tmp_path: Path) -> None:
    memory.remember("a secret", kind="fact", source="a", note_id="x")
    memory.remember("kept", kind="fact", source="a", note_id="y", links=["x"])
    memory.remember("a fold of it", kind="fold", source="fold", note_id="fold:1", height=1)
    memory.forget("x")
    export_markdown(memory, tmp_path / "out")
    export_lines(memory, tmp_path / "out.jsonl")
    written = b"".join(files_of(tmp_path / "out").values()) + (tmp_path / "out.jsonl").read_bytes()
    assert b"kept" in written
    assert b"secret" not in written
    assert b'"x"' not in written
    assert b"fold" not in written
