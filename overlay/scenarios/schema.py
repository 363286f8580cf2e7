"""JSON Schemas of scenario scripts and of exposures, by which editors complete and check what people write."""

from __future__ import annotations

from overlay.document_schema import JsonSchema, document_schema
from overlay.scenarios.script import ExposureFile, Scenario

SCENARIO_FILE = "scenario.schema.json"
"""What the schema of scripts is called; it lies beside them."""


def scenario_schema() -> JsonSchema:
    """The JSON Schema of scripts: it refuses nothing that `read_scenario` accepts as written.

    What no schema can say (names that lead nowhere, stock that doesn't suffice, forbidden words) only
    `read_scenario` finds.
    """
    schema = document_schema(Scenario, "Overlay scenario script")
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


def exposure_schema() -> JsonSchema:
    """The JSON Schema of the files in `exposures/`."""
    return document_schema(ExposureFile, "Overlay exposure")
