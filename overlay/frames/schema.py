"""The JSON Schema of frames, by which editors complete and check what people write."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from overlay.frames.frame import Frame

FRAME_FILE = "frame.schema.json"
"""What the schema is called; it lies beside the folder of frames."""

_DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest one that editors of YAML know throughout; nothing in the schema is newer."""


class _WithoutTitles(GenerateJsonSchema):
    """Pydantic titles each key with the key itself, which tells nobody anything."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def frame_schema() -> dict[str, Any]:
    """The JSON Schema of frame files: it refuses nothing that `read_frames` accepts as written.

    What no schema can say (links that lead nowhere, voices that aren't there) only `read_frames` finds.
    """
    made = Frame.model_json_schema(schema_generator=_WithoutTitles)
    for name in ("links", "pushes"):
        # A mapping whose keys have a pattern holds no others, as the documents do.
        made["properties"][name]["additionalProperties"] = False
    return {"$schema": _DIALECT, "title": "Overlay frame", **{key: made[key] for key in made if key != "title"}}
