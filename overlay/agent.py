"""The agent: a user's turn goes in, a reply and one record of the turn come out."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from overlay.adapters import base_shapes, stale
from overlay.axes import Axis
from overlay.emergent import Emergents, living_axes
from overlay.equivalence import ModuleChoice, read_modules
from overlay.errors import ArgumentError, HomeError, ModelUnavailable
from overlay.frames import (
    NOTHING_LEARNED,
    ActiveFrame,
    FrameGraph,
    FrameTurn,
    LearnedWeights,
    effects_of,
    read_frames,
    read_learned,
    ready_calibration,
    write_learned,
)
from overlay.home import Home, RecallSettings
from overlay.inner import (
    EMERGENT,
    Dialogue,
    Event,
    Experience,
    Influence,
    Influenced,
    MeasuredMixes,
    Mind,
    State,
    StateChange,
    read_voices,
)
from overlay.memory import Filters, Memory, Recalled, SentenceEmbedder, import_vault, without_control_characters
from overlay.model import AdapterUse, LanguageModel, Volatility, VolatilityGauge, environment, resolve_embedder
from overlay.progress import Progress, SilentProgress
from overlay.records import drop_unfinished, read_journal
from overlay.reprogramming import decide, due
from overlay.session import Session, TurnRecord, last_record, mend_sessions
from overlay.state import continued, is_saved, reset_record, save_state
from overlay.treatments import lasting_treatment
from overlay.turn import Answer, Beginning, Life, ShownNote, Stages


@dataclass(frozen=True)
class Reply:
    """What came back from a turn, and what led to it.

    Attributes:
        recalled: notes that stood in the reply's context, best first, each with the terms of its score.
        frames: active frames with their energy and its cause.
        state: accumulators after the turn, by axis.
        changes: how the state moved in this turn, with causes.
        volatility: what the reply's intervention costs on neutral text, nats per token.
    """

    text: str
    recalled: tuple[Recalled, ...]
    frames: tuple[ActiveFrame, ...]
    state: Mapping[str, float]
    changes: tuple[StateChange, ...]
    volatility: Volatility
    dialogue: Dialogue | None
    record: TurnRecord


@dataclass(frozen=True)
class Listener:
    """What a face may hear while a turn goes on; each part is optional."""

    stage: Callable[[str], None] = lambda stage: None
    recalled: Callable[[Sequence[Recalled]], None] = lambda recalled: None
    state: Callable[[Mapping[str, float]], None] = lambda state: None
    piece: Callable[[str], None] = lambda piece: None


class Agent:
    """An agent in its home. Open it with `Agent.open`, best in a `with`; one turn at a time."""

    def __init__(
        self,
        home: Home,
        model: LanguageModel,
        memory: Memory,
        mind: Mind,
        clock: Callable[[], float] = time.time,
        session: str | None = None,
    ) -> None:
        self.home = home
        self.model = model
        self.memory = memory
        self.mind = mind
        self.influence = mind.influence
        self.state = State.resting(mind.settings)
        self.energies: dict[str, float] = {}
        self.learned = NOTHING_LEARNED
        self._history: dict[int, tuple[str, str]] = {}
        self._session = Session(home.sessions, session)
        self._turn_lock = threading.Lock()
        self._is_open = True
        self.notices: tuple[str, ...] = ()
        """What a face should tell before the first turn, such as that a damaged journal was set aside."""
        self._clock = clock
        self._last_time: float | None = None
        self._attached: list[str] = []
        self._life = Life(mind, home.settings.reply)
        self._is_new = True
        self._made_with: Mapping[str, Any] = {}
        emergent = home.settings.state.emergent
        self._emergents = Emergents(home, mind, emergent) if emergent is not None else None

    @classmethod
    def open(
        cls,
        home: Home | Path | str,
        *,
        model: LanguageModel | None = None,
        dtype: str = "auto",
        pull: bool = True,
        session: str | None = None,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Agent:
        """Open the agent of a home: load the model, build what isn't built yet, take up where it left off.

        State, frames and notes are always taken up. The conversation is, if its session is named; otherwise a new
        one begins.

        Args:
            model: an already loaded model to use instead of the home's.
            session: the newest session, to go on with it.
            pull: fetch the home's model and embedder when they are known and missing.
            clock: gives epoch seconds; half-lives in wall-clock time go by it.

        Raises:
            ArgumentError: the named session isn't the newest one.
            HomeError, HomeLocked, DocumentError, ModelUnavailable, AxisMissing, AxisUnproven, AdapterError
        """
        home = home if isinstance(home, Home) else Home.open(home)
        _require_known(home)
        settings = home.settings
        progress = progress or SilentProgress()
        embedder = open_embedder(home, pull=pull, progress=progress)
        # The memory holds the home's lock: take it before anything slow.
        memory = Memory.open(home.lived, embedder, settings=settings.memory)
        agent: Agent | None = None
        try:
            if model is None:
                progress.step(f"loading {settings.model}", None, None)
                model = LanguageModel.load(settings.model, dtype=dtype, pull=pull, progress=progress)
            for folder in (home.sessions, home.lived / "state", home.lived / "emergent"):
                drop_unfinished(folder)
            notices = mend_sessions(home.sessions)
            notices += _rewrite_itself(home, model, clock, progress)
            mind = prepare_mind(home, model, embedder, progress)
            if home.notes.is_dir():
                progress.step("reading the notes", None, None)
                notices += tuple(str(one) for one in import_vault(memory, home.notes).skipped)
            agent = cls(home, model, memory, mind, clock, session)
            agent._attached = attach_adapters(home, mind)
            agent._take_up(session)
            agent.notices = notices + _stale_adapters(home, mind, memory)
            agent._made_with = made_with(home, agent.mind)
            remember_measured(home, agent.mind, agent._made_with, writes=True)
            # Whatever stands in it rounds a little differently than what is encoded anew: a session begins without.
            model.prefixes.clear()
        except BaseException:
            if agent is not None:
                agent.close()
            memory.close()
            raise
        return agent

    def turn(
        self,
        text: str,
        *,
        listener: Listener | None = None,
        cancelled: threading.Event | None = None,
        seed: int | None = None,
    ) -> Reply:
        """Answer one turn. The turn is lived as a whole or, after an exception, not at all.

        Set `cancelled` to stop the reply early; what was said so far is kept as the reply. `seed` is that of a turn
        which this one is set beside; by default each turn of a session has its own.
        """
        with self._turn_lock:
            self._require(text)
            return self._turn(text, listener or Listener(), cancelled, seed)

    async def aturn(self, text: str, *, listener: Listener | None = None) -> Reply:
        """`turn` without blocking the event loop; cancelling the task stops the reply early."""
        cancelled = threading.Event()
        work = asyncio.create_task(asyncio.to_thread(self.turn, text, listener=listener, cancelled=cancelled))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled.set()
            await work
            raise

    def live(self, text: str, *, seed: int | None = None) -> TurnRecord:
        """Read something and think about it without replying; the state builds up as in a turn."""
        with self._turn_lock:
            self._require(text)
            beginning = self._beginning(seed)
            lived = self._life.think(text, beginning)
            record = self._record("lived", text, beginning, lived)
            self._commit(record, lived)
            self._look_at_drift(record, Listener())
            return record

    def intervention(self) -> Influenced:
        """The present state as an intervention inside the budget."""
        return self.influence.of(self.state)

    def reset_state(self) -> TurnRecord:
        """Put every accumulator back to rest, as one more record of the session; all else stays as it was lived."""
        with self._turn_lock:
            self._require_open()
            settings = self.mind.settings
            learned = self.learned.to_plain()
            record = reset_record(
                self._session, self.state, settings, self.energies, learned, self._clock(), self.model.digest
            )
            self._session.append(record)
            self.state, self._last_time = State(record.state_after), record.time
            save_state(self.home, asdict(record))
            return record

    def go_on_as_if_never_closed(self) -> None:
        """Say that the model's caches hold the session so far: whoever calls has filled them, as a replay does."""
        self._is_new = False

    def close(self) -> None:
        """Close the home. Every turn that was answered is on disk already; a second call changes nothing."""
        if self._is_open:
            self._is_open = False
            for name in self._attached:
                self.model.detach(name)
            self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- one turn --------------------------------------------------------------------------------

    def _turn(self, text: str, listener: Listener, cancelled: threading.Event | None, seed: int | None) -> Reply:
        beginning = self._beginning(seed)
        listener.stage("recalling")
        woken = self._life.wake(text, beginning)
        recalled = self._recall(text, woken)
        listener.recalled(recalled)
        notes = [ShownNote(entry.note.id, shown_of(entry)) for entry in recalled]
        stages = Stages(listener.stage, listener.state, listener.piece)
        lived, answer = self._life.answer(text, beginning, notes, woken=woken, stages=stages, cancelled=cancelled)
        record = self._record("turn", text, beginning, lived, recalled, answer)
        self._commit(record, lived)
        self._history[record.number] = (text, answer.completion.text)
        self._look_at_drift(record, listener)
        listener.stage("")
        return Reply(
            text=answer.completion.text,
            recalled=recalled,
            frames=lived.active,
            state=dict(lived.state.values),
            changes=lived.changes,
            volatility=answer.influenced.volatility,
            dialogue=lived.dialogue,
            record=record,
        )

    def _beginning(self, seed: int | None) -> Beginning:
        # A clock that was set back has let no time pass.
        seconds = 0.0 if self._last_time is None else max(0.0, self._clock() - self._last_time)
        seed = self._next_seed() if seed is None else seed
        return Beginning(self.state, self.energies, self._shown_history, seconds, seed, self.learned)

    def _recall(self, text: str, woken: FrameTurn) -> tuple[Recalled, ...]:
        """Notes for this turn, without those turns that its context holds anyway; state and frames have their say."""
        recall = self.home.settings.recall
        if not recall.count:
            return ()
        shown = {
            f"session:{self._session.name}:turn:{number}:{role}"
            for number in shown_turns(list(self._history), recall)
            for role in ("user", "reply")
        }
        wanted = recall_wishes(woken, self.state)
        found = self.memory.recall(text, recall.count + len(shown), **wanted)
        return tuple(entry for entry in found if entry.note.id not in shown)[: recall.count]

    @property
    def _shown_history(self) -> tuple[tuple[str, str], ...]:
        """The turns before this one that contexts hold."""
        return tuple(shown_turns(list(self._history.values()), self.home.settings.recall))

    # --- what is kept ----------------------------------------------------------------------------

    def _record(
        self,
        kind: str,
        text: str,
        beginning: Beginning,
        lived: Experience,
        recalled: Sequence[Recalled] = (),
        answer: Answer | None = None,
    ) -> TurnRecord:
        dialogue = lived.dialogue
        contexts = [*(dialogue.contexts if dialogue else ()), *((answer.context,) if answer else ())]
        return TurnRecord(
            session=self._session.name,
            number=self._session.count + 1,
            kind=kind,
            time=self._clock(),
            seed=beginning.seed,
            user=text,
            reply=answer.completion.text if answer else "",
            state_before=dict(beginning.state.values),
            state_after=dict(lived.state.values),
            energies=lived.energies,
            energies_before=dict(beginning.energies),
            learned_before=beginning.learned.to_plain(),
            learned=lived.learned.to_plain(),
            seconds=beginning.seconds,
            opened=self._is_new,
            recalled=[
                {
                    "id": entry.note.id,
                    "text": shown_of(entry),
                    "score": entry.score,
                    "terms": dict(entry.terms),
                }
                for entry in recalled
            ],
            frames=[
                {"name": entry.frame.name, "energy": entry.energy, "cause": str(entry.cause)} for entry in lived.active
            ],
            changes=[asdict(change) for change in lived.changes],
            inner_speech=[asdict(utterance) for utterance in dialogue.utterances] if dialogue else [],
            dialogue_mode=self.home.settings.dialogue.mode,
            dialogue_ended=dialogue.ended if dialogue else "off",
            resonance=[asdict(one) for one in dialogue.resonance] if dialogue else [],
            contexts=[asdict(one) for one in contexts],
            model_digest=self.model.digest,
            made_with=self._made_with,
            **(_answered(answer) if answer else {}),
        )

    def _commit(self, record: TurnRecord, lived: Experience) -> None:
        """The journal makes the turn real; the state file and the notes follow from it."""
        self._session.append(record)
        self._is_new = False
        self.state = lived.state
        self.energies = lived.energies
        self.learned = lived.learned
        self._last_time = record.time
        self._keep_traces(asdict(record))

    def _look_at_drift(self, record: TurnRecord, listener: Listener) -> None:
        """Gather what the turn's inner speech adds to the drift and, when a look is due, see what has emerged."""
        if self._emergents is None:
            return
        self._emergents.gather(asdict(record))
        if not self._emergents.is_due:
            return
        listener.stage("looking at its own drift")
        if events := self._emergents.look():
            self._grow(events)

    def _grow(self, events: Sequence[Event]) -> None:
        """Take emergent axes into force as they are now, and journal what happened to them."""
        mind = grown(self.mind, self.home, living_axes(self.home, self.model.digest))
        if mind is not self.mind:
            self.mind, self.influence = mind, mind.influence
            self._life = Life(mind, self.home.settings.reply)
            self._made_with = made_with(self.home, mind)
            remember_measured(self.home, mind, self._made_with, writes=True)
        state = continued(self.state.values, self.mind.settings)
        record = TurnRecord(
            session=self._session.name,
            number=self._session.count + 1,
            kind="emerged",
            time=self._clock(),
            seed=0,
            user="",
            reply="",
            state_before=dict(self.state.values),
            state_after=dict(state.values),
            energies=self.energies,
            energies_before=self.energies,
            learned_before=self.learned.to_plain(),
            learned=self.learned.to_plain(),
            opened=self._is_new,
            events=[asdict(event) for event in events],
            model_digest=self.model.digest,
            made_with=self._made_with,
        )
        self._session.append(record)
        self.state, self._last_time = state, record.time
        save_state(self.home, asdict(record))

    def _keep_traces(self, record: Mapping[str, Any]) -> None:
        """Write what follows from a journalled turn; the state file comes last and says that all of it is done."""
        place = f"session:{record['session']}:turn:{record['number']}"
        said = {
            "turn": [("user", record["user"]), ("reply", record["reply"])],
            "lived": [("user", record["user"])],
        }.get(record["kind"], [])
        for number, (role, written) in enumerate(said):
            # A model may write what no note takes.
            if (text := without_control_characters(written)).strip():
                self.memory.remember(
                    text,
                    kind="said",
                    source=f"{place}:{role}",
                    note_id=f"{place}:{role}",
                    event_at=record["time"],
                    stream=f"session:{record['session']}",
                    place=2 * int(record["number"]) + number,
                    state=_read_from(record, role),
                    # What was recalled and said again is no new knowledge.
                    echoes=tuple(note["id"] for note in record["recalled"]) if role == "reply" else (),
                )
        if said:
            write_learned(self.home.learned_frames, LearnedWeights.from_plain(record["learned"]))
        save_state(self.home, record)

    def _take_up(self, session: str | None) -> None:
        """Go on from the newest journalled turn, finishing what a killed process left undone."""
        record = last_record(self.home.sessions)
        if session is not None:
            newest = record and record["session"]
            if session != newest:
                raise ArgumentError(
                    f"'{session}' is not the newest session",
                    f"go on with {newest}, or fork the older one: overlay fork {session} --turn N --to DIR"
                    if newest
                    else "this home has none yet: leave the session out",
                )
            records = read_journal(self.home.sessions / f"{session}.jsonl")
            self._history = {one["number"]: (one["user"], one["reply"]) for one in records if one["kind"] == "turn"}
        if record is None:
            return
        self.state = continued(record["state_after"], self.mind.settings)
        self.energies = dict(record["energies"])
        self._last_time = record["time"]
        # Not again when it is done: notes of that turn that were forgotten since must stay forgotten.
        if not is_saved(self.home, record):
            self._keep_traces(record)
        self.learned = read_learned(self.home.learned_frames)
        if self._emergents is not None:
            path = self.home.sessions / f"{record['session']}.jsonl"
            self._emergents.catch_up(one for one in read_journal(path) if one["kind"] in ("turn", "lived"))

    def _next_seed(self) -> int:
        return self.home.settings.seed * 1_000_003 + self._session.count

    def _require_open(self) -> None:
        if not self._is_open:
            raise HomeError("this agent is closed", "open it again with `Agent.open`")

    def _require(self, text: str) -> None:
        self._require_open()
        if not text.strip():
            raise ArgumentError("a turn needs some text", "say something")


