"""What an agent's turns do to its state: notes, frames and the clock move it, and it moves more than its doses."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from toy_axis import BUDGET, LETTERS, toy_texts
from toy_home import build_along_reading, create_fading_home, create_toy_home, toy_settings, write_settings

from overlay import Agent
from overlay.agent import open_embedder, prepare_mind
from overlay.errors import AdapterError, DocumentError, ModelUnavailable
from overlay.home import Home, WornAdapter
from overlay.inner import State, StateChange
from overlay.model import AdapterUse, Intervention, Row
from overlay.progress import SilentProgress
from overlay.records import read_journal
from overlay.state import present, reset

pytestmark = pytest.mark.real

VOWELS = toy_texts(LETTERS["positive"], 1, 8)[0]
HOUR = 3600.0
START = 1_900_000_000.0


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


Opening = Callable[..., AbstractContextManager[Agent]]


@pytest.fixture
def opening(built_home: Path, tmp_path: Path, embedder_folder: Path, tiny_llama: Any) -> Opening:
    """Open a copy of the home (the same copy each time) with other state settings; it thinks of nothing."""
    folder = Path(shutil.copytree(built_home, tmp_path / "home"))

    ticking = itertools.count(START).__next__

    def open_with(
        clock: Callable[[], float] = ticking,
        axis: dict[str, Any] | None = None,
        recall: dict[str, int] | None = None,
        **state: Any,
    ) -> Any:
        settings = toy_settings(
            embedder_folder,
            state={"axes": {"vowels": {"half_life": 4, "gain": 0.3} | (axis or {})}} | state,
            dialogue={"mode": "off"},
            recall=recall or {"count": 2, "history": 4},
        )
        return closing(Agent.open(write_settings(folder, settings), model=tiny_llama, clock=clock))

    return open_with


# --- what moves it -------------------------------------------------------------------------------


def test_a_state_makes_a_frame_easier_to_wake_and_the_cause_says_so(opening: Opening) -> None:
    said = "Which costs more, the one or the other?"
    wakes = {"wakes": [{"axis": "vowels", "frame": "ledger", "from": 0.0, "to": 0.1, "energy": 0.9}]}
    with opening(axis={"rest": 0.0}) as agent:
        plain = agent.turn(said).record.energies["ledger"]
    with opening(axis={"rest": 1.0}, **wakes) as agent:
        agent.reset_state()
        reply = agent.turn(said)
    assert plain > 0, "the text has to be near a cue of the frame at all"
    assert reply.record.energies["ledger"] > plain
    assert any(one["name"] == "ledger" and "by leaning" in one["cause"] for one in reply.record.frames)


def test_an_axis_that_goes_by_the_clock_fades_between_turns_and_while_the_agent_is_closed(opening: Opening) -> None:
    clock = Clock()
    with opening(clock, {"half_life": "1 hour"}) as agent:
        agent.live(VOWELS)
        lived = agent.state.values["vowels"]
        clock.now += HOUR
        record = agent.live("bcd fgb")
    faded = [change for change in record.changes if change["source"] == "time"]
    assert [(change["seconds"], change["before"]) for change in faded] == [(HOUR, lived)]
    assert faded[0]["after"] == pytest.approx(lived / 2) and record.state_before["vowels"] == lived
    clock.now += 2 * HOUR
    with opening(clock, {"half_life": "1 hour"}) as agent:
        assert agent.state.values == record.state_after
        assert present(agent.home, clock.now)[0].value == pytest.approx(record.state_after["vowels"] / 4)
        later = agent.turn("Hello.").record
    assert later.changes[0]["seconds"] == 2 * HOUR
    assert later.changes[0]["after"] == pytest.approx(record.state_after["vowels"] / 4)


def test_a_clock_that_was_set_back_fades_nothing(opening: Opening) -> None:
    clock = Clock()
    with opening(clock, {"half_life": "1 hour"}) as agent:
        agent.live(VOWELS)
        clock.now -= 5 * HOUR
        assert {change["source"] for change in agent.live(VOWELS).changes} == {"read"}


def test_recalled_notes_move_the_state_together_as_much_as_one_observation(opening: Opening) -> None:
    with opening(sources={"recalled": 1.0}) as agent:
        reply = agent.turn("How is volatility measured?")
        felt = [change for change in reply.changes if change.source == "recalled"]
        assert [change.cause for change in felt] == [f"note {entry.note.id}" for entry in reply.recalled]
        assert len(felt) == 2 and all(change.share == 0.5 for change in felt)
        again = agent.turn("How is volatility measured?")
    # A note reads the same whenever it comes back.
    known = {change.cause: change.z for change in felt}
    for change in again.changes:
        assert change.source != "recalled" or change.z == known.get(change.cause, change.z)


def test_notes_that_count_nothing_are_not_even_read(opening: Opening) -> None:
    with opening(sources={"read": 1.0}) as agent:
        assert {change.source for change in agent.turn("How is volatility measured?").changes} == {"read", "said"}


def test_an_active_frame_pushes_as_the_settings_say(opening: Opening) -> None:
    with opening(sources={"frames": 1.0}, pushes={"ledger": {"vowels": 6.0}}) as agent:
        reply = agent.turn("How much is left, and how long will our supplies last?")
    (pushed,) = [change for change in reply.changes if change.source == "frames"]
    (ledger,) = [entry for entry in reply.frames if entry.frame.name == "ledger"]
    assert (pushed.cause, pushed.share, pushed.z) == ("frame ledger", ledger.energy, 6.0)
    assert pushed.after - pushed.before == pytest.approx(0.3 * ledger.energy, rel=0.01)


def test_a_life_can_be_traced_again_from_its_journal_to_the_last_bit(opening: Opening) -> None:
    clock = Clock()
    sources = {"read": 1.0, "said": 0.5, "recalled": 0.5, "frames": 0.5}
    with opening(clock, {"half_life": "3 hours"}, sources=sources, pushes={"ledger": {"vowels": -2.0}}) as agent:
        settings = agent.home.settings.state
        for text in ("How is volatility measured?", "How much is left?", "And the budget?"):
            clock.now += 1234.5
            agent.turn(text)
        agent.reset_state()
        clock.now += 10
        agent.live(VOWELS)
        last = agent.state
        records = [record for path in agent.home.sessions.glob("*.jsonl") for record in read_journal(path)]
    assert [record["kind"] for record in records] == ["turn", "turn", "turn", "reset", "lived"]
    changes = [StateChange(**change) for record in records for change in record["changes"]]
    assert {change.source for change in changes} == {"read", "said", "recalled", "frames", "time", "reset"}
    assert State.resting(settings).retraced(changes, settings) == last
    for record in records:
        before, own = State(record["state_before"]), [StateChange(**change) for change in record["changes"]]
        assert before.retraced(own, settings).values == record["state_after"]


def test_a_reset_agent_is_at_rest_now_and_when_it_is_opened_again(opening: Opening) -> None:
    with opening() as agent:
        agent.live(VOWELS)
        record = agent.reset_state()
        assert agent.state.values == {"vowels": 0.0} and record.kind == "reset" and record.number == 2
        assert agent.live("bcd fgb").number == 3
        agent.reset_state()
    with opening() as agent:
        assert agent.state.values == {"vowels": 0.0}
        agent.live(VOWELS)
        home = agent.home
    assert reset(home, START + HOUR) is not None
    with opening() as agent:
        assert agent.state.values == {"vowels": 0.0}


# --- what it moves -------------------------------------------------------------------------------


def test_the_temperature_of_replies_follows_the_state(opening: Opening) -> None:
    """At temperature 0 every seed says the same."""

    def said(temperature: Any) -> set[str]:
        with opening(temperature=temperature, recall={"count": 0, "history": 0}) as agent:
            return {(agent.reset_state(), agent.turn("Hello.").text)[1] for _ in range(3)}

    cold = {"axis": "vowels", "low": 0.0, "high": 2.0, "from": 2.0, "to": 3.0}
    assert len(said(cold)) == 1 and len(said(None)) == 3


def test_more_attention_on_recalled_notes_that_fit_changes_the_reply(opening: Opening, tiny_llama: Any) -> None:
    """The same turn of the same life, which began twice: the tokens differ by the attention alone."""
    with opening() as agent:
        build_along_reading(agent.home, tiny_llama)
    replies = {}
    for weight in (0.0, 4.0):
        with opening(axis={"rest": rest_of(opening), "gain": 0.0}, focus={"weight": weight}) as agent:
            reply = agent.turn("How is volatility measured?")
            replies[weight] = (reply.record.prompt_tokens, reply.record.reply_tokens)
            agent.memory.forget(*(f"session:{reply.record.session}:turn:1:{role}" for role in ("user", "reply")))
            sessions = agent.home.sessions
        shutil.rmtree(sessions)
    assert replies[0.0][0] == replies[4.0][0] and replies[0.0][1] != replies[4.0][1]


def rest_of(opening: Opening) -> float:
    """A state that the notes of that turn fit."""
    with opening(sources={"recalled": 1.0}) as agent:
        reply = agent.turn("How is volatility measured?")
        z = [change.z for change in reply.changes if change.source == "recalled"]
        agent.memory.forget(*(f"session:{reply.record.session}:turn:1:{role}" for role in ("user", "reply")))
        sessions = agent.home.sessions
    shutil.rmtree(sessions)
    return 1.0 if max(z) > -min(z) else -1.0


@pytest.fixture(scope="module")
def fading_home(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Home:
    """A home on a model in a folder, with an adapter trained on it, which fades in with the state."""
    folder = tmp_path_factory.mktemp("fading")
    return create_fading_home(folder, embedder_folder, dialogue={"mode": "off"})


@pytest.fixture
def fading(fading_home: Home) -> Iterator[Agent]:
    with closing(Agent.open(fading_home, dtype="float32")) as agent:
        yield agent


def test_an_adapter_fades_in_as_the_agent_lives_and_sleeps_when_it_is_closed(fading: Agent, fading_home: Home) -> None:
    model = fading.model
    assert list(model.adapters) == ["ends_in_z"]
    quiet = fading.turn("hjk lmh")
    assert not quiet.record.adapters or fading.state.values["vowels"] > 0.1
    for _ in range(4):
        fading.live(VOWELS)
    influenced = fading.intervention()
    (use,) = influenced.intervention.adapters
    assert use.name == "ends_in_z" and use.scale == pytest.approx(influenced.scale)
    assert influenced.volatility.mean <= BUDGET
    loud = fading.turn("hjk lmh")
    assert [one["name"] for one in loud.record.adapters] == ["ends_in_z"] and loud.volatility.mean <= BUDGET
    fading.close()
    assert dict(model.adapters) == {}
    assert len(model.generate([Row(text="a")])) == 1


def test_what_the_state_speaks_of_has_to_be_there(opening: Opening, built_home: Path) -> None:
    for wrong in ({"pushes": {"dance": {"vowels": 1.0}}}, {"wakes": [{"axis": "vowels", "frame": "dance"}]}):
        with pytest.raises(DocumentError, match=r"agent\.yaml.*'dance'"):
            opening(**wrong)
    with pytest.raises(DocumentError, match=r"agent\.yaml.*'nobody'"):
        opening(fades_in=[{"axis": "vowels", "adapter": "nobody"}])
    with opening() as agent:
        assert agent.state.values == {"vowels": 0.0}


@pytest.fixture
def unloadable(tmp_path: Path) -> Callable[..., Home]:
    """A home whose model and embedder are nowhere: what is told there is told before either is looked for."""
    home = create_toy_home(tmp_path / "home", "no-such-embedder")
    voice = home.voices / "witness.yaml"
    written = voice.read_text()

    def make(voice_adds: str = "", adapter: Any = None, **state: Any) -> Home:
        voice.write_text(written + voice_adds)
        changes = {"model": "no-such-model", "state": {"axes": {"vowels": {}}} | state, "adapter": adapter}
        return write_settings(home.folder, toy_settings("no-such-embedder", **changes))

    return make


def test_what_is_named_and_is_not_there_is_told_before_anything_is_loaded(unloadable: Callable[..., Home]) -> None:
    with pytest.raises(ModelUnavailable):
        Agent.open(unloadable(pushes={"ledger": {"vowels": 1.0}}), pull=False)
    for wrong in (
        {"pushes": {"dance": {"vowels": 1.0}}},
        {"wakes": [{"axis": "vowels", "frame": "dance"}]},
        {"fades_in": [{"axis": "vowels", "adapter": "dance"}]},
    ):
        with pytest.raises(DocumentError, match=r"agent\.yaml:\d+: .*'dance'") as caught:
            Agent.open(unloadable(**wrong), pull=False)
        lines = caught.value.path.read_text().splitlines()
        assert "dance" in lines[(caught.value.line or 0) - 1]
    with pytest.raises(AdapterError, match="'dance'"):
        Agent.open(unloadable(adapter={"name": "dance"}), pull=False)
    with pytest.raises(DocumentError, match=r"witness\.yaml:\d+: .*'vowel'"):
        Agent.open(unloadable("pushes: {vowel: 0.5}\n"), pull=False)
    with pytest.raises(ModelUnavailable):
        Agent.open(unloadable("pushes: {vowels: 0.5}\n"), pull=False)
    # Showing a state asks for none of it.
    assert [one.axis for one in present(unloadable("pushes: {vowel: 0.5}\n", **wrong), START)] == ["vowels"]


def test_a_mind_on_other_axes_takes_voices_that_push_those_of_agent_yaml(
    built_home: Path, tmp_path: Path, embedder_folder: Path, tiny_llama: Any
) -> None:
    """A run on chosen axes leaves a push on another one out; a push on an axis that is nowhere is still refused."""
    home = Home.open(shutil.copytree(built_home, tmp_path / "home"))
    settings = toy_settings(embedder_folder, state={"axes": {"vowels": {}, "calm": {}}})
    home = write_settings(home.folder, settings)
    voice = home.voices / "witness.yaml"
    written = voice.read_text()
    embedder = open_embedder(home)
    voice.write_text(written + "pushes: {calm: 0.5}\n")
    mind = prepare_mind(home, tiny_llama, embedder, SilentProgress(), ["vowels"])
    assert list(mind.settings.axes) == ["vowels"]
    voice.write_text(written + "pushes: {clam: 0.5}\n")
    with pytest.raises(DocumentError, match=r"witness\.yaml:\d+: .*'clam'"):
        prepare_mind(home, tiny_llama, embedder, SilentProgress(), ["vowels"])


def test_what_is_worn_always_can_not_fade_in(fading_home: Home) -> None:
    worn = fading_home.settings.model_copy(update={"adapter": WornAdapter(name="ends_in_z")})
    with pytest.raises(DocumentError, match="worn always"):
        Agent.open(Home(fading_home.folder, worn), dtype="float32")
    with closing(Agent.open(fading_home, dtype="float32")) as agent:
        assert agent.live(VOWELS).kind == "lived"


def test_what_is_worn_always_counts_in_what_a_reply_costs(fading_home: Home) -> None:
    state = fading_home.settings.state.model_copy(update={"fades_in": ()})
    worn = {"adapter": WornAdapter(name="ends_in_z", scale=0.05), "state": state}
    home = Home(fading_home.folder, fading_home.settings.model_copy(update=worn))
    with closing(Agent.open(home, dtype="float32")) as agent:
        agent.reset_state()
        before = agent.intervention()
        alone = agent.influence.gauge.measure(Intervention(adapters=(AdapterUse("ends_in_z", 0.05),)))
        reply = agent.turn(VOWELS)
    assert before.volatility == alone and 0 < alone.mean < BUDGET
    assert [one["name"] for one in reply.record.adapters] == ["ends_in_z"] and list(reply.record.doses) == ["vowels"]
    assert reply.volatility.mean <= BUDGET and reply.volatility != alone
