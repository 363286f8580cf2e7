"""The state: bounded whatever is observed, fading by half each half-life, and every move has a cause."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from overlay.documents import Document, parse_document, read_document
from overlay.errors import ArgumentError, DocumentError
from overlay.inner import Accumulator, State, StateSettings

NAMES = ("a", "b", "c")
SOURCES = ("read", "said", "inner speech", "recalled", "frames")

UNITS = ("seconds", "minutes", "hours", "days", "weeks", "turns")

finite = {"allow_nan": False, "allow_infinity": False}
turns = st.floats(0, 10_000, exclude_min=True, **finite)
gains = st.floats(0, 2, **finite)


@st.composite
def settings_of_any_kind(draw: st.DrawFn) -> StateSettings:
    """Every setting that StateSettings accepts, its ends included."""
    axes = {}
    for name in NAMES[: draw(st.integers(1, 3))]:
        cap = draw(st.floats(0, 3, exclude_min=True, **finite))
        reach = min(1.0, cap)
        axes[name] = Accumulator(
            half_life=draw(st.one_of(turns, st.builds("{} {}".format, st.integers(1, 500), st.sampled_from(UNITS)))),
            gain=draw(gains),
            rest=draw(st.floats(-reach, reach, **finite)),
            cap=cap,
            refractory=draw(st.floats(0, 6, **finite)),
            sources=draw(st.dictionaries(st.sampled_from(SOURCES), gains)),
        )
    shares = st.dictionaries(st.sampled_from(sorted(axes)), st.floats(-1, 1, **finite))
    return StateSettings(
        axes=axes,
        couplings=draw(st.dictionaries(st.sampled_from(sorted(axes)), shares)),
        sources=draw(st.dictionaries(st.sampled_from(SOURCES), gains)),
    )


readings = st.one_of(st.floats(allow_nan=False), st.sampled_from([math.inf, -math.inf, 1e308, -1e308, 1e-320, 0.0]))
observations = st.lists(
    st.tuples(st.tuples(*[readings] * 3), st.sampled_from(SOURCES), st.floats(0, 1e6, **finite)), max_size=12
)


def one(name: str = "a", **values: Any) -> StateSettings:
    return StateSettings(axes={name: Accumulator(**values)})


def pass_turns(state: State, settings: StateSettings, turns: float) -> State:
    """Time without input: an observation that reads exactly neutral."""
    quiet = dict.fromkeys(settings.axes, 0.0)
    return state.observe(quiet, settings, source="read", cause="nothing", turns=turns)[0]


@given(settings_of_any_kind(), observations)
def test_no_accumulator_ever_leaves_its_cap(settings: StateSettings, lived: list[Any]) -> None:
    state = State.resting(settings)
    for z, source, turns in lived:
        state, _ = state.observe(dict(zip(NAMES, z, strict=True)), settings, source=source, cause="x", turns=turns)
        assert state.values.keys() == settings.axes.keys()
        for name, value in state.values.items():
            assert abs(value) <= settings.axes[name].cap


@given(settings_of_any_kind(), observations, st.floats(-1e300, 1e300))
def test_a_state_from_elsewhere_is_brought_inside_its_cap(
    settings: StateSettings, lived: list[Any], start: float
) -> None:
    """A cap that was lowered in agent.yaml holds from the next observation on."""
    state = pass_turns(State(dict.fromkeys(settings.axes, start)), settings, 1.0)
    assert all(abs(value) <= settings.axes[name].cap for name, value in state.values.items())


@given(settings_of_any_kind(), observations)
def test_every_change_carries_its_cause_and_the_changes_tell_the_whole_story(
    settings: StateSettings, lived: list[Any]
) -> None:
    state = State.resting(settings)
    told = dict(state.values)
    for number, (z, source, turns) in enumerate(lived):
        given_readings = dict(zip(NAMES, z, strict=True))
        before = state
        state, changes = state.observe(given_readings, settings, source=source, cause=f"text {number}", turns=turns)
        assert [change.axis for change in changes] == list(settings.axes)
        for change in changes:
            assert (change.cause, change.source) == (f"text {number}", source)
            assert change.z == given_readings[change.axis]
            assert change.before == before.values[change.axis] == told[change.axis]
            told[change.axis] = change.after
        assert told == state.values


@given(settings_of_any_kind(), st.floats(0, 1e6), st.integers(1, 5))
def test_what_rests_and_reads_nothing_stays_at_rest(settings: StateSettings, turns: float, times: int) -> None:
    state = State.resting(settings)
    for _ in range(times):
        state = pass_turns(state, settings, turns)
    assert state == State.resting(settings)


@given(
    st.floats(0.01, 10_000),
    st.floats(-1, 1),
    st.floats(-3, 3),
)
def test_after_its_half_life_half_of_the_distance_to_rest_is_left(half_life: float, rest: float, start: float) -> None:
    settings = one(half_life=half_life, rest=rest, cap=3)
    state = State({"a": start})
    distance = start - rest
    for share in (0.5, 0.25, 0.125):
        state = pass_turns(state, settings, half_life)
        assert state.values["a"] - rest == pytest.approx(distance * share, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("half_life", [1, 3, 8, 40])
def test_a_half_life_is_counted_in_turns_one_by_one(half_life: int) -> None:
    settings = one(half_life=half_life, rest=-0.2, cap=3)
    state = State({"a": 1.0})
    for _ in range(half_life):
        state = pass_turns(state, settings, 1.0)
    assert state.values["a"] == pytest.approx(-0.2 + 0.6)


@given(settings_of_any_kind())
def test_several_observations_in_one_turn_do_not_fade_the_state(settings: StateSettings) -> None:
    """With zero turns passed, only what was observed moves the state."""
    start = State({name: 0.5 * axis.cap for name, axis in settings.axes.items()})
    assert pass_turns(start, settings, 0.0).values == pytest.approx(start.values)


@given(st.floats(0, 2), st.floats(-50, 50), st.floats(0, 2))
def test_an_observation_adds_weight_times_gain_times_its_strength(gain: float, z: float, weight: float) -> None:
    settings = StateSettings(axes={"a": Accumulator(gain=gain, cap=3)}, sources={"read": weight})
    (state, _) = State({"a": 0.0}).observe({"a": z}, settings, source="read", cause="x")
    assert state.values["a"] == pytest.approx(max(-3, min(3, weight * gain * math.tanh(z / 2))))


def test_a_source_that_is_not_listed_moves_nothing() -> None:
    settings = StateSettings(axes={"a": Accumulator()}, sources={"read": 1.0})
    assert State({"a": 0.3}).observe({"a": 9.0}, settings, source="said", cause="x")[0].values == {"a": 0.3}


def test_a_stronger_reading_moves_further_in_its_own_direction() -> None:
    settings = one(gain=0.3)
    moved = [
        State({"a": 0.0}).observe({"a": z}, settings, source="read", cause="x")[0].values["a"]
        for z in (-math.inf, -2.0, -0.5, 0.0, 0.5, 2.0, math.inf)
    ]
    assert moved == sorted(moved) and moved[3] == 0 and moved[0] == -0.3 and moved[-1] == 0.3


def test_a_coupling_adds_its_share_of_what_moves_the_other_axis() -> None:
    settings = StateSettings(
        axes={"a": Accumulator(gain=0.2, cap=3), "b": Accumulator(gain=0.4, cap=3)}, couplings={"a": {"b": 0.5}}
    )
    strength = math.tanh(1.0)
    (state, _) = State.resting(settings).observe({"a": 0.0, "b": 2.0}, settings, source="read", cause="x")
    assert state.values == pytest.approx({"a": 0.5 * 0.4 * strength, "b": 0.4 * strength})
    (state, _) = State.resting(settings).observe({"a": 2.0, "b": 0.0}, settings, source="read", cause="x")
    assert state.values == pytest.approx({"a": 0.2 * strength, "b": 0.0})


def test_a_negative_coupling_holds_the_other_axis_down() -> None:
    settings = StateSettings(
        axes={"a": Accumulator(gain=0.2), "b": Accumulator(gain=0.4)}, couplings={"a": {"b": -1.0}}
    )
    (state, _) = State.resting(settings).observe({"a": 0.0, "b": 2.0}, settings, source="read", cause="x")
    assert state.values["a"] == pytest.approx(-state.values["b"])


def test_coupling_passes_on_what_was_observed_not_what_has_accumulated() -> None:
    """Otherwise two axes that feed each other would never come to rest."""
    settings = StateSettings(
        axes={"a": Accumulator(half_life=1), "b": Accumulator(half_life=1)},
        couplings={"a": {"b": 1.0}, "b": {"a": 1.0}},
    )
    state = pass_turns(State({"a": 1.0, "b": 1.0}), settings, 1.0)
    assert state.values == {"a": 0.5, "b": 0.5}


def test_an_observation_never_changes_the_state_that_it_came_to() -> None:
    settings, start = one(), State({"a": 0.1})
    start.observe({"a": 5.0}, settings, source="read", cause="x", turns=3.0)
    assert start == State({"a": 0.1})


def test_a_reading_that_is_no_number_is_refused_and_never_guessed() -> None:
    """Python's min and max would let it through as the cap."""
    for readings, said in (({"a": math.nan}, "'a' is no number"), ({}, "'a' is missing"), ({"b": 1.0}, "'a'")):
        with pytest.raises(ArgumentError, match=said):
            State({"a": 0.0}).observe(readings, one(), source="read", cause="x")


