"""A text that names a title is linked to that note, whichever came first, and recall follows the link."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from overlay.errors import NoteError
from overlay.memory import Memory, NewNote

Opener = Callable[..., Memory]

NOTES = {
    "nimbus": {"text": "A ship with two masts and a blue hull.", "title": "Northern Nimbus"},
    "voyage": {"text": "Captain Orlov sailed the Northern Nimbus to Riga.", "title": "The voyage"},
    "other": {"text": "It had two masts as well.", "title": "Another ship"},
}


def linked(memory: Memory) -> set[tuple[str, str]]:
    ids = {key: note.id for key, note in memory.truth.notes.of(range(50)).items()}
    return {(ids[one], ids[other]) for one, other in memory.truth.links.among()}


@pytest.mark.parametrize("order", [["nimbus", "voyage", "other"], ["voyage", "other", "nimbus"]])
@pytest.mark.parametrize("together", [True, False])
def test_mentions_become_links_in_either_order(open_memory: Opener, order: list[str], together: bool) -> None:
    memory = open_memory(minimum_score=0.0)
    notes = [NewNote(kind="read", source="s", note_id=name, **NOTES[name]) for name in order]  # type: ignore[arg-type]
    for group in [notes] if together else [[note] for note in notes]:
        memory.remember_many(group)
    assert linked(memory) == {("voyage", "nimbus")}
    assert memory.get("voyage").links == ()
    terms = {one.note.id: one.terms["links"] for one in memory.recall("Captain Orlov", 10)}
    assert terms["nimbus"] > 0
    assert terms["other"] == 0


def test_a_new_title_takes_the_mentions_of_the_old_one_away(memory: Memory) -> None:
    for name in ("nimbus", "voyage"):
        memory.remember(kind="read", source="s", note_id=name, **NOTES[name])  # type: ignore[arg-type]
    memory.remember(NOTES["nimbus"]["text"], kind="read", source="s", note_id="nimbus", title="Southern Cumulus")
    assert linked(memory) == set()
    memory.remember("Nobody has seen the Southern Cumulus since.", kind="read", source="s", note_id="rumour")
    assert linked(memory) == {("rumour", "nimbus")}


def test_namespaces_and_forgotten_and_undone_notes_are_not_mentioned(memory: Memory) -> None:
    memory.remember(kind="read", source="s", note_id="nimbus", **NOTES["nimbus"])  # type: ignore[arg-type]
    memory.remember(kind="read", source="s", note_id="hers", namespace="ann", **NOTES["voyage"])  # type: ignore[arg-type]
    assert linked(memory) == set()
    memory.forget("nimbus")
    # The second of these is refused, and the first undone with it: its key is then another note's.
    with pytest.raises(NoteError, match="namespace"):
        memory.remember_many(
            [
                NewNote(kind="read", source="s", note_id="nimbus", **NOTES["nimbus"]),  # type: ignore[arg-type]
                NewNote("Mine.", "read", "s", note_id="hers"),
            ]
        )
    memory.remember("A harbour.", kind="read", source="s", note_id="harbour", title="Riga")
    memory.remember(kind="read", source="s", note_id="voyage", **NOTES["voyage"])  # type: ignore[arg-type]
    assert linked(memory) == {("voyage", "harbour")}
    assert memory.check().is_whole


def test_a_link_that_somebody_wrote_stays_a_written_one(memory: Memory) -> None:
    memory.remember(kind="read", source="s", note_id="nimbus", **NOTES["nimbus"])  # type: ignore[arg-type]
    memory.remember(kind="read", source="s", note_id="voyage", links=["nimbus"], **NOTES["voyage"])  # type: ignore[arg-type]
    assert memory.get("voyage").links == ("nimbus",)
    assert linked(memory) == {("voyage", "nimbus")}
