"""Recall: how much of what answers a question is among what is recalled, term by term, and what a state changes."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from overlay.agent import open_embedder
from overlay.errors import ArgumentError
from overlay.home import Home
from overlay.memory import TERMS, Embedder, Memory, MemorySettings, NewNote, RecallWeights
from overlay.progress import Progress, SilentProgress

REPOSITORY = Path(__file__).parent.parent
DATA = REPOSITORY.parent / "shared" / "data"
FILES = ("locomo_dev.json", "musique_questions.json")

COUNT = 10
"""Notes that are recalled; R@5 looks at the first five of them."""

AXIS = "warmth"
RAISED = 1.0
READING = 3.0
"""What a note written in a raised state read on the axis, as z."""

_ADVERSARIAL = 5
"""LoCoMo's category of questions whose premise is wrong; their evidence is where the truth stands."""

_PAIRS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
_TURN = re.compile(r"D\d+:\d+")
_SESSION = re.compile(r"session_(\d+)")
_DAY = 86_400.0
_NOW = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
_FORMATS = (
    "give LoCoMo's file (github.com/snap-research/locomo, data/locomo10.json: a list of conversations with `qa`) or "
    "MuSiQue's questions with their `paragraphs` (github.com/StonyBrookNLP/musique, or github.com/OSU-NLP-Group/"
    "HippoRAG, reproduce/dataset/musique.json)"
)


@dataclass(frozen=True)
class Question:
    """What is asked, the ids of the notes that answer it, and of which category it is."""

    text: str
    gold: frozenset[str]
    category: int


@dataclass(frozen=True)
class Library:
    """The notes of one memory and the questions that are asked of it; `now` is when they are asked."""

    notes: tuple[NewNote, ...]
    questions: tuple[Question, ...]
    now: float


@dataclass(frozen=True)
class DataSet:
    """One file: each library is a memory of its own."""

    name: str
    form: Literal["locomo", "musique"]
    libraries: tuple[Library, ...]


class CachingEmbedder:
    """An embedder that computes each text once; the same ones come again in every variant."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}
        self._asked: dict[str, NDArray[np.float32]] = {}
        self.name, self.digest, self.dimension = embedder.name, embedder.digest, embedder.dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, self._embedder.embed(new), strict=True))
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        return np.stack([self._known[text] for text in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        if text not in self._asked:
            self._asked[text] = self._embedder.embed_query(text)
        return self._asked[text]


def measure(data: str | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """What recall finds with the shipped weights, on LoCoMo conversations and MuSiQue questions.

    data: a file of either; without it both of ../shared/data.

    By file, in percent and averaged over the questions whose evidence resolves: `turn_r10`, `turn_r5` the share of the
    gold notes among the first ten and five; `session_r10` the share of the gold sessions among those of the ten;
    `answerable_*` the same without LoCoMo's adversarial questions; `vectors_alone`, `text_alone`: one term only;
    `without`: each term's weight at 0; `state_harm`: by how many points the headline moves when notes bear states and
    the present state is off (`off`), and when the state is raised and no note bears one (`bare`), with how many
    questions get other notes.
    congruence: of constructed pairs, in how many the note written in the raised state comes first, with the state
        raised and off, and in how many the order without a state is that of notes without states.

    Raises:
        ArgumentError: the file isn't there or has neither format.
    """
    progress = progress or SilentProgress()
    files = [Path(data)] if data is not None else [DATA / name for name in FILES if (DATA / name).is_file()]
    if not files:
        raise ArgumentError(f"there is no data in {DATA}", f"with --data {_FORMATS}")
    sets = [read(file) for file in files]
    embedder = CachingEmbedder(open_embedder(Home.open(REPOSITORY)))
    found: dict[str, Any] = {"embedder": embedder.name, "weights": dataclasses.asdict(RecallWeights())}
    for one in sets:
        found[one.name] = _measure_set(one, embedder, progress)
    found["congruence"] = _congruence(embedder)
    return found


# -- reading -----------------------------------------------------------------------------------------


def read(file: Path) -> DataSet:
    """A file of either format. Raises ArgumentError."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{file} can't be read: {error}", _FORMATS) from error
    try:
        records = (
            json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
        )
    except ValueError as error:
        raise ArgumentError(f"{file} is no JSON: {error}", _FORMATS) from error
    keys = set(records[0]) if records and isinstance(records[0], dict) else set()
    try:
        if {"conversation", "qa"} <= keys:
            return DataSet(file.stem, "locomo", tuple(_conversation(record) for record in records))
        if {"paragraphs", "question"} <= keys:
            return DataSet(file.stem, "musique", (_passages(records),))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArgumentError(f"{file} isn't what it looks like: {type(error).__name__} {error}", _FORMATS) from error
    raise ArgumentError(f"{file} is neither LoCoMo nor MuSiQue", _FORMATS)


