"""Memory kills: whether a memory whose writer is killed at any moment keeps what it acknowledged and nothing else."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import random
import re
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import chromadb  # noqa: F401 (read once here, and not again by each process)
import numpy as np
from numpy.typing import NDArray

from overlay.errors import ModelUnavailable
from overlay.memory import Memory, MemorySettings, NewNote, Note, fold, import_path
from overlay.progress import Progress, SilentProgress

KILLS = 100
HOMES = 3
"""The last of them has its index on a Chroma server; the others have an embedded one."""

AIMS = {"opening": 0.15, "committing": 0.5, "anywhere": 0.35}
"""The share of kills aimed at each: while a memory is opened and mended, from a commit until its acknowledgement, or
anywhere in some dozens of writes. There is something to lose in a commit, and whole writes last much longer."""

OPERATIONS = {
    **{"remember": 8, "remember_many": 4, "supersede": 4, "retire": 2},
    **{"forget": 3, "fold": 1, "import": 2},
}
"""How often each is done, as weights. Kills that are aimed at commits are aimed at each alike."""

REHEARSED, LIVED = 60, 24
"""Writes of the unkilled life that tells how long things take; writes that a kill "anywhere" may fall into."""

PATIENCE = 120.0
"""Seconds without a word after which a process counts as hung."""

Message = dict[str, Any]
State = Literal["current", "closed", "gone"]

# No vowels and no s: no stemmer shortens such a word, and no other text has it by chance.
_SIGNS = "bcdfghjkmpqrtvwx"
_MARKER = re.compile(f"zq[{_SIGNS}]{{14}}")

_WORDS = re.findall(
    r"\w+",
    """lantern kettle ladder map whistle compass blanket bucket drum saw rope jar boat shed stairs well mill roof cellar
    blue red green grey yellow black white brown old broken heavy new lies stands hangs leans was found moved sold
    painted mended under behind near beside above the a this that every by with for since until after before""",
)


@dataclass(frozen=True)
class Wanted:
    """What has to be there of one text: under which id it was written (empty: not told), and whether it holds."""

    id: str
    text: str
    state: State


Known = dict[str, Wanted]
"""By marker: the word that a text has and no other text."""


class WordEmbedder:
    """Sums of a random direction for each word, of unit length; no model, and the same everywhere."""

    name = "bench-words"
    digest = "bench-words-64"
    dimension = 64

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, shape (texts, 64)."""
        sums = np.stack([np.sum([_direction(word) for word in re.findall(r"\w+", f"a {text}")], 0) for text in texts])
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), dtype=np.float32)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, shape (64,)."""
        return np.asarray(self.embed([text])[0])


@functools.lru_cache(100_000)
def _direction(word: str) -> NDArray[np.float64]:
    return np.random.default_rng(zlib.crc32(word.lower().encode())).standard_normal(WordEmbedder.dimension)


def measure(
    kills: int = KILLS,
    progress: Progress | None = None,
    *,
    homes: int = HOMES,
    with_server: bool = True,
    seed: int = 0,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Write to memories in processes of their own, kill them with SIGKILL, open the memories again and look.

    A process says what it is about to do, does it (remember, remember_many, supersede, retire, forget, fold, import),
    and acknowledges it through a pipe once the call has returned. After each kill another process opens the memory, so
    that it mends what it finds, and looks. What was under way may have happened or not; all else has to be as told.

    kills, homes: how many. homes_on_server: memories whose index is on a Chroma server, which isn't killed.
    kills_by_aim: at which moments they were aimed; kills_by_stage: in which operation they hit; kills_in_commits: how
    many of them between the beginning of a commit and the next word of the process.
    acknowledged: operations; texts_acknowledged: texts that were written by them; forgotten: texts that were forgotten.
    lost: acknowledged texts that aren't there. changed: there with another text, or holding although superseded or
    retired, or the other way round. left_after_forget: acknowledged forgotten texts of which the id, the marker or the
    vector is found: by `get`, among the notes, by recall or as bytes in a file of the memory, before and after opening.
    not_whole: looks after which truth and index didn't agree; damaged: in which SQLite or its full text was damaged.
    recalls_tried, recalls_failed: texts that hold, asked for in their own words. unacknowledged: texts that a kill left
    half told; unacknowledged_kept: those of them that are there, whole: no loss. half_done: supersedes and
    forgets of which only a part happened. failures: processes that ended by an error or hung. faults: all in words.
    open_seconds: the median time of opening a killed memory again; seconds: all of it.

    Args:
        folder: where the homes are made and stay, instead of a temporary one.
    """
    progress = progress or SilentProgress()
    begun = time.perf_counter()
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overlay-memory-kills-")))
        place.mkdir(parents=True, exist_ok=True)
        indexes = ["embedded"] * homes
        if with_server:
            progress.step("starting a Chroma server", None, None)
            indexes[-1] = stack.enter_context(chroma_server(place / "server"))
        made = [_Home(place / f"home-{number}", index) for number, index in enumerate(indexes, 1)]
        figures = _Run(made, random.Random(seed), progress).figures(kills)
    figures["homes_on_server"] = int(with_server)
    return figures | {"seconds": round(time.perf_counter() - begun, 1)}


