"""Time enters the state as data: half-lives in turns or by the clock, and the same steps give the same bits."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_state import NAMES, SOURCES, one, readings, settings_of_any_kind

from overlay.errors import ArgumentError
from overlay.inner import Accumulator, HalfLife, State, StateChange, StateSettings
from overlay.inner.half_life import spell_passed

DAY = 86_400.0


@pytest.mark.parametrize(
    ("written", "amount", "unit"),
    [
        (8, 8.0, "turns"), (0.5, 0.5, "turns"), ("8 turns", 8.0, "turns"), ("1 turn", 1.0, "turns"),
        ("30 minutes", 1800.0, "seconds"), ("6 hours", 21_600.0, "seconds"), ("2 days", 2 * DAY, "seconds"),
        (" 1.5 hours ", 5400.0, "seconds"), ("1 week", 7 * DAY, "seconds"), ("90seconds", 90.0, "seconds"),
    ],
)  # fmt: skip
def test_a_half_life_is_written_in_turns_or_with_its_unit(written: Any, amount: float, unit: str) -> None:
    found = Accumulator(half_life=written).half_life
    assert (found.amount, found.unit) == (amount, unit) and HalfLife.read(str(found)) == found


@pytest.mark.parametrize(
    "written",
    ["8", "minutes", "-1 hours", "2 moons", "1.2.3 hours", "0 days", "11000 turns", "600 weeks", "2 hours 5 minutes",
     "1e999 hours", True, None, [8], {"hours": 2}, 0, -8, 10_001, math.nan, math.inf],
)  # fmt: skip
def test_a_half_life_that_is_none_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match=r"half-life|no number"):
        HalfLife.read(written)


@given(settings_of_any_kind())
def test_settings_survive_being_written_and_read(settings: StateSettings) -> None:
    assert StateSettings.model_validate_json(settings.model_dump_json(by_alias=True)) == settings


@given(st.floats(1, 1e6), st.floats(-1, 1), st.floats(-3, 3))
def test_after_its_half_life_by_the_clock_half_of_the_distance_is_left(
    seconds: float, rest: float, start: float
) -> None:
    settings = one(half_life=HalfLife(seconds, "seconds"), rest=rest, cap=3)
    state = State({"a": start})
    for share in (0.5, 0.25, 0.125):
        state, _ = state.passed(settings, seconds=seconds)
        assert state.values["a"] - rest == pytest.approx((start - rest) * share, rel=1e-9, abs=1e-12)


def test_turns_do_not_fade_what_goes_by_the_clock_nor_the_clock_what_goes_by_turns() -> None:
    settings = StateSettings(axes={"a": Accumulator(half_life=1), "b": Accumulator(half_life="1 hour")})
    state = State({"a": 1.0, "b": 1.0})
    assert state.passed(settings, turns=1)[0].values == {"a": 0.5, "b": 1.0}
    assert state.passed(settings, seconds=3600)[0].values == {"a": 1.0, "b": 0.5}
    (both, _) = state.observe({"a": 0.0, "b": 0.0}, settings, source="read", cause="x", turns=1, seconds=3600)
    assert both.values == {"a": 0.5, "b": 0.5}


def test_time_that_moves_an_axis_is_a_change_with_its_cause_and_none_otherwise() -> None:
    settings = StateSettings(axes={"a": Accumulator(), "b": Accumulator(half_life="1 hour")})
    state = State({"a": 1.0, "b": 1.0})
    (after, (change,)) = state.passed(settings, seconds=7200)
    assert (change.axis, change.source, change.cause, change.seconds) == ("b", "time", "2 hours passed", 7200)
    assert (change.before, change.after) == (1.0, after.values["b"]) == (1.0, 0.25)
    assert state.passed(settings, seconds=0.0) == (state, ())
    assert State.resting(settings).passed(settings, seconds=1e9) == (State.resting(settings), ())


@pytest.mark.parametrize("passed", [{"turns": -1.0}, {"seconds": -0.1}, {"turns": math.nan}, {"seconds": math.nan}])
def test_time_that_runs_backwards_is_refused(passed: Any) -> None:
    with pytest.raises(ArgumentError, match="have passed"):
        State({"a": 0.0}).observe({"a": 0.0}, one(), source="read", cause="x", **passed)
    with pytest.raises(ArgumentError, match="have passed"):
        State({"a": 0.0}).passed(one(), **passed)


@pytest.mark.parametrize(
    ("turns", "seconds", "told"),
    [(0, 0, "no time"), (1, 0, "1 turn"), (0, 59.99, "60 seconds"), (0, 8130, "2.26 hours"),
     (2, 60, "2 turns and 1 minute"), (0, 0.25, "0.25 seconds"), (0, 9e8, "1490 weeks")],
)  # fmt: skip
def test_how_much_has_passed_is_told_in_few_digits(turns: float, seconds: float, told: str) -> None:
    assert spell_passed(turns, seconds) == told


moments = st.lists(
    st.tuples(
        st.sampled_from([*SOURCES, "time", "reset"]),
        st.tuples(*[readings] * 3),
        st.floats(0, 50),
        st.floats(0, 1e7),
        st.floats(0, 1),
        st.sampled_from(["x", "y"]),
    ),
    max_size=12,
)


def live(settings: StateSettings, lived: list[Any]) -> tuple[State, list[StateChange]]:
    state, told = State.resting(settings), []
    for source, z, turns, seconds, share, cause in lived:
        if source == "time":
            state, changes = state.passed(settings, turns=turns, seconds=seconds)
        elif source == "reset":
            state, changes = state.reset(settings, cause)
        else:
            state, changes = state.observe(
                dict(zip(NAMES, z, strict=True)),
                settings,
                source=source,
                cause=cause,
                turns=turns,
                seconds=seconds,
                share=share,
            )
        told += changes
    return state, told


@given(settings_of_any_kind(), moments)
def test_a_journal_of_changes_leads_to_the_same_bits_again(settings: StateSettings, lived: list[Any]) -> None:
    state, told = live(settings, lived)
    assert live(settings, lived) == (state, told)
    journal = json.loads(json.dumps([asdict(change) for change in told]))
    found = State.resting(settings).retraced([StateChange(**change) for change in journal], settings)
    assert {name: value.hex() for name, value in found.values.items()} == {
        name: value.hex() for name, value in state.values.items()
    }


def test_what_a_dialogue_damped_is_taken_over_as_it_was() -> None:
    settings = one(gain=0.5)
    (state, told) = State({"a": 0.0}).observe({"a": 3.0}, settings, source="inner speech", cause="a, round 2")
    damped = StateChange("a", "damping", "round 2", 0.0, state.values["a"], 0.1)
    assert State({"a": 0.0}).retraced([*told, damped], settings).values == {"a": 0.1}


@given(settings_of_any_kind(), moments)
def test_a_reset_puts_every_axis_to_rest_and_says_from_where(settings: StateSettings, lived: list[Any]) -> None:
    state, _ = live(settings, lived)
    after, changes = state.reset(settings, "why")
    assert after == State.resting(settings)
    assert [(change.source, change.cause) for change in changes] == [("reset", "why")] * len(settings.axes)
    assert {change.axis: (change.before, change.after) for change in changes} == {
        name: (state.values[name], after.values[name]) for name in settings.axes
    }
