"""Worlds: stock is never overspent, every change is written down, and what happens by itself happens once."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.documents import parse_document
from overlay.errors import DocumentError, ExpressionError
from overlay.scenarios.world import Action, Effects, Other, Reaction, Rule, Situation, World

AMOUNTS: st.SearchStrategy[Effects] = st.dictionaries(st.sampled_from(["logs", "hours"]), st.integers(-6, 6))
GAINS: st.SearchStrategy[Effects] = st.dictionaries(st.sampled_from(["logs", "hours"]), st.integers(0, 3))
CONDITIONS = st.sampled_from(
    ["True", "step >= 2", "logs > hours", "logs == 0", "spent('hours') >= 3", "did('act-0')", "at == 'yard'", "raining"]
)
PICKS = st.lists(st.integers(0, 50), max_size=8)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Worlds of two places, in which acts may cost anything and what happens by itself only adds."""
    actions = [
        Action(
            id=f"act-{number}",
            text=f"I do {number}.",
            when=draw(st.none() | CONDITIONS),
            effects=draw(AMOUNTS) | draw(st.just({}) | st.just({"raining": True})),
            moves_to=draw(st.sampled_from([None, None, "yard"])),
        )
        for number in range(draw(st.integers(0, 4)))
    ]
    rules = [
        Rule(name=f"rule-{number}", when=draw(CONDITIONS), effects=draw(GAINS), says=f"Rule {number}.")
        for number in range(draw(st.integers(0, 3)))
    ]
    reactions = tuple(
        Reaction(when=draw(CONDITIONS), says=f"Answer {number}.", effects=draw(GAINS))
        for number in range(draw(st.integers(1, 2)))
    )
    return World(
        resources={"logs": draw(st.integers(0, 9)), "hours": draw(st.integers(0, 9))},
        facts={"raining": False},
        places={"shed": ("yard",), "yard": ("shed", "road"), "road": ()},
        start="shed",
        others=(Other(name="rival_crew", place=draw(st.sampled_from([None, "yard"])), reactions=reactions),),
        actions=tuple(actions),
        rules=tuple(rules),
    )


def begin(world: World) -> Situation:
    return Situation.of(world, {}, {}, None)


def stock(now: Situation, name: str) -> int:
    """How much there is of a resource; it is a whole number."""
    amount = now.values[name]
    assert type(amount) is int
    return amount


def play(world: World, picks: Sequence[int]) -> tuple[list[Situation], list[str]]:
    """Every situation that offered acts lead through, and all that was said on the way."""
    now = begin(world)
    seen, said = [now], list[str]()
    for pick in picks:
        if offered := now.offers():
            act = offered[pick % len(offered)]
            now = now.act(act.id, act.effects, act.to, act.moves_to)
            seen.append(now)
        now, told = now.passes()
        seen.append(now)
        said += told
    return seen, said


# --- stock and ledger --------------------------------------------------------------------------------------------


@given(worlds(), PICKS)
def test_no_offered_act_takes_a_resource_below_zero(world: World, picks: list[int]) -> None:
    seen, _ = play(world, picks)
    assert all(stock(now, name) >= 0 for now in seen for name in world.resources)


@given(worlds(), PICKS)
def test_the_ledger_sums_to_what_changed_at_every_moment(world: World, picks: list[int]) -> None:
    seen, _ = play(world, picks)
    for now in seen:
        for name in world.resources:
            changes = [entry.change for entry in now.ledger if entry.resource == name]
            assert sum(changes) == stock(now, name) - stock(seen[0], name)
            assert now.spent(name) == max(0, -sum(changes))


@given(worlds(), PICKS)
def test_nothing_is_changed_in_place(world: World, picks: list[int]) -> None:
    now = begin(world)
    for pick in picks:
        before = copy.deepcopy(now)
        offered = now.offers()
        after = now
        if offered:
            act = offered[pick % len(offered)]
            after = now.act(act.id, act.effects, act.to, act.moves_to)
        later, _ = after.passes()
        assert now == before and (later.step, now.step) == (before.step + 1, before.step)
        now = later