def _conversation(record: Mapping[str, Any]) -> Library:
    """One LoCoMo conversation: a note a turn, a stream a session."""
    conversation = record["conversation"]
    notes: list[NewNote] = []
    last = 0.0
    sessions = [found for key in conversation if (found := _SESSION.fullmatch(key))]
    for session in sorted(sessions, key=lambda found: int(found[1])):
        written = datetime.strptime(conversation[f"{session[0]}_date_time"], "%I:%M %p on %d %B, %Y")
        last = max(last, written.replace(tzinfo=UTC).timestamp())
        for place, turn in enumerate(conversation[session[0]]):
            said = f"{turn['speaker']}: {turn['text']}"
            if caption := turn.get("blip_caption"):
                said += f" [{caption}]"
            notes.append(
                NewNote(
                    said,
                    "said",
                    f"locomo:{turn['dia_id']}",
                    note_id=turn["dia_id"],
                    event_at=written.replace(tzinfo=UTC).timestamp(),
                    stream=session[0],
                    place=place,
                )
            )
    known = {note.note_id for note in notes}
    questions = []
    for asked in record["qa"]:
        gold = frozenset(turn for evidence in asked["evidence"] for turn in _TURN.findall(evidence)) & known
        if gold:
            questions.append(Question(asked["question"], frozenset(map(str, gold)), int(asked["category"])))
    return Library(tuple(notes), tuple(questions), last + _DAY)


def _passages(records: Sequence[Mapping[str, Any]]) -> Library:
    """All paragraphs of MuSiQue questions in one memory, each once."""
    ids: dict[tuple[str, str], str] = {}
    questions = []
    for record in records:
        gold = set()
        for one in record["paragraphs"]:
            name = ids.setdefault((one["title"], one["paragraph_text"]), f"passage:{len(ids)}")
            if one["is_supporting"]:
                gold.add(name)
        questions.append(Question(record["question"], frozenset(gold), 0))
    notes = [
        NewNote(text, "read", "musique", note_id=name, title=title, event_at=_NOW)
        for (title, text), name in ids.items()
    ]
    return Library(tuple(notes), tuple(questions), _NOW)


# -- measuring ---------------------------------------------------------------------------------------


def _measure_set(one: DataSet, embedder: CachingEmbedder, progress: Progress) -> dict[str, Any]:
    headline = "turn_r10" if one.form == "locomo" else "r5"
    shipped = RecallWeights()
    nothing = dict.fromkeys(TERMS, 0.0)
    variants = {
        "vectors_alone": RecallWeights(**{**nothing, "vector": 1.0}),
        "text_alone": RecallWeights(**{**nothing, "text": 1.0}),
        **{f"without {term}": dataclasses.replace(shipped, **{term: 0.0}) for term in TERMS},
    }
    draw = random.Random(6)
    with tempfile.TemporaryDirectory() as scratch:
        folders, stated = [], []
        for number, library in enumerate(one.libraries):
            progress.step(f"{one.name}: remembering", number, len(one.libraries))
            folders.append(_write(Path(scratch) / f"plain-{number}", library, library.notes, embedder))
            moody = [dataclasses.replace(note, state={AXIS: draw.gauss(0, 2)}) for note in library.notes]
            stated.append(_write(Path(scratch) / f"stated-{number}", library, moody, embedder))
        progress.step(f"{one.name}: asking", 0, len(variants) + 3)
        ids = _ask(one, folders, embedder, shipped)
        figures: dict[str, Any] = _figures(one, ids)
        without: dict[str, Any] = {}
        for done, (name, weights) in enumerate(variants.items(), 1):
            progress.step(f"{one.name}: asking", done, len(variants) + 3)
            got = _figures(one, _ask(one, folders, embedder, weights))
            kept = {key: got[key] for key in (headline, "session_r10") if key in got}
            if name.startswith("without "):
                without[name.removeprefix("without ")] = kept
            else:
                figures[name] = kept
        figures["without"] = without
        harm: dict[str, Any] = {}
        for name, folder, state in (("off", stated, {AXIS: 0.0}), ("bare", folders, {AXIS: RAISED})):
            other = _ask(one, folder, embedder, shipped, state)
            harm[name] = {
                "points": round(_figures(one, other)[headline] - figures[headline], 2),
                "changed": sum(mine != theirs for mine, theirs in zip(ids, other, strict=True)),
            }
        figures["state_harm"] = harm
    return figures


