"""External semantic memory: notes and queries go in, recalled notes come out.

Each recalled note carries the terms of its score. SQLite holds the truth and Chroma an index that
can be built again from it at any time; one process writes, any number read. Writing a note never
calls a language model, nothing is deleted by being contradicted, and what is forgotten is gone
from every file.
"""

from overlay.memory.descent import descend
from overlay.memory.duplicates import is_echo
from overlay.memory.embedder import Embedder, SentenceEmbedder
from overlay.memory.folding import FoldNode, FoldReport, Writer, fold, tree
from overlay.memory.lock import WriterLock
from overlay.memory.memory import Memory
from overlay.memory.memory_check import MemoryCheck
from overlay.memory.note import (
    KINDS,
    LARGEST_TEXT,
    Filters,
    Kind,
    NewNote,
    Note,
    Outcome,
    Written,
    without_control_characters,
)
from overlay.memory.passages import Passage
from overlay.memory.recall import TERMS, RecallWeights
from overlay.memory.recalled import Recalled
from overlay.memory.settings import MemorySettings
from overlay.memory.snapshot import Snapshot
from overlay.memory.truth_copy import copy_truth
from overlay.memory.vaults import (
    AmbiguousLink,
    BrokenLink,
    ImportReport,
    Moved,
    Skipped,
    export_lines,
    export_markdown,
    import_path,
    import_vault,
)

__all__ = [
    "KINDS",
    "LARGEST_TEXT",
    "TERMS",
    "AmbiguousLink",
    "BrokenLink",
    "Embedder",
    "Filters",
    "FoldNode",
    "FoldReport",
    "ImportReport",
    "Kind",
    "Memory",
    "MemoryCheck",
    "MemorySettings",
    "Moved",
    "NewNote",
    "Note",
    "Outcome",
    "Passage",
    "RecallWeights",
    "Recalled",
    "SentenceEmbedder",
    "Skipped",
    "Snapshot",
    "Writer",
    "WriterLock",
    "Written",
    "copy_truth",
    "descend",
    "export_lines",
    "export_markdown",
    "fold",
    "import_path",
    "import_vault",
    "is_echo",
    "tree",
    "without_control_characters",
]
