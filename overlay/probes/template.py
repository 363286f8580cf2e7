"""The template of a bank: short, explained line by line, and a bank that can be measured as it stands."""

from __future__ import annotations

from overlay.documents import new_document, require_name
from overlay.probes.bank import ProbeBank


def new_bank(name: str) -> str:
    """The text of a new bank's file. Raises ArgumentError when a bank can't have this name."""
    require_name(name, ProbeBank, "a probe bank", "use a-z, 0-9 and _, and a letter at the start")
    # Ids hold the name as well: banks are read together, and no two may share an id.
    return new_document(name, "overlay.probes").replace("NAME", name)
