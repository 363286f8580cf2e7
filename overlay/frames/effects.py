"""Effects: what active frames ask of the other rooms. Whether and how it is done is decided there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from overlay.frames.frame import NoteKind
from overlay.frames.graph import ActiveFrame


@dataclass(frozen=True)
class Push:
    """What a frame reads on an axis, in [-1, 1]: as it is written, times the frame's energy."""

    frame: str
    axis: str
    amount: float


@dataclass(frozen=True)
class WornByFrame:
    """The adapter that a frame would wear, and the scale that is written there."""

    frame: str
    name: str
    scale: float


@dataclass(frozen=True)
class Effects:
    """What all active frames together ask for.

    Attributes:
        questions: (frame, question): the first of each frame, strongest first, then the second of each, and so on, so
            that a short inner dialogue hears all of them.
        voices: the voices that they call, strongest frame first, each once.
        tag_boosts: what a note gains for a tag; where several frames name it, the strongest wish counts.
        kinds: the kinds of notes to be recalled; None for all, which is what any frame without kinds asks for.
        adapter: that of the strongest frame which has one.
        forbids: words to do without, each once.
    """

    questions: tuple[tuple[str, str], ...] = ()
    voices: tuple[str, ...] = ()
    tag_boosts: Mapping[str, float] = field(default_factory=dict)
    kinds: tuple[NoteKind, ...] | None = None
    adapter: WornByFrame | None = None
    forbids: tuple[str, ...] = ()
    pushes: tuple[Push, ...] = ()


def effects_of(active: Sequence[ActiveFrame]) -> Effects:
    """What active frames, strongest first, ask for."""
    frames = [one.frame for one in active]
    asked = zip_longest(*([(frame.name, question) for question in frame.questions] for frame in frames))
    boosts: dict[str, float] = {}
    for one in active:
        for tag in one.frame.recall.tags:
            boosts[tag] = max(boosts.get(tag, 0.0), one.frame.recall.boost * one.energy)
    named = [frame.recall.kinds for frame in frames]
    kinds = tuple(dict.fromkeys(kind for kinds in named for kind in kinds)) if named and all(named) else None
    worn = [WornByFrame(frame.name, frame.adapter.name, frame.adapter.scale) for frame in frames if frame.adapter]
    return Effects(
        questions=tuple(pair for round_of in asked for pair in round_of if pair is not None),
        voices=tuple(dict.fromkeys(voice for frame in frames for voice in frame.voices)),
        tag_boosts={tag: boost for tag, boost in boosts.items() if boost},
        kinds=kinds,
        adapter=worn[0] if worn else None,
        forbids=tuple(dict.fromkeys(word for frame in frames for word in frame.forbids)),
        pushes=tuple(
            Push(one.frame.name, axis, amount * one.energy)
            for one in active
            for axis, amount in sorted(one.frame.pushes.items())
        ),
    )
