"""Kills: whether an agent that is killed at any moment has every turn that it answered when it is opened again."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gc
import json
import os
import random
import re
import select
import shutil
import signal
import statistics
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from overlay.agent import Agent, Listener, open_embedder
from overlay.errors import GenerationFailed, HomeError
from overlay.home import Home, create_home
from overlay.memory import is_echo, without_control_characters
from overlay.model import LanguageModel
from overlay.progress import Progress, SilentProgress
from overlay.records import read_journal
from overlay.session import last_record
from overlay.state import is_saved

KILLS = 200
LIVES = 25
"""Kills in one home: what one of them damages must still be whole after the others."""

AIMS = {"opening": 0.15, "committing": 0.3, "anywhere": 0.55}
"""The share of kills aimed at each. A commit takes a thirtieth of a turn, and it is where there is something to lose:
moments drawn from whole turns alone would hit it a few times in a hundred."""

PATIENCE = 180.0
"""Seconds without a word after which a process counts as hung."""

GAIN = 0.004
"""So small a gain moves the state at every turn and never doses: measuring what a new dose costs takes as long as the
whole turn, and is all the same to what is kept."""

SETTINGS: dict[str, Any] = {
    "dialogue": {"mode": "silent", "rounds": 1, "voices": 2},
    "recall": {"count": 2, "history": 4},
    "reply": {"max_tokens": 6},
}
VOICE_TOKENS = 4

Message = dict[str, Any]

COLOURS = ("blue", "red", "green", "grey", "yellow", "black", "white", "brown", "purple", "orange", "silver")
THINGS = ("lantern", "kettle", "ladder", "map", "whistle", "compass", "blanket", "bucket", "drum", "saw", "rope", "jar")
PLACES = ("in the boat shed", "under the stairs", "by the well", "behind the mill", "on the roof", "in the cellar")

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")
_SAID = "session:"


def measure(
    kills: int = KILLS,
    model_name: str = "smollm2-135m",
    progress: Progress | None = None,
    *,
    model: LanguageModel | None = None,
    make_home: Callable[[Path], Home] | None = None,
    lives: int = LIVES,
    seed: int = 0,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Live scripted turns in a process of its own, kill it with SIGKILL, open the home again and look; and again.

    One loaded model is shared: each process is a fork that opens the home's files for itself. After every answered
    turn it acknowledges the turn through a pipe, as an answer on a screen does.

    kills, homes: how many. kills_by_aim: at which moments they were aimed, each uniformly: while the home was being
    opened, while a turn was being committed, or anywhere in about two turns. kills_by_stage: where they hit.
    turns_acknowledged; acknowledged_lost: those of them that no journal holds; acknowledged_changed: that it holds with
    other content. turns_kept_unacknowledged: killed between journal and answer, and whole: no loss.
    homes_reopened: how often a killed home was opened again and looked through: after every kill, but for those before
    one that is aimed at an opening, so that what the first broke is being mended when the second comes.
    torn_lines_seen: journals that ended in half a line. journals_damaged: told of as such. states_differing: the state,
    the energies or the state file weren't those of the last journalled turn. notes_missing, notes_changed, notes_twice:
    what was said in a journalled turn and isn't in memory just once with its text. notes_of_no_turn: said in no turn.
    index_differing: reopenings after which vector index and notes didn't agree. recalls_tried, recalls_failed: a
    journalled turn asked for in its own words. temporary_files_left: half-written files that stay when a home was
    opened again. faults: all of these in words. turn_seconds, commit_seconds: medians.

    Args:
        make_home: makes the home whose copies are killed, instead of the stock one made quick.
        lives: kills in one home.
        folder: where the homes are made and stay, instead of a temporary one.
    """
    progress = progress or SilentProgress()
    threads = torch.get_num_threads()
    # Threads of a pool don't live on in a fork, and whoever waits for them waits for ever.
    torch.set_num_threads(1)
    parallel = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        with _embedders_loaded_once(), _place(folder) as place:
            if model is None:
                progress.step(f"loading {model_name}", None, None)
                model = LanguageModel.load(model_name, pull=True)
            return _Run(model, place, kills, lives, random.Random(seed), progress).figures(make_home or _quick)
    finally:
        torch.set_num_threads(threads)
        if parallel is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = parallel


