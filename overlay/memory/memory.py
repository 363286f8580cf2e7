"""The memory: notes in, recalled notes out, over one truth and one index."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError, NoteError
from overlay.memory.embedder import Embedder
from overlay.memory.index import VectorIndex
from overlay.memory.lock import WriterLock
from overlay.memory.note import Kind, NewNote, Note, check_kind
from overlay.memory.recall import (
    CANDIDATES,
    LINK_HOPS,
    Recalled,
    RecallWeights,
    link_shares,
    match_expression,
    text_shares,
)
from overlay.memory.truth import Truth
from overlay.records import storage_errors

# Below so many notes recall scans all vectors instead of asking the index. A scan of 40,000 vectors
# takes 7.5 ms where Chroma takes 1.4 ms, or 30 ms with a filter: at 2,000 the scan costs a fraction
# of a millisecond, is exact, and doesn't depend on the index being whole.
EXACT_BELOW = 2_000

# A score that a note about something else reaches easily: such notes would only mislead.
MINIMUM_SCORE = 0.1

# Notes that are embedded and committed together in a bulk import.
_BULK = 256

Outcome = Literal["added", "superseded", "described", "merged", "unchanged"]


@dataclass(frozen=True)
class Written:
    """What became of a new note.

    `outcome`: it was "added"; an older text of this id was "superseded"; the text stood there and its
    title, tags or links were replaced ("described"); a new source was "merged" into a note with
    this text; or all of it was there ("unchanged").
    """

    note: Note
    outcome: Outcome


@dataclass(frozen=True)
class MemoryCheck:
    """How truth and index agree. Only notes that hold are indexed, so `indexed` may be below `notes`.

    `missing_in_index` holds note ids; `unknown_in_index` ids of notes that hold no longer, or
    "key:N" for a vector of no note.
    """

    notes: int
    vectors: int
    indexed: int
    missing_in_index: tuple[str, ...]
    unknown_in_index: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every note has its vector and the index holds what it should."""
        return self.notes == self.vectors and not self.missing_in_index and not self.unknown_in_index