def test_an_entry_says_when_by_which_act_and_for_whom() -> None:
    now, _ = begin(World(resources={"logs": 5})).passes()
    (entry,) = now.act("give", {"logs": -2}, to="driver").ledger
    assert (entry.step, entry.resource, entry.change, entry.act, entry.to) == (1, "logs", -2, "give", "driver")


@given(st.integers(0, 9), st.integers(1, 20))
def test_what_is_not_there_can_be_neither_offered_nor_spent(stock: int, cost: int) -> None:
    now = begin(World(resources={"logs": stock}, actions=(Action(id="give", text="I give.", effects={"logs": -cost}),)))
    assert bool(now.offers()) is (cost <= stock)
    if cost > stock:
        with pytest.raises(ExpressionError, match="'give' spends more 'logs' than there is"):
            now.act("give", {"logs": -cost})


def test_a_truth_or_an_expression_replaces_a_fact_and_stands_in_no_ledger() -> None:
    now = begin(World(resources={"logs": 5}, facts={"raining": True, "level": 1}))
    after = now.act("wait", {"raining": False, "level": "logs * 2"})
    assert (after.values["raining"], after.values["level"], after.ledger) == (False, 10, ())


@pytest.mark.parametrize("effect", ["0", "logs - 2", "-4"])
def test_a_resource_changes_through_the_ledger_only(effect: str) -> None:
    now = begin(World(resources={"logs": 3}, actions=(Action(id="give", text="I give.", effects={"logs": effect}),)))
    for act in now.offers():
        after = now.act(act.id, act.effects)
        assert stock(after, "logs") >= 0
        assert sum(entry.change for entry in after.ledger) == stock(after, "logs") - stock(now, "logs")


@given(st.integers(0, 9), st.integers(-9, 9))
def test_an_expression_over_a_resource_costs_what_it_takes_away(stock_now: int, change: int) -> None:
    effect: Effects = {"logs": f"logs + {change}"}
    now = begin(World(resources={"logs": stock_now}, actions=(Action(id="give", text="I give.", effects=effect),)))
    assert bool(now.offers()) is (stock_now + change >= 0)
    if now.offers():
        after = now.act("give", effect, to="driver")
        assert (after.values["logs"], after.spent("logs")) == (stock_now + change, max(0, -change))
        assert [(entry.change, entry.act, entry.to) for entry in after.ledger] == [(change, "give", "driver")]
    else:
        with pytest.raises(ExpressionError, match="'give' spends more 'logs' than there is"):
            now.act("give", effect)


@pytest.mark.parametrize("effect", ["logs / 2", "'all'", "logs > 2", True])
def test_only_whole_numbers_can_be_owned(effect: str | bool) -> None:
    now = begin(World(resources={"logs": 4}))
    with pytest.raises(ExpressionError, match=r"'give' makes .* of the resource 'logs'"):
        now.act("give", {"logs": effect})


def test_no_text_gets_into_a_fact() -> None:
    now = begin(World(facts={"mood": 0}))
    with pytest.raises(ExpressionError, match="'wait' makes a text of the fact 'mood'"):
        now.act("wait", {"mood": "'tender'"})


def test_gains_make_nothing_spent_and_only_resources_can_be_asked_for() -> None:
    now = begin(World(resources={"logs": 3}))
    assert now.act("find", {"logs": 4}).spent("logs") == 0
    assert now.act("find", {"logs": 4}).act("give", {"logs": -6}).spent("logs") == 2
    with pytest.raises(ExpressionError, match=r"spent\('planks'\) names no resource") as caught:
        now.holds("spent('planks') > 0")
    assert "logs" in caught.value.next_step


# --- what happens by itself --------------------------------------------------------------------------------------


