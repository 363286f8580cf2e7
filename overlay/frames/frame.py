"""A frame: a reasoning pattern that someone wrote as frames/NAME.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, StringConstraints, field_validator, model_validator

from overlay.documents import Document, read_document
from overlay.errors import DocumentError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Weight = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


class Frame(Document):
    """What wakes a frame, what it asks, whom it calls, and what it pulls along.

    `cues` are short texts compared with the user's turn by meaning; `questions` are what the
    `voices` (all, if none is named) ask themselves while the frame is active; `links` lead to other
    frames, with a weight from -1 (puts to sleep) to 1 (wakes); `memory_tags` are preferred in
    recall; `forbids` are words that neither the reply nor the inner speech may use meanwhile (a final `*`
    forbids all words that begin so); `threshold` is the energy, in (0, 1], from which the frame is active.
    """

    name: Name
    description: Text
    cues: tuple[Text, ...] = Field(min_length=1)
    questions: tuple[Text, ...] = ()
    voices: tuple[Name, ...] = ()
    links: Mapping[Name, Weight] = {}
    memory_tags: tuple[Text, ...] = ()
    forbids: tuple[Text, ...] = ()
    threshold: float = Field(default=0.35, gt=0, le=1)

    @field_validator("links")
    @classmethod
    def _no_idle_link(cls, links: Mapping[str, float]) -> Mapping[str, float]:
        idle = [name for name, weight in links.items() if weight == 0]
        if idle:
            raise ValueError(f"the link to '{idle[0]}' has the weight 0 and does nothing: remove it")
        return links

    @model_validator(mode="after")
    def _no_link_to_itself(self) -> Frame:
        if self.name in self.links:
            raise ValueError(f"the frame '{self.name}' links to itself: a frame keeps its energy by itself")
        return self


def read_frames(folder: Path) -> tuple[Frame, ...]:
    """Read every *.yaml in `folder`, sorted by the frames' names; a folder that isn't there holds none.

    Raises:
        DocumentError: a file isn't a frame, two frames have one name, or a link leads to no frame;
            with the file and line.
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
        for target in frame.links:
            if target not in frames:
                others = ", ".join(sorted(frames.keys() - {name})) or "none"
                raise DocumentError(
                    paths[name],
                    _line_of(paths[name], "links", target),
                    f"the link leads to '{target}', and there is no such frame",
                    f"write {folder / target}.yaml, or use one of {others}",
                )
    return tuple(frames[name] for name in sorted(frames))


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
