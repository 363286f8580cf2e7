"""The JSON Schema of frames, by which editors complete and check what people write."""

from __future__ import annotations

from overlay.document_schema import JsonSchema, document_schema
from overlay.frames.frame import Frame


def frame_schema() -> JsonSchema:
    """The JSON Schema of frame files: it refuses nothing that `read_frames` accepts as written.

    What no schema can say (links that lead nowhere, voices that aren't there) only `read_frames` finds.
    """
    return document_schema(Frame, "Overlay frame")
