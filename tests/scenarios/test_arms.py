"""Arms: which there are, what each does to the model, and that none says more than another where it may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model.tiny_adapters import write_lora
from pydantic import ValidationError
from toy_axis import BUDGET
from toy_mind import toy_mind
from toy_scenario import toy_scenario

from overlay.errors import ArgumentError
from overlay.inner import MeasuredMixes, Mind, State
from overlay.model import AdapterUse, Ban, LanguageModel, Row
from overlay.progress import SilentProgress
from overlay.scenarios.arms import FACTORS, States, build_arms
from overlay.scenarios.cells import Arm, Group, Record, plan
from overlay.scenarios.detectors import Instruments
from overlay.scenarios.episode import play_group
from overlay.scenarios.limits import NORM_DIRECTIONS, ArmSet
from overlay.scenarios.script import ARM_NAMES, Scenario

CORE = ["base", "treated", "sham", "reversed", "random_norm", "random_volatility"]
ALWAYS = ["dose_0.5", "dose_1.5", "zeroed"]
TREATED, NEUTRAL, SHUFFLED = (State({"vowels": value}) for value in (0.6, 0.1, -0.2))
PROMPT, TOPIC, CONTROL = "Be calm.", "Write on tin.", "Give all away."
ITEMS = 2


@pytest.fixture(scope="module")
def mind(tiny_llama: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mind]:
    """A toy mind whose model has an adapter resident."""
    made = toy_mind(tiny_llama)
    tiny_llama.attach("worn", write_lora(tmp_path_factory.mktemp("adapter") / "worn", tiny_llama.module, 1))
    yield made
    tiny_llama.detach("worn")


def script(**changes: Any) -> Scenario:
    return Scenario.model_validate(toy_scenario(items=ITEMS) | changes)


def build(
    mind: Mind,
    scenario: Scenario,
    which: ArmSet = "all",
    states: States | None = None,
    directions: int = 2,
    matched: MeasuredMixes | None = None,
) -> list[Arm]:
    return build_arms(scenario, mind, states or States(TREATED), which, directions, matched, SilentProgress())


def names(arms: list[Arm]) -> list[str]:
    return list(dict.fromkeys(arm.name for arm in arms))


def named(arms: list[Arm], name: str) -> Arm:
    (found,) = [arm for arm in arms if arm.name == name]
    return found


def play(mind: Mind, scenario: Scenario, arm: Arm) -> list[Record]:
    (group,) = plan(scenario, [arm])
    return play_group(group, mind.model, Instruments())


def done(record: Record) -> Any:
    return [record[name] for name in ("events", "ledger", "messages", "margin", "detectors", "prompts", "quality")]


WHOLE = {
    "levels": {"topic": TOPIC, "prompted": PROMPT, "adapter": "worn"},
    "positive_control": CONTROL,
    "arms": [{"name": "mine", "doses": [{"axis": "vowels", "dose": 0.5}]}],
}


# --- which arms there are ------------------------------------------------------------------------


def test_core_arms_are_the_same_whatever_else_a_script_allows(mind: Mind) -> None:
    states = States(TREATED, NEUTRAL, SHUFFLED)
    assert names(build(mind, script(**WHOLE), "core", states)) == CORE


def test_all_adds_what_needs_nothing_of_the_script(mind: Mind) -> None:
    assert names(build(mind, script())) == [*CORE, *ALWAYS]


@pytest.mark.parametrize(
    ("changes", "states", "added"),
    [
        ({}, States(TREATED, neutral=NEUTRAL), "neutral"),
        ({}, States(TREATED, shuffled=SHUFFLED), "shuffled"),
        ({"levels": {"topic": TOPIC}}, None, "topic"),
        ({"levels": {"prompted": PROMPT}}, None, "prompted"),
        ({"levels": {"adapter": "worn"}}, None, "adapter"),
        ({"positive_control": CONTROL}, None, "positive_control"),
        ({"arms": WHOLE["arms"]}, None, "mine"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_arm_is_there_when_the_script_gives_what_it_needs_and_only_then(
    mind: Mind, changes: dict[str, Any], states: States | None, added: str
) -> None:
    assert names(build(mind, script(**changes), states=states)) == [*CORE, *ALWAYS, added]


def test_all_together_keep_their_order_and_the_core_arms_their_cells(mind: Mind) -> None:
    scenario, states = script(**WHOLE, probes=None), States(TREATED, NEUTRAL, SHUFFLED)
    everything = build(mind, scenario, states=states)
    others = ["neutral", "shuffled", "topic", "prompted", "adapter", "positive_control", "mine"]
    assert names(everything) == [*CORE, *ALWAYS, *others]

    def keys(arms: list[Arm]) -> list[str]:
        return [group.key(unit, "m") for group in plan(scenario, arms) for unit in group.units]

    core, whole = keys(build(mind, scenario, "core", states)), keys(everything)
    assert whole[: len(core)] == core and len(set(whole)) == len(whole)


def test_more_directions_add_arms_and_change_none(mind: Mind) -> None:
    fewer, more = (build(mind, script(), "core", directions=count) for count in (2, NORM_DIRECTIONS + 1))
    known = {(arm.name, arm.direction): arm.intervention.digest for arm in more}
    assert all(known[arm.name, arm.direction] == arm.intervention.digest for arm in fewer)
    drawn = {arm.intervention.digest for arm in more if arm.name == "random_volatility"}
    assert len(drawn) == NORM_DIRECTIONS + 1
    counts = {name: sum(arm.name == name for arm in more) for name in CORE}
    assert counts["random_volatility"] == NORM_DIRECTIONS + 1 and counts["random_norm"] == NORM_DIRECTIONS


# --- what they do --------------------------------------------------------------------------------


def test_dose_arms_are_the_treated_dose_times_a_factor(mind: Mind) -> None:
    arms = build(mind, script())
    acting = named(arms, "treated").intervention
    (dose,) = acting.doses
    assert dose.coefficient != 0 and acting.digest == mind.influence.of(TREATED).intervention.digest
    factors = {"sham": 0.0, "reversed": -1.0} | {f"dose_{factor:g}": factor for factor in FACTORS}
    assert set(FACTORS) == {0.5, 1.5}
    for name, factor in factors.items():
        (other,) = named(arms, name).intervention.doses
        assert other.coefficient == pytest.approx(factor * dose.coefficient)
        assert (other.direction.digest, other.blocks, other.span) == (dose.direction.digest, dose.blocks, dose.span)
    costs = [named(arms, name).volatility for name in ("sham", "dose_0.5", "treated", "dose_1.5")]
    means = [cost.mean for cost in costs if cost is not None]
    assert len(means) == 4 and means[0] == 0 and means == sorted(means) and len(set(means)) == 4


def test_random_directions_have_the_dose_or_the_volatility_of_the_treated_arm(mind: Mind) -> None:
    arms = build(mind, script(), "core", directions=3)
    treated = named(arms, "treated")
    (dose,) = treated.intervention.doses
    assert treated.volatility is not None and 0 < treated.volatility.mean <= BUDGET
    for arm in arms:
        if arm.direction is None:
            continue
        (own,) = arm.intervention.doses
        cosine = float(np.sum(own.direction.vectors[1] * dose.direction.vectors[1]))
        assert own.blocks == dose.blocks and abs(cosine) < 0.8
        assert np.linalg.norm(own.direction.vectors[1]) == pytest.approx(1, abs=1e-5)
        if arm.name == "random_norm":
            assert own.coefficient == dose.coefficient
        else:
            measured = mind.influence.gauge.measure(arm.intervention).mean
            assert measured == pytest.approx(treated.volatility.mean, rel=0.05)


def test_what_random_directions_cost_is_measured_once(
    mind: Mind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matched = MeasuredMixes(tmp_path, {"model": "tiny"}, writes=True)
    first = build(mind, script(), "core", matched=matched)
    measured: list[Any] = []
    measure = mind.influence.gauge.measure
    monkeypatch.setattr(mind.influence.gauge, "measure", lambda one: (measured.append(one), measure(one))[1])
    again = build(mind, script(), "core", matched=MeasuredMixes(tmp_path, {"model": "tiny"}, writes=True))
    assert [arm.intervention.digest for arm in again] == [arm.intervention.digest for arm in first]
    assert [arm.volatility for arm in again] == [arm.volatility for arm in first]
    known = {arm.intervention.digest for arm in first if arm.direction is not None}
    assert not known & {one.digest for one in measured}


def test_zeroed_and_sham_do_what_base_does_bit_for_bit_and_the_others_do_not(mind: Mind) -> None:
    scenario = script(probes=None)
    arms = build(mind, scenario, states=States(TREATED, NEUTRAL, SHUFFLED))
    base = [done(record) for record in play(mind, scenario, named(arms, "base"))]
    for name in ("zeroed", "sham"):
        arm = named(arms, name)
        assert arm.volatility is not None and arm.volatility.mean == 0
        assert [done(record) for record in play(mind, scenario, arm)] == base
    for name in ("treated", "reversed", "dose_0.5", "neutral", "shuffled"):
        assert [done(record)[0] for record in play(mind, scenario, named(arms, name))] != [one[0] for one in base]


def test_neutral_and_shuffled_act_by_the_states_that_their_texts_left(mind: Mind) -> None:
    arms = build(mind, script(), states=States(TREATED, NEUTRAL, SHUFFLED))
    for name, state in (("treated", TREATED), ("neutral", NEUTRAL), ("shuffled", SHUFFLED)):
        assert named(arms, name).intervention.digest == mind.influence.of(state).intervention.digest


def test_an_adapter_arm_wears_its_adapter_whole_and_changes_what_is_scored(mind: Mind) -> None:
    scenario = script(**WHOLE, probes=None)
    arms = build(mind, scenario)
    arm = named(arms, "adapter")
    assert arm.intervention.adapters == (AdapterUse("worn", 1.0),) and not arm.intervention.doses
    assert arm.volatility is not None and arm.volatility.mean > 0 and arm.same_tokens
    base, worn = (play(mind, scenario, named(arms, name)) for name in ("base", "adapter"))
    assert [one["prompts"] for one in worn] == [one["prompts"] for one in base]
    assert all(one["margin"] != other["margin"] for one, other in zip(worn, base, strict=True))


def test_a_custom_arm_does_all_that_is_written_and_nothing_else(mind: Mind) -> None:
    written = {
        "name": "half-and-worn",
        "doses": [{"axis": "vowels", "dose": -0.5}],
        "adapters": {"worn": 0.25},
        "bans": ["tin"],
        "instruction": "Be slow.",
    }
    arms = build(mind, script(arms=[written, {"name": "idle"}]))
    arm, idle = named(arms, "half-and-worn"), named(arms, "idle")
    axis = mind.influence.axes["vowels"]
    assert arm.intervention.doses == (axis.dose(-0.5, "turn"),)
    assert arm.intervention.adapters == (AdapterUse("worn", 0.25),) and arm.intervention.bans == (Ban("tin"),)
    assert arm.instruction == "Be slow." and not arm.same_tokens and arm.label == "Half and worn"
    assert idle.intervention.digest == named(arms, "base").intervention.digest and idle.same_tokens


def test_a_custom_arm_that_doses_another_axis_is_refused(mind: Mind) -> None:
    with pytest.raises(ArgumentError, match="'mine' doses 'height'") as caught:
        build(mind, script(arms=[{"name": "mine", "doses": [{"axis": "height", "dose": 1}]}]))
    assert "vowels" in caught.value.next_step


# --- what they say -------------------------------------------------------------------------------


def test_only_arms_that_say_something_by_name_have_other_tokens_than_base(mind: Mind) -> None:
    custom = [*WHOLE["arms"], {"name": "told", "instruction": "Be slow."}]
    scenario = script(**WHOLE | {"arms": custom}, probes=None)
    arms = build(mind, scenario, states=States(TREATED, NEUTRAL, SHUFFLED), directions=1)
    prompts = {
        arm.name: {(one["item"], one["paraphrase"]): one["prompts"] for one in play(mind, scenario, arm)}
        for arm in arms
    }
    saying = {"topic", "prompted", "positive_control", "told"}
    assert {arm.name for arm in arms if not arm.same_tokens} == saying
    for name, found in prompts.items():
        same = [found[unit] == prompts["base"][unit] for unit in found]
        assert not any(same) if name in saying else all(same), name


def test_the_text_on_a_topic_was_written_by_the_unchanged_model(mind: Mind) -> None:
    arm = named(build(mind, script(**WHOLE)), "topic")
    asked, answered = arm.history
    assert (asked.role, asked.text, answered.role) == ("user", TOPIC, "assistant")
    assert arm.intervention.digest == named(build(mind, script()), "base").intervention.digest
    mind.model.score([Row((asked,), options=("Tin.",))])
    assert named(build(mind, script(**WHOLE)), "topic").history == arm.history


def test_no_arm_of_a_script_takes_the_name_of_another(mind: Mind) -> None:
    everything = build(mind, script(**WHOLE), states=States(TREATED, NEUTRAL, SHUFFLED))
    assert {*names(everything)} - {"mine"} == {*ARM_NAMES}
    for taken in ([name for name in ARM_NAMES if "." not in name], ["mine", "mine"]):
        for custom in [taken] if len(set(taken)) == 1 else [[name] for name in taken]:
            with pytest.raises(ValidationError, match=f"another arm is named '{custom[0]}'"):
                script(arms=[{"name": name} for name in custom])


def test_only_arms_that_there_can_be_are_registered() -> None:
    own = [{"name": "mine"}]
    assert script(arms=own, preregistration={"comparisons": ["treated", "adapter", "mine"]}).arms
    with pytest.raises(ValidationError, match="'mine' is no arm"):
        script(preregistration={"comparisons": ["treated", "mine"]})


def test_only_arms_whose_answers_are_compared_are_asked_about_themselves(mind: Mind) -> None:
    arms = build(mind, script(**WHOLE))
    assert {arm.name for arm in arms if arm.probes} == {"base", "treated", "prompted"}
    for which in ("core", "all"):
        assert not any(arm.probes for arm in build(mind, script(probes=None), which))


def test_other_arms_run_on_some_wordings_and_registered_ones_on_all(mind: Mind) -> None:
    plain = {arm.name: arm.paraphrases for arm in build(mind, script(**WHOLE))}
    registered = script(**WHOLE, preregistration={"comparisons": ["treated", "mine"]})
    promised = {arm.name: arm.paraphrases for arm in build(mind, registered)}
    assert all(plain[name] is None for name in CORE[:4]) and plain["mine"] == plain["prompted"] == 2
    assert promised["mine"] is None and promised["prompted"] == 2
    assert plain["random_norm"] == plain["random_volatility"] == 1


def test_every_arm_has_a_group_of_all_its_units_each_once(mind: Mind) -> None:
    scenario = script()
    for group in plan(scenario, build(mind, scenario, "core")):
        assert isinstance(group, Group) and len(set(group.units)) == len(group.units)
        assert len(group.units) == ITEMS * (1 if group.arm.direction is not None else 2)
