"""A goal: which notes and frames serve it, weighed by meaning, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from overlay.errors import ArgumentError
from overlay.frames import CueEmbedder, Frame, Offer, Selection, select
from overlay.memory import Filters, Memory, Recalled

CANDIDATES = 24
"""So many notes are looked at: several times what any context holds."""

ITEMS = 5
WORDS = 200
"""What is chosen when nobody says how much: about as much as a small model uses of what stands before a question."""


def weigh_for(
    goal: str,
    memory: Memory,
    frames: Sequence[Frame],
    energies: Mapping[str, float],
    embedder: CueEmbedder,
    *,
    items: int = ITEMS,
    words: int = WORDS,
) -> Selection:
    """Choose notes and frames for a goal; frames as strong as their energies, notes as their scores.

    Raises:
        ArgumentError: the goal is empty, or there is room for nothing.
    """
    if not goal.strip():
        raise ArgumentError("a goal needs some text", "say what is to be reached")
    if items < 1 or words < 1:
        raise ArgumentError(f"{items} items and {words} words hold nothing", "leave room for at least one")
    found = memory.recall(goal, CANDIDATES, filters=Filters(height=0))
    texts = [goal, *(entry.passage.text for entry in found), *(frame.description for frame in frames)]
    vectors = embedder.embed(texts)
    best = max((entry.score for entry in found), default=1.0)
    offers = [
        Offer("note", entry.note.id, len(entry.passage.text.split()), vector, _share(entry, best))
        for entry, vector in zip(found, vectors[1:], strict=False)
    ]
    offers += [
        Offer("frame", frame.name, sum(len(one.split()) for one in frame.questions), vector, _energy(frame, energies))
        for frame, vector in zip(frames, vectors[1 + len(found) :], strict=True)
    ]
    return select(vectors[0], offers, items=items, words=words)


def _share(entry: Recalled, best: float) -> float:
    return min(1.0, max(0.0, entry.score / best)) if best > 0 else 0.0


def _energy(frame: Frame, energies: Mapping[str, float]) -> float:
    return min(1.0, max(0.0, energies.get(frame.name, 0.0)))
