"""The check of a memory: whether every note can be found by every path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from overlay.memory.database import damaged
from overlay.memory.index import VectorIndex
from overlay.memory.scope import STANDING
from overlay.memory.truth import Truth


@dataclass(frozen=True)
class MemoryCheck:
    """How truth and index agree. Only notes that hold are indexed, by their passages.

    notes, passages, vectors, indexed: how many there are.
    missing_in_index, unknown_in_index: note ids; "key:N" for a vector of nothing.
    without_text, without_vector: ids of notes that full text, or a scan of the vectors, can't find.
    strange_words: entries of the full-text index that belong to nothing.
    broken_folds: ids of folds whose place in the tree is wrong.
    """

    notes: int
    passages: int
    vectors: int
    indexed: int
    missing_in_index: tuple[str, ...]
    unknown_in_index: tuple[str, ...]
    without_text: tuple[str, ...] = ()
    without_vector: tuple[str, ...] = ()
    strange_words: int = 0
    broken_folds: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every note can be found by every path, and nothing else can."""
        return not (
            self.missing_in_index
            or self.unknown_in_index
            or self.without_text
            or self.without_vector
            or self.strange_words
            or self.broken_folds
        )


def compare(truth: Truth, index: VectorIndex) -> MemoryCheck:
    """Compare truth and index, entry by entry. Raises NoteError: memory.db is damaged inside."""
    _check_file(truth)
    current, indexed = set(truth.passages.within(STANDING)), index.keys()
    bare, blind, mute = _passages_without(truth)
    ids = truth.passages.ids([*(current ^ indexed), *blind, *mute])
    without = {key: note.id for key, note in truth.notes.of(bare).items()}
    return MemoryCheck(
        notes=truth.notes.count(),
        passages=truth.passages.count(),
        vectors=truth.passages.count() - len(blind),
        indexed=len(indexed),
        missing_in_index=_ids(current - indexed, ids),
        unknown_in_index=_ids(indexed - current, ids),
        without_text=tuple(sorted({*_ids(mute, ids), *without.values()})),
        without_vector=tuple(sorted({*_ids(blind, ids), *without.values()})),
        strange_words=_words_of_nothing(truth),
        broken_folds=tuple(_broken_folds(truth)),
    )


def _check_file(truth: Truth) -> None:
    """Raise NoteError if the file or its full-text index is damaged inside."""
    found = truth.rows("PRAGMA quick_check(1)")[0][0]
    if found != "ok":
        raise damaged(truth.path, str(found))
    truth.text.check()


def _passages_without(truth: Truth) -> tuple[list[int], list[int], list[int]]:
    """Notes without a passage, and of the passages those without a vector and those without words' entry."""
    bare = truth.rows("SELECT key FROM notes WHERE key NOT IN (SELECT note FROM passages)")
    blind = truth.rows("SELECT key FROM passages WHERE key NOT IN (SELECT passage FROM vectors)")
    mute = truth.rows("SELECT key FROM passages WHERE key NOT IN (SELECT id FROM passages_text_docsize)")
    return [row["key"] for row in bare], [row["key"] for row in blind], [row["key"] for row in mute]


def _words_of_nothing(truth: Truth) -> int:
    """How many entries of the full-text index belong to no passage."""
    rows = truth.rows("SELECT count(*) AS n FROM passages_text_docsize WHERE id NOT IN (SELECT key FROM passages)")
    return int(rows[0]["n"])


def _broken_folds(truth: Truth) -> list[str]:
    """Ids of folds whose place in the tree is broken: a parent that isn't one higher, or a loop."""
    rows = truth.rows(
        """SELECT folds.id FROM folds LEFT JOIN folds AS above ON above.number = folds.parent
            WHERE folds.parent IS NOT NULL
            AND (above.number IS NULL OR above.height <> folds.height + 1 OR above.namespace <> folds.namespace)
            UNION SELECT folds.id FROM fold_members JOIN folds ON folds.number = fold_members.fold
            WHERE folds.height <> 1
            UNION SELECT notes.id FROM notes WHERE kind = 'fold' AND valid_to IS NULL
            AND id NOT IN (SELECT id FROM folds) AND id LIKE 'fold:%' ORDER BY 1"""
    )
    return [row["id"] for row in rows]


def _ids(passages: Iterable[int], ids: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(sorted({ids.get(key, f"key:{key}") for key in passages}))
