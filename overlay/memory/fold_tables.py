"""The tables of the fold tree, and what happens to folds when notes change or are forgotten.

They say which notes and folds stand below which fold, and hold no text: the text of a fold is that
of the note which has the fold's id. So the tree outlives the text, and a fold that lost its text
can be folded anew in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

FOLD_SCHEMA = """
CREATE TABLE folds (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,                 -- "fold:NUMBER", also the id of the note that holds its text
    namespace TEXT NOT NULL,
    height INTEGER NOT NULL,                 -- 1 folds notes, 2 folds folds of height 1, ...
    parent INTEGER REFERENCES folds(number), -- NULL for a root
    changed INTEGER NOT NULL DEFAULT 1,      -- counts the changes of what is below
    made INTEGER NOT NULL DEFAULT 0,         -- the count at which its text was made: stale while it is behind
    written_by TEXT NOT NULL DEFAULT '',     -- what wrote the text
    words INTEGER NOT NULL DEFAULT 0,        -- of its text
    words_below INTEGER NOT NULL DEFAULT 0   -- of the texts of its children
);
CREATE INDEX folds_parent ON folds(parent);
-- Also notes that no longer hold: older versions of a fold's text may quote them.
CREATE TABLE fold_members (
    note INTEGER PRIMARY KEY REFERENCES notes(key) ON DELETE CASCADE,
    fold INTEGER NOT NULL REFERENCES folds(number)
);
CREATE INDEX fold_members_fold ON fold_members(fold);
-- When a fold is split, older versions of the former one still quote what moved into the new one.
CREATE TABLE fold_formers (
    fold INTEGER NOT NULL REFERENCES folds(number),
    former INTEGER NOT NULL REFERENCES folds(number),
    PRIMARY KEY (fold, former)
) WITHOUT ROWID;
-- Which part of which note each sentence of a fold was taken from; characters of the note's text.
CREATE TABLE fold_sentences (
    fold INTEGER NOT NULL REFERENCES folds(number),
    position INTEGER NOT NULL,
    note INTEGER NOT NULL REFERENCES notes(key) ON DELETE CASCADE,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    PRIMARY KEY (fold, position)
) WITHOUT ROWID;
CREATE INDEX fold_sentences_note ON fold_sentences(note);
"""

# The tables in an order in which they can be emptied.
FOLD_TABLES = ("fold_sentences", "fold_formers", "fold_members", "folds")

_LEAVES = "SELECT DISTINCT fold FROM fold_members WHERE note IN (SELECT value FROM json_each(:keys))"

_CHAIN = f"""
    WITH RECURSIVE chain(number) AS (
        {_LEAVES}
        UNION SELECT folds.parent FROM folds JOIN chain USING (number) WHERE folds.parent IS NOT NULL
    )
"""

_TOUCHED = f"""
    WITH RECURSIVE chain(number) AS (
        {_LEAVES}
        UNION SELECT next.number FROM chain JOIN (
            SELECT number AS below, parent AS number FROM folds WHERE parent IS NOT NULL
            UNION ALL SELECT fold AS below, former AS number FROM fold_formers
        ) AS next ON next.below = chain.number
    )
"""


class FoldStore(Protocol):
    """What the fold tables need of the truth."""

    def rows(self, statement: str, values: Any = ()) -> Sequence[Any]:
        """The rows that a query gives; columns by name."""
        ...

    def run(self, statement: str, values: Any = ()) -> Any:
        """Run one writing statement."""
        ...


def above(truth: FoldStore, keys: Iterable[int]) -> list[str]:
    """Ids of the folds above these notes, lowest first: each note's chain up to its root."""
    rows = truth.rows(
        f"{_CHAIN} SELECT id FROM folds JOIN chain USING (number) ORDER BY height, number", {"keys": _list(keys)}
    )
    return [str(row["id"]) for row in rows]


def mark_stale(truth: FoldStore, keys: Iterable[int]) -> None:
    """These notes have changed or hold no longer: the folds above them no longer say what is below."""
    truth.run(
        f"{_CHAIN} UPDATE folds SET changed = changed + 1 WHERE number IN (SELECT number FROM chain)",
        {"keys": _list(keys)},
    )


def purge(truth: FoldStore, keys: Iterable[int]) -> list[str]:
    """These notes are about to be forgotten: ids of the fold notes that must be deleted with them.

    To be called in the transaction that deletes them, and before they are deleted. The ids are of
    all folds that quote or ever quoted one of these notes; each must be deleted with its older
    versions. The folds keep their place in the tree and are made anew by the next `fold`.
    """
    given = {"keys": _list(keys)}
    rows = truth.rows(f"{_TOUCHED} SELECT number, id FROM folds JOIN chain USING (number) ORDER BY number", given)
    folds = {"folds": _list(int(row["number"]) for row in rows)}
    truth.run("DELETE FROM fold_sentences WHERE fold IN (SELECT value FROM json_each(:folds))", folds)
    truth.run(
        """UPDATE folds SET changed = changed + 1, words = 0, words_below = 0, written_by = ''
            WHERE number IN (SELECT value FROM json_each(:folds))""",
        folds,
    )
    return [str(row["id"]) for row in rows]


def _list(keys: Iterable[int]) -> str:
    return json.dumps(sorted(int(key) for key in keys))
