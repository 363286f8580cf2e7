"""The shape of a fold tree: which notes stand below which folds, and how new ones find their place."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlay.memory.clusters import draw_together, split, unit
from overlay.memory.truth import Truth

# A fold that grew beyond this is split: above the size at which folds are made, so that one new note
# doesn't split what was just made.
MOST_CHILDREN = 16

# How much neighbours in a stream pull together, by their distance; a link pulls like the next neighbour.
_STREAM_PULL = {1: 1.0, 2: 0.5}
_LINK_PULL = 1.0

# Notes whose vectors are held at once where only sums are wanted.
_PAGE = 4_096

# Notes that are folded. One with a time to live isn't: a fold would outlive it.
FOLDED = "(notes.valid_to IS NULL AND notes.kind <> 'fold' AND (notes.expires_at IS NULL OR notes.pinned))"

# A table `living` of the folds below which some note is folded.
LIVING = f"""
    WITH RECURSIVE living(number) AS (
        SELECT DISTINCT fold FROM fold_members JOIN notes ON notes.key = fold_members.note WHERE {FOLDED}
        UNION SELECT folds.parent FROM folds JOIN living USING (number) WHERE folds.parent IS NOT NULL
    )
"""

Pairs = list[tuple[int, int, float]]


def namespaces(truth: Truth) -> list[str]:
    """Those that have notes to fold, or folds."""
    rows = truth.rows(
        f"SELECT DISTINCT namespace FROM notes WHERE {FOLDED} UNION SELECT namespace FROM folds ORDER BY namespace"
    )
    return [str(row["namespace"]) for row in rows]


def arrange(truth: Truth, namespace: str) -> None:
    """Give every note of a namespace its place, in one transaction.

    Without folds, all notes are clustered, the clusters again, and so on until one is left. Else
    the successor of a note takes its place, any other new note joins the nearest fold of height 1,
    and folds that grew too large are split, up to the root. What neither gains nor loses a note
    stays as it is. A single note isn't folded.
    """
    rows = truth.rows(
        f"""SELECT key, fold FROM notes LEFT JOIN fold_members ON fold_members.note = notes.key
            WHERE {FOLDED} AND namespace = ? ORDER BY key""",
        (namespace,),
    )
    new = [int(row["key"]) for row in rows if row["fold"] is None]
    if not new:
        return
    if truth.rows("SELECT 1 FROM folds WHERE namespace = ? LIMIT 1", (namespace,)):
        places = _successors(truth, new)
        others = [key for key in new if key not in places]
        places |= _nearest(truth, namespace, others)
        with truth.transaction():
            _place(truth, places)
            _split_large(truth, namespace)
    elif len(new) > 1:
        heights = _cluster(truth, new)
        with truth.transaction():
            _build(truth, namespace, new, heights)


# -- the first tree ---------------------------------------------------------------------------


def _cluster(truth: Truth, keys: Sequence[int]) -> list[list[NDArray[np.int64]]]:
    """The parts at each height, lowest first: row numbers of `keys`, then of the parts below."""
    vectors, pairs = _stacked(truth, keys), _pairs(truth, keys)
    heights: list[list[NDArray[np.int64]]] = []
    while True:
        vectors = draw_together(vectors, pairs)
        parts = split(vectors)
        heights.append(parts)
        if len(parts) == 1:
            return heights
        labels = np.empty(len(vectors), dtype=np.int64)
        for label, rows in enumerate(parts):
            labels[rows] = label
        pairs = _merged(pairs, labels)
        vectors = unit(np.stack([vectors[rows].mean(axis=0) for rows in parts]))


def _build(truth: Truth, namespace: str, keys: Sequence[int], heights: Sequence[list[NDArray[np.int64]]]) -> None:
    below: list[int] = []
    for height, parts in enumerate(heights, start=1):
        folds = [_new_fold(truth, namespace, height, None) for _ in parts]
        for number, rows in zip(folds, parts, strict=True):
            if height == 1:
                _place(truth, {keys[row]: number for row in rows})
            else:
                _adopt(truth, [below[row] for row in rows], number)
        below = folds


def _merged(pairs: Pairs, labels: NDArray[np.int64]) -> Pairs:
    """The pairs between parts: the sum of those between their rows."""
    weights: dict[tuple[int, int], float] = defaultdict(float)
    for one, other, weight in pairs:
        low, high = sorted((int(labels[one]), int(labels[other])))
        if low != high:
            weights[low, high] += weight
    return [(low, high, weight) for (low, high), weight in weights.items()]


# -- new notes --------------------------------------------------------------------------------


def _successors(truth: Truth, keys: Sequence[int]) -> dict[int, int]:
    """The fold of the note that each of these replaced, where it had one."""
    rows = truth.rows(
        """SELECT notes.key AS key, fold FROM notes
            JOIN notes AS old ON old.superseded_by = notes.id
            JOIN fold_members ON fold_members.note = old.key
            WHERE notes.key IN (SELECT value FROM json_each(?)) ORDER BY old.key""",
        (_list(keys),),
    )
    return {int(row["key"]): int(row["fold"]) for row in rows}


def _nearest(truth: Truth, namespace: str, keys: Sequence[int]) -> dict[int, int]:
    """For each new note the fold of height 1 whose middle is nearest to it."""
    if not keys:
        return {}
    members = _members(truth, namespace)
    if not members:
        # Nothing that was folded holds any more: the lowest numbered leaf begins anew.
        rows = truth.rows("SELECT min(number) AS number FROM folds WHERE namespace = ? AND height = 1", (namespace,))
        return dict.fromkeys(keys, int(rows[0]["number"]))
    folds = sorted(members)
    middles = _middles(truth, [members[number] for number in folds])
    around = sorted({*keys, *_joined(truth, namespace, keys)})
    drawn = draw_together(_stacked(truth, around), _pairs(truth, around))
    position = {key: row for row, key in enumerate(around)}
    places: dict[int, int] = {}
    for start in range(0, len(keys), _PAGE):
        page = keys[start : start + _PAGE]
        best = np.argmax(drawn[[position[key] for key in page]] @ middles.T, axis=1)
        places |= {key: folds[column] for key, column in zip(page, best, strict=True)}
    return places


def _split_large(truth: Truth, namespace: str) -> None:
    height = 1
    while rows := truth.rows(
        "SELECT number, parent FROM folds WHERE namespace = ? AND height = ? ORDER BY number", (namespace, height)
    ):
        below = _members(truth, namespace) if height == 1 else _children(truth, namespace, height)
        for row in rows:
            held = below.get(int(row["number"]), [])
            if len(held) > MOST_CHILDREN:
                _split(truth, namespace, int(row["number"]), row["parent"], height, held)
        height += 1


def _split(truth: Truth, namespace: str, number: int, parent: int | None, height: int, held: Sequence[int]) -> None:
    """Divide what a fold holds; one part stays, new folds beside it take the others."""
    if height == 1:
        vectors = draw_together(_stacked(truth, held), _pairs(truth, held))
    else:
        members = _members(truth, namespace)
        vectors = _middles(truth, [_notes_below(truth, child, members) for child in held])
    if parent is None:
        parent = _new_fold(truth, namespace, height + 1, None)
        _adopt(truth, [number], parent)
    for rows in split(vectors)[1:]:
        moved = [held[row] for row in rows]
        beside = _new_fold(truth, namespace, height, parent)
        truth.run("INSERT INTO fold_formers(fold, former) VALUES (?, ?)", (beside, number))
        if height == 1:
            _place(truth, dict.fromkeys(moved, beside))
        else:
            _adopt(truth, moved, beside)
    _touch(truth, number)


# -- the tables -------------------------------------------------------------------------------


def _new_fold(truth: Truth, namespace: str, height: int, parent: int | None) -> int:
    cursor = truth.run(
        "INSERT INTO folds(id, namespace, height, parent) VALUES ('', ?, ?, ?)", (namespace, height, parent)
    )
    number = int(cursor.lastrowid or 0)
    truth.run("UPDATE folds SET id = ? WHERE number = ?", (f"fold:{number}", number))
    return number


def _place(truth: Truth, places: Mapping[int, int]) -> None:
    """Put notes below folds; one that was forgotten meanwhile is left out."""
    for key, number in places.items():
        truth.run(
            """INSERT INTO fold_members(note, fold) SELECT key, ? FROM notes WHERE key = ?
                ON CONFLICT (note) DO UPDATE SET fold = excluded.fold""",
            (number, key),
        )
    for number in sorted(set(places.values())):
        _touch(truth, number)


def _adopt(truth: Truth, children: Iterable[int], parent: int) -> None:
    truth.run("UPDATE folds SET parent = ? WHERE number IN (SELECT value FROM json_each(?))", (parent, _list(children)))
    _touch(truth, parent)


def _touch(truth: Truth, number: int) -> None:
    """A fold and those above it hold something else than before."""
    truth.run(
        """WITH RECURSIVE chain(number) AS (
                VALUES (?) UNION SELECT folds.parent FROM folds JOIN chain USING (number) WHERE parent IS NOT NULL
            )
            UPDATE folds SET changed = changed + 1 WHERE number IN (SELECT number FROM chain)""",
        (number,),
    )


def _members(truth: Truth, namespace: str) -> dict[int, list[int]]:
    """Fold of height 1 to the keys of those of its notes that are folded now."""
    members: dict[int, list[int]] = defaultdict(list)
    for row in truth.rows(
        f"""SELECT fold, note FROM fold_members JOIN notes ON notes.key = note
            WHERE {FOLDED} AND notes.namespace = ? ORDER BY fold, note""",
        (namespace,),
    ):
        members[int(row["fold"])].append(int(row["note"]))
    return dict(members)


def _children(truth: Truth, namespace: str, height: int) -> dict[int, list[int]]:
    """Fold of this height to the folds below it that hold something."""
    children: dict[int, list[int]] = defaultdict(list)
    for row in truth.rows(
        f"""{LIVING} SELECT number, parent FROM folds JOIN living USING (number)
            WHERE namespace = ? AND height = ? AND parent IS NOT NULL ORDER BY number""",
        (namespace, height - 1),
    ):
        children[int(row["parent"])].append(int(row["number"]))
    return dict(children)


def _notes_below(truth: Truth, number: int, members: Mapping[int, list[int]]) -> list[int]:
    rows = truth.rows(
        """WITH RECURSIVE below(number) AS (
                VALUES (?) UNION ALL SELECT folds.number FROM folds JOIN below ON folds.parent = below.number
            ) SELECT number FROM below ORDER BY number""",
        (number,),
    )
    return [key for row in rows for key in members.get(int(row["number"]), [])]


# -- vectors and what joins them --------------------------------------------------------------


def _stacked(truth: Truth, keys: Sequence[int]) -> NDArray[np.float32]:
    """The unit vectors of notes, shape (keys, width); zeros for one that has none."""
    found = truth.vectors.means(keys)
    width = len(next(iter(found.values()))) if found else 1
    stacked = np.zeros((len(keys), width), dtype=np.float32)
    for row, key in enumerate(keys):
        if key in found:
            stacked[row] = found[key]
    return stacked


def _middles(truth: Truth, groups: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """The unit vector in the middle of each group of notes, shape (groups, width)."""
    sums: NDArray[np.float32] | None = None
    places = [(key, row) for row, group in enumerate(groups) for key in group]
    for start in range(0, len(places), _PAGE):
        page = places[start : start + _PAGE]
        vectors = _stacked(truth, [key for key, _ in page])
        if sums is None:
            sums = np.zeros((len(groups), vectors.shape[1]), dtype=np.float32)
        np.add.at(sums, [row for _, row in page], vectors)
    return np.zeros((len(groups), 1), dtype=np.float32) if sums is None else unit(sums)


def _pairs(truth: Truth, keys: Sequence[int]) -> Pairs:
    """(row, row, weight) for the links among these notes and the neighbours in their streams."""
    position = {key: row for row, key in enumerate(keys)}
    listed = _list(keys)
    pairs: Pairs = []
    for row in truth.rows(
        """SELECT links.key AS one, notes.key AS other
            FROM links JOIN notes ON coalesce(notes.superseded_by, notes.id) = links.target
            WHERE links.key IN (SELECT value FROM json_each(:keys)) AND notes.valid_to IS NULL""",
        {"keys": listed},
    ):
        if row["other"] in position and row["other"] != row["one"]:
            pairs.append((position[row["one"]], position[row["other"]], _LINK_PULL))
    streams: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in truth.rows(
        "SELECT key, stream, place FROM notes WHERE stream <> '' AND key IN (SELECT value FROM json_each(?))",
        (listed,),
    ):
        streams[row["stream"]].append((row["place"], position[row["key"]]))
    for pieces in streams.values():
        pieces.sort()
        for step in _STREAM_PULL:
            for (place, one), (next_place, other) in zip(pieces, pieces[step:], strict=False):
                if pull := _STREAM_PULL.get(next_place - place):
                    pairs.append((one, other, pull))
    return pairs


def _joined(truth: Truth, namespace: str, keys: Sequence[int]) -> set[int]:
    """Notes that these are linked to, or stand beside."""
    rows: list[Any] = list(
        truth.rows(
            f"""SELECT notes.key AS key FROM links
                JOIN notes ON coalesce(notes.superseded_by, notes.id) = links.target
                WHERE links.key IN (SELECT value FROM json_each(:keys)) AND {FOLDED} AND notes.namespace = :namespace
            UNION SELECT notes.key FROM notes AS named
                JOIN links ON links.target = named.id JOIN notes ON notes.key = links.key
                WHERE named.key IN (SELECT value FROM json_each(:keys)) AND {FOLDED} AND notes.namespace = :namespace
            UNION SELECT notes.key FROM notes AS here JOIN notes
                ON notes.stream = here.stream AND notes.place BETWEEN here.place - :reach AND here.place + :reach
                WHERE here.key IN (SELECT value FROM json_each(:keys)) AND here.stream <> ''
                    AND {FOLDED} AND notes.namespace = :namespace""",
            {"keys": _list(keys), "namespace": namespace, "reach": max(_STREAM_PULL)},
        )
    )
    return {int(row["key"]) for row in rows}


def _list(keys: Iterable[int]) -> str:
    return json.dumps(sorted(int(key) for key in keys))