def _rewrite_itself(
    home: Home, model: LanguageModel, clock: Callable[[], float], progress: Progress
) -> tuple[str, ...]:
    """Let a state that stayed become a part of the agent, where agent.yaml allows it; says what was done."""
    proposal = due(home) if home.settings.reprogramming is not None else None
    if proposal is None:
        return ()
    gauge = VolatilityGauge(model)
    home.axes.ready(proposal.axis, model, gauge, home.settings.budget, progress)
    decision = decide(home, proposal, model, gauge, progress, now=clock(), locked=True)
    return (f"self-reprogramming of '{decision.axis}': {decision.outcome}; see `overlay reprogram`",)


def open_embedder(home: Home, *, pull: bool = True, progress: Progress | None = None) -> SentenceEmbedder:
    """The home's embedder. Raises ModelUnavailable."""
    name = home.settings.embedder
    source = resolve_embedder(name, pull=pull, progress=progress)
    if source.path is None:
        raise ModelUnavailable(f"the embedder '{name}' isn't on this machine", "fetch it once, or name a folder")
    return SentenceEmbedder(source.path, name)


def prepare_mind(
    home: Home,
    model: LanguageModel,
    embedder: SentenceEmbedder,
    progress: Progress,
    axes: Sequence[str] | None = None,
) -> Mind:
    """The mind of a home: its frames and voices, and its axes, built where they aren't yet; emergent ones included.

    Args:
        axes: the axes to accumulate instead of those in agent.yaml; unknown there, they get default settings. The
            state then acts by steering alone, no adapter is worn, and no emergent axis takes part.

    Raises:
        DocumentError: agent.yaml's state speaks of a frame or an adapter that isn't there, or fades in what is worn
            always; a voice pushes an axis that agent.yaml doesn't name.
        AdapterError: there is no adapter of the name that is to be worn.
    """
    _require_known(home, axes)
    settings = home.settings
    state = settings.state if axes is None else settings.state.for_axes(axes)
    worn = [AdapterUse(settings.adapter.name, settings.adapter.scale)] if settings.adapter and axes is None else []
    voices = read_voices(home.voices)
    written = read_frames(home.frames)
    calibration = ready_calibration(home.calibrated_frames, written, embedder)
    frames = FrameGraph(written, embedder, calibration=calibration)
    state = state.with_pushes({frame.name: frame.pushes for frame in written})
    gauge = VolatilityGauge(model)
    ready = [home.axes.ready(name, model, gauge, settings.budget, progress) for name in state.axes]
    influence = Influence(ready, gauge, settings.budget, state, worn)
    mind = Mind(model, influence, frames, voices, state, settings.dialogue, settings.system)
    if axes is not None:
        return mind
    if settings.modules is not None:
        aim = lasting_treatment(settings.modules.aim, home, model, progress=progress)
        mind = replace(mind, modules=ModuleChoice(read_modules(home.prompts), aim, settings.modules.tokens))
    return grown(mind, home, living_axes(home, model.digest))


