"""Importing vaults and files, again and again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from overlay.errors import ArgumentError, DocumentError
from overlay.memory import BrokenLink, Memory, VaultImport, import_path, import_vault


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


def test_a_vault_becomes_linked_notes(memory: Memory, vault: Path) -> None:
    report = import_vault(memory, vault)
    assert report == VaultImport(added=("vault:empty", "vault:pot", "vault:shelf", "vault:tea"))
    tea, pot = memory.get("vault:tea"), memory.get("vault:pot")
    assert (tea.title, tea.tags, tea.links) == ("Green tea", ("drink", "green"), ("vault:pot",))
    assert tea.text == "Anna drinks it.\nSee [[pot]]."
    assert (tea.kind, tea.source) == ("read", "vault:tea.md")
    assert (pot.title, pot.links) == ("A pot", ("vault:tea", "vault:shelf"))
    assert memory.get("vault:shelf").source == "vault:sub/shelf.md"


def test_importing_again_changes_nothing(memory: Memory, vault: Path) -> None:
    ids = import_vault(memory, vault).added
    journal = memory.journal()
    assert import_vault(memory, vault) == VaultImport(unchanged=ids)
    assert memory.journal() == journal


def test_changed_removed_and_returning_files_are_followed(memory: Memory, vault: Path) -> None:
    import_vault(memory, vault)
    (vault / "tea.md").write_text("Anna drinks coffee now.")
    (vault / "pot.md").unlink()
    (vault / "empty.md").write_text("---\ntags: x\n---\n")
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


def test_broken_links_are_reported_with_file_and_line(memory: Memory, vault: Path) -> None:
    (vault / "tea.md").write_text(
        "---\ntitle: Tea\n---\nfine: [[pot]]\n```\n[[in code]]\n```\nand `[[code]]`\n[[nowhere]] [[lost.md|x]]\n"
    )
    report = import_vault(memory, vault)
    assert report.broken == (
        BrokenLink(vault / "tea.md", 9, "nowhere"),
        BrokenLink(vault / "tea.md", 9, "lost"),
    )
    assert memory.get("vault:tea").links == ("vault:pot",)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("---\ntitle: [a, b]\n---\ntext", 2),
        ("---\ntitle: a\ntags: {b: c}\n---\ntext", 3),
        ("---\ntitle: a\ntitle: b\n---\ntext", 3),
        ("---\ntitle: 'open\n---\ntext", None),
        ("---\ntitle: a\ntext", 1),
    ],
)
def test_bad_front_matter_names_file_and_line_and_imports_nothing(
    memory: Memory, vault: Path, content: str, line: int | None
) -> None:
    (vault / "zebra.md").write_text(content)
    with pytest.raises(DocumentError) as mistake:
        import_vault(memory, vault)
    assert mistake.value.path == vault / "zebra.md"
    assert mistake.value.line == line or line is None
    assert memory.count() == 0


def test_unknown_keys_of_other_editors_are_no_mistake(memory: Memory, vault: Path) -> None:
    (vault / "tea.md").write_bytes("\ufeff---\r\naliases: [x]\r\ntitle: Чай\r\n---\r\nпьёт\r\n".encode())
    import_vault(memory, vault)
    assert (memory.get("vault:tea").title, memory.get("vault:tea").text) == ("Чай", "пьёт")


def test_two_files_of_one_name_are_refused(memory: Memory, vault: Path) -> None:
    (vault / "sub" / "tea.md").write_text("other")
    with pytest.raises(DocumentError, match="has this name too"):
        import_vault(memory, vault)


def test_two_vaults_live_side_by_side_and_do_not_take_each_other_s_notes(memory: Memory, vault: Path) -> None:
    import_vault(memory, vault)
    other = vault.parent / "other"
    other.mkdir()
    (other / "lamp.md").write_text("a lamp")
    assert import_vault(memory, other) == VaultImport(added=("vault:lamp",))
    assert memory.get("vault:tea").is_current
    (other / "tea.md").write_text("another tea")
    with pytest.raises(DocumentError, match="imported first"):
        import_vault(memory, other)
    assert memory.get("vault:tea").title == "Green tea"


def test_a_vault_that_was_moved_keeps_its_notes(memory: Memory, vault: Path) -> None:
    ids = import_vault(memory, vault).added
    moved = vault.rename(vault.parent / "moved")
    assert import_vault(memory, moved) == VaultImport(unchanged=ids)
    shutil.rmtree(moved / "sub")
    assert import_vault(memory, moved).removed == ("vault:shelf",)


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


def test_lines_of_json_become_notes(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    lines = [
        '{"text": "one", "id": "first", "title": "One", "tags": ["a"], "event_at": 5}',
        "",
        '{"text": "two"}',
        '{"text": "two"}',
    ]
    path.write_text("\n".join(lines))
    report = import_path(memory, path)
    first = memory.get("first")
    assert (first.text, first.title, first.tags, first.event_at) == ("one", "One", ("a",), 5.0)
    assert len(report.added) == 2
    assert memory.count() == 2
    assert import_path(memory, path).added == ()
    assert memory.sources(report.added[1]) == ("file:notes.jsonl:3", "file:notes.jsonl:4")


@pytest.mark.parametrize("bad", ["{", "[]", '{"id": "x"}', '{"text": 3}', '{"text": " "}', '{"text": "a", "typo": 1}'])
def test_a_bad_line_of_json_is_named_and_nothing_is_imported(memory: Memory, tmp_path: Path, bad: str) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"text": "fine"}\n' + bad + "\n")
    with pytest.raises(DocumentError) as mistake:
        import_path(memory, path)
    assert (mistake.value.path, mistake.value.line) == (path, 2)
    assert memory.count() == 0


def test_what_is_no_text_is_refused(memory: Memory, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(ArgumentError):
        import_path(memory, tmp_path / "picture.png")
    with pytest.raises(ArgumentError):
        import_path(memory, tmp_path / "missing.md")
    with pytest.raises(DocumentError, match="UTF-8"):
        import_path(memory, tmp_path / "latin.txt")
