"""The JSON Schema of curricula, by which editors complete and check them."""

from __future__ import annotations

from overlay.document_schema import JsonSchema, document_schema
from overlay.teaching.curriculum import Curriculum


def curriculum_schema() -> JsonSchema:
    """What may stand in a curriculum; that its graph can be walked is what reading it checks."""
    return document_schema(Curriculum, "A curriculum of Overlay: adapters/curricula/NAME.yaml")