@contextlib.contextmanager
def chroma_server(folder: Path) -> Iterator[str]:
    """A Chroma server over `folder` at a free port of this machine; gives its URL. Raises ModelUnavailable."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = folder / "server.log"
    start = [sys.executable, "-c", "from chromadb.cli.cli import app; app()", "run"]
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [*start, "--path", str(folder / "data"), "--host", "127.0.0.1", "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + PATIENCE
        while not _beats(url):
            if server.poll() is not None or time.monotonic() > end:
                raise ModelUnavailable(
                    f"the Chroma server at {url} doesn't start: {log.read_text(errors='replace')[-400:]}",
                    "start it by hand to see why: chroma run",
                )
            time.sleep(0.05)
        yield url
    finally:
        server.kill()
        server.wait()


def _beats(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/v2/heartbeat", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


# --- one process ---------------------------------------------------------------------------------

Tell = Callable[[Message], None]


class _Child:
    """A forked process that tells what it does through a pipe, and can be killed.

    Attributes:
        heard: (seconds since the fork, message) of everything it told.
    """

    def __init__(self, work: Callable[[Tell], None]) -> None:
        context = multiprocessing.get_context("fork")
        self._hearing, telling = context.Pipe(duplex=False)
        self._process = context.Process(target=_be_child, args=(work, telling), daemon=True)
        self._begun = time.perf_counter()
        self.heard: list[tuple[float, Message]] = []
        self._process.start()
        telling.close()

    def listen(self, seconds: float, until: Callable[[Message], bool] = lambda message: False) -> bool:
        """Hear it for so long, until a message or its end; whether that message came."""
        end = time.perf_counter() + seconds
        while self._hearing.poll(max(0.0, end - time.perf_counter())):
            message = self._hear()
            if message is None:
                return False
            if until(message):
                return True
        return False

    def kill(self) -> None:
        """SIGKILL, and everything that it had told before."""
        self._process.kill()
        self._process.join()
        while self._hear() is not None:
            pass
        self._hearing.close()

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

    def _hear(self) -> Message | None:
        try:
            message: Message = json.loads(self._hearing.recv_bytes(), object_hook=_decoded)
        except (EOFError, OSError):
            # Also in the midst of a message, which then wasn't told.
            return None
        self.heard.append((time.perf_counter() - self._begun, message))
        return message


def _be_child(work: Callable[[Tell], None], telling: Connection) -> None:
    def tell(message: Message) -> None:
        telling.send_bytes(json.dumps(message, default=asdict).encode())

    try:
        work(tell)
    except BaseException:
        tell({"at": "failed", "trace": traceback.format_exc(limit=-4)})


def _decoded(found: Message) -> Message | Wanted:
    return Wanted(**found) if found.keys() == {"id", "text", "state"} else found


# --- a life ---------------------------------------------------------------------------------------


@dataclass
class _Home:
    """One memory, and what has to be in it."""

    folder: Path
    index: str
    known: Known = field(default_factory=dict)
    lives: int = 0

    def open(self) -> Memory:
        # Every recall asks the index, however small the memory is.
        settings = MemorySettings(index=self.index, exact_below=0)
        return Memory.open(self.folder / "memory", WordEmbedder(), settings=settings)


def _live(home: _Home, seed: int, writes: int, tell: Tell) -> None:
    """Open the memory and write, one operation after another; each is told before and acknowledged after."""
    tell({"at": "opening"})
    memory = home.open()
    # The one moment that can't be seen from outside: SQLite begins to commit.
    memory.truth._connection.set_trace_callback(
        lambda statement: tell({"at": "committing"}) if statement.startswith("COMMIT") else None
    )
    tell({"at": "between", "is_open": True})
    writer = _Writer(home, memory, random.Random(seed))
    for name in writer.operations(writes):
        plan, act = getattr(writer, f"plan_{name}")()
        tell({"at": name, "plan": plan})
        done = act()
        home.known.update(done)
        tell({"at": "between", "done": done})
    memory.close()


Plan = tuple[Known, Callable[[], Known]]


class _Writer:
    """Chooses what to write. Each plan says what will be known after it, and does it when it is called."""

    def __init__(self, home: _Home, memory: Memory, source: random.Random) -> None:
        self._home = home
        self._memory = memory
        self._random = source

    def operations(self, writes: int) -> Iterator[str]:
        """Names of operations; each kind once before chance takes over."""
        first = list(OPERATIONS)
        for number in range(writes):
            drawn = self._random.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
            yield first[number] if self._home.lives == 0 and number < len(first) else drawn

    def plan_remember(self) -> Plan:
        marker, text = self._saying()
        note_id = self._random.choice((None, f"named:{marker}"))

        def act() -> Known:
            links = tuple(wanted.id for _, wanted in self._some(2))
            written = self._memory.remember(text, kind="said", source="bench", note_id=note_id, links=links)
            return {marker: Wanted(written.note.id, text, "current")}

        return {marker: Wanted(note_id or "", text, "current")}, act

    def plan_remember_many(self) -> Plan:
        texts = dict(self._saying() for _ in range(self._random.randint(5, 40)))
        stream = f"stream:{self._random.randrange(10**9)}"

        def act() -> Known:
            new = [NewNote(text, "read", "bench", stream=stream) for text in texts.values()]
            written = self._memory.remember_many(new)
            return {
                marker: Wanted(one.note.id, texts[marker], "current")
                for marker, one in zip(texts, written, strict=True)
            }

        return {marker: Wanted("", text, "current") for marker, text in texts.items()}, act

    def plan_supersede(self) -> Plan:
        chosen = self._some(1)
        if not chosen:
            return self.plan_remember()
        (marker, old), (new_marker, text) = chosen[0], self._saying()

        def act() -> Known:
            note = self._memory.supersede(old.id, text, source="bench")
            return {marker: replace(old, state="closed"), new_marker: Wanted(note.id, text, "current")}

        return {marker: replace(old, state="closed"), new_marker: Wanted("", text, "current")}, act

    def plan_retire(self) -> Plan:
        chosen = self._some(1)
        if not chosen:
            return self.plan_remember()
        marker, old = chosen[0]

        def act() -> Known:
            self._memory.retire(old.id)
            return {marker: replace(old, state="closed")}

        return {marker: replace(old, state="closed")}, act

    def plan_forget(self) -> Plan:
        ids = [wanted.id for _, wanted in self._some(self._random.randint(1, 3))]
        if not ids:
            return self.plan_remember()
        # What had the id before goes with it.
        gone = {
            marker: replace(wanted, state="gone")
            for marker, wanted in self._home.known.items()
            if wanted.id in ids and wanted.state != "gone"
        }

        def act() -> Known:
            self._memory.forget(*ids)
            return gone

        return gone, act

    def plan_fold(self) -> Plan:
        def act() -> Known:
            fold(self._memory)
            return {}

        return {}, act

    def plan_import(self) -> Plan:
        texts = dict(self._saying() for _ in range(self._random.randint(3, 8)))
        vault = self._home.folder / "vaults" / f"vault-{self._random.randrange(10**9)}"
        vault.mkdir(parents=True)
        for marker, text in texts.items():
            (vault / f"{marker}.md").write_text(f"{text}\n", encoding="utf-8")

        def act() -> Known:
            import_path(self._memory, vault)
            return {marker: Wanted("", text, "current") for marker, text in texts.items()}

        return {marker: Wanted("", text, "current") for marker, text in texts.items()}, act

    def _some(self, count: int) -> list[tuple[str, Wanted]]:
        """Texts that hold and whose ids were told."""
        able = [(marker, one) for marker, one in self._home.known.items() if one.state == "current" and one.id]
        return self._random.sample(able, min(count, len(able)))

    def _saying(self) -> tuple[str, str]:
        """A marker, and a text of some sentences that has it."""
        marker = "zq" + "".join(self._random.choices(_SIGNS, k=14))
        sentences = []
        for _ in range(self._random.randint(1, 3)):
            words = self._random.choices(_WORDS, k=self._random.randint(4, 12))
            sentences.append(" ".join(words).capitalize())
        place = self._random.randrange(len(sentences))
        sentences[place] += f" {marker}"
        return marker, " ".join(f"{sentence}." for sentence in sentences)


# --- the look after it -----------------------------------------------------------------------------


def look(home: _Home, under_way: Mapping[str, Wanted], seed: int) -> Message:
    """Open a killed memory and say, by kind, what isn't as it has to be.

    `under_way` holds what the killed process was doing: that may be as it was before, or as planned.

    Returns: `found` (kind to findings in words), `known` (what is known from now on), `open_seconds`.
    """
    found: dict[str, list[str]] = {}

    def tell(kind: str, what: str) -> None:
        found.setdefault(kind, []).append(what)

    folder = home.folder / "memory"
    forgotten = {marker: wanted for marker, wanted in home.known.items() if wanted.state == "gone"}
    for file, what in _traces(folder, forgotten):
        tell("left_after_forget", f"{what} in {file} before opening")
    begun = time.perf_counter()
    with home.open() as memory:
        seconds = time.perf_counter() - begun
        check = memory.check()
        if not check.is_whole:
            tell("not_whole", f"{check}")
        known = _compared(home, memory, under_way, tell)
        # What was on its way to be forgotten, and is, must have left as little; what was lost is told as lost.
        forgotten |= {
            marker: wanted
            for marker, wanted in known.items()
            if wanted.state == "gone" and marker in under_way and under_way[marker].state == "gone"
        }
        draw = random.Random(seed)
        holding = [marker for marker, wanted in known.items() if wanted.state == "current"]
        for marker in draw.sample(holding, min(5, len(holding))):
            tell("recalls_tried", f"{marker} {seed}")
            if marker not in " ".join(one.note.text for one in memory.recall(known[marker].text, 3)):
                tell("recalls_failed", marker)
        for marker in draw.sample(list(forgotten), min(5, len(forgotten))):
            for one in memory.recall(forgotten[marker].text, 10):
                if marker in one.note.text or marker in one.passage.text:
                    tell("left_after_forget", f"{marker} recalled in {one.note.id}")
    for file, what in _traces(folder, forgotten):
        tell("left_after_forget", f"{what} in {file}")
    for damage in _damages(folder / "memory.db"):
        tell("damaged", damage)
    return {"at": "looked", "found": found, "known": known, "open_seconds": seconds}


def _compared(home: _Home, memory: Memory, under_way: Mapping[str, Wanted], tell: Callable[[str, str], None]) -> Known:
    """Tell what isn't as wanted; give what is there."""
    present: dict[str, Note] = {}
    for note in memory.notes():
        if note.kind == "fold":
            continue
        for marker in _MARKER.findall(note.text):
            present[marker] = note
    known: Known = {}
    taken: set[bool] = set()
    for marker in home.known.keys() | under_way.keys():
        before, after = home.known.get(marker), under_way.get(marker)
        wanted = before or after
        assert wanted is not None
        there = present.get(marker)
        state: State = "gone" if there is None else "current" if there.valid_to is None else "closed"
        # The name by which it can be forgotten: a superseded text has given its id away.
        note_id = wanted.id if there is None else there.superseded_by or there.id
        if before is not None or there is not None:
            known[marker] = replace(wanted, id=note_id, state=state)
        allowed = {before.state if before else "gone"} | ({after.state} if after else set())
        if after is not None:
            tell("unacknowledged", marker)
            taken.add(state == after.state)
            if state == after.state:
                tell("unacknowledged_kept", marker)
        if state not in allowed:
            kind = "lost" if state == "gone" else "left_after_forget" if allowed == {"gone"} else "changed"
            tell(kind, f"{marker} is {state}, not {' or '.join(sorted(allowed))}")
        elif there is not None and there.text != wanted.text:
            tell("changed", f"{marker} has the text {there.text!r}")
        elif there is not None and memory.get(there.id).text != there.text:
            tell("changed", f"{marker} has another text by its id {there.id}")
        elif there is None and note_id and note_id in memory:
            tell("left_after_forget", f"the id {note_id}")
    # A group of notes may be half written; a text must not be superseded without its successor.
    if len(taken) > 1 and any(wanted.state != "current" for wanted in under_way.values()):
        tell("half_done", f"{sorted(under_way)}")
    for marker in present.keys() - known.keys():
        tell("changed", f"{marker} was never written")
    return known