class Memory:
    """External semantic memory in one folder; open it with `Memory.open`, best in a `with`.

    Usable from several threads. Every method that writes raises NoteError in a memory opened for
    reading only, and StorageFull when the disk is full; what was written before stays.
    """

    def __init__(
        self,
        folder: Path,
        truth: Truth,
        embedder: Embedder,
        lock: WriterLock | None,
        *,
        weights: RecallWeights,
        exact_below: int,
        minimum_score: float,
        clock: Callable[[], float],
    ) -> None:
        self.folder = folder
        self.truth = truth
        self.weights = weights
        self._embedder = embedder
        self._lock = lock
        self._index: VectorIndex | None = None
        self._exact_below = exact_below
        self._minimum_score = minimum_score
        self._clock = clock
        self._guard = threading.RLock()
        self._is_open = True

    @classmethod
    def open(
        cls,
        folder: Path,
        embedder: Embedder,
        *,
        read_only: bool = False,
        weights: RecallWeights | None = None,
        exact_below: int = EXACT_BELOW,
        minimum_score: float = MINIMUM_SCORE,
        clock: Callable[[], float] = time.time,
    ) -> Memory:
        """Open the memory in `folder`, or make one.

        For writing it takes the writer lock and mends the index if it is missing, damaged or behind.
        For reading only it takes no lock, never touches the index, and needs an existing memory.
        `clock` gives epoch seconds.

        Raises:
            HomeLocked: another process writes to this memory.
            NoteError: memory.db is damaged (and left as it is), or was made with another embedder.
            StorageFull: the disk is full.
        """
        memory = cls._open(
            folder,
            embedder,
            read_only=read_only,
            weights=weights or RecallWeights(),
            exact_below=exact_below,
            minimum_score=minimum_score,
            clock=clock,
        )
        try:
            memory._check_embedder()
            if not read_only:
                memory._mend_index()
        except BaseException:
            memory.close()
            raise
        return memory

    @classmethod
    def reembed(cls, folder: Path, embedder: Embedder) -> int:
        """Compute every vector again with `embedder` and build the index anew; the number of notes.

        The vectors change together in one transaction: if this is interrupted, the old ones stand.
        Raises as `open`, except that another embedder is what it is for.
        """
        if not (Path(folder) / "memory.db").exists():
            raise NoteError(f"there is no memory in {folder}", "name the folder that holds memory.db")
        memory = cls._open(
            folder,
            embedder,
            read_only=False,
            weights=RecallWeights(),
            exact_below=EXACT_BELOW,
            minimum_score=MINIMUM_SCORE,
            clock=time.time,
        )
        try:
            keys, texts = memory.truth.texts()
            parts = [memory._embed(texts[start : start + _BULK]) for start in range(0, len(texts), _BULK)]
            vectors = np.concatenate(parts) if parts else np.zeros((0, embedder.dimension), dtype=np.float32)
            with memory.truth.transaction():
                memory.truth.replace_vectors(keys, vectors)
                memory.truth.write_meta({**_identity(embedder), "rebuild": "yes"})
                memory.truth.write_journal(memory._clock(), "reembed", "")
            memory._mend_index()
            return len(keys)
        finally:
            memory.close()

    @classmethod
    def _open(cls, folder: Path, embedder: Embedder, *, read_only: bool, **settings: Any) -> Memory:
        folder = Path(folder)
        lock = None
        if not read_only:
            try:
                with storage_errors(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                lock = WriterLock(folder / "memory.lock")
            except OSError as error:
                raise NoteError(
                    f"the memory in {folder} can't be written: {error.strerror}",
                    "check the folder and its rights, or open the memory for reading only",
                ) from error
        try:
            truth = Truth(folder / "memory.db", read_only=read_only)
        except BaseException:
            if lock:
                lock.release()
            raise
        return cls(folder, truth, embedder, lock, **settings)

    def close(self) -> None:
        """Close all files and let the next writer in; a second call changes nothing."""
        with self._guard:
            if not self._is_open:
                return
            self._is_open = False
            try:
                if self._index:
                    self._index.close()
            finally:
                try:
                    self.truth.close()
                finally:
                    if self._lock:
                        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing ------------------------------------------------------------------------------

    def remember(
        self,
        text: str,
        *,
        kind: Kind,
        source: str,
        note_id: str | None = None,
        title: str | None = None,
        tags: Sequence[str] | None = None,
        links: Sequence[str] | None = None,
        event_at: float | None = None,
    ) -> Note:
        """Remember one text; it is safe on the disk when this returns. See `remember_many`.

        Raises:
            ArgumentError: as `NewNote`.
            NoteError, StorageFull: the write failed. If only the index failed, the message says so:
                then the note is safe, and the index catches up when the memory is opened again.
        """
        new = NewNote(
            text,
            kind,
            source,
            note_id=note_id,
            title=title,
            tags=None if tags is None else tuple(tags),
            links=None if links is None else tuple(links),
            event_at=event_at,
        )
        return self.remember_many([new])[0].note

    def remember_many(self, notes: Iterable[NewNote]) -> list[Written]:
        """Remember texts in order, embedded and committed in groups.

        - With an id that is free: added under it.
        - With the id of a note that holds and has this text: that note, its title, tags and links
          replaced by those given.
        - With the id of a note with another text: the old note is superseded, never deleted.
        - Without an id, and some note of this kind has exactly this text: merged into that note as a
          further source, with further tags and links.
        - Without an id otherwise: added under a chosen one.
        """
        written: list[Written] = []
        remaining = iter(notes)
        while group := list(itertools.islice(remaining, _BULK)):
            with self._guard:
                self._check_writable()
                # Embedding takes the longest, so it happens before the transaction begins.
                texts = list(dict.fromkeys(new.text for new in group if self._present(new) is None))
                vectors = dict(zip(texts, self._embed(texts), strict=True))
                with self.truth.transaction():
                    written.extend(self._write(new, vectors) for new in group)
                self._feed_index()
        return written

    def retire(self, note_id: str) -> Note:
        """A note holds no longer: it leaves recall, and stays for `as_of` and `get`.

        Raises:
            NoteError: there is no such note.
        """
        with self._guard:
            self._check_writable()
            key, note = self._found(note_id)
            if note.is_current:
                now = self._clock()
                with self.truth.transaction():
                    self.truth.retire(key, now)
                    self.truth.write_journal(now, "retire", note_id)
                self._feed_index()
            return self.get(note_id)

    def claim_vault_files(self, folder: str, files: Mapping[str, str]) -> None:
        """Write down which file of a vault each note id comes from; both relative, see `import_vault`."""
        with self._guard:
            self._check_writable()
            self.truth.write_vault_files(folder, files)

    def forget(self, *note_ids: str) -> int:
        """Purge notes for good, each with its older versions; the number of notes deleted.

        Text, vector, full-text words, links, sources and journal are overwritten on the disk, and
        the index is built anew, for Chroma keeps the bytes of deleted vectors, and texts can be
        guessed from vectors. So this takes time in proportion to the whole memory: forget many at once.

        Raises:
            NoteError: there is no such note (then none is forgotten), or another process still
                reads old pages (then the disk is wiped when the memory is opened again).
        """
        with self._guard:
            self._check_writable()
            for note_id in note_ids:
                self._found(note_id)
            with self.truth.transaction():
                deleted = sum(self.truth.delete(note_id, self._clock()) for note_id in note_ids)
                self.truth.write_meta({"scrub": "yes", "rebuild": "yes"})
            self._mend_index()
            return deleted

    def rebuild_index(self) -> None:
        """Build the index anew from the truth."""
        with self._guard:
            self._check_writable()
            if self._index:
                # It may be damaged, and then can't even be closed.
                with contextlib.suppress(NoteError):
                    self._index.close()
                self._index = None
            index = VectorIndex.create(self.folder / "index")
            self._index = index
            keys = self.truth.eligible(None, None, None)
            for start in range(0, len(keys), _BULK):
                self._put(keys[start : start + _BULK])
            self.truth.clear_index_queue()
            with self.truth.transaction():
                self.truth.write_meta({"rebuild": None})
            index.drop_other_builds()

    # -- reading ------------------------------------------------------------------------------

    def get(self, note_id: str) -> Note:
        """The note with this id, also if it holds no longer. Raises NoteError if there is none."""
        return self._found(note_id)[1]

    def __contains__(self, note_id: str) -> bool:
        return self.truth.find(note_id) is not None

    def sources(self, note_id: str) -> tuple[str, ...]:
        """Every place a note came from, oldest first. Raises NoteError if there is no such note."""
        self._found(note_id)
        return self.truth.sources(note_id)

    def count(self) -> int:
        """How many notes hold now."""
        return self.truth.count(current=True)

    def notes(self) -> Iterator[Note]:
        """Every note, oldest first, also those that no longer hold."""
        return self.truth.notes()

    def journal(self) -> list[tuple[float, str, str]]:
        """(epoch seconds, action, note id) of every write, oldest first; it holds no text."""
        return self.truth.journal()

    def recall(
        self, query: str, count: int = 4, *, kinds: Sequence[str] | None = None, as_of: float | None = None
    ) -> list[Recalled]:
        """The notes that matter most for `query`, best first, each with the terms of its score.

        `kinds` keeps only notes of these kinds. `as_of` (epoch seconds) asks what held then, by
        default now. At most `count` notes; none whose score is below the floor. Nothing a person
        may type raises; a query without words or signs recalls nothing.

        Raises:
            ArgumentError: `count` is below 1, a kind is unknown, or the time isn't finite.
        """
        if count < 1:
            raise ArgumentError(f"can't recall {count} notes", "ask for at least one")
        if as_of is not None and not math.isfinite(as_of):
            raise ArgumentError(f"as_of is {as_of}, not a time", "give epoch seconds")
        for kind in kinds or ():
            check_kind(kind)
        query = query.encode("utf-8", "replace").decode("utf-8")
        if not query.strip() or (kinds is not None and not kinds):
            return []
        with self._guard:
            size = self.truth.count(current=as_of is None)
            if not size:
                return []
            vector = self._embed([query])[0]
            limit = max(CANDIDATES, count)
            text = text_shares(self.truth.text_hits(match_expression(query), limit, kinds, as_of), size)
            near = self._nearest(vector, limit, kinds, as_of, size)
            cosines = self._cosines(vector, {*text, *near})
            # Only what a link can add to is looked for: a hit without links has no link term.
            seeds = {key: (text.get(key, 0.0) + max(cosines[key], 0.0)) / 2 for key in cosines}
            links = link_shares(self.truth.links_around(seeds, LINK_HOPS, as_of), seeds)
            linked = self.truth.eligible(links.keys() - cosines.keys(), kinds, as_of)
            cosines |= self._cosines(vector, linked)
            scored = []
            for key in cosines:
                terms = {"text": text.get(key, 0.0), "vector": cosines[key], "links": links.get(key, 0.0)}
                score = self.weights.score(terms)
                if score >= self._minimum_score:
                    scored.append((score, key, terms))
            scored.sort(key=lambda item: (-item[0], item[1]))
            notes = self.truth.notes_of(key for _, key, _ in scored[:count])
            return [Recalled(notes[key], score, terms) for score, key, terms in scored[:count]]

    def check(self) -> MemoryCheck:
        """Compare truth and index, entry by entry.

        Raises:
            NoteError: memory.db is damaged inside, or this memory is open for reading only, which
                never touches the index.
        """
        with self._guard:
            self._check_writable()
            assert self._index is not None
            self.truth.quick_check()
            current, indexed = set(self.truth.eligible(None, None, None)), self._index.keys()
            stray = self.truth.notes_of(indexed - current)
            return MemoryCheck(
                notes=self.truth.count(),
                vectors=self.truth.count_vectors(),
                indexed=len(indexed),
                missing_in_index=tuple(sorted(note.id for note in self.truth.notes_of(current - indexed).values())),
                unknown_in_index=tuple(
                    sorted(stray[key].id if key in stray else f"key:{key}" for key in indexed - current)
                ),
            )

    # -- inside -------------------------------------------------------------------------------

    def _write(self, new: NewNote, vectors: dict[str, NDArray[np.float32]]) -> Written:
        now = self._clock()
        present = self._present(new)
        if present is not None:
            return self._add_to(present, new, now)
        event_at = now if new.event_at is None else new.event_at
        outcome: Outcome = "added"
        if new.note_id is not None and (old := self.truth.find(new.note_id)) is not None:
            self.truth.supersede(old[0], new.note_id, event_at)
            outcome = "superseded" if old[1].is_current else "added"
        note = Note(
            id=self.truth.free_id() if new.note_id is None else new.note_id,
            text=new.text,
            kind=new.kind,
            source=new.source,
            title=new.title or "",
            tags=tuple(dict.fromkeys(new.tags or ())),
            links=tuple(dict.fromkeys(new.links or ())),
            written_at=now,
            event_at=event_at,
            valid_from=event_at,
        )
        # A text that was there when the group began may have been superseded within it.
        vector = vectors[new.text] if new.text in vectors else self._embed([new.text])[0]
        self.truth.insert(note, vector)
        self.truth.write_journal(now, outcome, note.id)
        return Written(note, outcome)

    def _add_to(self, present: tuple[int, Note], new: NewNote, now: float) -> Written:
        """The text is there already: what else comes with it is written to the note that has it."""
        key, note = present
        title = note.title if new.title is None else new.title
        tags = note.tags if new.tags is None else tuple(dict.fromkeys(new.tags))
        links = note.links if new.links is None else tuple(dict.fromkeys(new.links))
        outcome: Outcome = "described"
        if new.note_id is None:
            # Another source must not take away what the first one said.
            title = note.title or title
            tags = tuple(dict.fromkeys((*note.tags, *tags)))
            links = tuple(dict.fromkeys((*note.links, *links)))
            outcome = "merged"
        is_described = (title, tags, links) != (note.title, note.tags, note.links)
        if is_described:
            self.truth.describe(key, title, tags, links)
        if not (self.truth.add_source(key, new.source, now) or is_described):
            return Written(note, "unchanged")
        if not is_described:
            outcome = "merged"
        self.truth.write_journal(now, outcome, note.id)
        return Written(dataclasses.replace(note, title=title, tags=tags, links=links), outcome)

    def _present(self, new: NewNote) -> tuple[int, Note] | None:
        """The note that holds and already says this, if any."""
        if new.note_id is None:
            return self.truth.find_same(new.text, new.kind)
        found = self.truth.find(new.note_id)
        return found if found and found[1].is_current and found[1].text == new.text else None

    def _found(self, note_id: str) -> tuple[int, Note]:
        found = self.truth.find(note_id)
        if found is None:
            raise NoteError(f"there is no note '{note_id}'", "list the notes to see their ids")
        return found

    def _nearest(
        self,
        vector: NDArray[np.float32],
        limit: int,
        kinds: Sequence[str] | None,
        as_of: float | None,
        size: int,
    ) -> list[int]:
        # The index holds only what holds now, and may be behind if an earlier write to it failed.
        if self._index is None or as_of is not None or size < self._exact_below or self.truth.index_queue():
            return self.truth.nearest(vector, limit, kinds, as_of)
        keys = self._index.nearest(vector, limit, kinds)
        if len(keys) < limit and len(keys) < len(self.truth.eligible(None, kinds, None)):
            # Chroma answers with less, and no error, when files of its index are gone.
            return self.truth.nearest(vector, limit, kinds, as_of)
        return self.truth.eligible(keys, kinds, as_of)

    def _cosines(self, vector: NDArray[np.float32], keys: Iterable[int]) -> dict[int, float]:
        return {key: float(other @ vector) for key, other in self.truth.vectors_of(keys).items()}

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        dimension = self._embedder.dimension
        if not texts:
            return np.zeros((0, dimension), dtype=np.float32)
        vectors = np.asarray(self._embedder.embed(texts), dtype=np.float32)
        if vectors.shape != (len(texts), dimension):
            raise NoteError(
                f"the embedder {self._embedder.name} gave vectors of shape {vectors.shape}, "
                f"not ({len(texts)}, {dimension})",
                "use an embedder whose stated dimension is that of its vectors",
            )
        return vectors

    def _check_writable(self) -> None:
        if self._lock is None:
            raise NoteError(f"the memory in {self.folder} is open for reading only", "open it for writing")

    def _check_embedder(self) -> None:
        """The vectors must be this embedder's; a new memory becomes so."""
        given = _identity(self._embedder)
        stored = {name: self.truth.meta(name) for name in given}
        if stored["embedder_digest"] is None and self._lock is not None:
            with self.truth.transaction():
                self.truth.write_meta(given)
        elif stored != given:
            raise NoteError(
                f"the memory in {self.folder} was made with the embedder {_phrase(stored)}, not with {_phrase(given)}",
                "run `overlay memory reembed` to compute its vectors again, or choose the embedder it was made with",
            )

    def _mend_index(self) -> None:
        """Open the index or build it anew, and finish what an interrupted write left undone."""
        if self.truth.meta("rebuild") is not None or not self._open_index():
            self.rebuild_index()
        if self.truth.meta("scrub") is not None:
            self.truth.scrub()
            with self.truth.transaction():
                self.truth.write_meta({"scrub": None})

    def _open_index(self) -> bool:
        """Open the index and bring it up to date; False if it is missing or damaged in any way."""
        try:
            self._index = VectorIndex.open(self.folder / "index")
            self._feed_index()
            return self._index_answers(self._index)
        except NoteError:
            # A derived thing isn't worth a diagnosis: it is built again from what it derives from.
            return False

    def _index_answers(self, index: VectorIndex) -> bool:
        """Whether the index has the right size and finds what is in it, as it doesn't when files of it are gone."""
        keys = self.truth.eligible(None, None, None)
        if index.count() != len(keys):
            return False
        if not keys:
            return True
        probe = self.truth.vectors_of(keys[:1])[keys[0]]
        wanted = min(CANDIDATES, len(keys))
        return len(index.nearest(probe, wanted)) == wanted

    def _feed_index(self) -> None:
        """Bring the index up to the truth; what fails here stays queued."""
        if self._index is None:
            return
        while queue := self.truth.index_queue()[:_BULK]:
            current = set(self.truth.eligible(queue, None, None))
            self._index.remove([key for key in queue if key not in current])
            self._put(sorted(current))
            self.truth.clear_index_queue(queue)

    def _put(self, keys: Sequence[int]) -> None:
        assert self._index is not None
        if keys:
            vectors, notes = self.truth.vectors_of(keys), self.truth.notes_of(keys)
            self._index.put(keys, np.stack([vectors[key] for key in keys]), [notes[key].kind for key in keys])


def _identity(embedder: Embedder) -> dict[str, str]:
    return {
        "embedder_name": embedder.name,
        "embedder_digest": embedder.digest,
        "embedder_dimension": str(embedder.dimension),
    }


def _phrase(identity: dict[str, Any]) -> str:
    return (
        f"{identity['embedder_name']} "
        f"({identity['embedder_dimension']} wide, hash {str(identity['embedder_digest'])[:12]})"
    )