def grown(mind: Mind, home: Home, emergent: Sequence[Axis]) -> Mind:
    """The same mind with these emergent axes beside its designed ones, each with an accumulator."""
    found = mind.influence
    if list(emergent) == [axis for axis in found.axes.values() if axis.method == EMERGENT]:
        return mind
    designed = [axis for axis in found.axes.values() if axis.method != EMERGENT]
    settings = home.settings.state.with_emergent(axis.name for axis in emergent)
    influence = Influence([*designed, *emergent], found.gauge, found.budget, settings, found.worn.adapters)
    return replace(mind, influence=influence, settings=settings)


def recall_wishes(woken: FrameTurn, state: State) -> dict[str, Any]:
    """What a recall is asked for beside the text: what the frames prefer, and the state that notes may agree with.

    Folds are left to who asks for them: they say again, shorter, what plain notes say.
    """
    effects = effects_of(woken.active)
    filters = Filters(kinds=effects.kinds, height=0)
    return {"filters": filters, "tag_boosts": effects.tag_boosts, "state": dict(state.values)}


def shown_of(entry: Recalled) -> str:
    """A note's title and first paragraph, which says what the rest explains; of a long note the passage that fits."""
    note = entry.note
    text = note.text if entry.passage.position == 0 else entry.passage.text
    paragraphs = [part for part in re.split(r"\n\s*\n", text.strip()) if not part.lstrip().startswith("#")]
    first = paragraphs[0] if paragraphs else text.strip()
    return f"{note.title} {first}" if note.title else first


