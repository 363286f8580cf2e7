"""The memory: notes in, recalled notes out, over one truth and one index."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError, NoteError
from overlay.memory import fold_tables
from overlay.memory.duplicates import is_echo
from overlay.memory.embedder import Embedder
from overlay.memory.index import EmbeddedPlace, IndexPlace, ServerPlace, VectorIndex
from overlay.memory.lock import WriterLock
from overlay.memory.mention_links import MentionLinks
from overlay.memory.note import Filters, Kind, NewNote, Note, Outcome, Written
from overlay.memory.passages import Passage, passages
from overlay.memory.recall import CANDIDATES
from overlay.memory.recalled import Recalled
from overlay.memory.search import Search
from overlay.memory.settings import MemorySettings
from overlay.memory.snapshot import Snapshot
from overlay.memory.truth import Scope, Truth, embedded_text
from overlay.progress import Progress, SilentProgress
from overlay.records import storage_errors

# Notes that are embedded and committed together in a bulk import. Texts of like length share a forward
# pass, so larger groups waste less; what is lost when a machine stops in the middle is one group.
_BULK = 512

# Vectors that go to the index in one step.
_FEED = 2_048

_DEFAULT_IMPORTANCE = 0.5

# What the index holds: notes whose validity hasn't ended, also those that have expired since the last sweep.
_STANDING = Scope(float("-inf"))


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


@dataclass(frozen=True)
class _Pieces:
    """The passages of a text that is about to be written, and their vectors, shape (passages, dimension)."""

    passages: Sequence[Passage]
    vectors: NDArray[np.float32]


class Memory:
    """External semantic memory in one folder; open it with `Memory.open`, best in a `with`.

    Usable from several threads: one writes at a time, and reading goes on meanwhile. Every method that
    writes raises NoteError in a memory opened for reading only, and StorageFull when the disk is full;
    what was written before stays.
    """

    def __init__(
        self,
        folder: Path,
        truth: Truth,
        embedder: Embedder,
        lock: WriterLock | None,
        settings: MemorySettings,
        clock: Callable[[], float],
    ) -> None:
        self.folder = folder
        self.truth = truth
        self.settings = settings
        self._embedder = embedder
        self._lock = lock
        self._index: VectorIndex | None = None
        self._clock = clock
        self._guard = threading.RLock()
        self._mentions = MentionLinks(truth)
        self._search = Search(truth, settings, self._present_index)
        self._is_open = True

    @classmethod
    def open(
        cls,
        folder: Path,
        embedder: Embedder,
        *,
        read_only: bool = False,
        settings: MemorySettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Memory:
        """Open the memory in `folder`, or make one.

        For writing it takes the writer lock, mends the index if it is missing, damaged or behind, and
        ends the validity of notes whose time is over. For reading only it takes no lock, never
        touches the index, and needs an existing memory. `clock` gives epoch seconds.

        Raises:
            HomeLocked: another process writes to this memory.
            NoteError: memory.db is damaged (and left as it is), was made with another embedder, or
                can't be written; or the server of the index can't be reached.
            StorageFull: the disk is full.
        """
        memory = cls._open(Path(folder), embedder, read_only, settings or MemorySettings(), clock)
        try:
            memory._check_embedder()
            if not read_only:
                memory._mend_index()
                memory.sweep_expired()
        except BaseException:
            memory.close()
            raise
        return memory

    @classmethod
    def reembed(
        cls,
        folder: Path,
        embedder: Embedder,
        *,
        settings: MemorySettings | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Compute every vector again with `embedder` and build the index anew; the number of passages.

        The new vectors are kept aside in groups, and take the place of the old ones together when all
        are there. Until then the memory opens with its former embedder as before; interrupted and
        started again, this goes on where it was. Raises as `open`, except that another embedder is
        what it is for.
        """
        folder = Path(folder)
        if not (folder / "memory.db").exists():
            raise NoteError(f"there is no memory in {folder}", "name the folder that holds memory.db")
        memory = cls._open(folder, embedder, False, settings or MemorySettings(), time.time)
        try:
            return memory._embed_again(progress or SilentProgress())
        finally:
            memory.close()

    @classmethod
    def _open(
        cls,
        folder: Path,
        embedder: Embedder,
        read_only: bool,
        settings: MemorySettings,
        clock: Callable[[], float],
    ) -> Memory:
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
        return cls(folder, truth, embedder, lock, settings, clock)

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
        importance: float | None = None,
        pinned: bool | None = None,
        expires_at: float | None = None,
        namespace: str = "",
        stream: str = "",
        place: int | None = None,
        state: Mapping[str, float] | None = None,
        echoes: Sequence[str] = (),
        height: int = 0,
    ) -> Written:
        """Remember one text; it is safe on the disk when this returns. See `remember_many` and `NewNote`.

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
            importance=importance,
            pinned=pinned,
            expires_at=expires_at,
            namespace=namespace,
            stream=stream,
            place=place,
            state=dict(state or {}),
            echoes=tuple(echoes),
            height=height,
        )
        return self.remember_many([new])[0]

    def remember_many(self, notes: Iterable[NewNote], *, progress: Progress | None = None) -> list[Written]:
        """Remember texts in order, embedded and committed in groups.

        - With an id that is free: added under it.
        - With the id of a note that holds and has this text: that note, what is given of its title,
          tags, links, importance, pin and expiry replaced.
        - With the id of a note with another text: the old note is superseded, never deleted; what
          isn't given is as it was.
        - Without an id, and some note of this kind and namespace says the same but for case, space and
          punctuation: merged into that note as a further source, with further tags and links.
        - Without an id otherwise: added under a chosen one.
        - A text that only repeats the notes named in `echoes` is not stored.

        Raises:
            NoteError: an id belongs to a note of another namespace, and as `remember`.
        """
        written: list[Written] = []
        total = len(notes) if isinstance(notes, Sequence) else None
        remaining = iter(notes)
        while group := list(itertools.islice(remaining, _BULK)):
            if progress is not None:
                progress.step("remembering notes", len(written), total)
            with self._guard:
                self._check_writable()
                # Embedding takes the longest, so it happens before the transaction begins.
                prepared = self._prepare(group)
                try:
                    with self.truth.transaction():
                        written.extend([self._write(new, prepared) for new in group])
                except BaseException:
                    self._mentions.reset()
                    raise
                self._feed_index()
        if progress is not None and written:
            progress.step("remembering notes", len(written), total)
        return written

    def supersede(self, note_id: str, text: str, *, source: str, event_at: float | None = None) -> Note:
        """Put a newer text in a note's place; the older one holds no longer, points to it, and is kept.

        Raises:
            NoteError: there is no such note, or it holds no longer. ArgumentError: as `NewNote`.
        """
        with self._guard:
            note = self._found(note_id)[1]
            if not note.is_current:
                raise NoteError(
                    f"the note '{note_id}' holds no longer",
                    f"supersede '{note.superseded_by}'" if note.superseded_by else "add the text as a new note",
                )
            new = NewNote(text, note.kind, source, note_id=note_id, event_at=event_at, namespace=note.namespace)
            return self.remember_many([replace(new, height=note.height)])[0].note

    def retire(self, note_id: str) -> Note:
        """A note holds no longer: it leaves recall, and stays for `as_of` and `get`.

        Raises:
            NoteError: there is no such note.
        """
        with self._guard:
            self._check_writable()
            key, note = self._found(note_id)
            if note.is_current:
                self._close([(key, note_id, self._clock())], "retire")
            return self.get(note_id)

    def sweep_expired(self) -> int:
        """End the validity of notes whose time is over; how many there were."""
        with self._guard:
            self._check_writable()
            expired = self.truth.expired(self._clock())
            if expired:
                self._close(expired, "expire")
            return len(expired)

    def pin(self, note_id: str, pinned: bool = True) -> Note:
        """Pin a note, or take the pin out: a pinned one never expires and isn't dimmed by age.

        Raises:
            NoteError: there is no such note.
        """
        with self._guard:
            self._check_writable()
            key, note = self._found(note_id)
            if note.pinned != pinned:
                with self.truth.transaction():
                    self.truth.pin(key, pinned)
                    self.truth.write_journal(self._clock(), "pin" if pinned else "unpin", note_id)
            return self.get(note_id)

    def forget(self, *note_ids: str) -> int:
        """Purge notes for good, each with its older versions; the number of notes deleted.

        Text, vectors, words, links either way, sources, journal, and every fold above them (which is
        made anew by the next fold) are overwritten on the disk, and the index is built anew, for
        Chroma keeps the bytes of deleted vectors, and texts can be guessed from vectors. So this
        takes time in proportion to the whole memory: forget many at once.

        Raises:
            NoteError: there is no such note (then none is forgotten), or another process still
                reads old pages (then the disk is wiped when the memory is opened again).
        """
        with self._guard:
            self._check_writable()
            if not note_ids:
                return 0
            for note_id in note_ids:
                self._found(note_id)
            with self.truth.transaction():
                keys = [key for note_id in note_ids for key in self.truth.versions(note_id)]
                folds = fold_tables.purge(self.truth, keys)
                deleted = sum(self.truth.delete(note_id) for note_id in note_ids)
                for fold in folds:
                    self.truth.delete(fold)
                self.truth.fill_text_anew()
                self.truth.write_journal(self._clock(), "forget", "(forgotten)")
                self.truth.write_meta({"scrub": "yes", "rebuild": "yes"})
            self._mentions.reset()
            self._mend_index()
            return deleted

    def rebuild_index(self, *, progress: Progress | None = None) -> None:
        """Build the index anew from the truth."""
        with self._guard:
            self._check_writable()
            if self._index:
                # It may be damaged, and then can't even be closed.
                with contextlib.suppress(NoteError):
                    self._index.close()
                self._index = None
            place = self._index_place()
            index = place.create()
            keys = self.truth.passages_in(_STANDING)
            for start in range(0, len(keys), _FEED):
                if progress is not None:
                    progress.step("building the index", start, len(keys))
                self._put(index, keys[start : start + _FEED])
            with self.truth.transaction():
                self.truth.clear_index_queue()
                self.truth.write_meta({"rebuild": None})
            self._index = index
            place.drop_other_builds(index)

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
        return self.truth.count(self._now())

    def notes(self) -> Iterator[Note]:
        """Every note, oldest first, also those that no longer hold."""
        return self.truth.notes()

    def journal(self) -> list[tuple[float, str, str]]:
        """(epoch seconds, action, note id) of every write, oldest first; it holds no text."""
        return self.truth.journal()

    def snapshot(self) -> Snapshot:
        """A view of the memory as it is now, for somebody who reads on while it is written to."""
        return Snapshot(self, self.truth.sequence(), self._clock())

    def recall(
        self,
        query: str,
        count: int = 4,
        *,
        filters: Filters | None = None,
        state: Mapping[str, float] | None = None,
        tag_boosts: Mapping[str, float] | None = None,
    ) -> list[Recalled]:
        """The notes that matter most for `query`, best first, each with the terms of its score.

        At most `count` notes; none whose score is below the floor. Nothing a person may type raises;
        a query without words or signs recalls nothing.

        Args:
            filters: which notes may be recalled; by default all that hold now.
            state: the present state by axis: notes written in a like state rise.
            tag_boosts: how welcome notes with a tag are, in [-1, 1].

        Raises:
            ArgumentError: `count` is below 1.
        """
        return self.recall_in(self._now(filters), query, count, state=state, tag_boosts=tag_boosts)

    def recall_in(
        self,
        scope: Scope,
        query: str,
        count: int,
        *,
        state: Mapping[str, float] | None = None,
        tag_boosts: Mapping[str, float] | None = None,
    ) -> list[Recalled]:
        """As `recall`, over the notes of a scope."""
        if count < 1:
            raise ArgumentError(f"can't recall {count} notes", "ask for at least one")
        query = query.encode("utf-8", "replace").decode("utf-8")
        if not query.strip() or scope.filters.lets_nothing_through or not self.truth.count_passages():
            return []
        vector = np.asarray(self._embedder.embed_query(query), dtype=np.float32)
        self._check_shape(vector.reshape(1, -1), 1)
        if self._lock is None:
            # Its vectors may have been exchanged for another embedder's since it was opened.
            self._check_embedder()
        return self._search.recall(query, vector, count, scope, state, tag_boosts)

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
            current, indexed = set(self.truth.passages_in(_STANDING)), self._index.keys()
            bare, blind, mute = self.truth.passages_without()
            ids = self.truth.ids_of_passages([*(current ^ indexed), *blind, *mute])
            without = {key: note.id for key, note in self.truth.notes_of(bare).items()}
            return MemoryCheck(
                notes=self.truth.count(),
                passages=self.truth.count_passages(),
                vectors=self.truth.count_passages() - len(blind),
                indexed=len(indexed),
                missing_in_index=_ids(current - indexed, ids),
                unknown_in_index=_ids(indexed - current, ids),
                without_text=tuple(sorted({*_ids(mute, ids), *without.values()})),
                without_vector=tuple(sorted({*_ids(blind, ids), *without.values()})),
                strange_words=self.truth.words_of_nothing(),
                broken_folds=tuple(self.truth.broken_folds()),
            )

    # -- inside: writing ----------------------------------------------------------------------

    def _prepare(self, group: Sequence[NewNote]) -> dict[tuple[str, str], _Pieces]:
        """Passages and vectors, by title and text, of what of a group will probably be written."""
        wanted: dict[tuple[str, str], None] = {}
        for new in group:
            present = self._present(new)
            if present is None:
                wanted[self._title_of(new), new.text] = None
            elif (title := self._described(present[1], new).title) != present[1].title:
                wanted[title, present[1].text] = None
        return self._embed_notes(list(wanted))

    def _embed_notes(self, texts: Sequence[tuple[str, str]]) -> dict[tuple[str, str], _Pieces]:
        pieces = [passages(text, self.settings.passage_words, self.settings.passage_overlap) for _, text in texts]
        to_embed = [
            embedded_text(title, piece.text, piece.position)
            for (title, _), parts in zip(texts, pieces, strict=True)
            for piece in parts
        ]
        vectors = self._embed(to_embed)
        found: dict[tuple[str, str], _Pieces] = {}
        start = 0
        for name, parts in zip(texts, pieces, strict=True):
            found[name] = _Pieces(parts, vectors[start : start + len(parts)])
            start += len(parts)
        return found

    def _write(self, new: NewNote, prepared: Mapping[tuple[str, str], _Pieces]) -> Written:
        now = self._clock()
        repeated = self._repeated(new)
        if repeated is not None:
            self.truth.write_journal(now, "echoed", repeated.id)
            return Written(repeated, "echoed")
        present = self._present(new)
        if present is not None:
            return self._add_to(present, new, now, prepared)
        old = None if new.note_id is None else self.truth.find(new.note_id)
        note = self._new_note(new, old[1] if old else None, now)
        outcome: Outcome = "superseded" if old and old[1].is_current else "added"
        sequence = self.truth.write_journal(now, outcome, note.id)
        if old is not None:
            fold_tables.mark_stale(self.truth, [old[0]])
            self.truth.supersede(old[0], note.id, note.event_at, sequence)
        name = note.title, note.text
        # A text that was there when the group began may have been superseded within it.
        pieces = prepared[name] if name in prepared else self._embed_notes([name])[name]
        key = self.truth.insert(note, sequence, pieces.passages, list(pieces.vectors))
        if note.kind != "fold":
            self._mentions.link(key, note.text, note.title, note.namespace, is_new_text=True)
        return Written(note, outcome)

    def _new_note(self, new: NewNote, old: Note | None, now: float) -> Note:
        """The note to write: what isn't given is as it was in the one whose id it takes."""
        if old is not None and old.namespace != new.namespace:
            raise NoteError(
                f"the note '{old.id}' belongs to the namespace '{old.namespace}', not to '{new.namespace}'",
                "give the new note another id",
            )
        event_at = now if new.event_at is None else new.event_at
        stream = new.stream or (old.stream if old else "")
        place = new.place
        if place is None:
            is_same = old is not None and old.stream == stream
            place = old.place if old is not None and is_same else self.truth.next_place(new.namespace, stream)
        return Note(
            id=self.truth.free_id() if new.note_id is None else new.note_id,
            text=new.text,
            kind=new.kind,
            source=new.source,
            title=_given(new.title, old and old.title, ""),
            tags=tuple(dict.fromkeys(_given(new.tags, old and old.tags, ()))),
            links=tuple(dict.fromkeys(_given(new.links, old and old.links, ()))),
            written_at=now,
            event_at=event_at,
            valid_from=event_at,
            importance=_given(new.importance, old and old.importance, _DEFAULT_IMPORTANCE),
            pinned=_given(new.pinned, old and old.pinned, False),
            expires_at=_given(new.expires_at, old and old.expires_at, None),
            namespace=new.namespace,
            stream=stream,
            place=place,
            state=dict(new.state),
            height=new.height,
        )

    def _add_to(
        self, present: tuple[int, Note], new: NewNote, now: float, prepared: Mapping[tuple[str, str], _Pieces]
    ) -> Written:
        """The text is there already: what else comes with it is written to the note that has it."""
        key, note = present
        described = self._described(note, new)
        outcome: Outcome = "merged" if new.note_id is None else "described"
        is_described = described != note
        if is_described:
            pieces = None
            if described.title != note.title:
                name = described.title, note.text
                found = prepared.get(name) or self._embed_notes([name])[name]
                pieces = list(zip(found.passages, found.vectors, strict=True))
            self.truth.describe(key, described, pieces)
            if pieces is not None and note.kind != "fold":
                self.truth.unlink_mentions(note.id)
                self._mentions.link(key, note.text, described.title, note.namespace, is_new_text=False)
            fold_tables.mark_stale(self.truth, [key])
        if not (self.truth.add_source(key, new.source, now) or is_described):
            return Written(note, "unchanged")
        if not is_described:
            outcome = "merged"
        self.truth.write_journal(now, outcome, note.id)
        return Written(described, outcome)

    @staticmethod
    def _described(note: Note, new: NewNote) -> Note:
        """The note with what comes with another writing of its text."""
        if new.note_id is None:
            # Another source must not take away what the first one said.
            return replace(
                note,
                title=note.title or new.title or "",
                tags=tuple(dict.fromkeys((*note.tags, *(new.tags or ())))),
                links=tuple(dict.fromkeys((*note.links, *(new.links or ())))),
                importance=max(note.importance, _given(new.importance, note.importance, 0.0)),
                pinned=note.pinned or bool(new.pinned),
                expires_at=_later(note.expires_at, new.expires_at),
            )
        return replace(
            note,
            title=_given(new.title, note.title, ""),
            tags=tuple(dict.fromkeys(_given(new.tags, note.tags, ()))),
            links=tuple(dict.fromkeys(_given(new.links, note.links, ()))),
            importance=_given(new.importance, note.importance, 0.0),
            pinned=_given(new.pinned, note.pinned, False),
            expires_at=_given(new.expires_at, note.expires_at, None),
        )

    def _title_of(self, new: NewNote) -> str:
        if new.title is not None or new.note_id is None:
            return new.title or ""
        old = self.truth.find(new.note_id)
        return old[1].title if old else ""

    def _present(self, new: NewNote) -> tuple[int, Note] | None:
        """The note that holds and already says this, if any."""
        if new.note_id is None:
            return self.truth.find_same(new.text, new.kind, new.namespace, self._clock())
        found = self.truth.find(new.note_id)
        is_same = found and found[1].is_current and found[1].text == new.text and found[1].namespace == new.namespace
        return found if is_same else None

    def _repeated(self, new: NewNote) -> Note | None:
        """The first of the notes named in `echoes` that the text only repeats, if it repeats nothing else."""
        known = [found[1] for note_id in new.echoes if (found := self.truth.find(note_id)) is not None]
        if not known or not is_echo(new.text, [note.text for note in known]):
            return None
        return next((note for note in known if is_echo(new.text, [note.text])), known[0])

    def _close(self, notes: Sequence[tuple[int, str, float]], action: str) -> None:
        """End the validity of notes, given as (key, id, epoch seconds)."""
        with self.truth.transaction():
            now = self._clock()
            for key, note_id, at in notes:
                sequence = self.truth.write_journal(now, action, note_id)
                self.truth.close_note(key, at, sequence)
            fold_tables.mark_stale(self.truth, [key for key, _, _ in notes])
        self._feed_index()

    # -- inside: embedding --------------------------------------------------------------------

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self._embedder.dimension), dtype=np.float32)
        vectors = np.asarray(self._embedder.embed(texts), dtype=np.float32)
        self._check_shape(vectors, len(texts))
        return vectors

    def _check_shape(self, vectors: NDArray[np.float32], rows: int) -> None:
        dimension = self._embedder.dimension
        if vectors.shape != (rows, dimension) or not np.isfinite(vectors).all():
            problem = "that aren't finite" if vectors.shape == (rows, dimension) else f"of shape {vectors.shape}"
            raise NoteError(
                f"the embedder {self._embedder.name} gave vectors {problem}, not ({rows}, {dimension})",
                "use an embedder whose stated dimension is that of its vectors",
            )

    def _embed_again(self, progress: Progress) -> int:
        given = {f"next_{name}": value for name, value in _identity(self._embedder).items()}
        if {name: self.truth.meta(name) for name in given} != given:
            with self.truth.transaction():
                self.truth.drop_next_vectors()
                self.truth.write_meta(given)
        total = self.truth.count_passages()
        done = self.truth.count_next_vectors()
        while group := self.truth.texts_to_embed(_BULK):
            progress.step("embedding again", done, total)
            vectors = self._embed([text for _, text in group])
            with self.truth.transaction():
                self.truth.write_next_vectors([passage for passage, _ in group], vectors)
            done += len(group)
        with self.truth.transaction():
            self.truth.take_next_vectors()
            self.truth.write_meta({**_identity(self._embedder), **dict.fromkeys(given), "rebuild": "yes"})
            self.truth.write_journal(self._clock(), "reembed", "")
        progress.step("building the index", None, None)
        self._mend_index()
        return total

    def _check_embedder(self) -> None:
        """The vectors must be this embedder's; a new memory becomes so."""
        given = _identity(self._embedder)
        stored = {name: self.truth.meta(name) for name in given}
        if stored["embedder_digest"] is None and self._lock is not None:
            with self.truth.transaction():
                self.truth.write_meta(given)
        # Another name for the same weights changes no vector.
        elif any(stored[name] != given[name] for name in ("embedder_digest", "embedder_dimension")):
            raise NoteError(
                f"the memory in {self.folder} was made with the embedder {_phrase(stored)}, not with {_phrase(given)}",
                "run `overlay memory reembed` to compute its vectors again, or choose the embedder it was made with",
            )

    # -- inside: the index --------------------------------------------------------------------

    def _index_place(self) -> IndexPlace:
        if self.settings.index == "embedded":
            return EmbeddedPlace(self.folder / "index")
        return ServerPlace(self.settings.index, self.truth.memory_id(self.folder))

    def _present_index(self) -> VectorIndex | None:
        """The index, if it has seen all that was written."""
        return None if self._index is None or self.truth.index_queue(1) else self._index

    def _mend_index(self) -> None:
        """Open the index or build it anew, and finish what an interrupted write left undone."""
        if isinstance(place := self._index_place(), ServerPlace):
            place.check()
        if self.truth.meta("rebuild") is not None or not self._open_index():
            self.rebuild_index()
        if self.truth.meta("scrub") is not None:
            self.truth.scrub()
            with self.truth.transaction():
                self.truth.write_meta({"scrub": None})

    def _open_index(self) -> bool:
        """Open the index and bring it up to date; False if it is missing or damaged in any way."""
        try:
            self._index = self._index_place().open()
            self._feed_index()
            return self._index_answers(self._index)
        except NoteError:
            # A derived thing isn't worth a diagnosis: it is built again from what it derives from.
            return False

    def _index_answers(self, index: VectorIndex) -> bool:
        """Whether the index has the right size and finds what is in it, as it doesn't when files of it are gone."""
        keys = self.truth.passages_in(_STANDING)
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
        while queue := self.truth.index_queue(_FEED):
            current = self.truth.notes_of_passages(queue, _STANDING)
            if gone := [passage for passage in queue if passage not in current]:
                self._index.remove(gone)
            self._put(self._index, sorted(current))
            self.truth.index_has_seen(queue)

    def _put(self, index: VectorIndex, passages: Sequence[int]) -> None:
        vectors = self.truth.vectors_of(passages)
        if vectors:
            index.put(list(vectors), np.stack(list(vectors.values())))

    # -- inside: the rest ---------------------------------------------------------------------

    def _now(self, filters: Filters | None = None) -> Scope:
        return Scope(self._clock(), filters or Filters())

    def _found(self, note_id: str) -> tuple[int, Note]:
        found = self.truth.find(note_id)
        if found is None:
            raise NoteError(f"there is no note '{note_id}'", "list the notes to see their ids")
        return found

    def _check_writable(self) -> None:
        if self._lock is None:
            raise NoteError(f"the memory in {self.folder} is open for reading only", "open it for writing")


def _given(new: Any, old: Any, default: Any) -> Any:
    """What is given, else what was, else the default."""
    return new if new is not None else old if old is not None else default


def _later(one: float | None, other: float | None) -> float | None:
    """The later end of two; None is no end."""
    return None if one is None or other is None else max(one, other)


def _ids(passages: Iterable[int], ids: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(sorted({ids.get(key, f"key:{key}") for key in passages}))


def _identity(embedder: Embedder) -> dict[str, str]:
    return {
        "embedder_name": embedder.name,
        "embedder_digest": embedder.digest,
        "embedder_dimension": str(embedder.dimension),
    }


def _phrase(identity: Mapping[str, str | None]) -> str:
    return (
        f"{identity['embedder_name']} "
        f"({identity['embedder_dimension']} wide, hash {str(identity['embedder_digest'])[:12]})"
    )
