"""Vaults: files that people or other programs wrote go in, notes come out; and notes go out into files.

A vault is a folder of pages that link to each other. Single texts, lines of JSON and chats that
were had elsewhere can be imported too. What is wrong with one file never stops the others and is
always reported; nothing outside the folder is read; files are never written, except by an export.
"""

from overlay.memory.vaults.exporting import export_lines, export_markdown
from overlay.memory.vaults.importing import import_path
from overlay.memory.vaults.report import AmbiguousLink, BrokenLink, ImportReport, Moved, Skipped
from overlay.memory.vaults.vault import import_vault

__all__ = [
    "AmbiguousLink",
    "BrokenLink",
    "ImportReport",
    "Moved",
    "Skipped",
    "export_lines",
    "export_markdown",
    "import_path",
    "import_vault",
]