@given(settings_of_any_kind())
def test_distance_is_that_of_the_accumulator_that_moved_most(settings: StateSettings) -> None:
    state = State.resting(settings)
    assert state.distance(state) == 0
    name = next(iter(settings.axes))
    moved = State({**state.values, name: state.values[name] + 0.25})
    assert moved.distance(state) == pytest.approx(0.25) and state.distance(moved) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "wrong",
    [{"half_life": 0}, {"half_life": -1}, {"gain": -0.1}, {"gain": 3}, {"cap": 0}, {"cap": 4}, {"rest": 2},
     {"rest": 0.9, "cap": 0.5}, {"half_life": math.nan}, {"gain": math.inf}, {"colour": 1}, {"refractory": -1},
     {"refractory": math.nan}, {"sources": {"heard": 1}}, {"sources": {"read": 3}}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Accumulator(**wrong)


@pytest.mark.parametrize("couplings", [{"a": {"x": 0.5}}, {"x": {"a": 0.5}}, {"a": {"b": 1.5}}])
def test_couplings_of_unknown_axes_or_sizes_are_refused(couplings: Any) -> None:
    with pytest.raises(ValidationError):
        StateSettings(axes={"a": Accumulator(), "b": Accumulator()}, couplings=couplings)


def test_a_coupling_to_an_unknown_axis_is_told_with_its_line() -> None:
    text = "axes:\n  a: {gain: 0.1}\ncouplings:\n  a:\n    tenderness: 0.5\n"
    with pytest.raises(DocumentError, match="'tenderness' is not under axes") as caught:
        parse_document(text, StateSettings, "agent.yaml")
    assert caught.value.line == 5


# --- sources and thresholds ----------------------------------------------------------------------


@given(gains, gains, st.floats(-9, 9), st.sampled_from(SOURCES))
def test_an_axis_may_weigh_a_source_differently_from_the_others(
    own: float, common: float, z: float, source: Any
) -> None:
    settings = StateSettings(
        axes={"a": Accumulator(gain=0.5, cap=3, sources={source: own}), "b": Accumulator(gain=0.5, cap=3)},
        sources={source: common},
    )
    (state, _) = State.resting(settings).observe({"a": z, "b": z}, settings, source=source, cause="x")
    strength = 0.5 * math.tanh(z / 2)
    assert state.values == {"a": pytest.approx(own * strength), "b": pytest.approx(common * strength)}


def test_a_source_moves_something_if_it_has_a_gain_for_any_axis_that_has_one() -> None:
    axes = {"a": Accumulator(gain=0), "b": Accumulator(sources={"said": 0.5, "read": 0})}
    settings = StateSettings(axes=axes, sources={"read": 1.0, "recalled": 0.0})
    assert [source for source in SOURCES if settings.heeds(source)] == ["said"]
    for source in SOURCES:
        (state, _) = State.resting(settings).observe({"a": 3, "b": 3}, settings, source=source, cause="x")
        assert (state != State.resting(settings)) == settings.heeds(source)


@given(st.floats(0, 6), st.floats(-12, 12))
def test_a_reading_below_the_threshold_adds_nothing_and_one_at_it_all(refractory: float, z: float) -> None:
    settings = one(refractory=refractory)
    (state, (change,)) = State({"a": 0.0}).observe({"a": z}, settings, source="read", cause="x")
    (free, _) = State({"a": 0.0}).observe({"a": z}, one(), source="read", cause="x")
    assert state == (free if abs(z) >= refractory else State({"a": 0.0})) and change.z == z


def test_what_the_threshold_keeps_from_an_axis_it_keeps_from_those_coupled_to_it() -> None:
    settings = StateSettings(axes={"a": Accumulator(), "b": Accumulator(refractory=1.0)}, couplings={"a": {"b": 1.0}})
    (state, _) = State.resting(settings).observe({"a": 0.0, "b": 0.9}, settings, source="read", cause="x")
    assert state == State.resting(settings)


def test_weak_readings_that_are_noise_do_not_walk_a_thresholded_axis_away() -> None:
    """The reason for the threshold: without it, a slow axis adds up what each text reads by chance."""
    noise = [math.sin(7 * number) for number in range(300)]
    walked = {0.0: [0.0], 1.0: [0.0]}
    for refractory, path in walked.items():
        state, settings = State({"a": 0.0}), one(refractory=refractory, half_life=1000)
        for z in noise:
            state, _ = state.observe({"a": z}, settings, source="read", cause="x", turns=1.0)
            path.append(abs(state.values["a"]))
    assert max(walked[0.0]) > 0.1 and max(walked[1.0]) == 0.0


@given(st.floats(0, 1), st.floats(-9, 9))
def test_a_share_of_an_observation_moves_by_that_share(share: float, z: float) -> None:
    whole, part = (
        State({"a": 0.0}).observe({"a": z}, one(), source="read", cause="x", share=given)[0].values["a"]
        for given in (1.0, share)
    )
    assert part == pytest.approx(share * whole)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, math.inf])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ArgumentError, match="share"):
        State({"a": 0.0}).observe({"a": 1.0}, one(), source="read", cause="x", share=share)


