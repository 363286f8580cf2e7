"""What a state does beside steering: adapters inside the one budget, temperature, frames and attention."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model.tiny_adapters import write_lora
from tiny_models import byte_tokenizer, tiny_module
from toy_axis import BUDGET

from overlay.axes import Axis
from overlay.inner import Influence, State, StateSettings, congruence
from overlay.inner.influence import GRID
from overlay.model import AdapterUse, Intervention, LanguageModel, Message, Row, VolatilityGauge

STEPS = [step / GRID for step in range(-3 * GRID, 3 * GRID + 1)]


@pytest.fixture(scope="module")
def worn_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModel]:
    """The model that the toy axis was made on, with two adapters beside it."""
    model = LanguageModel(tiny_module("llama"), byte_tokenizer(), "tiny-llama")
    folder = tmp_path_factory.mktemp("lora")
    for seed, (name, strength) in enumerate((("strong", 0.3), ("weak", 0.02))):
        model.attach(name, write_lora(folder / name, tiny_module("llama"), seed, strength))
    yield model
    for name in ("strong", "weak"):
        model.detach(name)


@pytest.fixture(scope="module")
def gauge(worn_model: LanguageModel) -> VolatilityGauge:
    return VolatilityGauge(worn_model)


def settings(**values: Any) -> StateSettings:
    return StateSettings.model_validate({"axes": {"vowels": {"cap": 3}, "other": {"cap": 3}}} | values)


def fading(name: str = "strong", **values: Any) -> dict[str, Any]:
    return {"axis": "vowels", "adapter": name, "from": 0.3, "to": 1.0} | values


# --- the grid ------------------------------------------------------------------------------------


@given(st.floats(-3, 3), st.floats(-0.0249, 0.0249))
def test_states_that_round_alike_act_alike(
    toy_axis: Axis, tiny_gauge: VolatilityGauge, value: float, offset: float
) -> None:
    influence = Influence([toy_axis], tiny_gauge, 100.0)
    step = round(value * GRID) / GRID
    found = influence.of(State({"vowels": step + offset}))
    assert found is influence.of(State({"vowels": step})) and found.scale == pytest.approx(
        min(1.0, toy_axis.reach / abs(step)) if step else 1.0
    )
    assert not found.intervention.doses or found.intervention.doses[0] == toy_axis.dose(step * found.scale, "turn")


def test_what_is_nearer_to_zero_than_half_a_step_does_nothing(toy_axis: Axis, tiny_gauge: VolatilityGauge) -> None:
    influence = Influence([toy_axis], tiny_gauge, BUDGET)
    assert not influence.of(State({"vowels": 0.024})).intervention.doses
    assert influence.of(State({"vowels": 0.026})).intervention.doses


def test_no_step_of_the_grid_costs_more_than_the_budget(toy_axis: Axis, tiny_gauge: VolatilityGauge) -> None:
    influence = Influence([toy_axis], tiny_gauge, BUDGET)
    for step in STEPS[::5]:
        found = influence.of(State({"vowels": step}), span="all")
        assert tiny_gauge.measure(found.intervention).mean == found.volatility.mean <= BUDGET


# --- adapters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "scale"), [(-1.0, 0), (0.3, 0), (0.65, 0.4), (1.0, 0.8), (2.0, 0.8)])
def test_an_adapter_fades_in_along_its_axis(toy_axis: Axis, gauge: VolatilityGauge, value: float, scale: float) -> None:
    influence = Influence([toy_axis], gauge, 100.0, settings(fades_in=[fading("weak", scale=0.8)]))
    found = influence.of(State({"vowels": value}))
    found_scales = {use.name: use.scale for use in found.intervention.adapters}
    assert found_scales == ({"weak": pytest.approx(scale * found.scale)} if scale else {})


def test_an_adapter_may_fade_in_as_an_axis_falls(gauge: VolatilityGauge) -> None:
    influence = Influence([], gauge, 100.0, settings(fades_in=[fading("weak", **{"from": -0.5, "to": -1.5})]))
    scales = [influence.of(State({"vowels": value})).intervention.adapters for value in (0.0, -1.0, -2.0)]
    assert scales == [(), (AdapterUse("weak", 0.5),), (AdapterUse("weak", 1.0),)]


@pytest.mark.parametrize("values", list(itertools.product([-3.0, 0.5, 1.2, 3.0], [0.0, 0.7, 3.0])))
def test_doses_and_adapters_together_never_cost_more_than_the_budget(
    toy_axis: Axis, worn_model: LanguageModel, gauge: VolatilityGauge, values: tuple[float, float]
) -> None:
    given_settings = settings(fades_in=[fading(), fading("weak", axis="other", scale=2.0)])
    influence = Influence([toy_axis], gauge, BUDGET, given_settings)
    state = State(dict(zip(("vowels", "other"), values, strict=True)))
    found = influence.of(state, span="all")
    assert VolatilityGauge(worn_model).measure(found.intervention) == found.volatility
    assert found.volatility.mean <= BUDGET
    assert found.intervention.doses and bool(found.intervention.adapters) == (max(values) > 0.3)


def test_a_mix_that_is_too_dear_shrinks_as_a_whole_and_spends_the_budget(
    toy_axis: Axis, gauge: VolatilityGauge
) -> None:
    wanted = settings(fades_in=[fading()])
    found = Influence([toy_axis], gauge, BUDGET, wanted).of(State({"vowels": 1.0}), span="all")
    (dose,), (use,) = found.intervention.doses, found.intervention.adapters
    assert 0 < found.scale < 1 and 0.8 * BUDGET <= found.volatility.mean <= BUDGET
    assert dose.coefficient == pytest.approx(found.scale * toy_axis.calibration.budget_dose)
    assert use.scale == pytest.approx(found.scale)
    alone = gauge.measure(Intervention(found.intervention.doses))
    assert alone.mean < found.volatility.mean


def test_an_adapter_alone_is_held_inside_the_budget(gauge: VolatilityGauge) -> None:
    found = Influence([], gauge, BUDGET, settings(fades_in=[fading()])).of(State({"vowels": 2.0}))
    assert gauge.measure(Intervention(adapters=(AdapterUse("strong", 1.0),))).mean > BUDGET
    assert 0 < found.scale < 1 and 0.8 * BUDGET <= found.volatility.mean <= BUDGET


def test_an_adapter_worn_for_another_reason_shares_the_budget_and_is_worn_once(
    toy_axis: Axis, gauge: VolatilityGauge
) -> None:
    influence = Influence([toy_axis], gauge, BUDGET, settings(fades_in=[fading("weak")]))
    state = State({"vowels": 1.0})
    alone, both = influence.of(state), influence.of(state, also=[AdapterUse("strong"), AdapterUse("weak", 0.1)])
    assert [use.name for use in both.intervention.adapters] == ["weak", "strong"]
    assert both.scale < alone.scale and both.volatility.mean <= BUDGET
    assert influence.of(state) is alone


def test_a_mix_with_adapters_is_measured_once(
    toy_axis: Axis, worn_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    gauge = VolatilityGauge(worn_model)
    influence = Influence([toy_axis], gauge, BUDGET, settings(fades_in=[fading("weak")]))
    first = influence.of(State({"vowels": 1.0}))
    monkeypatch.setattr(gauge, "per_token", None)
    assert influence.of(State({"vowels": 1.01})) is first


def test_what_is_worn_always_counts_and_the_state_gets_what_is_left(
    toy_axis: Axis, worn_model: LanguageModel, gauge: VolatilityGauge
) -> None:
    worn = (AdapterUse("weak", 1.0),)
    cost = gauge.measure(Intervention(adapters=worn)).mean
    budget = cost + BUDGET / 2
    influence = Influence([toy_axis], gauge, budget, worn=worn)
    assert influence.of(State()).volatility.mean == pytest.approx(cost)
    for value in (-3.0, 1.0, 3.0):
        found = influence.of(State({"vowels": value}), span="all")
        joint = VolatilityGauge(worn_model).measure(found.intervention + Intervention(adapters=worn))
        assert found.volatility.mean == joint.mean <= budget
        assert found.intervention.doses and not found.intervention.adapters and found.scale > 0


def test_where_what_is_worn_overspends_the_state_gets_nothing_and_it_shows(
    toy_axis: Axis, gauge: VolatilityGauge
) -> None:
    influence = Influence([toy_axis], gauge, BUDGET, worn=(AdapterUse("strong", 1.0),))
    found = influence.of(State({"vowels": 1.0}))
    assert found.intervention == Intervention() and found.scale == 0 and found.volatility.mean > BUDGET


# --- temperature and frames ----------------------------------------------------------------------

falling = st.sampled_from([1, -1])


@given(st.floats(0, 2), st.floats(0, 2), st.floats(-3, 3), falling)
def test_the_temperature_stays_within_its_bounds_and_follows_its_axis(
    tiny_gauge: VolatilityGauge, one: float, other: float, value: float, sign: int
) -> None:
    low, high = sorted((one, other))
    ramp = {"axis": "vowels", "low": low, "high": high, "from": -1.0 * sign, "to": 1.0 * sign}
    influence = Influence([], tiny_gauge, BUDGET, settings(temperature=ramp))

    def at(value: float) -> float:
        found = influence.of(State({"vowels": value})).temperature
        assert found is not None
        return found

    assert low <= at(value) <= high
    assert at(-2.0 * sign) == low and at(2.0 * sign) == high and at(0.0) == pytest.approx((low + high) / 2)
    assert sign * (at(value + 0.5) - at(value)) >= -1e-12


def test_a_state_without_a_ramp_leaves_the_temperature_to_the_reply(tiny_gauge: VolatilityGauge) -> None:
    assert Influence([], tiny_gauge, BUDGET, settings()).of(State({"vowels": 1.0})).temperature is None


def test_frames_are_easier_to_wake_along_their_axes_and_never_by_more_than_all_of_it(
    tiny_gauge: VolatilityGauge,
) -> None:
    wakes = [
        {"axis": "vowels", "frame": "ledger", "energy": 0.4},
        {"axis": "other", "frame": "ledger", "energy": 0.9},
        {"axis": "other", "frame": "analogy", "energy": -0.5, "from": 1.0, "to": 2.0},
    ]
    influence = Influence([], tiny_gauge, BUDGET, settings(wakes=wakes))

    def woken(vowels: float, other: float) -> Mapping[str, float]:
        return influence.leanings(State({"vowels": vowels, "other": other}))

    assert woken(0.0, 0.0) == woken(-1.0, -1.0) == {}
    assert woken(0.5, 0.0) == {"ledger": pytest.approx(0.2)}
    assert woken(1.0, 1.0) == {"ledger": 1.0}
    assert woken(0.0, 2.0) == {"ledger": pytest.approx(0.9), "analogy": pytest.approx(-0.5)}


# --- attention on notes --------------------------------------------------------------------------

numbers = st.floats(-3, 3)
zs = st.floats(allow_nan=False)


@given(st.tuples(numbers, numbers), st.tuples(zs, zs))
def test_congruence_lies_between_its_bounds_and_turns_with_the_state(
    values: tuple[float, float], readings: tuple[float, float]
) -> None:
    state, read = (dict(zip("ab", pair, strict=True)) for pair in (values, readings))
    found = congruence(state, read)
    assert -1 - 1e-12 <= found <= 1 + 1e-12
    assert congruence({name: -value for name, value in state.items()}, read) == pytest.approx(-found)
    assert congruence({"a": 0.0, "b": 0.0}, read) == congruence(state, {"a": 0.0, "b": 0.0}) == 0


def test_a_stronger_state_agrees_more_strongly_and_no_state_with_nothing() -> None:
    read = {"a": 4.0}
    found = [congruence({"a": value}, read) for value in (-1.0, 0.0, 0.2, 0.6, 1.0, 3.0)]
    assert found == sorted(found) and found[1] == 0 and found[-1] == pytest.approx(found[-2])


def test_notes_that_fit_the_state_are_paid_attention_and_the_others_none(tiny_gauge: VolatilityGauge) -> None:
    influence = Influence([], tiny_gauge, BUDGET, settings(focus={"weight": 2.0}))
    notes = {"fits": {"vowels": 5.0}, "against": {"vowels": -5.0}, "neutral": {"vowels": 0.0}}
    found = {one.text: one for one in influence.focus(State({"vowels": 1.0}), notes)}
    assert list(found) == list(notes)
    focus = found["fits"].focus
    assert focus is not None and focus.keys == "fits" and focus.span == "turn"
    assert focus.weight == pytest.approx(2.0 * found["fits"].congruence) and 1.9 < focus.weight <= 2.0
    assert found["against"].focus is None and found["against"].congruence < -0.9
    assert found["neutral"].focus is None and found["neutral"].congruence == 0
    assert all(one.focus is None for one in influence.focus(State({"vowels": 0.0}), notes))
    plain = Influence([], tiny_gauge, BUDGET, settings())
    assert all(one.focus is None for one in plain.focus(State({"vowels": 1.0}), notes))


def test_the_attention_acts_on_a_prompt_that_holds_the_note(tiny_llama: Any, tiny_gauge: VolatilityGauge) -> None:
    influence = Influence([], tiny_gauge, BUDGET, settings(focus={"weight": 2.0}))
    (fits,) = influence.focus(State({"vowels": 2.0}), {"the pump is in the cellar": {"vowels": 3.0}})
    assert fits.focus is not None
    chat = (Message("user", "Notes:\n\nthe pump is in the cellar\n\nQuestion: where is it?"),)
    plain, focused = (Row(chat, intervention=Intervention(focus=focus)) for focus in ((), (fits.focus,)))
    tokens = [tiny_llama.encode(row).tokens for row in (plain, focused)]
    logits = [found[-1].numpy() for _, found in sorted(tiny_llama.logits(tokens, [plain, focused]))]
    assert np.abs(logits[0] - logits[1]).max() > 1e-4


def test_the_stock_homes_examples_are_settings_that_hold(tmp_path: Path) -> None:
    """What agent.yaml shows in comments can be used by taking the comment sign away."""
    import re

    from overlay.documents import parse_document
    from overlay.home import AgentSettings, stock_folder

    text = (stock_folder() / "agent.yaml").read_text(encoding="utf-8")
    assert len(re.findall(r"^ +# [a-z_]+: [{\[\d]", text, flags=re.MULTILINE)) >= 9
    shown = re.sub(r"^( +)# ([a-z_]+: [{\[\d])", r"\1\2", text, flags=re.MULTILINE)
    shown = shown.replace("NAME", "warm").replace("  sources:    ", "    calm: {}\n  sources:    ")
    home = parse_document(shown, AgentSettings, "agent.yaml")
    assert home.state.fades_in and home.state.wakes and home.state.temperature and home.state.focus
    assert parse_document(text, AgentSettings, "agent.yaml").state.fades_in == ()
