"""The inner life: what thinking before a reply costs a turn, and what it saves that no text is encoded twice."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from overlay.agent import Agent, Reply
from overlay.errors import HomeError
from overlay.home import Home, create_home
from overlay.inner import State, StateSettings
from overlay.model import LanguageModel, Message, Row
from overlay.progress import Progress, SilentProgress

TURNS = 4
REPLY_TOKENS = 32
"""Every reply is cut at so many tokens, so that turns can be compared."""

ARMS: dict[str, dict[str, Any]] = {
    "off": {"mode": "off"},
    "2 voices x 1 round": {"mode": "silent", "voices": 2, "rounds": 1},
    "4 voices x 3 rounds": {"mode": "silent", "voices": 4, "rounds": 3},
}

# What asks for a long answer, so that replies reach their limit.
SAID = (
    "Tell me in detail how a wooden ship was built a few hundred years ago.",
    "Describe step by step how such a ship left the harbour, and who did what.",
    "Explain at length how the crew found their way without any instruments.",
    "Now describe in many sentences what a week at sea was like for them.",
    "Tell me a long story about a storm that they came through.",
    "Explain in detail how the ship was repaired afterwards.",
    "Describe everything that was unloaded when they came back.",
    "Write at length about what the harbour looked like that evening.",
)

EXTRA_VOICES = (
    ("archivist", "You are the part of the agent that remembers how such things went before, and says it plainly."),
    ("scout", "You are the part of the agent that looks ahead. You say what may come next, and what would show it."),
)

AXES = 8
STEPS = 400


def measure(
    model_name: str = "smollm2-135m",
    *,
    turns: int = TURNS,
    progress: Progress | None = None,
    model: LanguageModel | None = None,
    make_home: Callable[[Path], Home] | None = None,
) -> dict[str, Any]:
    """The same conversation with three inner lives, turn by turn in all of them before the next turn.

    turn_seconds: median over the turns of what `Agent.turn` takes, by inner life. The first turn, in which things are
    loaded, isn't counted anywhere. measuring_seconds: that part of it, median as well, in which the volatility of
    states was measured that hadn't been met before; it goes to 0 as the same states come back.
    tokens_said: tokens generated a turn, by the voices and in the reply; rounds: rounds of voices a turn; a dialogue
    ends earlier at a fixed point. Both say whether turns can be compared.
    tokens_encoded: prompt positions that went through the model for generations, padding included, counted at its
    forward. tokens_encoded_without_sharing: the lengths of the prompts of all these generations, which is what a loop
    encodes that keeps nothing; sharing_ratio: the latter by the former. Both in all counted turns together.
    model_calls: passes through the model a turn, mean: "encoding" of prompts, "decoding" of tokens, "reading" of texts
    on the axes, "measuring" of volatility.
    state_step_ms: one observation with eight axes that are all coupled to each other.

    Args:
        turns: how many are counted.
        make_home: makes the home, instead of the stock one with the axes that are built here already.
    """
    progress = progress or SilentProgress()
    if model is None:
        progress.step(f"loading {model_name}", None, None)
        model = LanguageModel.load(model_name, pull=True)
    with tempfile.TemporaryDirectory(prefix="overlay-inner-") as folder, contextlib.ExitStack() as stack:
        progress.step("making homes, with their axis where it isn't built yet", None, None)
        first = (make_home or _stock)(Path(folder) / "home")
        _fill_up_voices(first)
        lives = []
        for number, (name, dialogue) in enumerate(ARMS.items()):
            home = _with_dialogue(first, Path(folder) / f"home-{number}", dialogue)
            agent = stack.enter_context(Agent.open(home, model=model, progress=progress))
            lives.append(_Life(name, agent))
            if number == 0:
                # Later homes take the axis that was built for the first one, where it had to be.
                shutil.copytree(home.lived / "axes", first.lived / "axes", dirs_exist_ok=True)
        for number in range(turns + 1):
            progress.step("a conversation with three inner lives", number, turns + 1)
            for life in lives:
                life.take(SAID[number % len(SAID)], counted=number > 0)
    counted = {life.name: life.figures(turns) for life in lives}
    names = list(next(iter(counted.values())))
    return {
        "model": model.name,
        "dtype": model.dtype,
        "threads": torch.get_num_threads(),
        "turns": turns,
        **{name: {arm: figures[name] for arm, figures in counted.items()} for name in names},
        "state_step_ms": round(state_step_ms(), 4),
    }


# --- what is counted -----------------------------------------------------------------------------


@dataclass
class Counts:
    """Passes through the model by kind, and the prompt positions that they encoded."""

    calls: Counter[str] = field(default_factory=Counter)
    encoded: int = 0


@contextlib.contextmanager
def counted_passes(model: LanguageModel, counts: Counts) -> Iterator[None]:
    """Count inside the `with` what goes through the model's own forward."""

    def before(module: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
        positions = given["input_ids"]
        plan = model.steering.current
        if given.get("past_key_values") is None:
            # Only generations keep keys and values; what measures volatility asks for exact logits, reading doesn't.
            counts.calls["measuring" if plan is not None and plan.exact else "reading"] += 1
        elif positions.shape[1] == 1:
            counts.calls["decoding"] += 1
        else:
            counts.calls["encoding"] += 1
            counts.encoded += positions.numel()

    handle = model.module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def prompt_lengths(model: LanguageModel, contexts: Sequence[Mapping[str, Any]]) -> list[int]:
    """Tokens of each prompt of a turn, as its journalled contexts give them."""
    return [
        len(
            model.encode(
                Row(
                    tuple(
                        Message(message["role"], "".join(part["text"] for part in message["segments"]))
                        for message in context["messages"]
                    )
                )
            ).tokens
        )
        for context in contexts
    ]


class _Life:
    """One agent with its inner life, and what its turns cost."""

    def __init__(self, name: str, agent: Agent) -> None:
        self.name = name
        self._agent = agent
        # A cache of its own: what another life encoded would be found in a shared one.
        self._prefixes = type(agent.model.prefixes)(agent.model.prefixes.limit)
        self._counts = Counts()
        self._measuring = 0.0
        self._seconds: list[float] = []
        self._measuring_seconds: list[float] = []
        self._said = self._rounds = self._unshared = 0
        gauge = agent.influence.gauge
        measure = gauge.measure

        def timed(*given: Any) -> Any:
            begun = time.perf_counter()
            try:
                return measure(*given)
            finally:
                self._measuring += time.perf_counter() - begun

        gauge.measure = timed  # type: ignore[assignment, method-assign]

    def take(self, text: str, *, counted: bool) -> None:
        """Live one turn."""
        model, counts = self._agent.model, Counts()
        shared, model.prefixes, self._measuring = model.prefixes, self._prefixes, 0.0
        try:
            with counted_passes(model, counts):
                begun = time.perf_counter()
                reply = self._agent.turn(text)
                seconds = time.perf_counter() - begun
        finally:
            model.prefixes = shared
        if counted:
            self._seconds.append(seconds)
            self._measuring_seconds.append(self._measuring)
            self._counts.calls += counts.calls
            self._counts.encoded += counts.encoded
            self._add(reply)

    def _add(self, reply: Reply) -> None:
        lengths = prompt_lengths(self._agent.model, reply.record.contexts)
        if lengths[-1] != len(reply.record.prompt_tokens):
            raise AssertionError("the journalled context isn't what the reply's prompt was made from")
        self._unshared += sum(lengths)
        self._said += len(reply.record.reply_tokens)
        if reply.dialogue is not None:
            self._said += reply.dialogue.tokens
            self._rounds += max(said.round for said in reply.dialogue.utterances)

    def figures(self, turns: int) -> dict[str, Any]:
        """By figure, this life's value."""
        return {
            "turn_seconds": round(statistics.median(self._seconds), 2),
            "measuring_seconds": round(statistics.median(self._measuring_seconds), 2),
            "tokens_said": round(self._said / turns, 1),
            "rounds": round(self._rounds / turns, 2),
            "tokens_encoded": self._counts.encoded,
            "tokens_encoded_without_sharing": self._unshared,
            "sharing_ratio": round(self._unshared / self._counts.encoded, 2),
            "model_calls": {
                kind: round(self._counts.calls[kind] / turns, 1)
                for kind in ("encoding", "decoding", "reading", "measuring")
            },
        }


def state_step_ms(axes: int = AXES, steps: int = STEPS) -> float:
    """Median time of one observation in which every axis moves every other."""
    names = [f"axis_{number}" for number in range(axes)]
    settings = StateSettings.model_validate(
        {
            "axes": {name: {"half_life": 8, "gain": 0.3} for name in names},
            "couplings": {name: {other: 0.1 for other in names if other != name} for name in names},
        }
    )
    state = State.resting(settings)
    taken = []
    for step in range(steps):
        readings = {name: ((step + place) % 7 - 3) / 2 for place, name in enumerate(names)}
        begun = time.perf_counter()
        state, _ = state.observe(readings, settings, source="read", cause="a step", turns=1.0)
        taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


# --- homes -----------------------------------------------------------------------------------------


def _stock(folder: Path) -> Home:
    """The stock home, with the axes that the home in the current folder has built already."""
    home = create_home(folder)
    with contextlib.suppress(HomeError):
        built = Home.open(Path.cwd()).lived / "axes"
        if built.is_dir():
            shutil.copytree(built, home.lived / "axes")
    return home


def _fill_up_voices(home: Home) -> None:
    """The largest dialogue needs four voices, and the stock home may have fewer."""
    most = max(int(dialogue.get("voices", 0)) for dialogue in ARMS.values())
    extra = iter(EXTRA_VOICES)
    while len(list(home.voices.glob("*.yaml"))) < most:
        name, mask = next(extra)
        voice = {"name": name, "description": "For this measurement.", "mask": mask}
        (home.voices / f"{name}.yaml").write_text(yaml.safe_dump(voice), encoding="utf-8")


def _with_dialogue(first: Home, folder: Path, dialogue: Mapping[str, Any]) -> Home:
    """A copy of a home that thinks so."""
    shutil.copytree(first.folder, folder)
    path = folder / "agent.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["dialogue"] = dict(dialogue)
    settings["reply"] = settings.get("reply", {}) | {"max_tokens": REPLY_TOKENS}
    path.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return Home.open(folder)
