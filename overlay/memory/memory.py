"""The memory: notes in, recalled notes out, over one truth and one index."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from overlay.errors import ArgumentError, NoteError
from overlay.memory import fold_tables
from overlay.memory.embedder import Embedder
from overlay.memory.index_keeper import IndexKeeper
from overlay.memory.lock import WriterLock
from overlay.memory.memory_check import MemoryCheck, compare
from overlay.memory.note import Filters, Kind, NewNote, Note, Written
from overlay.memory.note_writing import NoteWriting
from overlay.memory.passage_embedding import GROUP, PassageEmbedding
from overlay.memory.recalled import Recalled
from overlay.memory.scope import Scope
from overlay.memory.search import Search
from overlay.memory.settings import MemorySettings
from overlay.memory.snapshot import Snapshot
from overlay.memory.truth import Truth
from overlay.progress import Progress, SilentProgress
from overlay.records import storage_errors


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
        self._lock = lock
        self._clock = clock
        self._guard = threading.RLock()
        self._embedding = PassageEmbedding(truth, embedder, settings)
        self._writing = NoteWriting(truth, self._embedding, clock)
        self._keeper = IndexKeeper(folder, truth, settings)
        self._search = Search(truth, settings, self._keeper.behind)
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
                memory._mend()
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
            progress = progress or SilentProgress()
            count = memory._embedding.embed_again(memory._clock, progress)
            progress.step("building the index", None, None)
            memory._mend()
            return count
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
                self._keeper.close()
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
            NoteError, StorageFull: the write failed. If only the index failed, which is told of several
                notes at once, the message says so: then the note is safe, and the index catches up when
                the memory is opened again.
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
        while group := list(itertools.islice(remaining, GROUP)):
            if progress is not None:
                progress.step("remembering notes", len(written), total)
            with self._guard:
                self._check_writable()
                # Embedding takes the longest, so it happens before the transaction begins.
                prepared = self._writing.prepare(group)
                try:
                    with self.truth.transaction():
                        written.extend([self._writing.write(new, prepared) for new in group])
                except BaseException:
                    self._writing.reset()
                    raise
                self._keeper.feed()
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
            expired = self.truth.notes.expired(self._clock())
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
                    self.truth.notes.pin(key, pinned)
                    self.truth.journal.write(self._clock(), "pin" if pinned else "unpin", note_id)
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
                keys = [key for note_id in note_ids for key in self.truth.notes.versions(note_id)]
                folds = fold_tables.purge(self.truth, keys)
                deleted = sum(self.truth.notes.delete(note_id) for note_id in note_ids)
                for fold in folds:
                    self.truth.notes.delete(fold)
                self.truth.text.fill_anew()
                self.truth.journal.write(self._clock(), "forget", "(forgotten)")
                self.truth.write_meta({"scrub": "yes", "rebuild": "yes"})
            self._writing.reset()
            self._mend()
            return deleted

    def rebuild_index(self, *, progress: Progress | None = None) -> None:
        """Build the index anew from the truth."""
        with self._guard:
            self._check_writable()
            self._keeper.rebuild(progress)

    # -- reading ------------------------------------------------------------------------------

    def get(self, note_id: str) -> Note:
        """The note with this id, also if it holds no longer. Raises NoteError if there is none."""
        return self._found(note_id)[1]

    def __contains__(self, note_id: str) -> bool:
        return self.truth.notes.find(note_id) is not None

    def sources(self, note_id: str) -> tuple[str, ...]:
        """Every place a note came from, oldest first. Raises NoteError if there is no such note."""
        self._found(note_id)
        return self.truth.notes.sources(note_id)

    def count(self) -> int:
        """How many notes hold now."""
        return self.truth.notes.count(self._now())

    def notes(self) -> Iterator[Note]:
        """Every note, oldest first, also those that no longer hold."""
        return self.truth.notes.every()

    def journal(self) -> list[tuple[float, str, str]]:
        """(epoch seconds, action, note id) of every write, oldest first; it holds no text."""
        return self.truth.journal.entries()

    def snapshot(self) -> Snapshot:
        """A view of the memory as it is now, for somebody who reads on while it is written to."""
        return Snapshot(self, self.truth.journal.newest(), self._clock())

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
        if not query.strip() or scope.filters.lets_nothing_through or not self.truth.passages.count():
            return []
        vector = self._embedding.of_query(query)
        if self._lock is None:
            # Its vectors may have been exchanged for another embedder's since it was opened.
            self._check_embedder()
        return self._search.recall(query, vector, count, scope, state, tag_boosts)

    def check(self) -> MemoryCheck:
        """Bring the index up to date, and compare it with the truth, entry by entry.

        Raises:
            NoteError: memory.db is damaged inside, or this memory is open for reading only, which
                never touches the index.
        """
        with self._guard:
            self._check_writable()
            assert self._keeper.index is not None
            self._keeper.feed(least=1)
            return compare(self.truth, self._keeper.index)

    # -- inside -------------------------------------------------------------------------------

    def _close(self, notes: Sequence[tuple[int, str, float]], action: str) -> None:
        """End the validity of notes, given as (key, id, epoch seconds)."""
        with self.truth.transaction():
            now = self._clock()
            for key, note_id, at in notes:
                sequence = self.truth.journal.write(now, action, note_id)
                self.truth.notes.close(key, at, sequence)
            fold_tables.mark_stale(self.truth, [key for key, _, _ in notes])
        self._keeper.feed()

    def _mend(self) -> None:
        """Bring the index up to the truth, and finish what an interrupted write left undone."""
        self._keeper.mend()
        if self.truth.meta("scrub") is not None:
            self.truth.scrub()
            with self.truth.transaction():
                self.truth.write_meta({"scrub": None})

    def _check_embedder(self) -> None:
        self._embedding.check_identity(self.folder, can_write=self._lock is not None)

    def _now(self, filters: Filters | None = None) -> Scope:
        return Scope(self._clock(), filters or Filters())

    def _found(self, note_id: str) -> tuple[int, Note]:
        found = self.truth.notes.find(note_id)
        if found is None:
            raise NoteError(f"there is no note '{note_id}'", "list the notes to see their ids")
        return found

    def _check_writable(self) -> None:
        if self._lock is None:
            raise NoteError(f"the memory in {self.folder} is open for reading only", "open it for writing")
