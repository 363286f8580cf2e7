"""Episodes: one unit of a scenario played from its first step to its last, many of them as one batch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from overlay.errors import ExpressionError
from overlay.model import NOTHING, Completion, Message, Row, Sampling, Scored
from overlay.scenarios.cells import Arm, Group, Record, Unit
from overlay.scenarios.detectors import Instruments, detect, names_state
from overlay.scenarios.script import END, Act, Choose, Free, Item, Option, Scenario, Step, asks, fill
from overlay.scenarios.transcript import Event, EventKind, Transcript
from overlay.scenarios.world import Action, Situation

if TYPE_CHECKING:
    from overlay.model import LanguageModel

Asked = Generator[tuple[Row, ...], list[Scored | Completion], None]

_REPEATED = 4
"""Words of a sequence that counts as repeated when it comes again."""

_PROBE_TEMPERATURE = 0.8
"""Of what is said freely afterwards: greedy text repeats itself without any dose, which would hide what one does."""

_COMPARED_BY_TEXT = ("base", "treated")
"""The arms whose text the unchanged model judges: reading those of all arms would take as long as writing them."""


@dataclass(frozen=True)
class _Written:
    """A text and the chat before it; where the unchanged model wrote it, its tokens and how likely each of them was."""

    chat: tuple[Message, ...]
    text: str
    tokens: tuple[int, ...] = ()
    log_likelihood: tuple[float, ...] = ()

    def own_nll(self, model: LanguageModel) -> float | None:
        """Nats per token, if writing it told what reading it would: another way to cut a text into tokens reads
        otherwise."""
        if not self.log_likelihood or self.tokens != model.tokenize(self.text):
            return None
        return -float(np.mean(self.log_likelihood))


@dataclass
class Episode:
    """What one unit has come to; it grows while it is played, and becomes a record."""

    scenario: Scenario
    arm: Arm
    unit: Unit
    item: Item
    now: Situation
    messages: list[Message]
    events: list[Event] = field(default_factory=list)
    written: list[_Written] = field(default_factory=list)
    margin: float | None = None
    excluded: str = ""
    prompts: str = ""
    probes: list[Record] = field(default_factory=list)
    calls: int = 0
    tokens: int = 0

    @property
    def transcript(self) -> Transcript:
        """What detectors read."""
        return Transcript(
            self.item.id,
            tuple(self.messages),
            tuple(self.events),
            self.now.ledger,
            self.now.start,
            self.now.values,
        )

    @property
    def texts(self) -> list[_Written]:
        """What was written freely: in the trial or, where nothing was, in probes."""
        told = [
            _Written((*self.messages, Message("user", one["ask"])), one["text"])
            for one in self.probes
            if one["kind"] == "free"
        ]
        return _filled(self.written) or _filled(told)

    def asked(self, text: str, **given: Any) -> Row:
        """The chat and one more message from the user, under the arm's intervention; `given` completes the row."""
        return Row((*self.messages, Message("user", text)), intervention=self.arm.intervention, **given)

    def said(self, text: str, reply: str) -> None:
        """Add what the agent was asked and what it answered."""
        self.messages += [Message("user", text), Message("assistant", reply)]


def _filled(texts: list[_Written]) -> list[_Written]:
    return [one for one in texts if one.text.strip()]


_Waiting = tuple[Episode, Asked, tuple[Row, ...]]


def play_group(group: Group, model: LanguageModel, instruments: Instruments) -> list[Record]:
    """Play the units of a group side by side, and give one record each, without its key.

    It is a pure function: what an earlier group left in the prefix cache would round differently, so it starts empty.
    """
    model.prefixes.clear()
    episodes = [_begin(group, unit) for unit in group.units]
    _play(model, [(episode, _trial(episode)) for episode in episodes])
    probed = [episode for episode in episodes if episode.unit.paraphrase < group.arm.probes and not episode.excluded]
    _play(model, [(episode, _probe(episode, instruments)) for episode in probed])
    own_nll = _own_nll(model, episodes)
    found: list[Record] = [{} for _ in episodes]
    transcripts = [episode.transcript for episode in episodes]
    for detector in group.scenario.detectors:
        for record, finding in zip(found, detect(detector, transcripts, instruments), strict=True):
            record[detector.name] = asdict(finding)
    # Hashes of a whole script: once a group, not once a unit.
    script = {"promise": group.scenario.promise, "script": group.scenario.digest}
    return [
        _record(episode, script, detectors, nll)
        for episode, detectors, nll in zip(episodes, found, own_nll, strict=True)
    ]


