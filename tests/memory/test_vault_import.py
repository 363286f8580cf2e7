"""Importing vaults and files, again and again."""

from __future__ import annotations

import os
import shutil
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from overlay.errors import ArgumentError, DocumentError
from overlay.memory import AmbiguousLink, BrokenLink, ImportReport, Memory, NewNote, import_path, import_vault
from overlay.memory.vaults import Moved


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    folder = tmp_path / "vault"
    (folder / "sub").mkdir(parents=True)
    (folder / ".trash").mkdir()
    (folder / "tea.md").write_text(
        "---\ntitle: Green tea\ntags: [drink, '#green']\n---\nAnna drinks it.\nSee [[pot]].\n"
    )
    (folder / "pot.md").write_text("# A pot\n\nbrown, see [[Tea|the tea]] and [[sub/shelf#top]]\n")
    (folder / "sub" / "shelf.md").write_text("holds things")
    (folder / ".trash" / "old.md").write_text("deleted")
    (folder / "empty.md").write_text("")
    return folder


def rewrite(path: Path, text: str) -> None:
    """Write a text so that the file's time differs, also where the clock of the file system is coarse."""
    before = path.stat().st_mtime_ns if path.exists() else time.time_ns()
    path.write_text(text)
    os.utime(path, ns=(before + 1_000_000, before + 1_000_000))


def test_a_vault_becomes_linked_notes(memory: Memory, vault: Path) -> None:
    report = import_vault(memory, vault)
    assert report == ImportReport(added=("vault:empty", "vault:pot", "vault:sub/shelf", "vault:tea"))
    tea, pot = memory.get("vault:tea"), memory.get("vault:pot")
    assert (tea.title, tea.tags, tea.links) == ("Green tea", ("drink", "green"), ("vault:pot",))
    assert tea.text == "Anna drinks it.\nSee [[pot]]."
    assert (tea.kind, tea.source) == ("read", "vault:tea.md")
    assert (pot.title, pot.links) == ("A pot", ("vault:tea", "vault:sub/shelf"))
    assert memory.get("vault:sub/shelf").source == "vault:sub/shelf.md"


