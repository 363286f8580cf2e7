"""The agent of a home as it stands now, for those who ask it much and let it live through nothing of that."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from overlay.agent import (
    attach_adapters,
    made_with,
    open_embedder,
    prepare_mind,
    recall_wishes,
    remember_measured,
    shown_of,
)
from overlay.errors import ArgumentError, GenerationFailed, HomeError
from overlay.fork import BUILT
from overlay.frames import read_learned
from overlay.home import Home, ReplySettings
from overlay.inner import Experience, State
from overlay.memory import Memory, Recalled, copy_truth, import_vault
from overlay.model import LanguageModel
from overlay.progress import Progress, SilentProgress
from overlay.session import last_record
from overlay.state import continued
from overlay.turn import Answer, Beginning, Life, ShownNote

_COPIED = ("memory", "adapters")
_COPIED_LIVED = (*BUILT, "volatility")
"""What the present rests on besides the newest turn and the notes; sessions stay where they are."""


@dataclass(frozen=True)
class PresentAnswer:
    """One answer and what it came from; nothing of it was kept.

    Attributes:
        lived: what the turn would have made of the state.
        recalled: the notes that stood in the reply's context, best first.
    """

    lived: Experience
    answer: Answer
    recalled: tuple[Recalled, ...]


class PresentAgent:
    """The agent of a home at one moment. Every answer begins at that moment, whatever was asked before.

    It works on a copy of the home, so that another process may live in the home meanwhile and nothing is written
    there, nor are turns noted in the copy. It never looks at its own drift, and it never rewrites itself.
    """

    def __init__(self, home: Home, model: LanguageModel, memory: Memory, life: Life, begun: Beginning) -> None:
        self.home = home
        self.model = model
        self._memory = memory
        self._life = life
        self._begun = begun
        self._asked: dict[object, int] = {}
        self._lock = threading.Lock()
        self._closing = contextlib.ExitStack()
        self._is_open = True

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        with_state: bool = True,
        dtype: str = "auto",
        pull: bool = True,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.time,
    ) -> PresentAgent:
        """Copy a home as it is and take its agent up where the newest turn left it.

        Axes that the home hasn't built yet are built for the copy alone, each time anew.

        Args:
            with_state: otherwise every accumulator begins at rest, as if nothing had built up; frames stay as awake as
                they are and notes stay remembered.
            clock: gives epoch seconds, once: what has faded since the newest turn goes by it.

        Raises:
            HomeError, DocumentError, RecordDamaged, ModelUnavailable, AxisMissing, AxisUnproven, AdapterError
        """
        original = Home.open(folder)
        progress = progress or SilentProgress()
        with contextlib.ExitStack() as stack:
            home = _copied(original, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="overlay-present-"))))
            embedder = open_embedder(home, pull=pull, progress=progress)
            memory = Memory.open(home.lived, embedder, settings=home.settings.memory)
            stack.callback(memory.close)
            progress.step(f"loading {home.settings.model}", None, None)
            model = LanguageModel.load(home.settings.model, dtype=dtype, pull=pull, progress=progress)
            mind = prepare_mind(home, model, embedder, progress)
            if home.notes.is_dir():
                progress.step("reading the notes", None, None)
                import_vault(memory, home.notes)
            for name in attach_adapters(home, mind):
                stack.callback(model.detach, name)
            remember_measured(home, mind, made_with(home, mind), writes=False)
            state, energies, seconds = State.resting(mind.settings), {}, 0.0
            if record := last_record(original.sessions):
                if with_state:
                    state = continued(record["state_after"], mind.settings)
                energies = dict(record["energies"])
                seconds = max(0.0, clock() - record["time"])
            begun = Beginning(state, energies, (), seconds, home.settings.seed, read_learned(original.learned_frames))
            agent = cls(home, model, memory, Life(mind, home.settings.reply), begun)
            agent._closing = stack.pop_all()
            return agent

    @property
    def state(self) -> Mapping[str, float]:
        """The accumulators that every answer begins from, by axis."""
        return dict(self._begun.state.values)

    def answer(
        self,
        text: str,
        history: Sequence[tuple[str, str]] = (),
        *,
        instructions: str = "",
        reply: ReplySettings | None = None,
        seed: int | None = None,
        cancelled: threading.Event | None = None,
    ) -> PresentAnswer:
        """Answer one turn of a conversation that begins now; callers of other threads wait for each other.

        Args:
            history: (said, answered) before this turn, all of which its contexts hold. It is read as part of the
                context and was not lived: it moves no accumulator.
            instructions: stand after the home's own system text, in every context of the turn.
            reply: how to sample instead of agent.yaml's way; a temperature that the state sets stays the state's.
            seed: by default the home's first one, and for words that were asked before the next one.
            cancelled: set it to end the reply early.

        Raises:
            ArgumentError: there is no text. HomeError: it was closed. GenerationFailed: it was cancelled while others
                were being answered.
        """
        if not text.strip():
            raise ArgumentError("a turn needs some text", "say something")
        with self._lock:
            if not self._is_open:
                raise HomeError("this agent is closed", "open it again with `PresentAgent.open`")
            if cancelled is not None and cancelled.is_set():
                raise GenerationFailed("the turn was cancelled before it began")
            life, shown = self._life, tuple(history)
            if instructions.strip():
                system = f"{life.mind.system.strip()}\n\n{instructions.strip()}"
                life = Life(replace(life.mind, system=system), reply or self.home.settings.reply)
            elif reply is not None:
                life = Life(life.mind, reply)
            if seed is None:
                words = (text, shown, instructions)
                times = self._asked[words] = self._asked.get(words, -1) + 1
                seed = self.home.settings.seed * 1_000_003 + times
            # What an earlier answer left there rounds a little differently than what is encoded anew.
            self.model.prefixes.clear()
            count = self.home.settings.recall.count
            beginning = replace(self._begun, history=shown, seed=seed)
            woken = life.wake(text, beginning)
            wanted = recall_wishes(woken, beginning.state)
            recalled = tuple(self._memory.recall(text, count, **wanted)) if count else ()
            notes = [ShownNote(entry.note.id, shown_of(entry)) for entry in recalled]
            lived, answer = life.answer(text, beginning, notes, woken=woken, cancelled=cancelled)
            return PresentAnswer(lived, answer, recalled)

    def close(self) -> None:
        """Drop the copy; a second call changes nothing."""
        with self._lock:
            self._closing.close()
            self._is_open = False


def _copied(home: Home, target: Path) -> Home:
    """A copy of what the present rests on. The memory's index is built anew from its truth."""
    shutil.copy2(home.folder / "agent.yaml", target / "agent.yaml")
    places = [*_COPIED, *(f"{home.lived.name}/{name}" for name in _COPIED_LIVED)]
    for place in places:
        if (home.folder / place).is_dir():
            shutil.copytree(home.folder / place, target / place)
    copy = Home.open(target)
    if (source := home.lived / "memory.db").exists():
        copy.lived.mkdir(exist_ok=True)
        copy_truth(source, copy.lived / "memory.db")
    return copy
