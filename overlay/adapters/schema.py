"""The JSON Schema of recipes, by which editors complete and check what people write."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from overlay.adapters.example import Text
from overlay.adapters.generators import GENERATORS
from overlay.adapters.recipe import Recipe
from overlay.documents import Document

SCHEMA_FILE = "recipe.schema.json"
"""What the schema is called; it lies beside the folders of recipes."""

_DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest one that editors of YAML know throughout; nothing in the schema is newer."""

_BESIDE = r"^\w[\w-]*\.yaml$"


class _WithoutTitles(GenerateJsonSchema):
    """Pydantic titles each key with the key itself, which tells nobody anything."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema of recipe files: it refuses nothing that `read_recipe` accepts as written.

    What no schema can say (choices that are trained on, files that are not there) only `read_recipe` finds.
    """
    made = _schema(Recipe)
    parts = made["$defs"]
    parts.pop("Generator", None)
    for name, generator in GENERATORS.items():
        part = _schema(generator)
        parts |= part.pop("$defs", {})
        # Both may be written as a list, or as the name of a file beside the recipe.
        for key in ("texts", "held_out"):
            part["properties"][key] = {
                "anyOf": [
                    {"type": "string", "pattern": _BESIDE},
                    {"type": "array", "items": TypeAdapter(Text).json_schema()},
                ]
            }
        part["required"] = ["name", "texts"]
        parts[name] = {key: value for key, value in part.items() if key != "title"}
    properties = made["properties"]
    properties["replay"]["minItems"] = 1
    made["anyOf"] = [{"required": ["examples", "held_out"]}, {"required": ["generator"]}]
    properties["generator"] = {
        "anyOf": [*({"$ref": f"#/$defs/{name}"} for name in GENERATORS), {"type": "null"}],
        "default": None,
    }
    zone = next(part for part in properties["safe_zone"]["anyOf"] if "$ref" in part)
    properties["safe_zone"]["anyOf"] = [zone, {"enum": ["none", None]}]
    return {"$schema": _DIALECT, "title": "Overlay recipe", **{key: made[key] for key in made if key != "title"}}


def write_schema() -> str:
    """The schema as its file holds it."""
    return json.dumps(recipe_schema(), ensure_ascii=False, indent=2) + "\n"


def _schema(document: type[Document]) -> dict[str, Any]:
    made = document.model_json_schema(schema_generator=_WithoutTitles)
    _to_draft_7(made)
    return made


def _to_draft_7(node: Any) -> None:
    """Draft 7 writes the items of a tuple as a list of schemas; pydantic writes them as later drafts do."""
    if isinstance(node, dict):
        if "prefixItems" in node:
            node["items"] = node.pop("prefixItems")
        for part in node.values():
            _to_draft_7(part)
    elif isinstance(node, list):
        for part in node:
            _to_draft_7(part)