@given(worlds(), PICKS)
def test_each_rule_acts_and_each_answer_comes_at_most_once(world: World, picks: list[int]) -> None:
    seen, said = play(world, picks)
    assert len(said) == len(set(said))
    for rule in world.rules:
        entries = [(entry.act, entry.resource) for entry in seen[-1].ledger if entry.act == rule.name]
        assert len(entries) == len(set(entries))
        assert not entries or rule.says in said


@given(st.integers(1, 6))
def test_a_rule_acts_after_the_first_step_on_which_it_holds_and_never_again(due: int) -> None:
    now = begin(World(resources={"logs": 0}, rules=(Rule(name="dusk", when=f"step >= {due}", effects={"logs": 1}),)))
    grown = []
    for _ in range(due + 3):
        now, _ = now.passes()
        grown.append(now.values["logs"])
    assert grown == [0] * (due - 1) + [1] * 4


def test_rules_act_in_order_and_see_what_those_before_them_did() -> None:
    flood = Rule(name="flood", when="raining", effects={"logs": -3}, says="The shed floods.")
    rain = Rule(name="rain", when="step >= 1", effects={"raining": True}, says="It rains.")
    facts: dict[str, bool | int] = {"raining": False}
    now, said = begin(World(resources={"logs": 3}, facts=facts, rules=(rain, flood))).passes()
    assert said == ("It rains.", "The shed floods.") and now.values["logs"] == 0
    now, said = begin(World(resources={"logs": 3}, facts=facts, rules=(flood, rain))).passes()
    assert said == ("It rains.",)
    assert now.passes()[1] == ("The shed floods.",)


def test_a_rule_that_ends_ends_for_good() -> None:
    over, bell = Rule(name="over", when="hours == 0", ends=True), Rule(name="bell", when="hours == 0", says="It rings.")
    now = begin(World(resources={"hours": 2}, rules=(over, bell)))
    assert not now.passes()[0].ended
    ended, _ = now.act("work", {"hours": -2}).passes()
    assert ended.ended and ended.act("find", {"hours": 1}).passes()[0].ended


@pytest.mark.parametrize("when", ["6 / hours > 2", "planks > 2"])
def test_a_rule_that_fails_later_is_an_error_and_no_silence(when: str) -> None:
    now = begin(World(resources={"hours": 2}, rules=(Rule(name="dusk", when=f"hours < 2 and {when}"),)))
    now, _ = now.passes()
    with pytest.raises(ExpressionError, match="hours < 2"):
        now.act("work", {"hours": -2}).passes()


def test_a_rule_that_spends_what_is_not_there_is_an_error() -> None:
    now = begin(World(resources={"logs": 2}, rules=(Rule(name="flood", when="step >= 1", effects={"logs": -3}),)))
    with pytest.raises(ExpressionError, match="'flood' spends more 'logs' than there is"):
        now.passes()


def test_another_answers_where_it_is_and_by_its_name() -> None:
    answer = Reaction(when="did('call')", says="Here.", effects={"logs": 1})
    crew = Other(name="rival_crew", place="yard", reactions=(answer,))
    world = World(resources={"logs": 0}, places={"shed": ("yard",), "yard": ("shed",)}, start="shed", others=(crew,))
    away, said = begin(world).act("call", {}).passes()
    assert said == () and away.values["logs"] == 0
    there, said = away.act("go-yard", {}, moves_to="yard").passes()
    assert said == ("Rival crew: Here.",) and there.values["logs"] == 1
    assert [entry.act for entry in there.ledger] == ["rival_crew"]


# --- what is offered ---------------------------------------------------------------------------------------------


@given(worlds(), PICKS)
def test_an_act_is_offered_while_its_condition_holds_and_it_can_be_afforded(world: World, picks: list[int]) -> None:
    for now in play(world, picks)[0]:
        offered = {action.id for action in now.offers()}
        assert len(offered) == len(now.offers())
        for action in world.actions:
            changes = [(name, change) for name, change in action.effects.items() if name in world.resources]
            affordable = all(stock(now, name) + int(change) >= 0 for name, change in changes)
            assert (action.id in offered) is (now.holds(action.when) and affordable)


