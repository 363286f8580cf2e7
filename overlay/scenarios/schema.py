"""JSON Schemas of scenario scripts and of exposures, by which editors complete and check what people write."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from overlay.documents import Document
from overlay.scenarios.script import ExposureFile, Scenario

Schema = dict[str, Any]

SCENARIO_FILE = "scenario.schema.json"
"""What the schema of scripts is called; it lies beside them."""
EXPOSURE_FILE = "exposure.schema.json"
"""What the schema of exposures is called; it lies beside them, in `exposures/`."""

_DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest one that editors of YAML know throughout; nothing in the schemas is newer."""


def scenario_schema() -> Schema:
    """The JSON Schema of scripts: it refuses nothing that `read_scenario` accepts as written.

    What no schema can say (names that lead nowhere, stock that doesn't suffice, forbidden words) only
    `read_scenario` finds.
    """
    schema = _schema(Scenario, "Overlay scenario script")
    parts = schema["$defs"]
    exposure = parts["Exposure"]
    texts = {**exposure["properties"]["texts"], "minItems": 1}
    texts.pop("default")
    exposure["properties"]["texts"] = texts
    single = {key: value for key, value in exposure.items() if key != "description"} | {"maxProperties": 1}
    parts["Exposure"] = {"description": exposure["description"], "anyOf": [texts, single | {"minProperties": 1}]}
    parts["Step"]["oneOf"] = [{"required": [kind]} for kind in ("say", "choose", "act", "free")]
    parts["LedgerDetector"]["oneOf"] = [{"required": [key]} for key in ("spent_at_least", "when")]
    return schema


def exposure_schema() -> Schema:
    """The JSON Schema of the files in `exposures/`."""
    return _schema(ExposureFile, "Overlay exposure")


def write_schema(schema: Schema) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"


def known_keys(schema: Schema, place: str) -> tuple[str, ...]:
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


def _schema(document: type[Document], title: str) -> Schema:
    made = document.model_json_schema(schema_generator=_WithoutTitles)
    _close(made)
    return {"$schema": _DIALECT, "title": title, **{key: value for key, value in made.items() if key != "title"}}


def _close(node: Any) -> None:
    """Let a mapping whose keys have a pattern hold no others, as the documents do."""
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        for part in node.values():
            _close(part)
    elif isinstance(node, list):
        for part in node:
            _close(part)


def _follow(schema: Schema, node: Schema, way: list[str]) -> list[Schema]:
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
