"""Folds: how deep the tree is, how much it compresses, and what is lost when recall enters through it.

Questions whose answers stand in known notes are asked of the folds alone: does the right note stand
below the best folds, and does going down from a height find it as plain recall does?
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlay.agent import open_embedder
from overlay.errors import ArgumentError
from overlay.home import Home
from overlay.memory import Embedder, Filters, FoldNode, Memory, NewNote, descend, fold, tree
from overlay.progress import Progress, SilentProgress

REPOSITORY = Path(__file__).parent.parent
FILES = ("locomo_dev.json", "musique_questions.json")

QUESTIONS = 40
"""Asked of each memory, spread evenly over its questions."""

BEST_FOLDS = (1, 5)
FOUND = 10

_TURN = re.compile(r"D\d+:\d+")
_SESSION = re.compile(r"session_(\d+)")


@dataclass(frozen=True)
class _Questioned:
    """Notes of one memory, and questions with the ids of the notes that answer them."""

    name: str
    notes: tuple[NewNote, ...]
    questions: tuple[tuple[str, frozenset[str]], ...]


class _Remembering:
    """An embedder that computes the vector of a question once: the same ones are asked at every height."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self.name, self.digest, self.dimension = embedder.name, embedder.digest, embedder.dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._embedder.embed(texts)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        if text not in self._vectors:
            self._vectors[text] = self._embedder.embed_query(text)
        return self._vectors[text]


def measure(data: str | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Fold the notes of each data file and ask its questions of the folds.

    `data` is a file of LoCoMo conversations or of MuSiQue questions (beside its musique_corpus.json);
    by default both in ../shared/data beside the repository. For each file, means over its memories:
    depth; ratio_N, words of the folds of height N as a share of those below; fold_s, seconds; and in
    percent of the notes that answer: under_K_at_N, those below the best K folds of height N, with
    notes_K_at_N, the share of all notes that stand there; descent_from_N, those among the ten that
    going down from height N finds; flat, those among the ten of plain recall.

    Raises:
        ArgumentError: there is no such file, or it is of another format.
    """
    progress = progress or SilentProgress()
    embedder = _Remembering(open_embedder(Home.open(REPOSITORY)))
    figures: dict[str, Any] = {}
    for path in _paths(data):
        sets = list(_read(path))
        measured: list[dict[str, float]] = []
        for number, one in enumerate(sets):
            progress.step(f"folding {path.name}", number, len(sets), one.name)
            measured.append(_measure(one, embedder))
        progress.step(f"folding {path.name}", len(sets), len(sets))
        names = sorted({name for each in measured for name in each}, key=_in_order)
        figures[path.stem] = {
            name: round(float(np.mean([each[name] for each in measured if name in each])), 3) for name in names
        }
    return figures


def _measure(one: _Questioned, embedder: Embedder) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, Memory.open(Path(folder), embedder) as memory:
        memory.remember_many(one.notes)
        start = time.perf_counter()
        report = fold(memory)
        figures: dict[str, float] = {"notes": report.notes, "fold_s": time.perf_counter() - start}
        figures |= {"depth": report.depth} | {f"ratio_{height}": share for height, share in _numbered(report.ratios)}
        below = {node.id: _notes_below(node) for root in tree(memory) for node in _all_nodes(root)}
        step = max(len(one.questions) // QUESTIONS, 1)
        asked = one.questions[::step][:QUESTIONS]
        for height in range(1, report.depth):
            best = [memory.recall(question, max(BEST_FOLDS), filters=Filters(height=height)) for question, _ in asked]
            for count in BEST_FOLDS:
                reached = [set().union(*(below[fold.note.id] for fold in folds[:count])) for folds in best]
                figures[f"under_{count}_at_{height}"] = _percent(asked, reached)
                figures[f"notes_{count}_at_{height}"] = 100 * float(np.mean([len(r) for r in reached])) / report.notes
            figures[f"descent_from_{height}"] = _percent(
                asked, [{r.note.id for r in descend(memory, q, FOUND, start_height=height)} for q, _ in asked]
            )
        figures["flat"] = _percent(
            asked, [{r.note.id for r in memory.recall(q, FOUND, filters=Filters(height=0))} for q, _ in asked]
        )
        return figures


def _percent(asked: Sequence[tuple[str, frozenset[str]]], found: Sequence[set[str]]) -> float:
    """The mean share of a question's notes that were found, in percent."""
    shares = [len(gold & reached) / len(gold) for (_, gold), reached in zip(asked, found, strict=True)]
    return 100 * float(np.mean(shares))


def _numbered(values: Sequence[float]) -> Iterator[tuple[int, float]]:
    return iter(enumerate(values, start=1))


def _all_nodes(root: FoldNode) -> Iterator[FoldNode]:
    yield root
    for child in root.children:
        yield from _all_nodes(child)


def _notes_below(node: FoldNode) -> frozenset[str]:
    return frozenset(one.id for one in _all_nodes(node) if one.height == 0)


def _in_order(name: str) -> tuple[bool, str]:
    return name not in {"notes", "depth", "fold_s", "flat"}, name


# -- data -------------------------------------------------------------------------------------


def _paths(data: str | None) -> list[Path]:
    if data is not None:
        return [Path(data)]
    paths = [REPOSITORY.parent / "shared" / "data" / name for name in FILES]
    if not all(path.is_file() for path in paths):
        raise ArgumentError(
            f"there are no questions in {paths[0].parent}",
            "name a file of LoCoMo (github.com/snap-research/locomo) or MuSiQue (github.com/OSU-NLP-Group/HippoRAG)",
        )
    return paths


def _read(path: Path) -> Iterator[_Questioned]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        if "conversation" in records[0]:
            yield from (_conversation(record) for record in records)
        else:
            corpus = json.loads((path.parent / "musique_corpus.json").read_text(encoding="utf-8"))
            yield _passages(records, corpus)
    except OSError as error:
        raise ArgumentError(f"{error.filename} can't be read: {error.strerror}", "check the path") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ArgumentError(f"{path} is no file of LoCoMo or MuSiQue: {error!r}", "name another file") from None


def _conversation(record: dict[str, Any]) -> _Questioned:
    turns = record["conversation"]
    sessions = sorted((int(found[1]), name) for name in turns if (found := _SESSION.fullmatch(name)))
    notes = tuple(
        NewNote(f"{turn['speaker']}: {turn['text']}", "said", name, note_id=turn["dia_id"], stream=name, place=place)
        for _, name in sessions
        for place, turn in enumerate(turns[name])
    )
    known = {note.note_id for note in notes}
    questions = []
    for question in record["qa"]:
        gold = frozenset(turn for text in question["evidence"] for turn in _TURN.findall(text) if turn in known)
        if gold:
            questions.append((question["question"], gold))
    return _Questioned(record["sample_id"], notes, tuple(questions))


def _passages(records: Sequence[dict[str, Any]], corpus: Sequence[dict[str, Any]]) -> _Questioned:
    ids = {(passage["title"], passage["text"]): f"p{number}" for number, passage in enumerate(corpus)}
    notes = tuple(NewNote(text, "read", "musique", note_id=ids[title, text], title=title) for title, text in ids)
    questions = tuple(
        (
            record["question"],
            frozenset(
                ids[part["title"], part["paragraph_text"]] for part in record["paragraphs"] if part["is_supporting"]
            ),
        )
        for record in records
    )
    return _Questioned("musique", notes, questions)
