"""The state is bounded: whatever is observed, and however strongly a reading depends on the state itself."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_state import NAMES, SOURCES, settings_of_any_kind
from toy_axis import BUDGET

from overlay.axes import Axis
from overlay.inner import Accumulator, Influence, State, StateSettings
from overlay.model import Message, Row, Sampling, VolatilityGauge

LARGEST = StateSettings(
    axes={name: Accumulator(half_life=10_000, gain=2, cap=3, sources={"read": 2}) for name in NAMES},
    couplings={name: dict.fromkeys(NAMES, 1.0) for name in NAMES},
    sources=dict.fromkeys(SOURCES, 2.0),
)
"""The largest gains and couplings that settings allow, and next to no leak."""

SEQUENCES, STEPS = 50, 20
EXAMPLES = 200


def adversary(kind: str, generator: random.Random) -> Iterator[float]:
    """Readings of one kind, for ever."""
    step = 0
    while True:
        step += 1
        yield {
            "noise": generator.gauss(0, 3),
            "huge": generator.choice([-1, 1]) * 10 ** generator.uniform(0, 308),
            "infinite": generator.choice([-math.inf, math.inf]),
            "alternating": math.inf if step % 2 else -math.inf,
            "constant": math.inf,
            "rising": float(step),
            "tiny": generator.choice([-5e-324, 5e-324, -0.0, 0.0]),
        }[kind]


KINDS = ("noise", "huge", "infinite", "alternating", "constant", "rising", "tiny")


def inside(state: State, given: StateSettings) -> bool:
    return all(abs(value) <= given.axes[name].cap for name, value in state.values.items())


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(settings_of_any_kind(), st.just(LARGEST)), st.integers(0, 2**32))
def test_ten_thousand_sequences_pass_no_cap(given_settings: StateSettings, seed: int) -> None:
    """EXAMPLES settings, SEQUENCES random and adversarial lives each."""
    assert EXAMPLES * SEQUENCES >= 10_000
    generator = random.Random(seed)
    for _ in range(SEQUENCES):
        state = State.resting(given_settings)
        streams = {name: adversary(generator.choice(KINDS), generator) for name in given_settings.axes}
        for _ in range(STEPS):
            state, changes = state.observe(
                {name: next(stream) for name, stream in streams.items()},
                given_settings,
                source=generator.choice(SOURCES),
                cause="x",
                turns=generator.choice([0.0, 1.0, 1e6]),
                seconds=generator.choice([0.0, 60.0, 1e12, math.inf]),
                share=generator.choice([1.0, 0.5]),
            )
            assert inside(state, given_settings)
            assert all(change.after == state.values[change.axis] for change in changes)


def most(name: str, given: StateSettings) -> float:
    """The proof's p: how far one observation can push an axis."""

    def push(axis: str) -> float:
        return max(given.weight(axis, source) for source in SOURCES) * given.axes[axis].gain

    return push(name) + sum(abs(share) * push(other) for other, share in given.couplings.get(name, {}).items())


@settings(max_examples=300, deadline=None)
@given(
    settings_of_any_kind(),
    st.lists(st.tuples(*[st.floats(allow_nan=False)] * 3), max_size=12),
    st.sampled_from(SOURCES),
)
def test_one_observation_pushes_by_no_more_than_the_proof_says(
    given_settings: StateSettings, lived: list[Any], source: Any
) -> None:
    state = State.resting(given_settings)
    for z in lived:
        before = state
        readings = dict(zip(NAMES, z, strict=True))
        state, _ = state.observe(readings, given_settings, source=source, cause="x")
        for name, value in state.values.items():
            assert abs(value - before.values[name]) <= most(name, given_settings) * (1 + 1e-12) + 1e-12


@given(st.floats(0.2, 20), st.floats(0, 0.05), st.floats(-0.2, 0.2), st.lists(st.floats(allow_nan=False), max_size=60))
def test_the_leak_alone_holds_an_axis_near_its_rest(half_life: float, gain: float, rest: float, z: list[float]) -> None:
    """Where the cap is out of reach, one observation a turn leaves it within p / (1 - 2^(-1 / half_life))."""
    given_settings = StateSettings(axes={"a": Accumulator(half_life=half_life, gain=gain, rest=rest, cap=3)})
    bound = most("a", given_settings) / (1 - 2 ** (-1 / half_life))
    state = State.resting(given_settings)
    for reading in z:
        state, _ = state.observe({"a": reading}, given_settings, source="read", cause="x", turns=1.0)
        assert abs(state.values["a"] - rest) <= bound * (1 + 1e-9) + 1e-12


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(settings_of_any_kind(), st.just(LARGEST)),
    st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3),
    st.permutations(NAMES),
    st.tuples(*[st.floats(-3, 3)] * 3),
)
def test_a_closed_loop_of_any_gain_stays_inside_its_caps_for_200_rounds(
    given_settings: StateSettings, gains: tuple[float, ...], reads: list[str], start: tuple[float, ...]
) -> None:
    """Each axis reads a multiple, of any size and sign, of itself or of another one."""
    state = State(
        {
            name: max(-axis.cap, min(axis.cap, value))
            for (name, axis), value in zip(given_settings.axes.items(), start, strict=False)
        }
    )

    def reading(state: State) -> Mapping[str, float]:
        return {
            name: gain * state.values.get(other, state.values[name])
            for name, gain, other in zip(given_settings.axes, gains, reads, strict=False)
        }

    for _ in range(200):
        state, _ = state.observe(
            reading(state), given_settings, source="inner speech", cause="its own words", turns=1.0
        )
        assert inside(state, given_settings)


def test_a_model_that_feeds_on_its_own_words_stays_inside_cap_and_budget_for_200_rounds(
    tiny_llama: Any, toy_axis: Axis, tiny_gauge: VolatilityGauge
) -> None:
    """The loop itself: state, intervention, generated text, reading, state, with the largest gains allowed."""
    given_settings = StateSettings(
        axes={"vowels": Accumulator(half_life=10_000, gain=2, cap=3)},
        couplings={"vowels": {"vowels": 1.0}},
        sources={"inner speech": 2.0},
    )
    influence = Influence([toy_axis], tiny_gauge, BUDGET, given_settings)
    state, seen = State.resting(given_settings), set()
    for number in range(200):
        influenced = influence.of(state, span="all")
        assert influenced.volatility.mean <= BUDGET
        row = Row(
            (Message("user", f"{number}"),),
            intervention=influenced.intervention,
            sampling=Sampling(4, temperature=1.0),
            seed=number,
        )
        (said,) = tiny_llama.generate([row])
        (readings,) = influence.read(tiny_llama, [said.text or "."])
        state, _ = state.observe(readings, given_settings, source="inner speech", cause="its own words", turns=1.0)
        seen.add(round(state.values["vowels"], 6))
        assert inside(state, given_settings)
    assert len(seen) > 1


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_gains_do_reach_the_cap_so_that_the_bound_is_one(name: str) -> None:
    state = State.resting(LARGEST)
    readings = dict.fromkeys(NAMES, math.inf)
    state, _ = state.observe(readings, LARGEST, source="read", cause="x")
    assert state.values[name] == 3.0
