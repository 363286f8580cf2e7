"""Episodes: an arm changes nothing but the intervention, the world answers, and one unit's mistake is its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from toy_scenario import toy_scenario

from overlay.model import NOTHING, Dose, Intervention, LanguageModel, Message, Row
from overlay.scenarios import first_prompts
from overlay.scenarios.cells import Arm, Group, Record, Unit
from overlay.scenarios.detectors import Instruments
from overlay.scenarios.episode import play_group
from overlay.scenarios.script import Scenario

ITEMS = 6
BASE = Arm("base", "Base")

WRITES = {"free": {"asks": "Say why.", "max_tokens": 8, "temperature": 1.0}}


def script(*steps: dict[str, Any], setting: str = "You keep the stores.", **changes: Any) -> Scenario:
    """The toy script with these steps, if there are any, and without probes unless they are given."""
    content = toy_scenario(items=ITEMS)
    for number, item in enumerate(content["trial"]["items"]):
        if number % 2:  # so that the model does the one in some items and the other in others
            give, keep = item["options"]
            give["text"], keep["text"] = "I let all of it go.", f"I keep {number} here."
    content["trial"] |= {"setting": setting} | ({"steps": list(steps)} if steps else {})
    content["trial"] |= changes.pop("trial", {})
    return Scenario.model_validate(content | {"probes": None} | changes)


def play(
    model: LanguageModel, scenario: Scenario, arm: Arm = BASE, units: Sequence[Unit] | None = None
) -> list[Record]:
    wanted = units or [Unit(item.id, wording) for item in scenario.trial.items for wording in (0, 1)]
    return play_group(Group(scenario, arm, tuple(wanted)), model, Instruments(forbidden=("vowel",)))


def without(record: Record, *names: str) -> Record:
    return {name: value for name, value in record.items() if name not in names}


WHOSE = ("arm", "direction", "intervention", "same_tokens")
"""What says whose a record is, not what was done."""


@pytest.fixture(scope="module")
def steered(tiny_llama: LanguageModel, random_direction: Any) -> Intervention:
    return Intervention((Dose(random_direction(tiny_llama), 0.5, (1, 2)),))


# --- arms and what they share --------------------------------------------------------------------


def test_sham_does_scores_and_samples_what_base_does_bit_for_bit(
    tiny_llama: LanguageModel, steered: Intervention
) -> None:
    scenario = script({"choose": {}}, WRITES, {"choose": {}})
    base, sham, treated = (
        [without(record, *WHOSE) for record in play(tiny_llama, scenario, Arm(name, name, intervention))]
        for name, intervention in (("base", NOTHING), ("sham", steered * 0.0), ("treated", steered))
    )
    # The unchanged model reads the texts of base and treated only.
    assert all(record["quality"].pop("own_nll") is not None for record in base)
    assert all(record["quality"].pop("own_nll") is None for record in sham)
    assert sham == base
    assert [record["prompts"] for record in treated] == [record["prompts"] for record in base]
    for record, other in zip(base, treated, strict=True):
        assert record["events"][0]["scores"] != other["events"][0]["scores"]
        assert record["margin"] != other["margin"]


def test_a_record_does_not_depend_on_what_was_played_before(tiny_llama: LanguageModel, steered: Intervention) -> None:
    scenario = script({"choose": {}}, WRITES)
    tiny_llama.prefixes.clear()
    first = play(tiny_llama, scenario)
    for other in (script(WRITES, setting="You keep the store-rooms."), scenario):
        play(tiny_llama, other, Arm("treated", "", steered))
        play(tiny_llama, other, units=[Unit("item-3", 1)])
    assert play(tiny_llama, scenario) == first
    # Cached prefixes of the same prompts, made under no intervention, in other batches.
    for row in first_prompts(scenario, Unit("item-0", 0)):
        tiny_llama.score([Row(row.messages, options=("I give 0 away.",))])
    assert play(tiny_llama, scenario) == first


def test_what_is_sampled_depends_on_the_seed_and_the_unit_and_not_on_the_arm(
    tiny_llama: LanguageModel, steered: Intervention
) -> None:
    scenario = script(WRITES, detectors=[{"name": "wrote", "kind": "words", "words": ["tin"]}], primary="wrote")
    units = [Unit("item-0", 0, seed) for seed in range(3)] + [Unit("item-0", 0, 0, 1)]
    base, sham = (play(tiny_llama, scenario, arm, units) for arm in (BASE, Arm("sham", "", steered * 0.0)))
    texts = [record["events"][0]["text"] for record in base]
    assert [record["events"][0]["text"] for record in sham] == texts
    assert len(set(texts)) == len(units)


def test_a_reminder_stands_right_before_the_question(tiny_llama: LanguageModel) -> None:
    scenario = script()
    unit = [Unit(scenario.trial.items[0].id, 0)]
    (base,) = play(tiny_llama, scenario, Arm("base", ""), unit)
    (told,) = play(tiny_llama, scenario, Arm("told", "", reminder=" Be calm. ", same_tokens=False), unit)
    asked, reminded = (record["messages"][1]["text"] for record in (base, told))
    question = scenario.trial.question
    assert reminded == asked.removesuffix(question) + f"Be calm.\n\n{question}"
    assert told["messages"][0] == base["messages"][0] and told["prompts"] != base["prompts"]


def test_an_instruction_and_a_history_come_before_the_trial_and_change_its_tokens(tiny_llama: LanguageModel) -> None:
    scenario, unit = script(), [Unit("item-0", 0)]
    history = (Message("user", "Write on tin."), Message("assistant", "Tin is soft."))
    (base,) = play(tiny_llama, scenario, BASE, unit)
    (told,) = play(tiny_llama, scenario, Arm("prompted", "", instruction=" Be calm. ", same_tokens=False), unit)
    (wrote,) = play(tiny_llama, scenario, Arm("topic", "", history=history, same_tokens=False), unit)
    texts = [message["text"] for message in base["messages"]]
    assert texts[0] == "You keep the stores."
    assert told["messages"][0] == {"role": "system", "text": "Be calm.\n\nYou keep the stores."}
    assert [message["text"] for message in wrote["messages"]][:4] == [
        texts[0],
        "Write on tin.",
        "Tin is soft.",
        texts[1],
    ]
    assert len({base["prompts"], told["prompts"], wrote["prompts"]}) == 3
    assert [one["same_tokens"] for one in (base, told, wrote)] == [True, False, False]


# --- choosing ------------------------------------------------------------------------------------


def test_both_orders_of_the_options_are_shown_and_count_alike(tiny_llama: LanguageModel) -> None:
    scenario = script()
    shown = [row.messages[-1].text for row in first_prompts(scenario, Unit("item-0", 0))]
    give, keep = "\n- I give 0 away.", "\n- I keep all of it."
    assert [give + keep in text for text in shown] == [True, False]
    assert [keep + give in text for text in shown] == [False, True]
    for record in play(tiny_llama, scenario):
        (event,) = record["events"]
        (one, other) = event["scores"]
        assert one != other and event["offered"] == ("give", "keep")
        assert record["margin"] == pytest.approx((one[0] - one[1] + other[0] - other[1]) / 2)
        assert event["chosen"] == ("give" if record["margin"] > 0 else "keep")
        assert record["margin"] == pytest.approx(alone(tiny_llama, scenario, record), abs=1e-4)


def alone(model: LanguageModel, scenario: Scenario, record: Record) -> float:
    """The margin of a unit that was scored row by row."""
    rows = first_prompts(scenario, Unit(record["item"], record["paraphrase"]))
    scores = [model.score([row])[0].per_token for row in rows]
    return float(np.mean([one[0] - one[1] for one in scores]))


def test_it_does_not_matter_in_which_order_a_script_lists_the_options(tiny_llama: LanguageModel) -> None:
    scenario = script()
    items = [item.model_copy(update={"options": item.options[::-1]}) for item in scenario.trial.items]
    turned = scenario.model_copy(update={"trial": scenario.trial.model_copy(update={"items": tuple(items)})})
    assert turned.digest != scenario.digest
    both = [[without(record, "script") for record in play(tiny_llama, one)] for one in (turned, scenario)]
    assert both[0] == both[1]


def test_what_was_chosen_is_answered_spent_and_written_down(tiny_llama: LanguageModel) -> None:
    records = play(tiny_llama, script())
    assert {record["events"][0]["chosen"] for record in records} == {"give", "keep"}
    for record in records:
        gave = record["events"][0]["chosen"] == "give"
        assert record["messages"][-1] == {"role": "assistant", "text": record["events"][0]["text"]}
        assert (record["before"]["logs"], record["after"]["logs"]) == (12, 12 - gave)
        assert [entry["change"] for entry in record["ledger"]] == [-1] * gave
        assert record["detectors"]["gave"]["fired"] is gave and record["excluded"] == ""


# --- the course of an episode --------------------------------------------------------------------


def test_steps_branch_by_what_was_chosen(tiny_llama: LanguageModel) -> None:
    records = play(
        tiny_llama,
        script(
            {"id": "first", "choose": {}, "branches": {"give": "after-giving", "keep": "end"}},
            {"id": "never", "free": {"asks": "Nobody comes here.", "max_tokens": 2}},
            {"id": "after-giving", "free": {"asks": "You gave; {logs} logs are left.", "max_tokens": 2}},
        ),
    )
    assert {record["events"][0]["chosen"] for record in records} == {"give", "keep"}
    for record in records:
        steps = [event["step"] for event in record["events"]]
        if record["events"][0]["chosen"] == "give":
            assert steps == ["first", "after-giving"]
            assert record["messages"][-2]["text"] == "You gave; 11 logs are left."
        else:
            assert steps == ["first"] and len(record["messages"]) == 3


def test_an_episode_that_goes_in_circles_is_left_out_and_the_others_go_on(tiny_llama: LanguageModel) -> None:
    records = play(
        tiny_llama,
        script({"id": "again", "choose": {}, "branches": {"give": "again"}}, WRITES, trial={"longest": 4}),
    )
    circling = [record for record in records if record["excluded"]]
    assert circling and len(circling) < len(records)
    for record in circling:
        assert record["excluded"] == "the episode went on beyond its 4 steps"
        assert [event["chosen"] for event in record["events"]] == ["give"] * 4
    for record in records:
        if record not in circling:
            assert [event["kind"] for event in record["events"]][-2:] == ["choose", "free"]


def test_a_world_that_fails_leaves_out_that_unit_with_the_reason_and_the_others_go_on(
    tiny_llama: LanguageModel,
) -> None:
    """Whoever gives has a divisor of 0 in the rule that is looked at next."""
    rule = {"name": "share", "when": "12 / (logs - 11) > 100"}
    scenario = script({"choose": {}}, WRITES, world={"rules": [rule]})
    records = play(tiny_llama, scenario)
    plain = {(one["item"], one["paraphrase"]): one for one in play(tiny_llama, script({"choose": {}}, WRITES))}
    assert {bool(record["excluded"]) for record in records} == {True, False}
    for record in records:
        gave = record["events"][0]["chosen"] == "give"
        assert ("zero" in record["excluded"]) == gave == bool(record["excluded"])
        same = plain[record["item"], record["paraphrase"]]
        assert record["margin"] == same["margin"] and (gave or record["messages"][:3] == same["messages"][:3])
        assert len(record["events"]) == (1 if gave else 2)


def test_a_detector_that_fails_leaves_out_that_unit_for_itself_alone(tiny_llama: LanguageModel) -> None:
    detectors = [
        {"name": "gave", "kind": "ledger", "spent_at_least": 1},
        {"name": "shared", "kind": "ledger", "when": "12 / (logs - 11) > 100"},
    ]
    for record in play(tiny_llama, script(detectors=detectors)):
        gave = record["events"][0]["chosen"] == "give"
        found = record["detectors"]
        assert found["gave"]["fired"] is gave and record["excluded"] == ""
        assert found["shared"]["fired"] is (None if gave else False) and bool(found["shared"]["reason"]) == gave


def acting(**world: Any) -> Scenario:
    """A world of two rooms with two logs, where three acts can be done."""
    actions = [
        {"id": "burn", "text": "I burn a log.", "when": "at == 'yard' and logs > 0", "effects": {"logs": -1}},
        {"id": "sing", "text": "I sing.", "asked": False},
        {"id": "close", "text": "I close the gate.", "when": "open", "effects": {"open": False}},
    ]
    content = {
        "resources": {"logs": 2},
        "facts": {"open": True},
        "places": {"yard": ["shed"], "shed": ["yard"]},
        "start": "yard",
        "actions": actions,
    }
    trial = {"items": [{"id": f"item-{n}", "paraphrases": [f"It is day {n}."]} for n in range(ITEMS)]}
    return script(
        {"id": "act", "act": {"times": 8, "question": "{logs} logs at the {at}. What now?"}},
        world=content | world,
        trial=trial,
        detectors=[{"name": "sang", "kind": "volunteered"}],
        primary="sang",
    )


def test_only_what_the_world_allows_at_that_moment_is_offered(tiny_llama: LanguageModel) -> None:
    seen = set()
    for record in play(tiny_llama, acting(), units=[Unit(f"item-{n}", 0) for n in range(ITEMS)]):
        logs, gate, place = 2, True, "yard"
        assert len(record["events"]) == 8 and record["excluded"] == ""
        asked = [message["text"] for message in record["messages"] if message["role"] == "user"]
        for event, text in zip(record["events"], asked, strict=True):
            expected = {"sing", "go-shed" if place == "yard" else "go-yard"}
            expected |= ({"burn"} if place == "yard" and logs else set()) | ({"close"} if gate else set())
            assert set(event["offered"]) == expected and len(event["offered"]) == len(expected)
            assert f"{logs} logs at the {place}. What now?" in text
            assert all((f"\n- {said}" in text) == (name in expected) for name, said in TEXTS.items())
            seen.add(event["chosen"])
            logs -= event["chosen"] == "burn"
            gate = gate and event["chosen"] != "close"
            place = event["chosen"].removeprefix("go-") if event["chosen"].startswith("go-") else place
            assert event["asked"] is (event["chosen"] != "sing")
        assert record["after"] == {"logs": logs, "open": gate}
        assert record["detectors"]["sang"]["fired"] is any(event["chosen"] == "sing" for event in record["events"])
    assert len(seen) > 1


TEXTS = {
    "burn": "I burn a log.",
    "sing": "I sing.",
    "close": "I close the gate.",
    "go-shed": "I go to the shed.",
    "go-yard": "I go to the yard.",
}


def test_a_rule_that_ends_the_world_ends_the_episode(tiny_llama: LanguageModel) -> None:
    scenario = acting(rules=[{"name": "night", "when": "step >= 3", "ends": True, "says": "Night falls."}])
    for record in play(tiny_llama, scenario, units=[Unit("item-0", 0), Unit("item-1", 0)]):
        assert len(record["events"]) == 3 and record["excluded"] == ""
        assert "Night falls." not in str(record["messages"])


def test_what_others_and_rules_say_stands_in_the_next_message_and_only_there(tiny_llama: LanguageModel) -> None:
    neighbour = {
        "name": "old_neighbour",
        "reactions": [
            {"when": "did('give')", "says": "Thank you."},
            {"when": "not did('give')", "says": "It is cold."},
        ],
    }
    rain = {"name": "rain", "when": "step >= 2", "says": "It rains.", "effects": {"wet": True}}
    scenario = script(
        {"choose": {}},
        {"free": {"asks": "Say something.", "max_tokens": 2}},
        {"free": {"asks": "Is it wet: {wet}?", "max_tokens": 2}},
        world={"others": [neighbour], "rules": [rain], "facts": {"wet": False}},
    )
    for record in play(tiny_llama, scenario):
        first, second, third = (message["text"] for message in record["messages"] if message["role"] == "user")
        said = "Thank you." if record["events"][0]["chosen"] == "give" else "It is cold."
        assert second == f"Old neighbour: {said}\n\nSay something."
        assert third == "It rains.\n\nIs it wet: True?"
        assert "Old neighbour" not in first and "It rains" not in first


def test_the_situation_stands_where_a_step_puts_it(tiny_llama: LanguageModel) -> None:
    scenario = script({"say": "A bell rings."}, {"choose": {"question": "{situation} What now?"}})
    for record in play(tiny_llama, scenario, units=[Unit("item-2", 0)]):
        text = record["messages"][1]["text"]
        assert text.startswith("A bell rings.\n\nYou can:")
        assert text.endswith("There are 12 logs at 2. What now?") and text.count("12 logs") == 1


def test_a_step_is_only_taken_where_its_condition_holds(tiny_llama: LanguageModel) -> None:
    told = {"when": "did('give')", "free": {"asks": "Whom?", "max_tokens": 2}}
    for record in play(tiny_llama, script({"choose": {}}, told)):
        assert len(record["events"]) == 1 + (record["events"][0]["chosen"] == "give")


def test_a_unit_that_asks_nothing_has_no_prompts(tiny_llama: LanguageModel) -> None:
    """What alone can be done is done without asking."""
    unit = Unit("item-0", 0)
    burn = {"id": "burn", "text": "I burn a log.", "when": "logs == 12", "effects": {"logs": -1}}
    failing = {"when": "12 / (logs - 11) > 1", "choose": {}}
    for last, why in (({"when": "logs < 0", "choose": {}}, ""), (failing, "zero")):
        scenario = script({"act": {}}, last, world={"actions": [burn]})
        (record,) = play(tiny_llama, scenario, units=[unit])
        assert first_prompts(scenario, unit) == () and record["prompts"] == ""
        assert [event["chosen"] for event in record["events"]] == ["burn"] and record["after"]["logs"] == 11
        assert why in record["excluded"] and bool(record["excluded"]) == bool(why) and record["margin"] is None


# --- probes and quality --------------------------------------------------------------------------


def test_probes_change_nothing_in_the_episode_that_they_follow(
    tiny_llama: LanguageModel, steered: Intervention
) -> None:
    probes = {"free": ["Did anything influence you?", "What was it?"], "max_tokens": 4}
    for intervention in (NOTHING, steered):
        probed, plain = (
            play(tiny_llama, script({"choose": {}}, WRITES, probes=probes), Arm("a", "", intervention, probes=count))
            for count in (1, 0)
        )
        for record, other in zip(probed, plain, strict=True):
            assert without(record, "probes", "quality") == without(other, "probes", "quality")
            assert other["probes"] == []
            kinds = [probe["kind"] for probe in record["probes"]]
            assert kinds == (["forced", "forced", "free", "free"] if record["paraphrase"] == 0 else [])


def test_a_probe_is_asked_after_the_whole_dialogue_of_its_own_copy_in_both_orders(
    tiny_llama: LanguageModel, steered: Intervention
) -> None:
    scenario = script(probes={"free": ["What was it?"], "max_tokens": 4})
    assert scenario.probes is not None
    (record,) = play(tiny_llama, scenario, Arm("a", "", steered, probes=1), [Unit("item-0", 0)])
    chat = tuple(Message(one["role"], one["text"]) for one in record["messages"])
    for probe, asked in zip(record["probes"], scenario.probes.forced, strict=False):
        answers = (asked.names, asked.denies)
        rows = [
            Row(
                (*chat, Message("user", f"{asked.ask}\n\nYou can say:\n- {first}\n- {second}")),
                intervention=steered,
                options=answers,
            )
            for first, second in (answers, answers[::-1])
        ]
        names, denies = np.mean([tiny_llama.score([row])[0].per_token for row in rows], axis=0)
        assert probe["margin"] == pytest.approx(names - denies, abs=1e-4)
        assert probe["named"] is (probe["margin"] > 0)


def test_free_answers_are_sampled_with_the_noise_of_their_unit_in_every_arm(tiny_llama: LanguageModel) -> None:
    scenario = script(probes={"free": ["What was it?"], "max_tokens": 8})
    units = [Unit("item-0", 0, seed) for seed in range(4)]
    told, others = (
        [record["probes"][-1]["text"] for record in play(tiny_llama, scenario, Arm(name, "", probes=1), units)]
        for name in ("a", "b")
    )
    assert told == others and len(set(told)) > 1


def test_an_excluded_episode_is_not_asked_about_itself(tiny_llama: LanguageModel) -> None:
    scenario = script({"id": "again", "choose": {}, "branches": {"give": "again"}}, trial={"longest": 2}, probes={})
    records = play(tiny_llama, scenario, Arm("a", "", probes=2))
    assert {bool(record["excluded"]) for record in records} == {True, False}
    assert all(bool(record["probes"]) != bool(record["excluded"]) for record in records)


@pytest.mark.parametrize("name", ["base", "treated"])
def test_quality_is_that_of_the_text_under_the_unchanged_model(
    tiny_llama: LanguageModel, steered: Intervention, name: str
) -> None:
    """Base tells while it writes what treated is read for."""
    units = [Unit(f"item-{item}", paraphrase) for item in range(2) for paraphrase in range(2)]
    arm = Arm(name, "", steered if name == "treated" else NOTHING)
    for record in play(tiny_llama, script(WRITES), arm, units):
        chat = tuple(Message(one["role"], one["text"]) for one in record["messages"][:-1])
        (scored,) = tiny_llama.score([Row(chat, options=(record["events"][0]["text"],))])
        quality = record["quality"]
        assert quality["own_nll"] == pytest.approx(-scored.per_token[0], abs=1e-4)
        assert (quality["calls"], quality["unparsable"]) == (1, 0) and 0 < quality["tokens"] <= 8
