"""The JSON Schema of probe banks, by which editors complete and check what people write."""

from __future__ import annotations

from overlay.document_schema import JsonSchema, document_schema
from overlay.probes.bank import ProbeBank

SCHEMA_FILE = "bank.schema.json"
"""What the schema is called; it lies beside the banks."""


def bank_schema() -> JsonSchema:
    """The JSON Schema of bank files: it refuses nothing that `read_bank` accepts as written.

    What no schema can say (a cell of one probe, an id that stands twice, options of unlike length) only `read_bank`
    finds.
    """
    made = document_schema(ProbeBank, "Overlay probe bank")
    made["anyOf"] = [{"required": ["probes"]}, {"required": ["checks"]}]
    return made