def test_active_frames_push_as_they_are_told_to_and_as_awake_as_they_are() -> None:
    settings = StateSettings(
        axes={"a": Accumulator(gain=0.4), "b": Accumulator(gain=0.4)},
        sources={"frames": 0.5},
        pushes={"ledger": {"a": -2.0}, "asleep": {"b": 5.0}},
    )
    (state, changes) = State.resting(settings).pushed({"ledger": 0.5, "unknown": 1.0}, settings)
    assert state.values == {"a": pytest.approx(-0.5 * 0.5 * 0.4 * math.tanh(1.0)), "b": 0.0}
    assert {(change.source, change.cause, change.share) for change in changes} == {("frames", "frame ledger", 0.5)}
    assert State.resting(settings).pushed({}, settings) == (State.resting(settings), ())


def test_settings_for_some_axes_hold_nothing_of_the_others_nor_of_what_is_not_steering() -> None:
    settings = StateSettings.model_validate(
        {
            "axes": {"a": {"gain": 0.1}, "b": {}},
            "couplings": {"a": {"b": 1.0, "a": 0.5}, "b": {"a": 1.0}},
            "sources": {"read": 0.7},
            "pushes": {"ledger": {"a": 1.0, "b": 2.0}},
            "fades_in": [{"axis": "b", "adapter": "x"}],
            "wakes": [{"axis": "a", "frame": "ledger"}],
            "temperature": {"axis": "b", "low": 0.1, "high": 0.2},
            "focus": {"weight": 1.0},
        }
    )
    found = settings.for_axes(["a", "c"])
    assert found == StateSettings(
        axes={"a": Accumulator(gain=0.1), "c": Accumulator()},
        couplings={"a": {"a": 0.5}},
        sources={"read": 0.7},
        pushes={"ledger": {"a": 1.0}},
    )


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("axes:\n  a: {}\n  b:\n    half_life: 8 turnz\n", 4, "30 minutes"),
        ("axes:\n  a:\n    gain: 0.1\n    half_life: 0 hours\n", 4, "up to ten years"),
        ("axes:\n  a: {}\npushes:\n  ledger:\n    joy: 1\n", 5, "'joy' is not under axes"),
        ("axes:\n  a: {}\nfades_in:\n- axis: a\n  adapter: x\n- axis: joy\n  adapter: y\n", 6, "'joy'"),
        ("axes:\n  a: {}\nfades_in:\n- {axis: a, adapter: x}\n- {axis: a, adapter: x}\n", 5, "fades in along"),
        ("axes:\n  a: {}\nfades_in:\n- {axis: a, adapter: x, from: 1}\n", 4, "two different values"),
        ("axes:\n  a: {}\nfades_in:\n- {axis: a, adapter: ../up}\n", 4, "adapter"),
        ("axes:\n  a: {}\nwakes:\n- {axis: joy, frame: ledger}\n", 4, "'joy'"),
        ("axes:\n  a: {}\ntemperature:\n  axis: joy\n  low: 0.1\n  high: 0.2\n", 4, "'joy'"),
        ("axes:\n  a: {}\ntemperature: {axis: a, low: 0.9, high: 0.2}\n", 3, "above high"),
        ("axes:\n  a: {}\nfocus:\n  weight: 9\n", 4, "focus.weight"),
        ("axes:\n  a: {}\nsources:\n  read: 1\n  heard: 1\n", 5, "heard"),
    ],
)
def test_a_mistake_in_the_settings_is_told_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(DocumentError, match=said) as caught:
        parse_document(text, StateSettings, "agent.yaml")
    assert caught.value.line == line


