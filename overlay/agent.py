"""The agent: a user's turn goes in, a reply and one record of the turn come out."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from overlay.errors import ArgumentError, DocumentError, HomeError, ModelUnavailable
from overlay.frames import ActiveFrame, FrameGraph, read_frames
from overlay.home import Home, ReplySettings
from overlay.inner import (
    Context,
    Dialogue,
    Experience,
    Influence,
    Influenced,
    Mind,
    Segment,
    SourcedMessage,
    State,
    StateChange,
    StateSettings,
    forbidden_words,
    read_voices,
)
from overlay.memory import Memory, Note, Recalled, SentenceEmbedder, import_vault
from overlay.model import (
    AdapterUse,
    Ban,
    Completion,
    Focus,
    Intervention,
    LanguageModel,
    Row,
    Sampling,
    Volatility,
    VolatilityGauge,
    resolve_embedder,
)
from overlay.progress import Progress, SilentProgress
from overlay.session import Session, TurnRecord, last_record, mend_sessions
from overlay.state import continued, is_saved, reset_record, save_state

_KEPT_READINGS = 1024
"""Of so many recalled notes the agent remembers what they read on its axes."""


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
        self, home: Home, model: LanguageModel, memory: Memory, mind: Mind, clock: Callable[[], float] = time.time
    ) -> None:
        self.home = home
        self.model = model
        self.memory = memory
        self.mind = mind
        self.influence = mind.influence
        self.state = State.resting(home.settings.state)
        self.energies: dict[str, float] = {}
        self._history: list[tuple[str, str]] = []
        self._session = Session(home.sessions)
        self._turn_lock = threading.Lock()
        self._is_open = True
        self.notices: tuple[str, ...] = ()
        """What a face should tell before the first turn, such as that a damaged journal was set aside."""
        self._clock = clock
        self._last_time: float | None = None
        self._attached: list[str] = []
        self._note_readings: dict[str, Mapping[str, float]] = {}

    @classmethod
    def open(
        cls,
        home: Home | Path | str,
        *,
        model: LanguageModel | None = None,
        dtype: str = "auto",
        pull: bool = True,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Agent:
        """Open the agent of a home: load the model, build what isn't built yet, take up where it left off.

        Args:
            model: an already loaded model to use instead of the home's.
            pull: fetch the home's model and embedder when they are known and missing.
            clock: gives epoch seconds; half-lives in wall-clock time go by it.

        Raises:
            HomeError, HomeLocked, DocumentError, ModelUnavailable, AxisMissing, AxisUnproven, AdapterError
        """
        home = home if isinstance(home, Home) else Home.open(home)
        settings = home.settings
        progress = progress or SilentProgress()
        embedder = open_embedder(home, pull=pull, progress=progress)
        # The memory holds the home's lock: take it before anything slow.
        memory = Memory.open(home.lived, embedder)
        agent: Agent | None = None
        try:
            if model is None:
                progress.step(f"loading {settings.model}", None, None)
                model = LanguageModel.load(settings.model, dtype=dtype, pull=pull, progress=progress)
            mind = prepare_mind(home, model, embedder, progress)
            if home.notes.is_dir():
                progress.step("reading the notes", None, None)
                import_vault(memory, home.notes)
            agent = cls(home, model, memory, mind, clock)
            agent._attach_adapters()
            agent._take_up()
        except BaseException:
            if agent is not None:
                agent.close()
            memory.close()
            raise
        return agent

    def turn(self, text: str, *, listener: Listener | None = None, cancelled: threading.Event | None = None) -> Reply:
        """Answer one turn. The turn is lived as a whole or, after an exception, not at all.

        Set `cancelled` to stop the reply early; what was said so far is kept as the reply.
        """
        with self._turn_lock:
            self._require(text)
            return self._turn(text, listener or Listener(), cancelled)

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

    def live(self, text: str) -> TurnRecord:
        """Read something and think about it without replying; the state builds up as in a turn."""
        with self._turn_lock:
            self._require(text)
            seed = self._next_seed()
            state, faded = self._after_the_pause()
            lived = self.mind.experience(text, state, self.energies, seed, self._shown_history)
            state, pushed = self._pushed_by_frames(lived)
            lived = replace(lived, state=state, changes=faded + lived.changes + pushed)
            record = self._record("lived", text, seed, lived)
            self._commit(record, lived)
            return record

    def intervention(self) -> Influenced:
        """The present state as an intervention inside the budget."""
        return self.influence.of(self.state)

    def reset_state(self) -> TurnRecord:
        """Put every accumulator back to rest, as one more record of the session; all else stays as it was lived."""
        with self._turn_lock:
            self._require_open()
            settings = self.home.settings.state
            record = reset_record(self._session, self.state, settings, self.energies, self._clock(), self.model.digest)
            self._session.append(record)
            self.state, self._last_time = State(record.state_after), record.time
            save_state(self.home, asdict(record))
            return record

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

    def _turn(self, text: str, listener: Listener, cancelled: threading.Event | None) -> Reply:
        settings = self.home.settings
        seed = self._next_seed()
        before, faded = self._after_the_pause()
        listener.stage("recalling")
        recalled = self._recall(text)
        listener.recalled(recalled)
        listener.stage("thinking")
        lived = self.mind.experience(text, before, self.energies, seed, self._shown_history)
        state, pushed = self._pushed_by_frames(lived)
        state, felt = self._moved_by_notes(state, recalled)
        changes = faded + lived.changes + pushed + felt
        listener.state(state.values)
        influenced = self.influence.of(state)
        context = self._reply_context(text, recalled, lived.dialogue)
        bans = tuple(Ban(word) for word in forbidden_words(lived.active))
        row = Row(
            context.chat,
            intervention=influenced.intervention
            + self.influence.worn
            + Intervention(bans=bans, focus=self._attention(state, recalled)),
            sampling=_sampling(settings.reply, influenced),
            seed=seed,
        )
        listener.stage("replying")
        completion = self._say(row, listener, cancelled)
        if completion.text:
            (readings,) = self.influence.read(self.model, [completion.text])
            state, moved = state.observe(readings, settings.state, source="said", cause="the agent's own reply")
            changes += moved
        listener.state(state.values)
        lived = replace(lived, state=state, changes=changes)
        record = self._record("turn", text, seed, lived, recalled, influenced, completion, context)
        self._commit(record, lived)
        self._history.append((text, completion.text))
        listener.stage("")
        return Reply(
            text=completion.text,
            recalled=recalled,
            frames=lived.active,
            state=dict(state.values),
            changes=changes,
            volatility=influenced.volatility,
            dialogue=lived.dialogue,
            record=record,
        )

    def _after_the_pause(self) -> tuple[State, tuple[StateChange, ...]]:
        """The state after the time since the last turn, for those axes that fade by the clock."""
        # A clock that was set back has let no time pass.
        seconds = 0.0 if self._last_time is None else max(0.0, self._clock() - self._last_time)
        return self.state.passed(self.home.settings.state, seconds=seconds)

    def _pushed_by_frames(self, lived: Experience) -> tuple[State, tuple[StateChange, ...]]:
        return lived.state.pushed({entry.frame.name: entry.energy for entry in lived.active}, self.home.settings.state)

    def _moved_by_notes(self, state: State, recalled: Sequence[Recalled]) -> tuple[State, tuple[StateChange, ...]]:
        """Recalled notes are read like anything else; together they count as one observation."""
        settings = self.home.settings.state
        changes: tuple[StateChange, ...] = ()
        for entry in recalled if settings.heeds("recalled") else ():
            state, moved = state.observe(
                self._read_note(entry.note),
                settings,
                source="recalled",
                cause=f"note {entry.note.id}",
                share=1 / len(recalled),
            )
            changes += moved
        return state, changes

    def _read_note(self, note: Note) -> Mapping[str, float]:
        """What a note reads on the axes, as much of it as stands in contexts; notes come back, so it is kept."""
        text = _opening(note)
        if text not in self._note_readings:
            if len(self._note_readings) >= _KEPT_READINGS:
                del self._note_readings[next(iter(self._note_readings))]
            # One by one: batch mates change roundings, and a replay recalls the same notes at other times.
            (self._note_readings[text],) = self.influence.read(self.model, [text])
        return self._note_readings[text]

    def _attention(self, state: State, recalled: Sequence[Recalled]) -> tuple[Focus, ...]:
        """More attention on those recalled notes that fit the state."""
        if self.home.settings.state.focus is None:
            return ()
        notes = {_opening(entry.note): self._read_note(entry.note) for entry in recalled}
        return tuple(one.focus for one in self.influence.focus(state, notes) if one.focus is not None)

    def _say(self, row: Row, listener: Listener, cancelled: threading.Event | None) -> Completion:
        for part in self.model.stream(row, cancelled):
            if isinstance(part, Completion):
                return part
            listener.piece(part)
        raise AssertionError("a stream ends with its completion")

    def _recall(self, text: str) -> tuple[Recalled, ...]:
        """Notes for this turn, without those turns that its context holds anyway."""
        recall = self.home.settings.recall
        if not recall.count:
            return ()
        shown = {
            f"session:{self._session.name}:turn:{number}:{role}"
            for number in range(self._session.count - recall.history // 2 + 1, self._session.count + 1)
            for role in ("user", "reply")
        }
        found = self.memory.recall(text, recall.count + len(shown))
        return tuple(entry for entry in found if entry.note.id not in shown)[: recall.count]

    def _reply_context(self, text: str, recalled: Sequence[Recalled], dialogue: Dialogue | None) -> Context:
        asked = [Segment("user", text)]
        if recalled:
            # Small models use notes that stand next to the question, and short ones.
            notes = [Segment(f"note:{entry.note.id}", _opening(entry.note) + "\n\n") for entry in recalled]
            asked = [Segment("template", "Notes:\n\n"), *notes, Segment("template", "Question: "), *asked]
        if dialogue is not None and self.home.settings.dialogue.mode == "spoken":
            asked.append(Segment("template", "\n\nYour own thoughts:"))
            asked += [Segment(f"voice:{voice}", f"\n{words}") for voice, words in dialogue.summary]
        opening = self.mind.opening(self._shown_history)
        return Context("reply", (*opening, SourcedMessage("user", tuple(asked))))

    @property
    def _shown_history(self) -> list[tuple[str, str]]:
        """The turns before this one that contexts hold."""
        kept = self.home.settings.recall.history // 2
        return self._history[-kept:] if kept else []

    # --- what is kept ----------------------------------------------------------------------------

    def _record(
        self,
        kind: str,
        text: str,
        seed: int,
        lived: Experience,
        recalled: Sequence[Recalled] = (),
        influenced: Influenced | None = None,
        completion: Completion | None = None,
        context: Context | None = None,
    ) -> TurnRecord:
        dialogue = lived.dialogue
        contexts = [*(dialogue.contexts if dialogue else ()), *((context,) if context else ())]
        return TurnRecord(
            session=self._session.name,
            number=self._session.count + 1,
            kind=kind,
            time=self._clock(),
            seed=seed,
            user=text,
            reply=completion.text if completion else "",
            state_before=dict(self.state.values),
            state_after=dict(lived.state.values),
            energies=lived.energies,
            recalled=[{"id": entry.note.id, "score": entry.score, "terms": dict(entry.terms)} for entry in recalled],
            frames=[
                {"name": entry.frame.name, "energy": entry.energy, "cause": str(entry.cause)} for entry in lived.active
            ],
            changes=[asdict(change) for change in lived.changes],
            inner_speech=[asdict(utterance) for utterance in dialogue.utterances] if dialogue else [],
            dialogue_mode=self.home.settings.dialogue.mode,
            dialogue_ended=dialogue.ended if dialogue else "off",
            resonance=[asdict(one) for one in dialogue.resonance] if dialogue else [],
            avoided=[asdict(one) for one in completion.avoided] if completion else [],
            doses={dose.direction.name: dose.coefficient for dose in influenced.intervention.doses}
            if influenced
            else {},
            volatility=(influenced.volatility.mean, influenced.volatility.p95) if influenced else (0.0, 0.0),
            adapter=", ".join(
                use.name
                for use in (*self.influence.worn.adapters, *(influenced.intervention.adapters if influenced else ()))
            ),
            ended=completion.ended if completion else "",
            contexts=[asdict(one) for one in contexts],
            prompt_tokens=list(completion.prompt_tokens) if completion else [],
            reply_tokens=list(completion.tokens) if completion else [],
            model_digest=self.model.digest,
        )

    def _commit(self, record: TurnRecord, lived: Experience) -> None:
        """The journal makes the turn real; the state file and the notes follow from it."""
        self._session.append(record)
        self.state = lived.state
        self.energies = lived.energies
        self._last_time = record.time
        self._keep_traces(asdict(record))

    def _keep_traces(self, record: Mapping[str, Any]) -> None:
        """Write what follows from a journalled turn; the state file comes last and says that all of it is done."""
        place = f"session:{record['session']}:turn:{record['number']}"
        said = (
            [("user", record["user"])]
            if record["kind"] == "lived"
            else [("user", record["user"]), ("reply", record["reply"])]
        )
        for role, text in said:
            if text.strip():
                self.memory.remember(
                    text, kind="said", source=f"{place}:{role}", note_id=f"{place}:{role}", event_at=record["time"]
                )
        save_state(self.home, record)

    def _take_up(self) -> None:
        """Go on from the newest journalled turn, finishing what a killed process left undone."""
        self.notices = mend_sessions(self.home.sessions)
        record = last_record(self.home.sessions)
        if record is None:
            return
        self.state = continued(record["state_after"], self.home.settings.state)
        self.energies = dict(record["energies"])
        self._last_time = record["time"]
        # Not again when it is done: notes of that turn that were forgotten since must stay forgotten.
        if not is_saved(self.home, record):
            self._keep_traces(record)

    def _attach_adapters(self) -> None:
        """Make resident what is worn always and what fades in with the state."""
        fading = [use.adapter for use in self.home.settings.state.fades_in]
        for name in (*(use.name for use in self.influence.worn.adapters), *fading):
            adapter = self.home.adapters.load(name, self.model.digest)
            self.model.attach(adapter.name, adapter.folder)
            self._attached.append(adapter.name)

    def _next_seed(self) -> int:
        return self.home.settings.seed * 1_000_003 + self._session.count

    def _require_open(self) -> None:
        if not self._is_open:
            raise HomeError("this agent is closed", "open it again with `Agent.open`")

    def _require(self, text: str) -> None:
        self._require_open()
        if not text.strip():
            raise ArgumentError("a turn needs some text", "say something")


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
    """The mind of a home: its frames and voices, and its axes, built where they aren't yet.

    Args:
        axes: the axes to accumulate instead of those in agent.yaml; unknown there, they get default settings. The
            state then acts by steering alone, and no adapter is worn.

    Raises:
        DocumentError: agent.yaml's state speaks of a frame that isn't there, or fades in what is worn always.
    """
    settings = home.settings
    state = settings.state if axes is None else settings.state.for_axes(axes)
    worn = [AdapterUse(settings.adapter.name, settings.adapter.scale)] if settings.adapter and axes is None else []
    frames = FrameGraph(read_frames(home.frames), embedder)
    _require_known(state, frames, worn, home.folder / "agent.yaml")
    voices = read_voices(home.voices)
    gauge = VolatilityGauge(model)
    ready = [home.axes.ready(name, model, gauge, settings.budget, progress) for name in state.axes]
    influence = Influence(ready, gauge, settings.budget, state, worn)
    return Mind(model, influence, frames, voices, state, settings.dialogue, settings.system)


def _opening(note: Note) -> str:
    """A note's title and first paragraph, which says what the rest explains."""
    first = note.text.strip().split("\n\n", 1)[0]
    return f"{note.title} {first}" if note.title else first


def _sampling(settings: ReplySettings, influenced: Influenced) -> Sampling:
    if influenced.temperature is None:
        return settings.sampling
    return replace(settings.sampling, temperature=influenced.temperature)


def _require_known(state: StateSettings, frames: FrameGraph, worn: Sequence[AdapterUse], path: Path) -> None:
    """Raise DocumentError unless what the state's settings name is there to be used."""
    for frame in (*state.pushes, *(waking.frame for waking in state.wakes)):
        if frame not in frames.frames:
            raise DocumentError(
                path, None, f"state speaks of the frame '{frame}'", f"use one of {', '.join(frames.frames) or 'none'}"
            )
    for fading in state.fades_in:
        if fading.adapter in [use.name for use in worn]:
            raise DocumentError(
                path,
                None,
                f"the adapter '{fading.adapter}' is worn always and can't fade in",
                "take it out of `adapter`, or out of `state.fades_in`",
            )
