"""External semantic memory: notes and queries go in, recalled notes come out.

Each recalled note carries the terms of its score. SQLite holds the truth and Chroma an index that
can be built again from it at any time; one process writes, any number read. Writing a note never
calls a language model, nothing is deleted by being contradicted, and what is forgotten is gone
from every file.
"""

from overlay.memory.embedder import Embedder, SentenceEmbedder
from overlay.memory.lock import WriterLock
from overlay.memory.memory import EXACT_BELOW, MINIMUM_SCORE, Memory, MemoryCheck, Written
from overlay.memory.note import KINDS, Kind, NewNote, Note
from overlay.memory.recall import Recalled, RecallWeights
from overlay.memory.truth_copy import copy_truth
from overlay.memory.vault import BrokenLink, VaultImport, import_path, import_vault

__all__ = [
    "EXACT_BELOW",
    "KINDS",
    "MINIMUM_SCORE",
    "BrokenLink",
    "Embedder",
    "Kind",
    "Memory",
    "MemoryCheck",
    "NewNote",
    "Note",
    "RecallWeights",
    "Recalled",
    "SentenceEmbedder",
    "VaultImport",
    "WriterLock",
    "Written",
    "copy_truth",
    "import_path",
    "import_vault",
]
