"""The memory: what writing, recalling and keeping notes costs in time, bytes and accuracy."""

from __future__ import annotations

import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overlay.agent import open_embedder
from overlay.home import Home
from overlay.memory import Embedder, Filters, Memory, NewNote
from overlay.progress import Progress, SilentProgress

NOTES, LARGE = 50_000, 200_000

BULK, PARTS = 3_000, 4
"""Notes of the bulk import with the real embedder; parts in which it and the raw one take turns."""

ADDS, QUERIES, NARROWED = 100, 200, 100
"""Single writes, plain queries, and queries of each kind with a filter, that are timed."""

RECALLED, NEAREST = 4, 10

WORDS = (8, 40)
"""The shortest and the longest note."""

STREAM = 40
"""Notes a stream (a session, a chat)."""

DAY = 86_400.0
BEGIN = 1_600_000_000.0
"""The time of the first note; each comes a quarter of an hour after the one before."""

TAGS = ("work", "home", "garden", "travel", "money", "people", "books", "health", "plans", "weather")
NAMESPACES = ("", "", "", "guide")

NAMES = 10_000
"""Made-up names after the words of the documents: as many notes have a vocabulary of such a size."""

SYLLABLES = ("ba", "den", "fi", "gor", "ha", "jun", "ka", "lo", "mer", "ni", "os", "pel", "ri", "sa", "tor", "ul", "vi")

ROOT = Path(__file__).parent.parent


def measure(
    notes: int = NOTES,
    large: int = LARGE,
    progress: Progress | None = None,
    *,
    bulk: int = BULK,
    adds: int = ADDS,
    queries: int = QUERIES,
) -> dict[str, Any]:
    """Fill a memory with generated notes, and time what is done with it. Times are milliseconds of one call.

    Notes have 8 to 40 words drawn by Zipf's law from the words of this repository's own notes and documents and from
    made-up names, with a theme for each stream, numbers, tags, and two links on average, of which the first leads to an
    old note. The filling embedder sums a random direction for each word, weighted by rarity: as wide as the real one,
    and near where words are shared. Its identity is that of the embedded one, which then takes over for `add`.

    add_*: one `remember` with the embedded embedder, into the memory of `notes`. embed_p50_ms: its embedding alone.
    query_*: one `recall` there without embedding the query (vectors of queries are computed before); `_as_of`: as of a
    time in the past; `_by_kind`, `_by_tag`, `_by_namespace`: with that filter.
    index_recall_at_10: the share of the ten nearest passages (exact scan by NumPy) that the index gives.
    bulk_notes_per_s: `remember_many` with the embedded embedder; raw_notes_per_s: SentenceTransformer.encode and
    Chroma's add of the same texts, in turns with it (ABBA); raw_encode_share: the encoding's share of the raw time.
    overhead_bytes_per_note: files of the memory of `notes`, less the texts and one vector for each passage.
    large_*: a memory of `large` notes with random unit vectors, in processes of its own: peak memory of filling it, and
    of opening it and asking it; the time of opening it, and the queries.
    """
    progress = progress or SilentProgress()
    embedder = open_embedder(Home.open(ROOT), progress=progress)
    texts = Texts(seed=1)
    found: dict[str, Any] = {"notes": notes, "threads": _threads()}
    with tempfile.TemporaryDirectory(prefix="overlay-memory-bench-") as folder:
        place = Path(folder)
        found |= _bulk(place, embedder, bulk, progress)
        stand_in = WordDirections(embedder, texts)
        found |= _filled(place / "filled", stand_in, texts, notes, progress)
        found |= _asked(place / "filled", stand_in, texts, notes, queries, progress)
        found |= _added(place / "filled", embedder, texts, notes, adds, progress)
        found |= _large(place / "large", large, queries, progress)
    return found


# --- texts -----------------------------------------------------------------------------------------