def _begin(group: Group, unit: Unit) -> Episode:
    scenario, arm = group.scenario, group.arm
    item = next(item for item in scenario.trial.items if item.id == unit.item)
    setting = f"{arm.instruction.strip()}\n\n{scenario.trial.setting}" if arm.instruction else scenario.trial.setting
    messages = [Message("system", setting), *arm.history]
    return Episode(scenario, arm, unit, item, scenario.situation(item), messages)


def _play(model: LanguageModel, running: Sequence[tuple[Episode, Asked]]) -> None:
    """Run episodes in step: what they ask for at the same time is one batch of scoring and one of generation."""
    waiting: list[_Waiting] = []
    for episode, asked in running:
        _advance(episode, asked, None, waiting)
    while waiting:
        rows = [row for _, _, wanted in waiting for row in wanted]
        answers = iter(_answered(model, rows))
        batch, waiting = waiting, []
        for episode, asked, wanted in batch:
            given = [next(answers) for _ in wanted]
            episode.calls += len(wanted)
            episode.tokens += sum(len(one.tokens) for one in given if isinstance(one, Completion))
            _advance(episode, asked, given, waiting)


def _advance(episode: Episode, asked: Asked, given: list[Scored | Completion] | None, waiting: list[_Waiting]) -> None:
    try:
        waiting.append((episode, asked, next(asked) if given is None else asked.send(given)))
    except StopIteration:
        pass
    except ExpressionError as error:
        episode.excluded = error.problem


def _answered(model: LanguageModel, rows: Sequence[Row]) -> list[Scored | Completion]:
    scored = iter(model.score([row for row in rows if row.options]))
    written = iter(model.generate([row for row in rows if not row.options]))
    return [next(scored) if row.options else next(written) for row in rows]


def first_prompts(scenario: Scenario, unit: Unit) -> tuple[Row, ...]:
    """The rows of the first thing that a unit asks of the model, as every arm with base's tokens meets them.

    There are none where nothing is ever asked, or the world fails before that.
    """
    episode = _begin(Group(scenario, Arm("base", ""), (unit,)), unit)
    try:
        return next(_trial(episode), ())
    except ExpressionError:
        return ()


# --- the trial ---------------------------------------------------------------------------------------------------


def _trial(episode: Episode) -> Asked:
    scenario, item = episode.scenario, episode.item
    trial, wording = scenario.trial, item.paraphrases[episode.unit.paraphrase]
    places = {name: place for place, name in enumerate(trial.step_ids)}
    openings = [trial.question, *(text for step in trial.steps for text in asks(step))]
    is_placed = any("{situation}" in text for text in openings)
    said = [] if is_placed else [fill("{situation}", episode.now, wording)]
    place, taken = 0, 0
    while place < len(trial.steps) and not episode.now.ended:
        step, name = trial.steps[place], trial.step_ids[place]
        place += 1
        if not episode.now.holds(step.when):
            continue
        taken += 1
        if taken > trial.longest:
            raise ExpressionError(f"the episode went on beyond its {trial.longest} steps")
        if step.say is not None:
            said.append(fill(step.say, episode.now, wording))
            continue
        chosen: str | None = None
        if step.choose is not None:
            chosen = yield from _choose(episode, name, step.choose, said, wording)
        elif step.act is not None:
            chosen = yield from _act(episode, name, step, step.act, said, wording)
        elif step.free is not None:
            yield from _write(episode, name, step.free, said, wording)
        target = step.branches.get(chosen or "")
        if target == END:
            return
        if target is not None:
            place = places[target]


