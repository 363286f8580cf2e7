"""The truth: one SQLite file with texts, vectors, full-text index, links, sources and a journal.

Everything else can be built from it. A note's `key` (an integer, never used twice) is its name in
here; its id is its name outside and moves on when a newer text takes it. A long text is divided
into passages, and a passage's key is its name in the full-text index, among the vectors and in the
vector index.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from overlay.memory.database import Database
from overlay.memory.index_queue import IndexQueue
from overlay.memory.journal import Journal
from overlay.memory.link_rows import LinkRows
from overlay.memory.next_vectors import NextVectors
from overlay.memory.note_rows import NoteRows
from overlay.memory.passage_rows import PassageRows
from overlay.memory.text_index import TextIndex
from overlay.memory.vector_rows import VectorRows


class Truth(Database):
    """The file behind a memory, and what stands in it, by noun. Raises as Database."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        super().__init__(path, read_only=read_only)
        self.journal = Journal(self)
        self.index_queue = IndexQueue(self)
        self.text = TextIndex(self)
        self.vectors = VectorRows(self)
        self.next_vectors = NextVectors(self)
        self.links = LinkRows(self)
        self.passages = PassageRows(self, self.vectors, self.text, self.index_queue)
        self.notes = NoteRows(self, self.passages, self.vectors, self.links, self.journal)
        if not read_only:
            try:
                self.text.keep_up()
            except BaseException:
                self.close()
                raise

    def memory_id(self, folder: Path) -> str:
        """This memory's own name, for places that several memories share; a copy in another folder gets another one."""
        home = str(folder.resolve())
        known = self.meta("memory_id")
        if known is None or self.meta("memory_folder") != home:
            known = secrets.token_hex(8)
            with self.transaction():
                self.write_meta({"memory_id": known, "memory_folder": home})
        return known
