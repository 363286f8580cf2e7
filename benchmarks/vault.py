"""A vault: how long it takes to import two thousand linked notes, and to import them again when nothing has changed."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

from overlay.agent import open_embedder
from overlay.home import Home
from overlay.memory import ImportReport, Memory, import_vault
from overlay.progress import Progress, SilentProgress

NOTES = 2_000

LINKS_OF_ONE = 5

BROKEN_SHARE = 0.02
"""Files that can't be read, beside the others."""

SAME_NAMES = 50
"""One note in so many shares its name with one in another folder."""

FOLDERS = ("", "projects", "projects/tea", "people", "Дневник", "Дневник/2024", "z archive")

SENTENCES = (
    "The kettle stands under the stairs, and the key of the shed hangs beside it.",
    "We went down to the river before the rain and talked about the boat.",
    "Nobody has read the letters that lie in the lower drawer since the spring.",
    "The teacher said that a proof is a walk which others can take again.",
    "Чай стоит на столе, а ключ от сарая висит у двери.",
    "Мы спустились к реке до дождя и говорили о лодке.",
    "The market opens at seven, and the bread is gone by nine.",
    "Письма лежат в нижнем ящике, и с весны их никто не читал.",
)

BROKEN = (
    b"---\ntitle: x\ntags: {a: b}\n---\n",
    b"---\ntitle: never closed\n",
    b"GIF89a\n\x00\x01",
    "one\ntwo\nпривет".encode("cp1251"),
)

ROOT = Path(__file__).parent.parent


def measure(notes: int = NOTES, progress: Progress | None = None) -> dict[str, Any]:
    """Generate a vault, import it into an empty memory with the embedded embedder, and import it again.

    Each note has some 40 to 80 words, tags, an alias, and five links: by path, by name (which another note may share),
    by alias, as an embed, or to a note that nobody wrote. A third of the names are Cyrillic.

    import_seconds: the first import, with all embeddings. unchanged_seconds: the second one. reopened_seconds: a third
    one, by a memory that was closed and opened again, with the opening. touched_seconds: a fourth one, after every
    file's time has changed and no text. linked, broken, ambiguous, skipped: what the first one reported.
    """
    progress = progress or SilentProgress()
    embedder = open_embedder(Home.open(ROOT), progress=progress)
    embedder.embed(["warm"])
    with tempfile.TemporaryDirectory(prefix="overlay-vault-bench-") as folder:
        vault, home = Path(folder) / "vault", Path(folder) / "home"
        progress.step(f"writing a vault of {notes:,} notes", None, None)
        files = write_vault(vault, notes)
        with Memory.open(home, embedder) as memory:
            first, import_seconds = _imported(memory, vault, progress)
            links = int(memory.truth.rows("SELECT count(*) AS n FROM links WHERE made_by = 'written'")[0]["n"])
            again, unchanged_seconds = _imported(memory, vault, progress)
        begun = time.perf_counter()
        with Memory.open(home, embedder) as memory:
            _imported(memory, vault, progress)
            reopened_seconds = time.perf_counter() - begun
            for path in vault.rglob("*.md"):
                path.touch()
            touched, touched_seconds = _imported(memory, vault, progress)
    return {
        "files": files,
        "notes": len(first.added),
        "links": links,
        "broken": len(first.broken),
        "ambiguous": len(first.ambiguous),
        "skipped": len(first.skipped),
        "import_seconds": round(import_seconds, 1),
        "unchanged": len(again.unchanged),
        "unchanged_seconds": round(unchanged_seconds, 2),
        "reopened_seconds": round(reopened_seconds, 2),
        "touched_unchanged": len(touched.unchanged),
        "touched_seconds": round(touched_seconds, 2),
    }


def write_vault(folder: Path, notes: int) -> int:
    """Write a vault, always the same for one number of notes; the number of its files."""
    chance = random.Random(notes)
    names = [_name(number) for number in range(notes)]
    places = [FOLDERS[number % len(FOLDERS)] for number in range(notes)]
    for number in range(0, notes, SAME_NAMES):
        names[number], places[number] = (
            f"Same {number // SAME_NAMES // 2}",
            ("people", "z archive")[number // SAME_NAMES % 2],
        )
    files = [f"{place}/{name}" if place else name for place, name in zip(places, names, strict=True)]
    for number, file in enumerate(files):
        body = chance.choices(SENTENCES, k=chance.randint(4, 7))
        for _ in range(LINKS_OF_ONE):
            body.insert(chance.randrange(len(body)), _link(chance, chance.randrange(notes), files, names))
        head = ["---", f"tags: [t{number % 7}, чай{number % 5}]", f"aliases: [Alias of {number}]", "---"]
        path = folder / f"{file}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*head, f"Note number {number}.", *body, ""]), encoding="utf-8")
    for number in range(int(notes * BROKEN_SHARE)):
        path = folder / FOLDERS[number % len(FOLDERS)] / f"Broken {number}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(BROKEN[number % len(BROKEN)])
    return len(files) + int(notes * BROKEN_SHARE)


def _name(number: int) -> str:
    return f"Заметка {number}" if number % 3 == 0 else f"Note {number}"


def _link(chance: random.Random, goal: int, files: list[str], names: list[str]) -> str:
    forms = (
        f"See [[{files[goal]}|as it reads]].",
        f"See [[{names[goal]}]].",
        f"See [[Alias of {goal}]].",
        f"![[{files[goal]}#Heading]]",
        f"See [[Nobody wrote {goal}]].",
    )
    return chance.choices(forms, (4, 3, 2, 2, 1))[0]


def _imported(memory: Memory, vault: Path, progress: Progress) -> tuple[ImportReport, float]:
    begun = time.perf_counter()
    report = import_vault(memory, vault, progress=progress)
    return report, time.perf_counter() - begun