def attach_adapters(home: Home, mind: Mind) -> list[str]:
    """Make resident what is worn always and what fades in with the state; detach these names again.

    Raises:
        AdapterError: one isn't trained or not safe; then none stays attached. WrongBaseModel
    """
    attached: list[str] = []
    shapes = base_shapes(mind.model.module)
    try:
        for name in _adapter_names(home, mind):
            adapter = home.adapters.load(name, mind.model.digest, shapes)
            mind.model.attach(adapter.name, adapter.folder)
            attached.append(adapter.name)
    except BaseException:
        for name in attached:
            mind.model.detach(name)
        raise
    return attached


def _adapter_names(home: Home, mind: Mind) -> list[str]:
    fading = [one.adapter for one in home.settings.state.fades_in]
    preferred = [frame.adapter.name for frame in mind.frames.frames.values() if frame.adapter]
    aimed_at = [use.name for use in mind.modules.treatment.intervention.adapters] if mind.modules else []
    return list(dict.fromkeys([*(use.name for use in mind.influence.worn.adapters), *fading, *preferred, *aimed_at]))


def _stale_adapters(home: Home, mind: Mind, memory: Memory) -> tuple[str, ...]:
    """In words, which adapters learned from notes that hold no longer."""
    loaded = [home.adapters.load(name, mind.model.digest) for name in _adapter_names(home, mind)]
    return tuple(
        f"adapter '{one.name}' is stale: {'; '.join(reasons)}" for one in loaded if (reasons := stale(one, memory))
    )


