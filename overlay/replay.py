"""Replay: a session lived again from its journal, and the first token or number that comes out differently."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from overlay.agent import attach_adapters, grown, made_with, open_embedder, prepare_mind, remember_measured, shown_turns
from overlay.emergent import kept_axis
from overlay.errors import ArgumentError, RecordDamaged
from overlay.frames import NOTHING_LEARNED, LearnedWeights
from overlay.home import Home
from overlay.inner import Experience, Mind, State, StateChange, tokens_digest
from overlay.model import LanguageModel
from overlay.progress import Progress, SilentProgress
from overlay.records import read_journal
from overlay.session import session_path
from overlay.turn import Answer, Beginning, Life, ShownNote

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """Where a replay first went another way.

    Attributes:
        where: what differs, such as "the reply".
        token: which token of it, from 1; None where it is no token.
        was, now: the token's text, or the value.
        reasons: what differs of all that a turn rests on; empty when nothing known does.
    """

    turn: int
    where: str
    token: int | None
    was: str
    now: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Replay:
    """What a session came to when it was lived again, up to its first difference.

    Attributes:
        turns: turns that came out the same; `tokens`: generated tokens that did, inner speech included.
        changed: what differs of all that the session rests on, whether or not it made a difference.
    """

    session: str
    turns: int
    tokens: int
    changed: tuple[str, ...]
    difference: Difference | None

    @property
    def is_identical(self) -> bool:
        """Whether every token and every number of the state came out the same."""
        return self.difference is None


def replay(
    home: Home,
    session: str,
    *,
    model: LanguageModel | None = None,
    dtype: str | None = None,
    pull: bool = True,
    progress: Progress | None = None,
) -> Replay:
    """Live a session again from its journal and compare. Nothing is written, and no memory is opened: what was
    recalled is taken from the journal. An agent may be open in the home meanwhile.

    Args:
        session: its name, "last", or the path of its journal.
        model: an already loaded model to use instead of the home's; what is in its prefix cache is dropped.
        dtype: the number format; by default that of the session.

    Raises:
        ArgumentError: there is no such session. RecordDamaged: its journal can't be replayed.
        DocumentError, ModelUnavailable, AxisMissing, AxisUnproven, AdapterError
    """
    progress = progress or SilentProgress()
    journal = session_journal(home, session)
    session = journal.stem
    records = read_journal(journal)
    kept = next((record for record in records if record.get("made_with")), None)
    if kept is None:
        raise RecordDamaged(
            f"session {session} doesn't say what it rests on",
            "only sessions with a turn in this format can be replayed",
        )
    embedder = open_embedder(home, pull=pull, progress=progress)
    if model is None:
        progress.step(f"loading {home.settings.model}", None, None)
        model = LanguageModel.load(
            home.settings.model, dtype=dtype or str(kept["made_with"]["dtype"]), pull=pull, progress=progress
        )
    mind = prepare_mind(home, model, embedder, progress)
    attached = attach_adapters(home, mind)
    try:
        return _Replaying(home, Life(mind, home.settings.reply), session, progress).run(records)
    finally:
        for name in attached:
            model.detach(name)


def fill_caches(home: Home, mind: Mind, session: str, progress: Progress | None = None) -> Replay:
    """Live the last sitting of a session again, so that the model's caches hold what they held after its last turn.

    Where a turn comes out differently, the caches are those of another life from there on. Of the agent whose mind it
    is, the home's lock is held by whoever calls. Raises RecordDamaged.
    """
    records = read_journal(session_journal(home, session))
    first = max((place for place, record in enumerate(records) if record.get("opened")), default=0)
    replaying = _Replaying(home, Life(mind, home.settings.reply), session, progress or SilentProgress())
    try:
        return replaying.run(records, first)
    finally:
        remember_measured(home, mind, made_with(home, mind), writes=True)


def session_journal(home: Home, name: str) -> Path:
    """The journal of a session of this home by its name, by "last", or by the journal's path. Raises ArgumentError."""
    if not name.endswith(".jsonl"):
        return session_path(home.sessions, name)
    here = (Path(name).expanduser(), home.folder / name)
    found = next((path.resolve() for path in here if path.is_file()), None)
    if found is None or found.parent != home.sessions.resolve():
        raise ArgumentError(
            f"{name} is no journal of a session of {home.folder}", "name the session, or the home that it is of"
        )
    return session_path(home.sessions, found.stem)