def _write(folder: Path, library: Library, notes: Sequence[NewNote], embedder: CachingEmbedder) -> Path:
    with Memory.open(folder, embedder, clock=lambda: library.now) as memory:
        memory.remember_many(notes)
    return folder


def _ask(
    one: DataSet,
    folders: Sequence[Path],
    embedder: CachingEmbedder,
    weights: RecallWeights,
    state: Mapping[str, float] | None = None,
) -> list[list[str]]:
    """The ids that each question recalls, over all libraries of the set."""
    settings = MemorySettings(weights=weights, minimum_score=-10.0)
    ids = []
    for library, folder in zip(one.libraries, folders, strict=True):
        with Memory.open(folder, embedder, settings=settings, clock=partial(float, library.now)) as memory:
            for question in library.questions:
                ids.append([got.note.id for got in memory.recall(question.text, COUNT, state=state)])
    return ids


def _figures(one: DataSet, ids: Sequence[Sequence[str]]) -> dict[str, Any]:
    questions = [question for library in one.libraries for question in library.questions]
    asked = list(zip(questions, ids, strict=True))
    found: dict[str, Any] = {"questions": len(asked)}
    if one.form == "musique":
        return found | {"r5": _share(asked, 5), "r10": _share(asked, COUNT)}
    answerable = [pair for pair in asked if pair[0].category != _ADVERSARIAL]
    return found | {
        "turn_r10": _share(asked, COUNT),
        "turn_r5": _share(asked, 5),
        "session_r10": _share(asked, COUNT, of_sessions=True),
        "answerable": len(answerable),
        "answerable_turn_r10": _share(answerable, COUNT),
        "answerable_session_r10": _share(answerable, COUNT, of_sessions=True),
    }


def _share(asked: Sequence[tuple[Question, Sequence[str]]], count: int, *, of_sessions: bool = False) -> float:
    """Percent of the gold found among the first `count`, averaged over questions."""
    shares = []
    for question, ids in asked:
        gold, got = set(question.gold), set(ids[:count])
        if of_sessions:
            gold, got = {_session(one) for one in gold}, {_session(one) for one in got}
        shares.append(len(gold & got) / len(gold))
    return round(100 * float(np.mean(shares)), 2)


def _session(turn: str) -> str:
    return turn.partition(":")[0]


def _congruence(embedder: CachingEmbedder) -> dict[str, Any]:
    first = dict.fromkeys(("raised", "off"), 0)
    same = 0
    with tempfile.TemporaryDirectory() as scratch:
        orders: dict[str, list[list[str]]] = {}
        for raised_one in (None, 0, 1):
            folder = Path(scratch) / f"raised-{raised_one}"
            with Memory.open(folder, embedder, clock=lambda: _NOW) as memory:
                memory.remember_many(
                    NewNote(
                        text,
                        "said",
                        "constructed",
                        note_id=f"{number}:{which}",
                        event_at=_NOW,
                        state={AXIS: READING} if which == raised_one else {},
                    )
                    for number, pair in enumerate(_PAIRS)
                    for which, text in enumerate(pair["notes"])
                )
                for name, state in (("raised", {AXIS: RAISED}), ("off", {AXIS: 0.0})):
                    orders[f"{raised_one} {name}"] = [
                        [
                            got.note.id.partition(":")[2]
                            for got in memory.recall(pair["query"], COUNT, state=state)
                            if got.note.id.startswith(f"{number}:")
                        ]
                        for number, pair in enumerate(_PAIRS)
                    ]
    for raised_one in (0, 1):
        for name in first:
            first[name] += sum(order[:1] == [str(raised_one)] for order in orders[f"{raised_one} {name}"])
        same += sum(mine == plain for mine, plain in zip(orders[f"{raised_one} off"], orders["None off"], strict=True))
    return {
        "pairs": 2 * len(_PAIRS),
        "first_raised": first["raised"],
        "first_off": first["off"],
        "order_kept_off": same,
    }