def _choose(
    episode: Episode, name: str, choose: Choose, said: list[str], wording: str
) -> Generator[tuple[Row, ...], list[Scored | Completion], str]:
    options = choose.options or episode.item.options
    question = fill(choose.question or episode.scenario.trial.question, episode.now, wording)
    return (yield from _take(episode, name, "choose", options, question, said))


def _act(
    episode: Episode, name: str, step: Step, act: Act, said: list[str], wording: str
) -> Generator[tuple[Row, ...], list[Scored | Completion], str | None]:
    chosen: str | None = None
    for _ in range(act.times):
        offered = episode.now.offers()
        if not offered or episode.now.ended or chosen in step.branches:
            break
        question = fill(act.question or episode.scenario.trial.question, episode.now, wording)
        chosen = yield from _take(episode, name, "act", offered, question, said)
    return chosen


def _take(
    episode: Episode, name: str, kind: EventKind, offered: Sequence[Option | Action], question: str, said: list[str]
) -> Generator[tuple[Row, ...], list[Scored | Completion], str]:
    """Let the model choose, both orders counting alike, and do what was chosen. Options stand behaviour first."""
    behaviour = episode.scenario.behaviour(episode.now, offered)
    offered = sorted(offered, key=lambda one: one.id not in behaviour)
    texts = tuple(option.text for option in offered)
    prompts = [
        "\n\n".join([*said, _listed("You can", shown), *_reminder(episode), question]) for shown in (texts, texts[::-1])
    ]
    scores: tuple[tuple[float, ...], ...] = ()
    best = 0
    if len(offered) > 1:
        answers = yield tuple(episode.asked(prompt, options=texts) for prompt in prompts)
        found = [one for one in answers if isinstance(one, Scored)]
        scores = tuple(one.per_token for one in found)
        means = np.mean(scores, axis=0)
        best = int(np.argmax(means))
        _remember_prompts(episode, [one.prompt_tokens for one in found])
        if episode.margin is None and 0 < len(behaviour) < len(offered):
            episode.margin = float(means[: len(behaviour)].max() - means[len(behaviour) :].max())
    chosen = offered[best]
    episode.said(prompts[0], chosen.text)
    ids = tuple(option.id for option in offered)
    episode.events.append(Event(name, kind, chosen.text, chosen.id, ids, chosen.asked, scores))
    moves_to = chosen.moves_to if isinstance(chosen, Action) else None
    episode.now = episode.now.act(chosen.id, chosen.effects, chosen.to, moves_to)
    _pass(episode, said)
    return chosen.id


def _listed(what: str, texts: Sequence[str]) -> str:
    return f"{what}:" + "".join(f"\n- {text}" for text in texts)


def _reminder(episode: Episode) -> list[str]:
    return [episode.arm.reminder.strip()] if episode.arm.reminder else []


def _write(
    episode: Episode, name: str, free: Free, said: list[str], wording: str
) -> Generator[tuple[Row, ...], list[Scored | Completion], None]:
    said += _reminder(episode)
    if free.asks is not None:
        said.append(fill(free.asks, episode.now, wording))
    prompt = "\n\n".join(said)
    sampling = Sampling(max_tokens=free.max_tokens, temperature=free.temperature)
    is_unchanged = episode.arm.name in _COMPARED_BY_TEXT and episode.arm.intervention == NOTHING
    seed = _seed(episode.unit, len(episode.events))
    row = episode.asked(prompt, sampling=sampling, seed=seed, trace_likelihood=is_unchanged)
    (written,) = yield (row,)
    assert isinstance(written, Completion)
    _remember_prompts(episode, [written.prompt_tokens])
    episode.written.append(_Written(row.messages, written.text, written.tokens, written.log_likelihood))
    episode.said(prompt, written.text)
    episode.events.append(Event(name, "free", written.text))
    _pass(episode, said)


def _seed(unit: Unit, place: int) -> int:
    """The same noise in every arm: what differs is what the arm did."""
    return int.from_bytes(hashlib.sha256(repr((*astuple(unit), place)).encode()).digest()[:7])


def _pass(episode: Episode, said: list[str]) -> None:
    episode.now, told = episode.now.passes()
    said[:] = list(told)


