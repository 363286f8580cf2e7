"""The JSON Schema of recipes, by which editors complete and check what people write."""

from __future__ import annotations

from pydantic import TypeAdapter

from overlay.adapters.example import Text
from overlay.adapters.generators import GENERATORS
from overlay.adapters.recipe import Recipe
from overlay.document_schema import JsonSchema, document_schema, part_schema

SCHEMA_FILE = "recipe.schema.json"
"""What the schema is called; it lies beside the folders of recipes."""

_BESIDE = r"^\w[\w-]*\.yaml$"


def recipe_schema() -> JsonSchema:
    """The JSON Schema of recipe files: it refuses nothing that `read_recipe` accepts as written.

    What no schema can say (choices that are trained on, files that are not there) only `read_recipe` finds.
    """
    made = document_schema(Recipe, "Overlay recipe")
    parts = made["$defs"]
    parts.pop("Generator", None)
    for name, generator in GENERATORS.items():
        part = part_schema(generator)
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
        parts[name] = part
    properties = made["properties"]
    properties["replay"]["minItems"] = 1
    made["anyOf"] = [{"required": ["examples", "held_out"]}, {"required": ["generator"]}]
    properties["generator"] = {
        "anyOf": [*({"$ref": f"#/$defs/{name}"} for name in GENERATORS), {"type": "null"}],
        "default": None,
    }
    zone = next(part for part in properties["safe_zone"]["anyOf"] if "$ref" in part)
    properties["safe_zone"]["anyOf"] = [zone, {"enum": ["none", None]}]
    return made
