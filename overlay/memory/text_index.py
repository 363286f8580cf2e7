"""The full-text index: which stems stand in which passage."""

from __future__ import annotations

import json
from collections.abc import Iterable

from overlay.memory.database import Database
from overlay.memory.passage_text import PASSAGE_TEXTS, embedded_text
from overlay.memory.words import stemmer_version, stems

# Rows that one step of long work reads.
_PAGE = 500


class TextIndex:
    """Stems of passages, in SQLite's own full-text index over what stands beside each passage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, passage: int) -> None:
        """A passage was written, with its stems."""
        self._database.run(
            "INSERT INTO passages_text(rowid, stems) SELECT key, stems FROM passages WHERE key = ?", (passage,)
        )

    def remove(self, passage: int) -> None:
        """A passage is about to be deleted."""
        self._database.run(
            """INSERT INTO passages_text(passages_text, rowid, stems)
                SELECT 'delete', key, stems FROM passages WHERE key = ?""",
            (passage,),
        )

    def keep_up(self) -> None:
        """Fill it anew when its stems were another stemmer's: they would never meet those of a query."""
        if self._database.meta("stems") == stemmer_version():
            return
        with self._database.transaction():
            last = 0
            statement = f"{PASSAGE_TEXTS} WHERE passages.key > ? ORDER BY passages.key LIMIT {_PAGE}"
            while rows := self._database.rows(statement, (last,)):
                self._database.run_many(
                    "UPDATE passages SET stems = ? WHERE key = ?",
                    ((stems_line(row["title"], row["text"], row["position"]), row["key"]) for row in rows),
                )
                last = rows[-1]["key"]
            self.fill_anew()
            self._database.write_meta({"stems": stemmer_version()})

    def fill_anew(self) -> None:
        """Make it again from the passages' stems: what is deleted from it is only marked."""
        self._database.run("INSERT INTO passages_text(passages_text) VALUES ('rebuild')")

    def frequencies(self, stems: Iterable[str]) -> dict[str, int]:
        """In how many passages each of these stems stands; those that stand nowhere are left out."""
        rows = self._database.rows(
            "SELECT term, doc FROM json_each(?) CROSS JOIN passages_words ON term = value", (json.dumps(list(stems)),)
        )
        return {row["term"]: int(row["doc"]) for row in rows}

    def best(self, match: str, limit: int) -> list[tuple[int, float]]:
        """(passage, BM25) of the best passages for an FTS5 expression, best first; higher is better."""
        rows = self._database.rows(
            "SELECT rowid, rank FROM passages_text WHERE passages_text MATCH ? ORDER BY rank LIMIT ?", (match, limit)
        )
        return [(row["rowid"], -row["rank"]) for row in rows]

    def check(self) -> None:
        """Raise NoteError if it is damaged inside."""
        self._database.run("INSERT INTO passages_text(passages_text) VALUES ('integrity-check')")


def stems_line(title: str, text: str, position: int) -> str:
    """What full text knows of a passage."""
    return " ".join(stems(embedded_text(title, text, position)))
