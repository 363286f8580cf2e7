"""Whatever was done before, a forgotten note comes back by no path, and no byte of it is on the disk."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from hashed_words import HashedWords
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.memory import Memory, MemorySettings, NewNote
from overlay.memory.folding import fold

# Words that stand in one note only: none is a part of another, of a stem, or of anything the program writes.
SECRETS = [f"zq{first}x{second}vk" for first in "bdfgh" for second in "jlmnp"]
IDS = ["a", "b", "c", "d"]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("remember"), st.sampled_from(IDS), st.sampled_from(IDS)),
        st.tuples(st.just("supersede"), st.sampled_from(IDS), st.just("")),
        st.tuples(st.just("describe"), st.sampled_from(IDS), st.sampled_from(IDS)),
        st.tuples(st.just("retire"), st.sampled_from(IDS), st.just("")),
        st.tuples(st.just("fold"), st.just(""), st.just("")),
        st.tuples(st.just("forget"), st.sampled_from(IDS), st.just("")),
    ),
    min_size=4,
    max_size=14,
)


def every_byte(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@settings(max_examples=12, deadline=None)
@given(steps=STEPS, forgotten=st.sampled_from(IDS))
def test_a_forgotten_note_never_returns_by_any_path(steps: list[tuple[str, str, str]], forgotten: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "home"
        given_settings = MemorySettings(exact_below=0, minimum_score=-10, passage_words=8)
        with Memory.open(folder, HashedWords(), settings=given_settings) as memory:
            secrets: dict[str, set[str]] = {one: set() for one in IDS}
            unused = iter(SECRETS)

            def write(note_id: str, link: str) -> None:
                text, title, tag = next(unused), next(unused), next(unused)
                secrets[note_id] |= {text, title, tag}
                filling = " ".join(f"The {text} of harbour number{row} sings." for row in range(3))
                memory.remember_many(
                    [NewNote(filling, "fact", f"s:{tag}", note_id, title, (tag,), (link,), stream=f"stream {tag}")]
                )

            memory.remember_many(NewNote(f"plain note number{row}", "fact", "s", note_id=f"n{row}") for row in range(6))
            write(forgotten, "a")
            for action, note_id, link in [*steps, ("fold", "", ""), ("forget", forgotten, "")]:
                if len(SECRETS) - sum(map(len, secrets.values())) < 3:
                    action = "forget" if note_id == forgotten and action == "forget" else "none"
                if action == "fold":
                    fold(memory)
                elif action == "remember":
                    write(note_id, link)
                elif action == "supersede" and note_id in memory and memory.get(note_id).is_current:
                    text = next(unused)
                    secrets[note_id].add(text)
                    memory.supersede(note_id, f"Now the {text} of the harbour.", source="s")
                elif action == "describe" and note_id in memory:
                    title = next(unused)
                    secrets[note_id].add(title)
                    note = memory.get(note_id)
                    memory.remember(note.text, kind=note.kind, source="s2", note_id=note_id, title=title, links=[link])
                elif action == "retire" and note_id in memory:
                    memory.retire(note_id)
                elif action == "forget" and note_id in memory:
                    snapshot = memory.snapshot()
                    memory.forget(note_id)
                    gone, secrets[note_id] = secrets[note_id], set()
                    assert note_id not in memory
                    assert note_id not in snapshot
                    for seen in (memory, snapshot):
                        found = [one for secret in gone for one in seen.recall(f"{secret} harbour", 20)]
                        shown = [(one.note, one.passage.text, one.beside) for one in found]
                        for part in (shown, list(seen.notes())):
                            assert not [secret for secret in gone if secret in repr(part)]
                    assert note_id not in {one for _, _, one in memory.journal()}
                    assert not re.search("|".join(gone), every_byte(folder).decode("latin-1").lower())
                    assert not [note for note in memory.notes() if note_id in note.links]
                    assert memory.check().is_whole
            fold(memory)
            kept = set().union(*secrets.values())
            gone = set(SECRETS) - kept
            assert not re.search("|".join(gone), every_byte(folder).decode("latin-1").lower())
            assert memory.check().is_whole