# --- what the settings speak of ------------------------------------------------------------------

WRITTEN = """\
state:
  axes: {a: {}}
  pushes:
    here: {a: 1.0}
    %(pushing)s: {a: 1.0}
  wakes:
    - axis: a
      frame: here
    - axis: a
      frame: %(waking)s
  fades_in:
    - {axis: a, adapter: trained}
    - axis: a
      adapter: %(fading)s
"""


class Written(Document):
    """As much of an agent.yaml as the state needs."""

    state: StateSettings


@pytest.mark.parametrize(
    ("wrong", "line", "known"),
    [
        ({"pushing": "gone"}, 5, "here, there"),
        ({"waking": "gone"}, 10, "here, there"),
        ({"fading": "gone"}, 14, "also, trained"),
        ({"fading": "worn_one"}, 14, "take it out"),
    ],
)
def test_what_is_not_there_is_told_with_its_line(tmp_path: Path, wrong: dict[str, str], line: int, known: str) -> None:
    path = tmp_path / "agent.yaml"

    def require(**names: str) -> None:
        path.write_text(WRITTEN % ({"pushing": "there", "waking": "there", "fading": "also"} | names))
        settings = read_document(path, Written).state
        settings.require_known(path, frames=["there", "here"], adapters=["trained", "also"], worn=["worn_one"])

    require()
    with pytest.raises(DocumentError, match=rf"agent\.yaml:{line}: .*'{next(iter(wrong.values()))}'") as caught:
        require(**wrong)
    assert caught.value.line == line and known in caught.value.next_step


def test_settings_that_no_file_holds_are_checked_as_well(tmp_path: Path) -> None:
    settings = StateSettings.model_validate({"axes": {"a": {}}, "pushes": {"gone": {"a": 1.0}}})
    with pytest.raises(DocumentError, match=r"agent\.yaml: .*'gone'"):
        settings.require_known(tmp_path / "agent.yaml", frames=[], adapters=[], worn=[])
