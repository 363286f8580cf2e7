"""A vault of 2,000 notes and 10,000 links, with all that goes wrong in vaults: imported, counted, imported again."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from overlay.memory import AmbiguousLink, BrokenLink, Memory, import_vault

FOLDERS = ("", "projects", "projects/tea", "people", "Дневник", "Дневник/2024", "z archive")
NOTES, LINKS, BROKEN_FILES = 2_000, 10_000, 40
WORDS = (
    "tea",
    "pot",
    "leaf",
    "water",
    "stone",
    "key",
    "garden",
    "чай",
    "вода",
    "камень",
    "ключ",
    "сад",
    "лампа",
    "река",
)


class Vault(NamedTuple):
    """What was generated, and what an import must find: by note id, by link, by file."""

    folder: Path
    links: dict[str, list[str]]
    tags: dict[str, list[str]]
    broken: list[BrokenLink]
    ambiguous: list[AmbiguousLink]
    skipped: set[tuple[Path, int | None]]


def generate(folder: Path, seed: int) -> Vault:
    chance = random.Random(seed)
    files: list[str] = []
    for number in range(NOTES):
        place = FOLDERS[number % len(FOLDERS)]
        name = f"Заметка {number}" if number % 3 == 0 else f"Note {number}"
        if number % 50 == 0:
            # Two folders have each of these: an ambiguous name.
            name, place = f"Same {number // 100}", ("people", "z archive")[number // 50 % 2]
        files.append(f"{place}/{name}" if place else name)
    names = Counter(file.rpartition("/")[2].casefold() for file in files)
    links: dict[str, list[str]] = {f"vault:{file}": [] for file in files}
    tags: dict[str, list[str]] = {}
    broken: list[BrokenLink] = []
    ambiguous: list[AmbiguousLink] = []
    bodies: dict[str, list[str]] = {file: [] for file in files}
    first_line = 5  # of a body, after the front matter
    for number in range(LINKS):
        origin = files[number % NOTES]
        path = folder / f"{origin}.md"
        line = first_line + len(bodies[origin])
        goal = chance.choice(files)
        place, _, name = goal.rpartition("/")
        index = files.index(goal)
        form = number % 9
        target: str | None = goal
        if form == 0:
            written, target = f"[[Nobody wrote {number}|this]]", None
            broken.append(BrokenLink(path, line, f"Nobody wrote {number}"))
        elif form == 1:
            written = f"[[{goal}#Heading|as it reads]]"
        elif form == 2:
            written = f"![[{goal.upper()}#^block]]"
        elif form == 3:
            written = f"[[Alias of {index}]]"
        elif form == 4:
            depth = origin.count("/")
            written = f"[text]({'../' * depth}{goal.replace(' ', '%20')}.md#part)"
        elif form == 5:
            written = f"> [!note] Callout\n> [[{goal}]]"
            line += 1
        elif form == 6:
            written = f"text[^{number}]\n\n[^{number}]: [[{goal}.md]]"
        else:
            written = f"see [[{name}]]"
            if names[name.casefold()] > 1:
                here = origin.rpartition("/")[0]
                both = sorted((file for file in files if file.endswith(f"/{name}")), key=len)
                both.sort(key=lambda file: file.rpartition("/")[0] != here)
                target = both[0]
                others = tuple(f"vault:{other}" for other in both[1:])
                ambiguous.append(AmbiguousLink(path, line, name, f"vault:{target}", others))
        bodies[origin] += [*written.split("\n"), ""]
        if target is not None and f"vault:{target}" not in links[f"vault:{origin}"]:
            links[f"vault:{origin}"].append(f"vault:{target}")
    for index, file in enumerate(files):
        path = folder / f"{file}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        tags[f"vault:{file}"] = [f"t{index % 7}", f"nested/чай{index % 5}"]
        head = ["---", f"tags: [t{index % 7}]", f"aliases: [Alias of {index}]", "---"]
        tail = [
            f"#nested/чай{index % 5}",
            "",
            "```",
            "[[in code]] #code",
            "```",
            "",
            " ".join(chance.choices(WORDS, k=30)),
        ]
        path.write_text("\n".join([*head, *bodies[file], *tail, f"number {index}", ""]), encoding="utf-8")
    return Vault(folder, links, tags, broken, ambiguous, set(break_files(folder)))


def break_files(folder: Path) -> Iterator[tuple[Path, int | None]]:
    broken: list[tuple[bytes, int | None]] = [
        (b"---\ntitle: x\ntags: {a: b}\n---\n", 3),
        (b"---\ntitle: never closed\n", 1),
        (b"GIF89a\n\x00\x01", 2),
        ("one\ntwo\nпривет".encode("cp1251"), 3),
    ]
    for number in range(BROKEN_FILES):
        content, line = broken[number % len(broken)]
        path = folder / FOLDERS[number % len(FOLDERS)] / f"Broken {number}.md"
        path.write_bytes(content)
        yield path, line


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    return generate(tmp_path_factory.mktemp("generated") / "vault", seed=7)


def test_a_large_vault_is_imported_exactly_and_again_without_touching_anything(
    memory: Memory, vault: Vault, embedder: Any
) -> None:
    report = import_vault(memory, vault.folder)
    assert set(report.added) == set(vault.links)
    assert len(report.added) == memory.count() == NOTES
    assert (report.changed, report.unchanged, report.moved, report.removed) == ((), (), (), ())
    assert {(one.file, one.line) for one in report.skipped} == vault.skipped
    assert len(report.skipped) == BROKEN_FILES
    assert sorted(report.broken) == sorted(vault.broken)
    assert sorted(report.ambiguous) == sorted(vault.ambiguous)
    assert len(report.broken) > 1_000
    assert len(report.ambiguous) > 20
    notes = {note.id: note for note in memory.notes()}
    assert {note_id: list(note.links) for note_id, note in notes.items()} == vault.links
    assert {note_id: list(note.tags) for note_id, note in notes.items()} == vault.tags

    journal = memory.journal()
    embedder.embedded.clear()
    again = import_vault(memory, vault.folder)
    assert again.unchanged == report.added
    assert (again.added, again.changed, again.moved, again.removed) == ((), (), (), ())
    assert (again.broken, again.ambiguous, again.skipped) == (report.broken, report.ambiguous, report.skipped)
    assert (memory.journal(), embedder.embedded) == (journal, [])
    assert {note.id: note for note in memory.notes()} == notes
