"""The template of a frame: short, explained line by line, and a frame that can be used as it stands."""

from __future__ import annotations

from overlay.documents import new_document, require_name
from overlay.frames.frame import Frame


def new_frame(name: str) -> str:
    """The text of a new frame's file. Raises ArgumentError when a frame can't have this name."""
    rule = "use small letters, digits, - and _, with a letter or a digit first, such as shorter_way"
    require_name(name, Frame, "a frame", rule)
    return new_document(name, "overlay.frames")