def test_importing_again_reads_and_writes_nothing(memory: Memory, vault: Path) -> None:
    (vault / "tea.md").write_text("[[nowhere]] [[shelf]]")
    (vault / "shelf.md").write_text("another")
    first = import_vault(memory, vault)
    assert first.broken == (BrokenLink(vault / "tea.md", 1, "nowhere"),)
    ambiguous = AmbiguousLink(vault / "tea.md", 1, "shelf", "vault:shelf", ("vault:sub/shelf",))
    assert first.ambiguous == (ambiguous,)
    before = (memory.journal(), memory.truth.rows("PRAGMA data_version")[0][0], list(memory.notes()))
    for path in vault.rglob("*.md"):
        # What only somebody who reads them again could see.
        status = path.stat()
        path.write_text("x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = import_vault(memory, vault)
    assert again == ImportReport(unchanged=first.added, broken=first.broken, ambiguous=first.ambiguous)
    assert (memory.journal(), memory.truth.rows("PRAGMA data_version")[0][0], list(memory.notes())) == before


def test_a_file_that_was_only_touched_is_unchanged(memory: Memory, vault: Path) -> None:
    ids = import_vault(memory, vault).added
    rewrite(vault / "tea.md", (vault / "tea.md").read_text())
    assert import_vault(memory, vault) == ImportReport(unchanged=ids)


def test_changed_removed_and_returning_files_are_followed(memory: Memory, vault: Path) -> None:
    import_vault(memory, vault)
    rewrite(vault / "tea.md", "Anna drinks coffee now.")
    (vault / "pot.md").unlink()
    rewrite(vault / "empty.md", "---\ntags: x\n---\n")
    report = import_vault(memory, vault)
    assert (report.added, report.changed, report.removed) == ((), ("vault:empty", "vault:tea"), ("vault:pot",))
    assert memory.get("vault:tea").text == "Anna drinks coffee now."
    assert memory.get("vault:tea@1").superseded_by == "vault:tea"
    assert not memory.get("vault:pot").is_current
    assert import_vault(memory, vault).removed == ()
    (vault / "pot.md").write_text("back")
    assert import_vault(memory, vault).added == ("vault:pot",)
    assert memory.get("vault:pot").text == "back"
    assert memory.get("vault:pot").is_current


def test_links_of_unchanged_files_follow_the_files_around_them(memory: Memory, vault: Path) -> None:
    rewrite(vault / "tea.md", "See [[cup]].")
    assert import_vault(memory, vault).broken == (BrokenLink(vault / "tea.md", 1, "cup"),)
    (vault / "mug.md").write_text("---\naliases: [Cup]\n---\na mug")
    report = import_vault(memory, vault)
    assert (report.added, report.changed, report.broken) == (("vault:mug",), ("vault:tea",), ())
    assert memory.get("vault:tea").links == ("vault:mug",)
    (vault / "mug.md").unlink()
    report = import_vault(memory, vault)
    assert (report.changed, report.removed) == (("vault:tea",), ("vault:mug",))
    assert memory.get("vault:tea").links == ()
    assert memory.get("vault:tea").text == "See [[cup]]."


def test_a_moved_file_takes_its_note_along(memory: Memory, vault: Path) -> None:
    import_vault(memory, vault)
    rewrite(vault / "tea.md", "Anna drinks black tea. See [[pot]].")
    import_vault(memory, vault)
    memory.remember("Anna's tea is the best", kind="fact", source="anna", note_id="fact", links=["vault:tea"])
    (vault / "drinks").mkdir()
    (vault / "tea.md").rename(vault / "drinks" / "black tea.md")
    report = import_vault(memory, vault)
    assert report.moved == (Moved("vault:tea", "vault:drinks/black tea"),)
    assert (report.added, report.removed) == ((), ())
    note = memory.get("vault:drinks/black tea")
    assert note.is_current
    assert (note.title, note.source) == ("black tea", "vault:drinks/black tea.md")
    assert memory.get("vault:drinks/black tea@1").superseded_by == note.id
    assert memory.sources(note.id) == ("vault:drinks/black tea.md", "vault:tea.md")
    assert "vault:tea" not in memory
    assert memory.get("fact").links == (note.id,)
    assert note.links == ("vault:pot",)
    # The link by the former name leads nowhere now, as it does for people.
    assert report.broken == (BrokenLink(vault / "pot.md", 3, "Tea"),)
    assert import_vault(memory, vault).moved == ()
    assert memory.recall("black tea")[0].note.id == note.id
    assert memory.check().is_whole


def test_of_equal_files_those_that_keep_their_names_are_paired(memory: Memory, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    for name in ("a/one.md", "a/two.md", "b/"):
        (vault / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".md"):
            (vault / name).write_text("same")
    import_vault(memory, vault)
    (vault / "b").mkdir(exist_ok=True)
    (vault / "a" / "two.md").rename(vault / "b" / "two.md")
    (vault / "a" / "one.md").rename(vault / "b" / "a first one.md")
    assert import_vault(memory, vault).moved == (
        Moved("vault:a/one", "vault:b/a first one"),
        Moved("vault:a/two", "vault:b/two"),
    )


def test_the_date_of_a_page_is_when_it_happened_and_a_change_holds_from_now_on(
    memory: Memory, vault: Path, clock: Any
) -> None:
    rewrite(vault / "tea.md", "---\ndate: 1970-01-01T00:05:00Z\n---\nGreen.")
    import_vault(memory, vault)
    assert (memory.get("vault:tea").event_at, memory.get("vault:tea").valid_from) == (300.0, 300.0)
    clock.now = 2_000.0
    rewrite(vault / "tea.md", "---\ndate: 1970-01-01T00:05:00Z\n---\nBlack.")
    import_vault(memory, vault)
    old, new = memory.get("vault:tea@1"), memory.get("vault:tea")
    assert (old.valid_from, old.valid_to) == (300.0, 2_000.0)
    assert (new.event_at, new.valid_from) == (300.0, 2_000.0)


def test_what_was_done_to_a_note_stays_while_its_file_is_unchanged(memory: Memory, vault: Path) -> None:
    import_vault(memory, vault)
    memory.supersede("vault:tea", "Anna drinks coffee.", source="anna")
    memory.retire("vault:pot")
    import_vault(memory, vault)
    assert memory.get("vault:tea").text == "Anna drinks coffee."
    assert not memory.get("vault:pot").is_current


def test_a_broken_file_is_skipped_and_reported_and_the_others_are_imported(memory: Memory, vault: Path) -> None:
    (vault / "yaml.md").write_text("---\ntitle: ok\ntags: {b: c}\n---\ntext")
    (vault / "open.md").write_text("---\ntitle: ok\n")
    (vault / "picture.md").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    (vault / "latin.md").write_bytes("one\nGröße".encode("latin-1"))
    (vault / "nul.txt").write_bytes(b"a\n\nb\0")
    (vault / "escape.md").write_text("a\n\x1b[31m")
    with open(vault / "big.md", "wb") as file:
        file.truncate(50_000_000)
    (vault / "twin.md").write_text("one")
    (vault / "twin.markdown").write_text("two")
    report = import_vault(memory, vault)
    assert {(one.file.name, one.line) for one in report.skipped} == {
        ("yaml.md", 3),
        ("open.md", 1),
        ("picture.md", 3),
        ("latin.md", 2),
        ("nul.txt", 3),
        ("escape.md", 2),
        ("big.md", None),
        ("twin.md", None),
    }
    assert all(one.next_step for one in report.skipped)
    assert all(str(one.file) not in one.problem for one in report.skipped)
    yaml = next(one for one in report.skipped if one.file.name == "yaml.md")
    assert str(yaml).startswith(f"{vault / 'yaml.md'}:3: tags")
    assert len(report.added) == 5


def test_a_file_that_broke_keeps_its_note_and_links_to_it(memory: Memory, vault: Path) -> None:
    import_vault(memory, vault)
    good = (vault / "tea.md").read_text()
    rewrite(vault / "tea.md", "---\ntitle: [\n---\n")
    rewrite(vault / "pot.md", "only [[tea]]")
    report = import_vault(memory, vault)
    assert [one.file.name for one in report.skipped] == ["tea.md"]
    assert (report.removed, report.broken) == ((), ())
    assert memory.get("vault:tea").title == "Green tea"
    assert memory.get("vault:pot").links == ("vault:tea",)
    rewrite(vault / "tea.md", good + "More.")
    report = import_vault(memory, vault)
    assert (report.changed, report.skipped) == (("vault:tea",), ())


def test_nothing_outside_the_folder_is_followed(memory: Memory, vault: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "diary.md").write_text("private words")
    (vault / "file.md").symlink_to(secret / "diary.md")
    (vault / "folder").symlink_to(secret)
    (vault / "lost.md").symlink_to(tmp_path / "nothing.md")
    (vault / "round").symlink_to(vault)
    (vault / "inside.md").symlink_to(vault / "sub" / "shelf.md")
    rewrite(vault / "tea.md", "[[../secret/diary]] [x](../secret/diary.md) [[diary]] [[inside]]")
    report = import_vault(memory, vault)
    assert {one.file.name for one in report.skipped} == {"file.md", "folder", "lost.md"}
    assert [link.target for link in report.broken] == ["../secret/diary", "../secret/diary.md", "diary"]
    assert "vault:inside" in memory
    assert not any("private" in note.text for note in memory.notes())
    assert len(report.added) == 5


def test_names_are_compared_whatever_their_unicode_form(memory: Memory, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    (vault / "Зелёный чай").mkdir(parents=True)
    decomposed = unicodedata.normalize("NFD", "Чайник й.md")
    (vault / "Зелёный чай" / decomposed).write_text("чайник")
    (vault / "a.md").write_text("[[чайник Й]] [x](%D0%97%D0%B5%D0%BB%D1%91%D0%BD%D1%8B%D0%B9%20чай/Чайник%20й.md)")
    report = import_vault(memory, vault)
    assert report == ImportReport(added=("vault:a", "vault:Зелёный чай/Чайник й"))
    assert memory.get("vault:a").links == ("vault:Зелёный чай/Чайник й",)
    (vault / "Зелёный чай" / "Чайник й.md").write_text("ещё один")
    (skipped,) = import_vault(memory, vault).skipped
    assert "Unicode" in skipped.problem


def test_a_name_that_is_no_text_is_reported(memory: Memory, vault: Path) -> None:
    try:
        with open(os.fsencode(vault) + b"/bad\xff.md", "w") as file:
            file.write("text")
    except OSError:
        pytest.skip("this file system takes no such name")
    (skipped,) = import_vault(memory, vault).skipped
    assert "not valid UTF-8" in str(skipped)


def test_two_vaults_live_side_by_side_and_do_not_take_each_other_s_notes(memory: Memory, vault: Path) -> None:
    import_vault(memory, vault)
    other = vault.parent / "other"
    other.mkdir()
    (other / "lamp.md").write_text("a lamp")
    assert import_vault(memory, other) == ImportReport(added=("vault:lamp",))
    assert memory.get("vault:tea").is_current
    (other / "tea.md").write_text("another tea")
    (skipped,) = import_vault(memory, other).skipped
    assert "imported first" in skipped.problem
    assert memory.get("vault:tea").title == "Green tea"
    (vault / "tea.md").unlink()
    assert import_vault(memory, other).skipped == ()
    assert memory.get("vault:tea").text == "another tea"
    assert import_vault(memory, vault).removed == ()


def test_a_vault_that_was_moved_keeps_its_notes(memory: Memory, vault: Path) -> None:
    ids = import_vault(memory, vault).added
    journal = memory.journal()
    moved = vault.rename(vault.parent / "moved")
    assert import_vault(memory, moved) == ImportReport(unchanged=ids)
    assert memory.journal() == journal
    shutil.rmtree(moved / "sub")
    assert import_vault(memory, moved).removed == ("vault:sub/shelf",)


def test_a_forgotten_page_leaves_no_trace_of_its_links(memory: Memory, vault: Path) -> None:
    rewrite(vault / "tea.md", "[[a secret name]]")
    import_vault(memory, vault)
    memory.forget("vault:tea")
    memory.truth.run("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"a secret name" not in (memory.folder / "memory.db").read_bytes()


class Interrupt:
    """A progress that stops an import, as Ctrl-C does, after so many notes."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.seen: list[tuple[str, int | None, int | None]] = []

    def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        self.seen.append((description, done, total))
        if description.startswith("importing") and done and done >= self.after:
            raise KeyboardInterrupt


def test_an_interrupted_import_keeps_what_is_done_and_goes_on(memory: Memory, tmp_path: Path, embedder: Any) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    for number in range(1_200):
        (vault / f"page {number:04}.md").write_text(f"text {number} [[page {(number + 1) % 1_200:04}]]")
    interrupt = Interrupt(after=600)
    with pytest.raises(KeyboardInterrupt):
        import_vault(memory, vault, progress=interrupt)
    assert ("importing vault", 0, 1_200) in interrupt.seen
    done = memory.count()
    assert 600 <= done < 1_200
    embedder.embedded.clear()
    report = import_vault(memory, vault)
    assert (len(report.added), len(report.unchanged)) == (1_200 - done, done)
    assert len(embedder.embedded) == 1_200 - done
    assert memory.count() == 1_200


# -- single files ---------------------------------------------------------------------------------


def test_a_single_file_is_one_note_and_follows_its_changes(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Anna --- [[not a link]]")
    (note_id,) = import_path(memory, path).added
    assert memory.get(note_id).text == "Dear Anna --- [[not a link]]"
    assert memory.get(note_id).title == "letter"
    assert import_path(memory, path).unchanged == (note_id,)
    path.write_text("Dear Boris")
    assert import_path(memory, path).changed == (note_id,)
    assert memory.get(f"{note_id}@1").text.startswith("Dear Anna")


@pytest.mark.parametrize(
    ("content", "line"), [("---\ntitle: [a]\n---\nx", 2), ("a\n\0", 2), ("---\ntitle: 'open\n---\nx", None)]
)
def test_a_single_broken_file_is_an_error(memory: Memory, tmp_path: Path, content: str, line: int | None) -> None:
    path = tmp_path / "page.md"
    path.write_text(content)
    with pytest.raises(DocumentError) as mistake:
        import_path(memory, path)
    assert mistake.value.path == path
    assert mistake.value.line == line or line is None
    assert memory.count() == 0


def test_lines_of_json_become_notes(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    lines = [
        '{"text": "one", "id": "first", "title": "One", "tags": ["a"], "event_at": 5, "kind": "fact", "pinned": true}',
        "",
        '{"text": "two", "event_at": "1970-01-01T00:00:09Z", "stream": "s", "place": 3, "importance": 0.9}',
        '{"text": "two"}',
    ]
    path.write_text("\n".join(lines))
    report = import_path(memory, path)
    first, second = memory.get("first"), memory.get(report.added[1])
    assert (first.text, first.title, first.tags, first.event_at) == ("one", "One", ("a",), 5.0)
    assert (first.kind, first.pinned) == ("fact", True)
    assert (second.event_at, second.stream, second.place, second.importance) == (9.0, "s", 3, 0.9)
    assert len(report.added) == 2
    assert memory.count() == 2
    assert import_path(memory, path).added == ()
    assert memory.sources(report.added[1]) == ("file:notes.jsonl:3", "file:notes.jsonl:4")


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        '{"id": "x"}',
        '{"text": 3}',
        '{"text": " "}',
        '{"text": "a", "typo": 1}',
        '{"text": "a", "kind": "rumour"}',
        '{"text": "a", "valid_to": 5}',
        '{"text": "a", "event_at": "soon"}',
        '{"text": "a", "event_at": NaN}',
        '{"text": "a", "importance": 2}',
        '{"text": "a", "place": 2}',
        '{"text": "a\\u0000b"}',
    ],
)
def test_a_bad_line_of_json_is_named_and_nothing_is_imported(memory: Memory, tmp_path: Path, bad: str) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"text": "fine"}\n' + bad + "\n")
    with pytest.raises(DocumentError) as mistake:
        import_path(memory, path)
    assert (mistake.value.path, mistake.value.line) == (path, 2)
    assert memory.count() == 0


def test_what_is_nothing_to_import_is_refused(memory: Memory, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "data.csv").write_text("a,b")
    for name in ("picture.png", "missing.md", "bare"):
        with pytest.raises(ArgumentError):
            import_path(memory, tmp_path / name)
    with pytest.raises(DocumentError, match="UTF-8"):
        import_path(memory, tmp_path / "latin.txt")


def test_a_vault_whose_last_file_is_gone_is_still_followed(memory: Memory, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "one.md").write_text("one")
    import_path(memory, tmp_path / "vault")
    (tmp_path / "vault" / "one.md").unlink()
    assert import_path(memory, tmp_path / "vault").removed == ("vault:one",)


def test_a_note_of_a_name_that_the_vault_has_too_is_not_lost(memory: Memory, vault: Path) -> None:
    memory.remember_many([NewNote("said by somebody", "fact", "somebody", note_id="vault:tea")])
    assert "vault:tea" in import_vault(memory, vault).changed
    assert memory.get("vault:tea@1").text == "said by somebody"