def _traces(folder: Path, forgotten: Known) -> Iterator[tuple[str, str]]:
    """(file, what) for every forgotten marker or vector that is a sequence of bytes in a file of the memory."""
    if not forgotten:
        return
    vectors = WordEmbedder().embed([wanted.text for wanted in forgotten.values()])
    # A full-text index writes only how a word differs from the one before it: the end of the marker is enough.
    signs = {marker: marker[-10:].encode() for marker in forgotten}
    signs |= {f"the vector of {marker}": row[20:28].tobytes() for marker, row in zip(forgotten, vectors, strict=True)}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            yield from ((str(path.relative_to(folder)), what) for what, sign in signs.items() if sign in content)


def _damages(path: Path) -> Iterator[str]:
    """What SQLite says of the file and of its full-text indexes, in words of its own."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        (told,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        if told != "ok":
            yield str(told)
        tables = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        for name, statement in tables:
            if not re.search(r"USING\s+fts5\s*\(", statement or "", re.IGNORECASE):
                continue
            try:
                database.execute(f"INSERT INTO {name}({name}) VALUES ('integrity-check')")
            except sqlite3.DatabaseError as error:
                yield f"{name}: {error}"


# --- all of them -----------------------------------------------------------------------------------

COUNTED = (
    *("lost", "changed", "half_done", "left_after_forget", "not_whole", "damaged"),
    *("recalls_tried", "recalls_failed", "unacknowledged", "unacknowledged_kept"),
)
HARMLESS = ("recalls_tried", "unacknowledged", "unacknowledged_kept")
"""What a look tells that is no fault."""


class _Run:
    """Kill after kill, home by turns, and what was found."""

    def __init__(self, homes: Sequence[_Home], source: random.Random, progress: Progress) -> None:
        self._homes = homes
        self._random = source
        self._progress = progress
        self._found: dict[str, dict[str, None]] = {kind: {} for kind in COUNTED}
        self._failures: list[str] = []
        self._aims: Counter[str] = Counter()
        self._stages: Counter[str] = Counter()
        self._opening: list[float] = []
        self._reopening: list[float] = []
        self._lasting: dict[str, list[float]] = {name: [] for name in OPERATIONS}
        self._acknowledged: Counter[str] = Counter()
        self._texts = self._in_commits = 0

    def figures(self, kills: int) -> dict[str, Any]:
        """What `measure` reports."""
        for home in self._homes:
            self._progress.step("rehearsing without kills", None, None)
            home.folder.mkdir(parents=True)
            rehearsal = self._life(home, REHEARSED)
            rehearsal.listen(PATIENCE)
            # It has told that it is done, and may still be on its way out.
            self._end(home, rehearsal, is_victim=False)
        done = 0
        begun = time.perf_counter()
        for number in range(kills):
            left = (time.perf_counter() - begun) / number * (kills - number) if number else None
            detail = "" if left is None else f"{left:.0f} s left"
            self._progress.step(f"killing writers, {kills} times", number, kills, detail)
            home = self._homes[number % len(self._homes)]
            aim = self._random.choices(list(AIMS), list(AIMS.values()))[0]
            life = self._life(home, 10_000)
            self._aims[aim] += 1
            self._aim(life, aim)
            done += life.is_running
            self._end(home, life)
        found = {kind: len(told) for kind, told in self._found.items()}
        everything = [wanted for home in self._homes for wanted in home.known.values()]
        return {
            "kills": done,
            "homes": len(self._homes),
            "kills_by_aim": dict(self._aims),
            "kills_by_stage": dict(self._stages),
            "kills_in_commits": self._in_commits,
            "acknowledged": self._acknowledged.total(),
            "acknowledged_by_operation": dict(self._acknowledged),
            "texts_acknowledged": self._texts,
            "forgotten": sum(one.state == "gone" for one in everything),
            **found,
            "failures": len(self._failures),
            "open_seconds": round(statistics.median(self._reopening), 3) if self._reopening else None,
            "faults": [
                *self._failures,
                *(f"{kind}: {one}" for kind, told in self._found.items() if kind not in HARMLESS for one in told),
            ],
        }

    def _life(self, home: _Home, writes: int) -> _Child:
        seed = self._random.randrange(10**9)
        return _Child(lambda tell: _live(home, seed, writes, tell))

    def _aim(self, life: _Child, aim: str) -> None:
        """Hear a life until the moment at which it is to be killed."""
        if aim == "opening":
            life.listen(PATIENCE, lambda message: message["at"] == "opening")
            life.listen(self._random.uniform(0, statistics.median(self._opening)))
            return
        life.listen(PATIENCE, lambda message: bool(message.get("is_open")))
        if aim == "committing":
            name = self._random.choice(list(OPERATIONS))
            life.listen(PATIENCE, lambda message: message["at"] == name)
            life.listen(PATIENCE, lambda message: message["at"] == "committing" or "done" in message)
            life.listen(self._random.uniform(0, statistics.median(self._lasting[name] or [0.05])))
            return
        left = self._random.randint(0, LIVED)

        def is_last(message: Message) -> bool:
            nonlocal left
            left -= "plan" in message
            return left < 0

        life.listen(PATIENCE, is_last)
        lasting = [seconds for times in self._lasting.values() for seconds in times]
        life.listen(self._random.uniform(0, statistics.median(lasting or [0.05])))

    def _end(self, home: _Home, life: _Child, *, is_victim: bool = True) -> None:
        """Kill it if it still lives, take over what it told, and look."""
        is_killed = is_victim and life.is_running
        life.kill()
        under_way = self._take(home, life, is_killed)
        self._look(home, under_way)

    def _take(self, home: _Home, life: _Child, is_killed: bool) -> Known:
        """Learn what a life acknowledged and how long it took; give what it was doing when it was killed."""
        under_way: Known = {}
        stage, opened, committed, name = "starting", 0.0, None, ""
        for when, message in life.heard:
            stage = message["at"]
            if stage == "failed":
                self._failures.append(f"{home.folder.name}, {name or 'opening'}: {message['trace']}")
            elif stage == "opening":
                opened = when
            elif message.get("is_open"):
                self._opening.append(when - opened)
            elif "plan" in message:
                name, under_way, committed = stage, message["plan"], None
            elif stage == "committing":
                committed = when if committed is None else committed
            elif "done" in message:
                if committed is not None:
                    self._lasting[name].append(when - committed)
                self._acknowledged[name] += 1
                self._texts += sum(marker not in home.known for marker in message["done"])
                home.known.update(message["done"])
                under_way, name = {}, ""
        home.lives += 1
        if is_killed:
            self._stages[name or stage] += 1
            self._in_commits += stage == "committing"
        return under_way

    def _look(self, home: _Home, under_way: Known) -> None:
        seed = self._random.randrange(10**9)
        child = _Child(lambda tell: tell(look(home, under_way, seed)))
        child.listen(PATIENCE)
        is_hung = child.is_running and not child.heard
        child.kill()
        told: Message = {"at": "failed", "trace": "hung" if is_hung else "ended"}
        if child.heard:
            told = child.heard[-1][1]
        if told["at"] == "failed":
            self._failures.append(f"{home.folder.name}, looking: {told['trace']}")
            return
        home.known = told["known"]
        self._reopening.append(told["open_seconds"])
        for kind, found in told["found"].items():
            # What one kill damaged is found again at every later look: it counts once.
            self._found[kind] |= dict.fromkeys(f"{home.folder.name}: {one}" for one in found)