def made_with(home: Home, mind: Mind) -> dict[str, Any]:
    """What turns of this home rest on: hashes of the model, of axes, adapters and written files, and the machine."""
    return {
        "model": mind.model.digest,
        "axes": {name: axis.digest for name, axis in mind.influence.axes.items()},
        "adapters": {
            name: home.adapters.load(name, mind.model.digest).weights_sha256 for name in _adapter_names(home, mind)
        },
        "agent.yaml": _files_digest([home.folder / "agent.yaml"]),
        "voices": _files_digest(home.voices.glob("*.yaml")),
        "frames": _files_digest(home.frames.glob("*.yaml")),
        "modules": _files_digest(home.prompts.glob("*.yaml") if mind.modules else ()),
        "dtype": mind.model.dtype,
        "device": str(mind.model.device),
    } | environment()


def remember_measured(home: Home, mind: Mind, rests_on: Mapping[str, Any], *, writes: bool) -> None:
    """Let a mind know what its states were measured to cost before; only who holds the lock of the home may write.

    Args:
        rests_on: what `made_with` gives for this mind.
    """
    written = ("agent.yaml", "voices", "frames", "modules")
    facts = {name: value for name, value in rests_on.items() if name not in written} | {
        "budget": home.settings.budget,
        "worn": [[use.name, use.scale] for use in mind.influence.worn.adapters],
        "fades_in": [fading.model_dump(mode="json") for fading in mind.settings.fades_in],
        "neutral": mind.influence.gauge.digest,
    }
    mind.influence.measured = MeasuredMixes(home.lived / "volatility", facts, writes=writes)