# --- one process ---------------------------------------------------------------------------------


class _Child:
    """A forked process that tells what it does through a pipe, and can be killed.

    Attributes:
        heard: (seconds since the fork, message) of everything it told.
        is_over: whether its end of the pipe is closed, and so everything heard.
    """

    def __init__(self, work: Callable[[Callable[[Message], None]], None]) -> None:
        self._reading, writing = os.pipe()
        self._begun = time.perf_counter()
        self._rest = b""
        self.is_over = False
        self.heard: list[tuple[float, Message]] = []
        gc.collect()
        self._process = os.fork()
        if self._process == 0:
            _be_child(self._reading, writing, work)
        os.close(writing)

    def listen(
        self, seconds: float, until: Callable[[Message], bool] = lambda message: False, *, anew: bool = False
    ) -> bool:
        """Hear it for so long, or until a message; whether that came. With `anew` each word starts the time again.

        Raises:
            GenerationFailed: it fails itself.
        """
        end = time.perf_counter() + seconds
        while not self.is_over:
            ready, _, _ = select.select([self._reading], [], [], max(0.0, end - time.perf_counter()))
            if not ready:
                return False
            if any(until(message) for message in self._read()):
                return True
            if anew:
                end = time.perf_counter() + seconds
        return False

    def wait_for(self, until: Callable[[Message], bool], what: str) -> None:
        """Hear it until a message. Raises GenerationFailed when it ends or hangs before."""
        if not self.listen(PATIENCE, until, anew=True):
            hung = not self.is_over
            self.kill()
            raise GenerationFailed(f"a process {'hung' if hung else 'ended'} before {what}; last: {self.stage}")

    def kill(self) -> None:
        """SIGKILL, and everything that it had told before."""
        os.kill(self._process, signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """Wait until it is gone."""
        while not self.is_over:
            self._read()
        os.waitpid(self._process, 0)
        os.close(self._reading)

    @property
    def stage(self) -> str:
        """What it did when it was last heard of."""
        return str(self.heard[-1][1]["at"]) if self.heard else "starting"

    def _read(self) -> list[Message]:
        data = os.read(self._reading, 65536)
        self.is_over = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        now = time.perf_counter() - self._begun
        messages = [json.loads(line) for line in lines]
        self.heard += [(now, message) for message in messages]
        for message in messages:
            if message["at"] == "failed":
                raise GenerationFailed(message["trace"])
        return messages


def _be_child(reading: int, writing: int, work: Callable[[Callable[[Message], None]], None]) -> None:
    """Do the work and leave at once: nothing that was inherited may be flushed or closed a second time."""
    try:
        os.close(reading)
        gc.freeze()

        def tell(message: Message) -> None:
            # Where it hangs is on stderr before it is given up.
            faulthandler.dump_traceback_later(PATIENCE * 0.9)
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[os.write(writing, data) :]

        try:
            work(tell)
        except BaseException:
            tell({"at": "failed", "trace": traceback.format_exc(limit=-6)})
    finally:
        os._exit(0)


# --- a life, and the look after it -----------------------------------------------------------------


def _live(home: Home, model: LanguageModel, first: int, tell: Callable[[Message], None], turns: int = 10_000) -> None:
    """Open the home and live turn after turn; each is told once it was answered."""
    tell({"at": "opening"})
    agent = Agent.open(home, model=model)
    tell({"at": "between turns", "is_open": True})
    stage = ""

    def listen(name: str) -> None:
        nonlocal stage
        stage = name
        if name:
            tell({"at": name})

    def moved(_: Mapping[str, float]) -> None:
        # The state is told twice: after the dialogue, and when the reply is there and only the commit is left.
        if stage == "replying":
            tell({"at": "committing"})

    for number in range(first, first + turns):
        if number % 4 == 3:
            tell({"at": "reading"})
            record = agent.live(saying(number))
        else:
            record = agent.turn(saying(number), listener=Listener(stage=listen, state=moved)).record
        told = {"session": record.session, "number": record.number, "content": fingerprint(asdict(record))}
        tell({"at": "between turns", "answered": told})
    agent.close()


def saying(number: int) -> str:
    """What the user says in a turn: alike to a model, and each in words of its own."""
    colour, thing = COLOURS[number % len(COLOURS)], THINGS[number % len(THINGS)]
    return f"The {colour} {thing} number {number} lies {PLACES[number % len(PLACES)]}. What is it good for?"


def fingerprint(record: Mapping[str, Any]) -> int:
    """A checksum of a turn's record, the same for what was answered and for what is read from a journal."""
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _look(home: Home, model: LanguageModel, answered: Sequence[Message], seed: int) -> dict[str, list[str]]:
    """Open a killed home and say, by kind, what isn't as it has to be."""
    found: dict[str, list[str]] = {}

    def tell(kind: str, what: str) -> None:
        found.setdefault(kind, []).append(what)

    for path in home.sessions.glob("*.jsonl"):
        if (data := path.read_bytes()) and not data.endswith(b"\n"):
            tell("torn_lines_seen", path.name)
    with Agent.open(home, model=model) as agent:
        for notice in agent.notices:
            tell("journals_damaged", notice)
        journals = {path.stem: read_journal(path) for path in home.sessions.glob("*.jsonl")}
        for kind, what in (*_lost(answered, journals), *_notes(agent, journals)):
            tell(kind, what)
        newest = last_record(home.sessions)
        if newest is not None and (
            agent.state.values != newest["state_after"]
            or agent.energies != newest["energies"]
            or not is_saved(home, newest)
        ):
            tell("states_differing", f"after turn {newest['number']} of {newest['session']}")
        check = agent.memory.check()
        if not check.is_whole:
            tell("index_differing", f"{check}")
        records = [record for journal in journals.values() for record in journal]
        for record in random.Random(seed).sample(records, min(6, len(records))):
            tell("recalls_tried", f"{record['session']} {record['number']} {seed}")
            wanted = f"{_SAID}{record['session']}:turn:{record['number']}:user"
            if wanted not in [entry.note.id for entry in agent.memory.recall(record["user"], 3)]:
                tell("recalls_failed", wanted)
    for path in home.lived.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            tell("temporary_files_left", str(path.relative_to(home.lived)))
    for build in sorted((home.lived / "index").iterdir())[1:]:
        tell("temporary_files_left", str(build.relative_to(home.lived)))
    return found


def _lost(answered: Sequence[Message], journals: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[str, str]]:
    """Acknowledged turns that aren't in the journals as they were answered, and journalled ones nobody heard of."""
    kept = {(name, record["number"]): record for name, records in journals.items() for record in records}
    known = {(turn["session"], turn["number"]): turn["content"] for turn in answered}
    for (session, number), content in known.items():
        if (session, number) not in kept:
            yield "acknowledged_lost", f"turn {number} of {session}"
        elif fingerprint(kept[session, number]) != content:
            yield "acknowledged_changed", f"turn {number} of {session}"
    for session, number in kept.keys() - known.keys():
        yield "turns_kept_unacknowledged", f"turn {number} of {session}"


def _notes(agent: Agent, journals: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[str, str]]:
    """What was said in journalled turns against what is remembered of it."""
    expected = {
        f"{_SAID}{session}:turn:{record['number']}:{role}": text
        for session, records in journals.items()
        for record in records
        for role in ("user", "reply")
        if (text := without_control_characters(str(record[role]))).strip()
        and not (role == "reply" and _only_repeats(agent, record))
    }
    said = [note for note in agent.memory.notes() if note.source.startswith(_SAID)]
    times = Counter(note.source for note in said)
    texts = {(note.source, note.text) for note in said if note.is_current}
    for source, text in expected.items():
        if not times[source]:
            yield "notes_missing", source
        elif (source, text) not in texts:
            yield "notes_changed", source
        if times[source] > 1:
            yield "notes_twice", source
    for source in times.keys() - expected.keys():
        yield "notes_of_no_turn", source


def _only_repeats(agent: Agent, record: Mapping[str, Any]) -> bool:
    """Whether a reply says nothing but what was recalled for it, and so is no note of its own."""
    ids = [note["id"] for note in record["recalled"] if note["id"] in agent.memory]
    return bool(ids) and is_echo(str(record["reply"]), [agent.memory.get(note_id).text for note_id in ids])


# --- all of them -----------------------------------------------------------------------------------

COUNTED = (
    *("acknowledged_lost", "acknowledged_changed", "turns_kept_unacknowledged", "torn_lines_seen", "journals_damaged"),
    *("states_differing", "notes_missing", "notes_changed", "notes_twice", "notes_of_no_turn", "index_differing"),
    *("recalls_tried", "recalls_failed", "temporary_files_left"),
)
HARMLESS = ("turns_kept_unacknowledged", "torn_lines_seen", "recalls_tried")
"""What a kill may leave behind: it is no fault."""


@dataclass
class _Times:
    """Seconds that openings, first two turns, and commits took so far."""

    opening: list[float] = field(default_factory=list)
    two_turns: list[float] = field(default_factory=list)
    turn: list[float] = field(default_factory=list)
    commit: list[float] = field(default_factory=list)

    def learn(self, heard: Sequence[tuple[float, Message]]) -> None:
        """Take over what a life shows."""
        opened, ended, committing = 0.0, [0.0], 0.0
        for when, message in heard:
            if message.get("is_open"):
                self.opening.append(when - heard[0][0])
                opened, ended = when, [when]
            elif message["at"] == "committing":
                committing = when
            elif "answered" in message:
                if committing > ended[-1]:
                    self.commit.append(when - committing)
                self.turn.append(when - ended[-1])
                ended.append(when)
        if len(ended) > 2:
            self.two_turns.append(ended[2] - opened)


class _Run:
    """Kill after kill in home after home, and what was found."""

    def __init__(
        self, model: LanguageModel, place: Path, kills: int, lives: int, source: random.Random, progress: Progress
    ) -> None:
        self._model = model
        self._place = place
        self._kills = kills
        self._lives = lives
        self._random = source
        self._progress = progress
        self._times = _Times()
        self._found: dict[str, dict[str, None]] = {kind: {} for kind in COUNTED}
        self._failures: list[str] = []
        self._aims: Counter[str] = Counter()
        self._stages: Counter[str] = Counter()
        self._acknowledged = self._reopened = self._homes = self._turns = 0

    def figures(self, make_home: Callable[[Path], Home]) -> dict[str, Any]:
        """What `measure` reports."""
        self._progress.step("making a home, with its axis where it isn't built yet", None, None)
        first = make_home(self._place / "first")
        open_embedder(first).embed(["."])
        # In a process of its own as well: files that were open in this one would be inherited by all others.
        _finish(_Child(lambda tell: Agent.open(first, model=self._model).close()))
        done = 0
        while done < self._kills:
            self._homes += 1
            home = Home.open(shutil.copytree(first.folder, self._place / f"home-{self._homes}"))
            done += self._wear_out(home, min(self._lives, self._kills - done), done)
        return {
            "model": self._model.name,
            "dtype": self._model.dtype,
            "kills": done,
            "homes": self._homes,
            "kills_by_aim": dict(self._aims),
            "kills_by_stage": dict(self._stages),
            "turns_acknowledged": self._acknowledged,
            "homes_reopened": self._reopened,
            **{kind: len(found) for kind, found in self._found.items()},
            "turn_seconds": round(statistics.median(self._times.turn), 2) if self._times.turn else None,
            "commit_seconds": round(statistics.median(self._times.commit), 3) if self._times.commit else None,
            "faults": [
                *self._failures,
                *(f"{kind}: {one}" for kind, found in self._found.items() if kind not in HARMLESS for one in found),
            ],
        }

    def _wear_out(self, home: Home, kills: int, before: int) -> int:
        """Kill so many lives in one home, and look after each; fewer when the home can't be opened any more."""
        answered: list[Message] = []
        if not self._times.two_turns:
            rehearsal = _Child(lambda tell: _live(home, self._model, 1, tell, turns=4))
            self._turns += 4
            _finish(rehearsal)
            self._take(rehearsal, answered)
        aims = self._random.choices(list(AIMS), list(AIMS.values()), k=kills)
        for number, aim in enumerate(aims):
            self._progress.step(f"killing agents, {self._kills} times", before + number, self._kills)
            life = self._killed(home, aim)
            self._take(life, answered)
            self._aims[aim] += 1
            self._stages[life.stage] += 1
            if aims[number + 1 : number + 2] == ["opening"]:
                # The next opening is the one that has something to mend, and is killed while it does.
                continue
            try:
                self._reopen(home, answered)
            except GenerationFailed as error:
                self._failures.append(f"{home.folder.name}, killed while {life.stage}: {error.problem}")
                return number + 1
        return kills

    def _killed(self, home: Home, aim: str) -> _Child:
        """A life that was killed where it was aimed at."""
        first, self._turns = self._turns, self._turns + 100
        life = _Child(lambda tell: _live(home, self._model, first, tell))
        if aim == "opening":
            life.wait_for(lambda message: message["at"] == "opening", "opening")
            life.listen(self._random.uniform(0, statistics.median(self._times.opening)))
        elif aim == "committing":
            left: int = self._random.choice((1, 2))

            def is_that_commit(message: Message) -> bool:
                nonlocal left
                left -= int(message["at"] == "committing")
                return left == 0

            life.wait_for(is_that_commit, "committing")
            life.listen(self._random.uniform(0, statistics.median(self._times.commit)))
        else:
            life.wait_for(lambda message: bool(message.get("is_open")), "being open")
            life.listen(self._random.uniform(0, statistics.median(self._times.two_turns)))
        life.kill()
        return life

    def _take(self, life: _Child, answered: list[Message]) -> None:
        self._times.learn(life.heard)
        turns = [message["answered"] for _, message in life.heard if "answered" in message]
        self._acknowledged += len(turns)
        answered += turns

    def _reopen(self, home: Home, answered: Sequence[Message]) -> None:
        seed = self._random.randrange(10**6)
        look = _Child(
            lambda tell: tell({"at": "looked", "found": _look(home, self._model, answered, seed)}),
        )
        _finish(look)
        self._reopened += 1
        for kind, found in look.heard[-1][1]["found"].items():
            # What a kill damaged is found again at every later look: it counts once.
            self._found[kind] |= dict.fromkeys(f"{home.folder.name}: {one}" for one in found)


def _finish(child: _Child) -> None:
    """Let a process come to its own end. Raises GenerationFailed when it fails or hangs."""
    child.listen(PATIENCE, anew=True)
    if not child.is_over:
        child.kill()
        raise GenerationFailed(f"a process hung; last: {child.stage}")
    child.end()


# --- homes -----------------------------------------------------------------------------------------


def _quick(folder: Path) -> Home:
    """The stock home with short replies and a short dialogue, and with the axes that are built here already."""
    home = create_home(folder)
    for path in home.voices.glob("*.yaml"):
        voice = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(voice | {"max_tokens": VOICE_TOKENS}, allow_unicode=True), encoding="utf-8")
    settings = yaml.safe_load((folder / "agent.yaml").read_text(encoding="utf-8")) | SETTINGS
    for axis in settings["state"]["axes"].values():
        axis["gain"] = GAIN
    (folder / "agent.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    with contextlib.suppress(HomeError):
        built = Home.open(Path.cwd()).lived / "axes"
        if built.is_dir():
            shutil.copytree(built, home.lived / "axes")
    return Home.open(folder)


@contextlib.contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="overlay-kills-") as temporary:
            yield Path(temporary)


@contextlib.contextmanager
def _embedders_loaded_once() -> Iterator[None]:
    """Inside the `with` an embedder's weights are loaded once, here, and not by every process for itself."""
    # Imported before the first fork, so that no process has to do it for itself.
    import chromadb.api.rust  # noqa: F401
    import sentence_transformers

    original = sentence_transformers.SentenceTransformer
    sentence_transformers.SentenceTransformer = functools.cache(original)
    try:
        yield
    finally:
        sentence_transformers.SentenceTransformer = original