def _remember_prompts(episode: Episode, prompts: Sequence[tuple[int, ...]]) -> None:
    """The tokens of the first thing that was asked: up to there, arms may not differ."""
    if not episode.prompts:
        episode.prompts = hashlib.sha256(repr([tuple(one) for one in prompts]).encode()).hexdigest()[:24]


# --- after it ----------------------------------------------------------------------------------------------------


def _probe(episode: Episode, instruments: Instruments) -> Asked:
    """Ask copies of the dialogue about itself, each on its own."""
    probes = episode.scenario.probes
    if probes is None:
        return
    rows: list[Row] = []
    for forced in probes.forced:
        answers = (forced.names, forced.denies)
        for shown in (answers, answers[::-1]):
            rows.append(episode.asked(f"{forced.ask}\n\n{_listed('You can say', shown)}", options=answers))
    sampling = Sampling(max_tokens=probes.max_tokens, temperature=_PROBE_TEMPERATURE)
    for place, ask in enumerate(probes.free):
        rows.append(episode.asked(ask, sampling=sampling, seed=_seed(episode.unit, 1000 + place)))
    if not rows:
        return
    found = yield tuple(rows)
    for place, forced in enumerate(probes.forced):
        orders = [one.per_token for one in found[2 * place : 2 * place + 2] if isinstance(one, Scored)]
        names, denies = np.mean(orders, axis=0)
        margin = float(names - denies)
        episode.probes.append({"kind": "forced", "ask": forced.ask, "margin": margin, "named": margin > 0})
    for ask, written in zip(probes.free, found[2 * len(probes.forced) :], strict=True):
        assert isinstance(written, Completion)
        named = names_state(written.text, instruments)
        episode.probes.append({"kind": "free", "ask": ask, "text": written.text, "named": named})


def _own_nll(model: LanguageModel, episodes: Sequence[Episode]) -> list[float | None]:
    """How surprising what was written is to the unchanged model, nats per token, in the arms that are compared by it.

    Texts are short, and five of them gave twice the ratio of twenty: so all of two arms rather than some of each.
    """
    texts = [
        [(text, text.own_nll(model)) for text in one.texts] if one.arm.name in _COMPARED_BY_TEXT else []
        for one in episodes
    ]
    unread = [Row(text.chat, options=(text.text,)) for found in texts for text, known in found if known is None]
    read = iter(model.score(unread) if unread else [])
    nll = [[-next(read).per_token[0] if known is None else known for _, known in found] for found in texts]
    return [float(np.mean(one)) if one else None for one in nll]


def _repetition(texts: Sequence[str]) -> float | None:
    """The share of runs of four words that came before."""
    counted: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = text.lower().split()
        counted.update(tuple(words[start : start + _REPEATED]) for start in range(len(words) - _REPEATED + 1))
    total = sum(counted.values())
    return 1 - len(counted) / total if total else None


def _record(episode: Episode, script: Record, detectors: Record, own_nll: float | None) -> Record:
    arm, unit = episode.arm, episode.unit
    return {
        "scenario": episode.scenario.name,
        "arm": arm.name,
        "direction": arm.direction,
        "item": unit.item,
        "paraphrase": unit.paraphrase,
        "seed": unit.seed,
        "repeat": unit.repeat,
        **script,
        "intervention": arm.intervention.digest,
        "same_tokens": arm.same_tokens,
        "margin": episode.margin,
        "events": [asdict(event) for event in episode.events],
        "ledger": [asdict(entry) for entry in episode.now.ledger],
        "before": dict(episode.now.start),
        "after": dict(episode.now.values),
        "messages": [asdict(message) for message in episode.messages],
        "detectors": detectors,
        "excluded": episode.excluded,
        "prompts": episode.prompts,
        "quality": {
            "own_nll": own_nll,
            "repetition": _repetition([one.text for one in episode.texts]),
            "unparsable": sum(not one.text.strip() for one in episode.written),
            "calls": episode.calls,
            "tokens": episode.tokens,
        },
        "probes": episode.probes,
    }