def _files_digest(paths: Iterable[Path]) -> str:
    """A hash over names and contents."""
    state = hashlib.sha256()
    for path in sorted(paths):
        state.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()[:24]


def _read_from(record: Mapping[str, Any], role: str) -> dict[str, float]:
    """What a turn's text read on each axis when it was heard: z, by axis."""
    source = "read" if role == "user" else "said"
    return {change["axis"]: change["z"] for change in record["changes"] if change["source"] == source}


def shown_turns(turns: Sequence[Any], recall: RecallSettings) -> Sequence[Any]:
    """The last of these turns, as many as contexts hold."""
    kept = recall.history // 2
    return turns[-kept:] if kept else ()


def _answered(answer: Answer) -> dict[str, Any]:
    """What a record says of a reply."""
    completion, intervention = answer.completion, answer.row.intervention
    return {
        "doses": {dose.direction.name: dose.coefficient for dose in intervention.doses},
        "adapters": [{"name": use.name, "scale": use.scale} for use in intervention.adapters],
        "temperature": answer.row.sampling.temperature,
        "focus": [{"text": focus.keys, "weight": focus.weight} for focus in intervention.focus],
        "bans": [ban.text for ban in intervention.bans],
        "volatility": (answer.influenced.volatility.mean, answer.influenced.volatility.p95),
        "avoided": [asdict(one) for one in completion.avoided],
        "ended": completion.ended,
        "prompt_tokens": list(completion.prompt_tokens),
        "reply_tokens": list(completion.tokens),
    }


def _require_known(home: Home, axes: Sequence[str] | None = None) -> None:
    """Raise DocumentError or AdapterError unless what agent.yaml and the voices name is there; no model is needed.

    Args:
        axes: as `prepare_mind` takes them; voices may push these as well.
    """
    settings = home.settings
    state = settings.state if axes is None else settings.state.for_axes(axes)
    worn = [settings.adapter.name] if settings.adapter and axes is None else []
    # A run on other axes leaves out what voices and frames push on those of agent.yaml: that is no mistake.
    known = {*settings.state.axes, *(axes or ())}
    voices = read_voices(home.voices, known)
    frames = read_frames(home.frames, voices=[voice.name for voice in voices], axes=known, adapters=home.adapters.names)
    state.require_known(
        home.folder / "agent.yaml",
        frames=[frame.name for frame in frames],
        adapters=home.adapters.names,
        worn=worn,
    )
    for name in worn:
        home.adapters.require(name)
