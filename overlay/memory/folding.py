"""Folding: notes are compressed into folds, folds into further folds, until one root is left.

A tree for each namespace. `fold` makes what is new or stale and leaves all else as it is, byte for
byte; `tree` shows it. No language model is needed: a fold quotes its notes, unless a writer is given.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from overlay.errors import ArgumentError
from overlay.memory.arrangement import FOLDED, LIVING, arrange, namespaces
from overlay.memory.memory import Memory
from overlay.memory.note import NewNote, Note, without_control_characters
from overlay.memory.passages import sentences
from overlay.memory.summary import Sentence, count_words, summarise
from overlay.memory.truth import Truth
from overlay.memory.words import stems
from overlay.progress import Progress, SilentProgress

# The texts of the notes or folds below a fold to a text for it.
Writer = Callable[[Sequence[str]], str]

# What wrote a fold that quotes its notes.
QUOTED = "quotes"

# A fold that quotes has at most this share of the words below it, and no more than an embedder reads
# as one passage; with fewer words than the last number nothing can be said.
WORDS_SHARE = 1 / 3
MOST_WORDS = 120
FEWEST_WORDS = 12

# Folds that are embedded and committed together.
_GROUP = 32


@dataclass(frozen=True)
class FoldReport:
    """What one folding did.

    made, refolded, kept: folds that are new, that were made anew, and that were left alone.
    emptied: folds below which nothing holds any more; they hold no longer either.
    depth: the height of the highest root; 0 without folds. notes: how many notes stand below.
    words: words of the notes, then of the folds of height 1, 2, ...
    unwritten: (fold id, reason) where the writer failed and the fold quotes instead.
    """

    made: int
    refolded: int
    kept: int
    emptied: int
    depth: int
    notes: int
    words: tuple[int, ...]
    unwritten: tuple[tuple[str, str], ...] = ()

    @property
    def ratios(self) -> tuple[float, ...]:
        """Words of the folds of each height as a share of the words one height below."""
        return tuple(high / low if low else 0.0 for low, high in zip(self.words, self.words[1:], strict=False))


@dataclass(frozen=True)
class FoldNode:
    """A fold or, at height 0, a note.

    ratio: its words as a share of those of what stands directly below it; 1 for a note.
    written_by: what wrote a fold's text: QUOTED, or a writer's name; "" for a note.
    """

    id: str
    text: str
    height: int
    namespace: str
    is_stale: bool
    written_by: str
    ratio: float
    children: tuple[FoldNode, ...]


@dataclass(frozen=True)
class _Content:
    """What a fold is made of. `pool`: what it may quote; `texts`: what a writer is given; `changed`: see the tables."""

    number: int
    id: str
    namespace: str
    height: int
    changed: int
    children: tuple[Note, ...]
    pool: tuple[Sentence, ...]

    @property
    def words_below(self) -> int:
        return sum(count_words(child.text) for child in self.children)


@dataclass(frozen=True)
class _Made:
    """A text for a fold, and the sentences of notes that it, and the folds above it, may quote."""

    content: _Content
    text: str
    quoted: tuple[Sentence, ...]
    written_by: str


def fold(
    memory: Memory, *, writer: Writer | None = None, written_by: str = "writer", progress: Progress | None = None
) -> FoldReport:
    """Bring the folds up to the notes: new notes join the tree, stale folds are made anew.

    Folded is every note that holds and has no time to live (a fold would outlive it). Each new note
    joins the nearest fold of its namespace; what replaced a note takes its place. The tree's shape
    changes in one transaction a namespace, its texts from the bottom up in groups: cut short at any
    point the tree is whole, what is missing is stale, and the next call goes on.

    `writer` writes the texts of the folds that are made now, and `written_by` is its name. Where it
    raises, or writes nothing or no fewer words than it was given, the fold quotes instead.

    Raises:
        ArgumentError: the writer has no name.
        NoteError, StorageFull: the memory can't be written.
    """
    if writer is not None and not written_by.strip():
        raise ArgumentError("the writer of the folds has no name", "say what writes them")
    progress = progress or SilentProgress()
    truth = memory.truth
    for namespace in namespaces(truth):
        progress.step("arranging notes", None, None, namespace)
        arrange(truth, namespace)
    emptied = _retire_empty(memory)
    stale = _stale(truth)
    made = refolded = 0
    unwritten: list[tuple[str, str]] = []
    for group in _groups(stale):
        progress.step("folding", made + refolded, len(stale), f"height {group[0][1]}")
        contents = [_read(truth, number) for number, _ in group]
        # A note may have gone since the list was made; the fold is then made by the next call.
        texts = [_make(truth, content, writer, written_by, unwritten) for content in contents if content.pool]
        outcomes = memory.remember_many(
            NewNote(
                one.text,
                "fold",
                "fold" if one.written_by == QUOTED else f"fold:{one.written_by}",
                note_id=one.content.id,
                title="",
                links=tuple(child.id for child in one.content.children),
                # It holds from when the last of what it tells had happened.
                event_at=max(child.event_at for child in one.content.children),
                namespace=one.content.namespace,
                height=one.content.height,
            )
            for one in texts
        )
        _record(memory, texts)
        made += sum(one.outcome == "added" for one in outcomes)
        refolded += sum(one.outcome != "added" for one in outcomes)
    progress.step("folding", len(stale), len(stale))
    words = _words(truth)
    folds = int(truth.rows(f"{LIVING} SELECT count(*) AS n FROM living")[0]["n"])
    notes = truth.rows(f"SELECT count(*) AS n FROM fold_members JOIN notes ON notes.key = note WHERE {FOLDED}")
    return FoldReport(
        made=made,
        refolded=refolded,
        kept=folds - made - refolded,
        emptied=emptied,
        depth=len(words) - 1,
        notes=int(notes[0]["n"]),
        words=words,
        unwritten=tuple(unwritten),
    )


def tree(memory: Memory, *, down_to: int = 0) -> tuple[FoldNode, ...]:
    """The fold trees, one root a namespace, down to folds of a height, or to notes (0).

    Folds whose text is gone, because a note below was forgotten and nothing was folded since, have an
    empty text and are stale.
    """
    truth = memory.truth
    folds = truth.rows(f"{LIVING} SELECT folds.* FROM folds JOIN living USING (number) ORDER BY height, number")
    nodes: dict[int, list[FoldNode]] = defaultdict(list)
    roots: list[FoldNode] = []
    for row in folds:
        if row["height"] < down_to:
            continue
        if row["height"] == 1 and down_to < 1:
            for note in truth.notes.of(_members(truth, row["number"])).values():
                nodes[row["number"]].append(FoldNode(note.id, note.text, 0, note.namespace, False, "", 1.0, ()))
        found = truth.notes.find(row["id"])
        node = FoldNode(
            id=row["id"],
            text=found[1].text if found and found[1].is_current else "",
            height=row["height"],
            namespace=row["namespace"],
            is_stale=row["made"] < row["changed"],
            written_by=row["written_by"],
            ratio=row["words"] / row["words_below"] if row["words_below"] else 0.0,
            children=tuple(nodes.pop(row["number"], ())),
        )
        if row["parent"] is None:
            roots.append(node)
        else:
            nodes[row["parent"]].append(node)
    return tuple(roots)


# -- what a fold is made of -------------------------------------------------------------------


def _stale(truth: Truth) -> list[tuple[int, int]]:
    """(number, height) of the folds that must be made, lowest first."""
    rows = truth.rows(
        f"""{LIVING} SELECT number, height FROM folds JOIN living USING (number)
            WHERE made < changed OR NOT EXISTS (SELECT 1 FROM notes WHERE notes.id = folds.id AND valid_to IS NULL)
            ORDER BY height, number"""
    )
    return [(int(row["number"]), int(row["height"])) for row in rows]


def _groups(stale: Sequence[tuple[int, int]]) -> Iterable[list[tuple[int, int]]]:
    """Neighbours of one height: a fold needs the folds below it to be there."""
    group: list[tuple[int, int]] = []
    for one in stale:
        if group and (group[0][1] != one[1] or len(group) == _GROUP):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _members(truth: Truth, number: int) -> list[int]:
    rows = truth.rows(
        f"SELECT note FROM fold_members JOIN notes ON notes.key = note WHERE fold = ? AND {FOLDED} ORDER BY note",
        (number,),
    )
    return [int(row["note"]) for row in rows]


def _read(truth: Truth, number: int) -> _Content:
    # First the count, then the texts: what changes in between leaves the fold stale.
    row = truth.rows("SELECT * FROM folds WHERE number = ?", (number,))[0]
    pool: list[Sentence] = []
    if row["height"] == 1:
        notes = truth.notes.of(_members(truth, number))
        children = [notes[key] for key in sorted(notes)]
        for key in sorted(notes):
            note = notes[key]
            pool += [Sentence(key, start, end, note.text[start:end], note.title) for start, end in sentences(note.text)]
    else:
        below = truth.rows(
            """SELECT folds.number, notes.key FROM folds JOIN notes ON notes.id = folds.id
                WHERE folds.parent = ? AND notes.valid_to IS NULL ORDER BY folds.number""",
            (number,),
        )
        found = truth.notes.of(int(one["key"]) for one in below)
        children = [found[int(one["key"])] for one in below]
        for one in below:
            pool += _quoted(truth, int(one["number"]))
    return _Content(number, row["id"], row["namespace"], row["height"], row["changed"], tuple(children), tuple(pool))


def _quoted(truth: Truth, number: int) -> list[Sentence]:
    """The sentences that a fold has of its notes."""
    rows = truth.rows(
        """SELECT note, start, end, substr(text, start + 1, end - start) AS text, title
            FROM fold_sentences JOIN notes ON notes.key = note WHERE fold = ? ORDER BY position""",
        (number,),
    )
    return [Sentence(row["note"], row["start"], row["end"], row["text"], row["title"]) for row in rows]


def _make(
    truth: Truth, content: _Content, writer: Writer | None, written_by: str, unwritten: list[tuple[str, str]]
) -> _Made:
    most = min(MOST_WORDS, max(FEWEST_WORDS, int(content.words_below * WORDS_SHARE)))
    frequency = truth.text.frequencies({stem for sentence in content.pool for stem in stems(sentence.said)})
    # Notes of signs alone have no words to choose by.
    quoted = tuple(summarise(content.pool, frequency, truth.passages.count(), most) or content.pool[:1])
    if writer is not None:
        try:
            text = without_control_characters(writer([child.text for child in content.children])).strip()
            if not text:
                raise ValueError("it wrote nothing")
            if count_words(text) >= content.words_below:
                raise ValueError(f"it wrote {count_words(text)} words for {content.words_below}")
            return _Made(content, text, quoted, written_by)
        except Exception as error:
            # Whatever ails a writer, its fold can still quote; the report tells.
            unwritten.append((content.id, f"{type(error).__name__}: {error}"))
    return _Made(content, "\n".join(sentence.said for sentence in quoted), quoted, QUOTED)


def _record(memory: Memory, texts: Sequence[_Made]) -> None:
    """Write what each fold was made of, and that it is no longer stale."""
    truth = memory.truth
    gone: list[str] = []
    with truth.transaction():
        for one in texts:
            number = one.content.number
            keys = {sentence.note for sentence in one.quoted}
            here = truth.rows(
                "SELECT count(*) AS n FROM notes WHERE key IN (SELECT value FROM json_each(?))",
                (json.dumps(sorted(keys)),),
            )
            now = truth.rows("SELECT changed FROM folds WHERE number = ?", (number,))[0]["changed"]
            if here[0]["n"] < len(keys) or (one.written_by != QUOTED and now != one.content.changed):
                # Another thread forgot a note after it was read: its words must not stay in the new text.
                gone.append(one.content.id)
                continue
            truth.run("DELETE FROM fold_sentences WHERE fold = ?", (number,))
            for position, sentence in enumerate(one.quoted):
                truth.run(
                    "INSERT INTO fold_sentences(fold, position, note, start, end) VALUES (?, ?, ?, ?, ?)",
                    (number, position, sentence.note, sentence.start, sentence.end),
                )
            truth.run(
                "UPDATE folds SET made = ?, words = ?, words_below = ?, written_by = ? WHERE number = ?",
                (one.content.changed, count_words(one.text), one.content.words_below, one.written_by, number),
            )
    if gone:
        memory.forget(*gone)


def _retire_empty(memory: Memory) -> int:
    """Folds below which nothing holds any more hold no longer either."""
    rows = memory.truth.rows(
        f"""{LIVING} SELECT number, folds.id FROM folds JOIN notes ON notes.id = folds.id
            WHERE notes.valid_to IS NULL AND number NOT IN (SELECT number FROM living) ORDER BY number"""
    )
    for row in rows:
        memory.retire(row["id"])
        memory.truth.run(
            "UPDATE folds SET made = changed, words = 0, words_below = 0 WHERE number = ?", (row["number"],)
        )
    return len(rows)


def _words(truth: Truth) -> tuple[int, ...]:
    """Words of the folded notes, then of the folds of each height."""
    rows = truth.rows(
        f"""{LIVING} SELECT height, sum(words) AS words, sum(words_below) AS below
            FROM folds JOIN living USING (number) GROUP BY height ORDER BY height"""
    )
    return (int(rows[0]["below"]), *(int(row["words"]) for row in rows)) if rows else (0,)
