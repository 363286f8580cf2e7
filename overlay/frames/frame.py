"""A frame: a reasoning pattern that someone wrote as frames/NAME.yaml."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from overlay.documents import Document, read_document
from overlay.errors import DocumentError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Weight = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
NoteKind = Literal["said", "thought", "read", "fold", "fact"]

USUAL_THRESHOLD = 0.35
"""The energy from which a frame is active where its file names no other; calibration sets its scale by this."""


class RecallPreference(Document):
    """What an active frame would rather recall.

    Attributes:
        tags: notes with any of these rise.
        kinds: only notes of these kinds; none named: all of them.
        boost: what a note with such a tag gains in its score while the frame's energy is 1.
    """

    tags: Annotated[tuple[Text, ...], Field(description="Notes with any of these tags rise.")] = ()
    kinds: Annotated[tuple[NoteKind, ...], Field(description="Only notes of these kinds; all when left out.")] = ()
    boost: Annotated[
        float, Field(ge=0, le=1, allow_inf_nan=False, description="What such a note gains at an energy of 1.")
    ] = 0.5


class AdapterPreference(Document):
    """The adapter that an active frame would rather wear, and at which scale."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="A folder of adapters/lora.")]
    scale: Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False, description="1 as it was trained.")] = 1.0

    @field_validator("scale")
    @classmethod
    def _no_idle_adapter(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("a scale of 0 does nothing: remove the adapter")
        return scale


class Frame(Document):
    """What wakes a frame, what it asks, whom it calls, and what it pulls along.

    Attributes:
        cues: short texts compared with the user's turn by meaning, in any language that the embedder knows.
        questions: what the `voices` (all, if none is named) ask themselves while the frame is active.
        links: to other frames, with a weight from -1 (puts to sleep) to 1 (wakes).
        pushes: by axis, what an active frame reads there: from -1 to 1, times its energy.
        forbids: words that neither the reply nor the inner speech may use meanwhile; a final `*` forbids all words
            that begin so.
        threshold: the energy, in (0, 1], from which it is active.
    """

    model_config = ConfigDict(json_schema_extra={"description": "A frame: a reasoning pattern."})

    name: Annotated[Name, Field(description="Small letters, digits, - and _; other frames link to it by this.")]
    description: Annotated[Text, Field(description="What it does, in one sentence.")]
    cues: Annotated[
        tuple[Text, ...],
        Field(min_length=1, description="Short texts that wake it: compared with what is said by meaning."),
    ]
    questions: Annotated[tuple[Text, ...], Field(description="What voices ask themselves while it is active.")] = ()
    voices: Annotated[tuple[Name, ...], Field(description="Who asks: files of memory/voices.")] = ()
    links: Annotated[
        Mapping[Name, Weight], Field(description="Other frames: above 0 it wakes them, below 0 it puts them to sleep.")
    ] = {}
    recall: Annotated[RecallPreference, Field(description="Which notes come to mind more easily.")] = RecallPreference()
    adapter: Annotated[AdapterPreference | None, Field(description="An adapter to wear while it is active.")] = None
    pushes: Annotated[
        Mapping[Name, Weight], Field(description="By axis of agent.yaml, what it reads there at an energy of 1.")
    ] = {}
    forbids: Annotated[
        tuple[Text, ...], Field(description="Words to do without while it is active; word* takes all that begin so.")
    ] = ()
    threshold: Annotated[float, Field(gt=0, le=1, description="The energy from which it is active.")] = USUAL_THRESHOLD

    @field_validator("links")
    @classmethod
    def _no_idle_link(cls, links: Mapping[str, float]) -> Mapping[str, float]:
        idle = [name for name, weight in links.items() if weight == 0]
        if idle:
            raise ValueError(f"the link to '{idle[0]}' has the weight 0 and does nothing: remove it")
        return links

    @field_validator("pushes")
    @classmethod
    def _no_idle_push(cls, pushes: Mapping[str, float]) -> Mapping[str, float]:
        idle = [axis for axis, amount in pushes.items() if amount == 0]
        if idle:
            raise ValueError(f"the push on '{idle[0]}' is 0 and does nothing: remove it")
        return pushes

    @model_validator(mode="after")
    def _no_link_to_itself(self) -> Frame:
        if self.name in self.links:
            raise ValueError(f"the frame '{self.name}' links to itself: a frame keeps its energy by itself")
        return self


def read_frames(
    folder: Path,
    *,
    voices: Collection[str] | None = None,
    axes: Collection[str] | None = None,
    adapters: Collection[str] | None = None,
) -> tuple[Frame, ...]:
    """Read every *.yaml in `folder`, sorted by the frames' names; a folder that isn't there holds none.

    Args:
        voices, axes, adapters: the names that there are; None asks nothing.

    Raises:
        DocumentError: a file isn't a frame, two frames have one name, or something names a frame, voice, axis or
            adapter that isn't there; with the file and line.
    """
    folder = Path(folder)
    frames: dict[str, Frame] = {}
    paths: dict[str, Path] = {}
    for path in sorted(folder.glob("*.yaml")):
        frame = read_document(path, Frame)
        if frame.name in frames:
            raise DocumentError(
                path,
                _line_of(path, "name"),
                f"the frame '{frame.name}' is written in {paths[frame.name].name} already",
                "rename one of them",
            )
        frames[frame.name], paths[frame.name] = frame, path
    for name, frame in sorted(frames.items()):
        path = paths[name]
        for target in frame.links:
            _require(path, ("links", target), "frame", target, frames.keys(), folder / f"{target}.yaml")
        for voice in frame.voices:
            _require(path, ("voices",), "voice", voice, voices)
        for axis in frame.pushes:
            _require(path, ("pushes", axis), "axis", axis, axes)
        if frame.adapter is not None:
            _require(path, ("adapter", "name"), "adapter", frame.adapter.name, adapters)
    return tuple(frames[name] for name in sorted(frames))


def _require(
    path: Path, place: tuple[str, ...], what: str, name: str, known: Collection[str] | None, missing: Path | None = None
) -> None:
    if known is None or name in known:
        return
    others = ", ".join(sorted(set(known) - {path.stem})) or "none"
    raise DocumentError(
        path,
        _line_of(path, *place),
        f"{place[0]} leads to '{name}', and there is no such {what}",
        f"write {missing}, or use one of {others}" if missing else f"use one of {others}, or take it out",
    )


def _line_of(path: Path, *keys: str) -> int | None:
    """The line of a key inside nested mappings; the file was read before, so it is valid YAML."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line: int | None = None
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        for name, value in pairs:
            if name.value == key:
                line, node = name.start_mark.line + 1, value
    return line