class Texts:
    """Generated English notes, always the same for one seed.

    Attributes:
        words: by falling frequency. shares: how often each comes, after Zipf and Mandelbrot.
    """

    def __init__(self, seed: int) -> None:
        pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "memory").rglob("*.md"))]
        found = Counter(
            word for page in pages for word in re.findall(r"[a-z]{2,}", page.read_text(encoding="utf-8").lower())
        )
        draw = np.random.default_rng(seed)
        names = ("".join(draw.choice(SYLLABLES, int(draw.integers(2, 5)))) for _ in range(2 * NAMES))
        own = [word for word, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))]
        self.words = [*own, *[name for name in dict.fromkeys(names) if name not in found][:NAMES]]
        shares = 1 / (np.arange(len(self.words)) + 2.7)
        self.shares = shares / shares.sum()
        self._seed = seed
        self._edges = np.cumsum(self.shares)
        self._theme: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, dtype=np.int64))

    def notes(self, count: int, first: int = 0) -> Iterator[NewNote]:
        """Notes number `first` and on; one stream has a theme of its own."""
        for number in range(first, first + count):
            draw = np.random.default_rng((self._seed, number))
            earlier = [int(number * draw.random() ** 2), int(number - 1 - draw.integers(min(number, STREAM) or 1))]
            linked = earlier[: int(draw.integers(0, 5))] if number else []
            if len(linked) == 2:
                linked += [int(goal) for goal in draw.integers(0, number, int(draw.integers(0, 3)))]
            yield NewNote(
                self.text(draw, number // STREAM),
                ("said", "thought", "read", "fact")[int(draw.integers(4))],
                f"bench:{number // STREAM}",
                note_id=f"n{number}",
                tags=tuple({TAGS[int(tag)] for tag in draw.integers(0, len(TAGS), int(draw.integers(0, 3)))}),
                links=tuple(f"n{goal}" for goal in dict.fromkeys(linked)),
                event_at=BEGIN + number * DAY / 96,
                namespace=NAMESPACES[int(draw.integers(len(NAMESPACES)))],
                stream=f"stream:{number // STREAM}",
            )

    def text(self, draw: np.random.Generator, stream: int) -> str:
        """One note: sentences of common words, words of its stream's theme, and some numbers."""
        if self._theme[0] != stream:
            self._theme = stream, np.random.default_rng((self._seed, stream, 7)).integers(0, len(self.words), 30)
        length = int(draw.integers(WORDS[0], WORDS[1] + 1))
        of_theme = draw.random(length) < 0.25
        drawn = np.where(of_theme, draw.choice(self._theme[1], length), self._common(draw, length))
        words = [self.words[place] for place in drawn]
        for place in np.flatnonzero(draw.random(length) < 0.04):
            words[place] = str(int(10 ** draw.uniform(0, 5)))
        end = 0
        while end < length:
            words[end] = words[end].capitalize()
            end += int(draw.integers(6, 16))
            words[min(end, length) - 1] += "."
        return " ".join(words)

    def query(self, number: int, notes: int) -> str:
        """What somebody may ask for who has one of the notes in mind: some of its words, and common ones."""
        draw = np.random.default_rng((self._seed, number, 11))
        (note,) = self.notes(1, int(draw.integers(notes)))
        words = re.findall(r"\w+", note.text)
        own = draw.choice(words, min(len(words), int(draw.integers(3, 8))), replace=False)
        common = [self.words[place] for place in self._common(draw, 3)]
        return f"What about {' '.join([*own, *common])}?"

    def _common(self, draw: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Places of words by how often they come."""
        return np.searchsorted(self._edges, draw.random(count)).clip(max=len(self.words) - 1)


# --- embedders that cost nothing ---------------------------------------------------------------------


class WordDirections:
    """Stands in for an embedder: its identity and width, and vectors that are near where rare words are shared."""

    def __init__(self, instead_of: Embedder, texts: Texts) -> None:
        self.name = instead_of.name
        self.digest = instead_of.digest
        self.dimension = instead_of.dimension
        # What half of the texts have says nothing of any of them.
        self._weights = dict(zip(texts.words, np.log(1 + 0.05 / texts.shares), strict=True))
        self._directions: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, shape (texts, dimension)."""
        rows = [np.sum([self._direction(word) for word in re.findall(r"\w+", f"a {one}".lower())], 0) for one in texts]
        vectors = np.asarray(rows, dtype=np.float32).reshape(len(texts), self.dimension)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, shape (dimension,)."""
        return np.asarray(self.embed([text])[0])

    def _direction(self, word: str) -> NDArray[np.float32]:
        if word not in self._directions:
            draw = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.dimension)
            self._directions[word] = np.asarray(draw * self._weights.get(word, 8.0), dtype=np.float32)
        return self._directions[word]


class FixedVectors:
    """A random unit vector for each text: nothing is near to anything."""

    name = "bench-fixed"
    digest = "bench-fixed-384"
    dimension = 384

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, shape (texts, 384)."""
        seeds = [zlib.crc32(text.encode()) for text in texts]
        rows = [np.random.default_rng(seed).standard_normal(self.dimension, dtype=np.float32) for seed in seeds]
        vectors = np.asarray(rows, dtype=np.float32).reshape(len(texts), self.dimension)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, shape (384,)."""
        return np.asarray(self.embed([text])[0])


class Prepared:
    """An embedder that has the vectors of these queries before they are asked: then asking costs no embedding."""

    def __init__(self, embedder: Embedder, queries: Sequence[str]) -> None:
        self.name = embedder.name
        self.digest = embedder.digest
        self.dimension = embedder.dimension
        self.embed = embedder.embed
        self._vectors = {query: embedder.embed_query(query) for query in queries}

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of one of the queries, shape (dimension,)."""
        vector: NDArray[np.float32] = self._vectors[text]
        return vector


# --- what is measured --------------------------------------------------------------------------------


def _bulk(place: Path, embedder: Any, count: int, progress: Progress) -> dict[str, Any]:
    """Import in bulk, in turns with the raw libraries; each has a store of its own that grows."""
    import chromadb

    # The same weights in the same process, without anything of ours around them.
    raw_model = embedder._model
    client = chromadb.PersistentClient(
        path=str(place / "raw"), settings=chromadb.config.Settings(anonymized_telemetry=False)
    )
    collection = client.create_collection("raw", embedding_function=None, configuration={"hnsw": {"space": "cosine"}})
    new = list(Texts(seed=2).notes(count))
    size = -(-count // PARTS)
    parts = [new[start : start + size] for start in range(0, count, size)]
    for warmed in (embedder.embed, raw_model.encode):
        warmed([note.text for note in new[:64]])
    encoding = adding = ours = 0.0
    with Memory.open(place / "bulk", embedder) as memory:

        def write(part: Sequence[NewNote]) -> None:
            nonlocal ours
            begun = time.perf_counter()
            memory.remember_many(part)
            ours += time.perf_counter() - begun

        def write_raw(part: Sequence[NewNote]) -> None:
            nonlocal encoding, adding
            begun = time.perf_counter()
            vectors = raw_model.encode([note.text for note in part], normalize_embeddings=True)
            between = time.perf_counter()
            collection.add(ids=[str(note.note_id) for note in part], embeddings=vectors)
            encoding += between - begun
            adding += time.perf_counter() - between

        done = 0
        for number, part in enumerate(parts):
            # ABBA: a machine that slows down or speeds up does so for both.
            for work in (write_raw, write) if number % 2 == 0 else (write, write_raw):
                progress.step("importing in bulk, in turns with the raw libraries", done, 2 * count)
                work(part)
                done += len(part)
    raw = encoding + adding
    return {
        "bulk_notes": count,
        "bulk_notes_per_s": round(count / ours, 1),
        "raw_notes_per_s": round(count / raw, 1),
        "bulk_ratio": round(raw / ours, 3),
        "raw_encode_share": round(encoding / raw, 3),
    }


def _filled(place: Path, embedder: Embedder, texts: Texts, count: int, progress: Progress) -> dict[str, Any]:
    """Fill a memory, close it, and weigh its files."""
    with Memory.open(place, embedder) as memory:
        seconds = _fill(memory, texts.notes(count), count, progress)
        text_bytes = sum(len(note.text.encode()) for note in memory.notes())
        passages = int(memory.truth.rows("SELECT count(*) AS n FROM vectors")[0]["n"])
    vector_bytes = passages * 4 * embedder.dimension
    files = {path: path.stat().st_size for path in place.rglob("*") if path.is_file()}
    whole = sum(files.values())
    truth = sum(size for path, size in files.items() if path.parent == place)
    return {
        "fill_notes_per_s": round(count / seconds),
        "overhead_bytes_per_note": round((whole - text_bytes - vector_bytes) / count),
        "bytes_per_note": {
            "text": round(text_bytes / count),
            "vectors": round(vector_bytes / count),
            "truth": round(truth / count),
            "index": round((whole - truth) / count),
        },
    }


def _fill(memory: Memory, notes: Iterator[NewNote], count: int, progress: Progress) -> float:
    """Write notes in bulk; seconds, without those that it took to make the notes up."""
    making = 0.0

    def made() -> Iterator[NewNote]:
        nonlocal making
        for number in range(count):
            if number % 1_000 == 0:
                progress.step(f"filling a memory with {count:,} notes", number, count)
            begun = time.perf_counter()
            note = next(notes)
            making += time.perf_counter() - begun
            yield note

    begun = time.perf_counter()
    memory.remember_many(made())
    return time.perf_counter() - begun - making


def _asked(place: Path, embedder: Embedder, texts: Texts, notes: int, count: int, progress: Progress) -> dict[str, Any]:
    """Time queries of each kind, and compare the index with an exact scan."""
    asked = [texts.query(number, notes) for number in range(count)]
    prepared = Prepared(embedder, asked)
    middle = BEGIN + notes / 2 * DAY / 96
    kinds: Mapping[str, Filters | None] = {
        "query": None,
        "query_as_of": Filters(as_of=middle),
        "query_by_kind": Filters(kinds=["fact"]),
        "query_by_tag": Filters(tags=["garden"]),
        "query_by_namespace": Filters(namespaces=["guide"]),
    }
    found: dict[str, Any] = {}
    begun = time.perf_counter()
    with Memory.open(place, prepared) as memory:
        found["open_seconds"] = round(time.perf_counter() - begun, 2)
        for number, (name, filters) in enumerate(kinds.items()):
            progress.step("asking", number, len(kinds) + 1)
            some = asked if filters is None else asked[: max(NARROWED * count // QUERIES, 1)]
            times = _times([_recalling(memory, query, filters) for query in some])
            found |= _quantiles(name, times)
        progress.step("asking", len(kinds), len(kinds) + 1)
        found["index_recall_at_10"] = round(_index_recall(memory, prepared, asked), 4)
    return found | {"queries": count, "queries_with_filter": len(some)}


def _recalling(memory: Memory, query: str, filters: Filters | None) -> Callable[[], object]:
    return lambda: memory.recall(query, RECALLED, filters=filters)


def _index_recall(memory: Memory, embedder: Embedder, queries: Sequence[str]) -> float:
    """The share of the nearest passages by an exact scan that the index gives."""
    rows = memory.truth.rows("SELECT passage, vector FROM vectors ORDER BY passage")
    keys = np.array([row["passage"] for row in rows])
    vectors = np.frombuffer(b"".join(row["vector"] for row in rows), dtype="<f4").reshape(len(rows), -1)
    index: Any = memory._keeper.index
    hit = 0
    for query in queries:
        vector = embedder.embed_query(query)
        nearest = keys[np.argpartition(-(vectors @ vector), NEAREST)[:NEAREST]]
        hit += len(set(map(int, nearest)) & set(index.nearest(vector, NEAREST)))
    return hit / (NEAREST * len(queries))


def _added(place: Path, embedder: Embedder, texts: Texts, notes: int, count: int, progress: Progress) -> dict[str, Any]:
    """Time single writes with the real embedder into the filled memory."""
    new = list(texts.notes(count + 3, first=notes))
    embedder.embed([new[0].text])
    with Memory.open(place, embedder) as memory:
        progress.step("adding single notes", None, None)

        def adding(note: NewNote) -> Callable[[], object]:
            return lambda: memory.remember(
                note.text, kind=note.kind, source=note.source, tags=note.tags, links=note.links, stream=note.stream
            )

        times = _times([adding(note) for note in new])

        def encoding(note: NewNote) -> Callable[[], object]:
            return lambda: embedder.embed([note.text])

        embedding = _times([encoding(note) for note in new])
    return {"adds": count, **_quantiles("add", times), "embed_p50_ms": round(1000 * statistics.median(embedding), 2)}


def _times(works: Sequence[Callable[[], object]], warm: int = 3) -> list[float]:
    """Seconds of each; the first ones, which read files for the first time, don't count."""
    taken = []
    for number, work in enumerate([*works[:warm], *works] if len(works) <= warm else works):
        begun = time.perf_counter()
        work()
        if number >= warm:
            taken.append(time.perf_counter() - begun)
    return taken


def _quantiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    half, most = np.quantile(np.asarray(seconds) * 1000, [0.5, 0.95])
    return {f"{name}_p50_ms": round(float(half), 2), f"{name}_p95_ms": round(float(most), 2)}


# --- a large memory, in processes of its own -------------------------------------------------------------


def _large(place: Path, count: int, queries: int, progress: Progress) -> dict[str, Any]:
    filling = _in_a_process("fill_large", place, count, queries, progress)
    asking = _in_a_process("ask_large", place, count, queries, progress)
    return {"large_notes": count, **filling, **asking}


def _in_a_process(work: str, place: Path, count: int, queries: int, progress: Progress) -> dict[str, Any]:
    """What a function of this file finds in a fresh process; what it says on the way is passed on."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1])[sys.argv[2]](sys.argv[3], *map(int, sys.argv[4:]))"
    command = [sys.executable, "-c", code, __file__, work, str(place), str(count), str(queries)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found: dict[str, Any] = {}
        for line in process.stdout:
            told = json.loads(line)
            if "found" in told:
                found = told["found"]
            else:
                progress.step(told["description"], told["done"], told["total"])
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return found


class _Told:
    """Progress as lines on the standard output."""

    def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
        """Write a line."""
        print(json.dumps({"description": description, "done": done, "total": total}), flush=True)


def fill_large(place: str, count: int, queries: int) -> None:
    """Fill the large memory; print the peak memory of this process."""
    notes = (
        NewNote(f"{text} {number}", "read", "bench", stream=f"stream:{number // STREAM}")
        for number, text in enumerate(_plain_texts(count))
    )
    with Memory.open(Path(place), FixedVectors()) as memory:
        seconds = _fill(memory, notes, count, _Told())
        held = memory.count()
    _give({"large_held": held, "large_fill_notes_per_s": round(count / seconds), "large_fill_peak_mb": _peak_mb()})


def ask_large(place: str, count: int, queries: int) -> None:
    """Open the large memory and ask; print times, and the peak memory of this process."""
    texts = Texts(seed=3)
    asked = [texts.query(number, count) for number in range(queries)]
    prepared = Prepared(FixedVectors(), asked)
    begun = time.perf_counter()
    with Memory.open(Path(place), prepared) as memory:
        opening = time.perf_counter() - begun
        times = _times([_recalling(memory, query, None) for query in asked])
    _give({"large_open_seconds": round(opening, 2), **_quantiles("large_query", times), "large_peak_mb": _peak_mb()})


def _plain_texts(count: int) -> Iterator[str]:
    texts = Texts(seed=3)
    for number in range(count):
        yield texts.text(np.random.default_rng((3, number)), number // STREAM)


def _give(found: Mapping[str, Any]) -> None:
    print(json.dumps({"found": found}), flush=True)


def _peak_mb() -> int:
    """The most memory that this process had, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the parent had when it started this process.
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return round(int(peak) / 1024)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024))


def _threads() -> int:
    import torch

    return int(torch.get_num_threads())