@given(worlds(), PICKS)
def test_every_neighbouring_place_can_be_reached_in_one_way(world: World, picks: list[int]) -> None:
    for now in play(world, picks)[0]:
        assert now.place in world.places
        ways = [action.moves_to for action in now.offers() if action.id.startswith("go-")]
        others = {action.moves_to for action in now.offers() if not action.id.startswith("go-")}
        assert len(ways) == len(set(ways)) and others.isdisjoint(ways)
        assert set(world.places[now.place]) == set(ways) | (others & set(world.places[now.place]))


def test_a_way_is_told_in_plain_words_and_leads_there() -> None:
    world = World(places={"shed": ("back_yard",), "back_yard": ()}, start="shed")
    (way,) = begin(world).offers()
    assert way.text == "I go to the back yard." and way.asked
    after = begin(world).act(way.id, way.effects, way.to, way.moves_to)
    assert after.names["at"] == "back_yard" and after.offers() == ()


def test_an_item_adds_to_the_world_and_comes_before_it() -> None:
    world = World(resources={"logs": 1, "hours": 2}, facts={"raining": True}, places={"a": (), "b": ()}, start="a")
    now = Situation.of(world, {"logs": 7}, {"late": True}, "b")
    assert now.names == {"logs": 7, "hours": 2, "raining": True, "late": True, "at": "b", "step": 0}
    assert now.start == now.values and world.resources["logs"] == 1


# --- what is written wrongly -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "line", "said"),
    [
        ("places:\n  shed: [road]\n  yard: []\nstart: shed", 2, "leads to 'road', which is no place"),
        ("places: {shed: []}", 1, "must be one of the places shed"),
        ("places: {shed: []}\nstart: road", 2, "must be one of the places shed"),
        ("actions:\n  - {id: go, text: I go.}\n  - {id: go, text: I run.}", 1, "two actions have the id 'go'"),
        (
            "facts: {late: true}\nothers:\n  - {name: crew, place: yard, reactions: [{when: late, says: Here.}]}",
            3,
            "'crew' is at 'yard', which is no place",
        ),
        ("resources: {step: 2}", 1, "'step' can't name a resource"),
        ("facts: {at: 2}", 1, "'at' can't name"),
        ("resources: {logs: 2}\nfacts: {logs: true}", 1, "'logs' can't name"),
        ("resources: {logs: -2}", 1, "greater than or equal to 0"),
        ("resources: {Logs: 2}", 1, "Logs"),
        ("others:\n  - {name: crew, reactions: []}", 2, "at least 1"),
        ("rules:\n  - {name: dusk, when: 'logs <'}", 2, "is no expression"),
        ("rules:\n  - name: dusk\n    when: 'True'\n    sayz: Dusk.", 4, "not a known key"),
    ],
)
def test_a_mistake_in_a_world_is_told_with_its_line(written: str, line: int, said: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_document(written, World, "world.yaml")
    assert caught.value.line == line and said in str(caught.value)


def test_every_text_of_a_world_is_told_with_its_place() -> None:
    world = World(
        actions=(Action(id="go", text="I go."),),
        places={"back_yard": ()},
        start="back_yard",
        others=(Other(name="rival_crew", reactions=(Reaction(when="True", says="Here."),)),),
        rules=(Rule(name="dusk", when="True", says="Dusk."), Rule(name="dawn", when="False")),
    )
    assert dict(world.texts()) == {
        ("actions", 0, "text"): "I go.",
        ("places", "back_yard"): "back yard",
        ("others", 0, "name"): "rival crew",
        ("others", 0, "reactions", 0, "says"): "Here.",
        ("rules", 0, "says"): "Dusk.",
    }