class _Replaying:
    """A session on its way through its records."""

    def __init__(self, home: Home, life: Life, session: str, progress: Progress) -> None:
        self._home = home
        self._life = life
        self._model = life.mind.model
        self._session = session
        self._progress = progress
        self._made_with = made_with(home, life.mind)
        remember_measured(home, life.mind, self._made_with, writes=False)
        self._history: list[tuple[str, str]] = []
        self._state = State()
        self._energies: Mapping[str, float] = {}
        self._learned = NOTHING_LEARNED

    def run(self, records: Sequence[Record], first: int = 0) -> Replay:
        """Live the records from the place `first` on, which was opened anew; of those before, what contexts show."""
        turns = tokens = 0
        changed: dict[str, None] = {}
        self._history = [(one["user"], one["reply"]) for one in records[:first] if one["kind"] == "turn"]
        for place, record in enumerate(records[first:], first):
            self._progress.step(f"replaying {self._session}", place, len(records))
            self._take_into_force(record)
            rested_on = record.get("made_with")
            reasons = tuple(_changes(rested_on, self._made_with)) if rested_on else ()
            changed |= dict.fromkeys(reasons)
            try:
                found = self._live(record, is_first=place == first)
            except (KeyError, TypeError, AttributeError) as error:
                raise RecordDamaged(
                    f"turn {record.get('number', '?')} of session {self._session} can't be replayed ({error!r})",
                    "its format is another one",
                ) from error
            if found is not None:
                return Replay(
                    self._session, turns, tokens, tuple(changed), Difference(record["number"], *found, reasons)
                )
            if record["kind"] in ("turn", "lived"):
                turns += 1
                tokens += len(record["reply_tokens"]) + sum(len(said["tokens"]) for said in record["inner_speech"])
        self._progress.step(f"replaying {self._session}", len(records), len(records))
        return Replay(self._session, turns, tokens, tuple(changed), None)

    def _live(self, record: Record, *, is_first: bool) -> tuple[str, int | None, str, str] | None:
        """Live one record again: where, at which token, what was and what is, at the first difference."""
        if is_first or record["opened"]:
            # Between two openings anything may have happened to the state: settings, a reset.
            self._state, self._energies = State(dict(record["state_before"])), dict(record["energies_before"])
            self._learned = LearnedWeights.from_plain(record["learned_before"])
        if record["opened"]:
            self._model.prefixes.clear()
        if record["kind"] not in ("turn", "lived"):
            self._state = State(dict(record["state_after"]))
            return None
        shown = shown_turns(self._history, self._home.settings.recall)
        beginning = Beginning(
            self._state, self._energies, tuple(shown), record["seconds"], record["seed"], self._learned
        )
        answer: Answer | None = None
        if record["kind"] == "lived":
            lived = self._life.think(record["user"], beginning)
        else:
            notes = [ShownNote(note["id"], note["text"]) for note in record["recalled"]]
            was_cancelled = record["ended"] == "cancelled"
            said = len(record["reply_tokens"])
            stop = threading.Event()
            if was_cancelled and not said:
                stop.set()
            lived, answer = self._life.answer(
                record["user"], beginning, notes, cancelled=stop, most_tokens=said if was_cancelled and said else None
            )
            self._history.append((record["user"], record["reply"]))
        self._state, self._energies, self._learned = lived.state, lived.energies, lived.learned
        return next(self._differences(record, lived, answer), None)

    def _take_into_force(self, record: Record) -> None:
        """Emergent axes come and go in a life: those that the record was made with."""
        wanted = dict((record.get("made_with") or {}).get("axes", {}))
        mind = self._life.mind
        emergent = [
            kept_axis(self._home, name, digest, self._model.digest)
            for name, digest in wanted.items()
            if name not in self._home.settings.state.axes
        ]
        now = grown(mind, self._home, emergent)
        if now is not mind:
            self._life = Life(now, self._home.settings.reply)
            self._made_with = made_with(self._home, now)
            remember_measured(self._home, now, self._made_with, writes=False)

    def _differences(
        self, record: Record, lived: Experience, answer: Answer | None
    ) -> Iterator[tuple[str, int | None, str, str]]:
        """All that differs, in the order in which it came to be."""
        spoken = lived.dialogue.utterances if lived.dialogue else ()
        for was, now in zip(record["inner_speech"], spoken, strict=False):
            who = f"what {now.voice} said in round {now.round}"
            if was["prompt"] != now.prompt:
                yield f"the prompt of {who}", None, was["prompt"], now.prompt
            yield from self._token_differences(who, was["tokens"], now.tokens)
        if len(record["inner_speech"]) != len(spoken):
            yield "the inner dialogue", None, f"{len(record['inner_speech'])} utterances", f"{len(spoken)}"
        if answer is not None:
            yield from self._token_differences(
                "the reply's prompt", record["prompt_tokens"], answer.completion.prompt_tokens
            )
            doses = {dose.direction.name: dose.coefficient for dose in answer.row.intervention.doses}
            yield from _number_differences("the dose of", record["doses"], doses)
            yield from self._token_differences("the reply", record["reply_tokens"], answer.completion.tokens)
        yield from _number_differences("the state's", record["state_after"], lived.state.values)
        yield from _number_differences("the energy of", record["energies"], lived.energies)
        learned = LearnedWeights.from_plain(record["learned"])
        for frame in dict.fromkeys((*learned.changes, *lived.learned.changes)):
            was_learned, now_learned = learned.changes.get(frame, {}), lived.learned.changes.get(frame, {})
            yield from _number_differences(f"what was learned of {frame} and", was_learned, now_learned)
        for before, after in zip(record["changes"], lived.changes, strict=False):
            if StateChange(**before) != after:
                yield f"what {after.source} ({after.cause}) did to {after.axis}", None, str(before), str(asdict(after))
        if len(record["changes"]) != len(lived.changes):
            yield "how often the state moved", None, str(len(record["changes"])), str(len(lived.changes))

    def _token_differences(
        self, where: str, was: Sequence[int], now: Sequence[int]
    ) -> Iterator[tuple[str, int | None, str, str]]:
        if tokens_digest(was) == tokens_digest(now):
            return
        place = next(
            (place for place, (one, other) in enumerate(zip(was, now, strict=False)) if one != other),
            min(len(was), len(now)),
        )
        texts = [
            repr(self._model.decode(tokens[place : place + 1])) if place < len(tokens) else "its end"
            for tokens in (was, now)
        ]
        yield where, place + 1, texts[0], texts[1]


def _number_differences(
    where: str, was: Mapping[str, float], now: Mapping[str, float]
) -> Iterator[tuple[str, int | None, str, str]]:
    for name in dict.fromkeys((*was, *now)):
        if was.get(name) != now.get(name):
            yield f"{where} {name}", None, repr(was.get(name)), repr(now.get(name))


def _changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """In words, what is other than it was."""
    for name in dict.fromkeys((*was, *now)):
        one, other = was.get(name), now.get(name)
        if one == other:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            parts = [part for part in dict.fromkeys((*one, *other)) if one.get(part) != other.get(part)]
            yield f"{name} changed: {', '.join(parts)}"
        elif name in ("agent.yaml", "voices", "frames", "modules", "model"):
            yield f"{name} changed"
        else:
            yield f"{name} was {one or 'not recorded'}, is {other}"
