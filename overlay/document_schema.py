"""JSON Schemas of documents: by them editors complete and check what people write, and a check says what may stand."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from overlay.documents import Document

JsonSchema = dict[str, Any]

_DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest one that editors of YAML know throughout; nothing in the schemas is newer."""


def document_schema(document: type[Document], title: str) -> JsonSchema:
    """The schema of one kind of document, as pydantic knows it: what its validators ask for is the room's to add."""
    return {"$schema": _DIALECT, "title": title, **part_schema(document)}


def part_schema(document: type[Document]) -> JsonSchema:
    """The same without dialect and title, to stand inside another schema; what it refers to is in its `$defs`."""
    made = document.model_json_schema(schema_generator=_WithoutTitles)
    _fit_dialect(made)
    del made["title"]
    return made


def schema_text(schema: JsonSchema) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"


def known_keys(schema: JsonSchema, place: str) -> tuple[str, ...]:
    """The keys that may stand beside `place`, a path such as `trial.items.0.paraphrase`; none where any may."""
    *way, _ = place.split(".")
    found: dict[str, None] = {}
    for node in _follow(schema, schema, way):
        found.update(dict.fromkeys(node.get("properties", {})))
    return tuple(found)


class _WithoutTitles(GenerateJsonSchema):
    """Pydantic titles each key with the key itself, which tells nobody anything."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _fit_dialect(node: Any) -> None:
    """Say in the dialect's words, throughout a schema, what pydantic says in those of later ones."""
    if isinstance(node, dict):
        if "prefixItems" in node:
            node["items"] = node.pop("prefixItems")
        if "patternProperties" in node:
            # A mapping whose keys have a pattern holds no others, as the documents do.
            node["additionalProperties"] = False
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _fit_dialect(part)


def _follow(schema: JsonSchema, node: JsonSchema, way: list[str]) -> list[JsonSchema]:
    """All parts of a schema that a path may lead to."""
    if "$ref" in node:
        return _follow(schema, schema["$defs"][node["$ref"].rpartition("/")[2]], way)
    branches = [branch for branch in node.get("anyOf", []) + node.get("oneOf", []) if branch.keys() - {"required"}]
    if branches:
        tags = node.get("discriminator", {}).get("mapping", {})
        if way and way[0] in tags:
            return _follow(schema, {"$ref": tags[way[0]]}, way[1:])
        return [found for branch in branches for found in _follow(schema, branch, way)]
    if not way:
        return [node]
    step, *rest = way
    if step.isdigit():
        return _follow(schema, node["items"], rest) if "items" in node else []
    if step in node.get("properties", {}):
        return _follow(schema, node["properties"][step], rest)
    return []
