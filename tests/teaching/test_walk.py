"""The walk keeps what holds, takes back what doesn't bit for bit, says why, and ends the same whatever cut it off."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_curriculum import WORDS, Make, bad_branch, edge, example, make_in, read, toy_curriculum

from overlay.adapters import AdapterLibrary, Example, Fitting, example_digest
from overlay.errors import AdapterError, DocumentError, HomeLocked
from overlay.memory import WriterLock
from overlay.model import Row, neutral_texts
from overlay.teaching import LearnedEdges, Taught
from overlay.teaching.pupil import Helping, Meal, Pupil
from overlay.teaching.twin import fed_meals, shuffled

BAD = {"unsay_five", "unsay_six"}


def lines(taught: Taught, *actions: str) -> list[Any]:
    return [line for line in taught.journal if line["action"] in actions]


def ended_at(taught: Taught) -> list[str]:
    return [line["to"] for line in lines(taught, "went on")]


# --- a bad branch --------------------------------------------------------------------------------


def test_a_planted_bad_branch_is_noticed_taken_back_bit_for_bit_and_given_up(teaching: Make, tiny_llama: Any) -> None:
    rows = [Row(text=text) for text in ("say one", "An ordinary sentence.")]
    tokens = [tiny_llama.encode(row).tokens for row in rows]

    def base() -> list[Any]:
        return [logits.numpy() for _, logits in sorted(tiny_llama.logits(tokens, rows))]

    census, before = tiny_llama.census(), base()
    taught = teaching(bad_branch()).run()
    assert all(np.array_equal(one, other) for one, other in zip(before, base(), strict=True))
    assert tiny_llama.census() == census
    (good,) = {line["weights"] for line in lines(taught, "checked") if line["fed"] == 8}
    steps_back = lines(taught, "stepped back")
    assert len(steps_back) >= 3
    for line in steps_back:
        assert line["restored"] == line["weights"] == good != line["left"] and line["base_unchanged"]
        assert "definition / lexical / en, asked sagged to" in line["reason"] and "last good state" in line["reason"]
    assert {line["node"] for line in lines(taught, "gave up")} == BAD == set(taught.result["given_up"])
    assert lines(taught, "ended")[0]["weights"] == good
    # The stretch is walked again example by example, and each is tried in other ways before it is given up.
    tried = [line["reason"] for line in lines(taught, "fed") if line["node"] == "unsay_five"]
    assert [one.split(";")[0] for one in tried] == [
        "as it is written",
        "as it is written",
        "under another prompt, 'say five,'",
        "with steps of 0.5 the size",
        "with steps of 0.25 the size",
    ]


def test_what_was_passed_is_not_lost_behind_a_cells_mean(teaching: Make) -> None:
    content = bad_branch(variants=0, sag=0.1)
    # Each probe is in a cell of its own, which is too small to be watched.
    for node, level in zip(content["nodes"][4:6], ("causality", "analogy"), strict=True):
        node["level"] = level
    taught = teaching(content, with_twin=False).run()
    assert lines(taught, "began")[0]["cells"] == {}
    reasons = [line["reason"] for line in lines(taught, "stepped back")]
    assert reasons and all("was passed at +" in reason and "and is lost at -" in reason for reason in reasons)


def test_what_comes_out_is_an_adapter_of_the_library_that_did_not_learn_what_was_taken_back(
    bad: Taught, done: Path, tiny_llama: Any
) -> None:
    library = AdapterLibrary(done / "bad" / "lora", done / "bad" / "adapters")
    assert library.names == ("toy",) and library.status()[0].problem == ""
    with library.worn(tiny_llama, "toy") as worn:
        (scored,) = tiny_llama.score([Row(text="say nine", options=(" zzz", " qqq"), intervention=worn)])
    asked = [line["margin"] for line in lines(bad, "asked") if line["node"] == "ask_after"]
    margin = scored.per_token[0] - scored.per_token[1]
    assert margin == pytest.approx(asked[-1], abs=1e-4) and margin > 0
    adapter = library.load("toy", tiny_llama.digest)
    assert (adapter.origin, adapter.ended, adapter.steps, adapter.held_out) == ("taught", "curriculum", 8, 6)
    assert adapter.examples == tuple(example_digest(Example(prompt=f"say {one}", target=" zzz")) for one in WORDS[:4])


def test_what_costs_more_on_replay_text_than_its_budget_is_taken_back(teaching: Make, good: Taught) -> None:
    costs = [line["replay_kl"] for line in lines(good, "fed")]
    content = toy_curriculum()
    content["teaching"] |= {"budget": costs[0] + 1e-6, "check_every": 1}
    taught = teaching(content, "tight").run()
    assert lines(taught, "stepped back") and "the replay KL is" in lines(taught, "stepped back")[0]["reason"]
    assert taught.adapter.replay_kl is not None and taught.adapter.replay_kl <= costs[0] + 1e-6
    kept = [line for line in taught.journal if line["action"] in ("checked", "asked", "went on", "ended")]
    assert all(line["replay_kl"] <= costs[0] + 1e-6 for line in kept)


def test_where_nothing_can_be_learned_within_the_budgets_there_is_no_adapter(teaching: Make, tmp_path: Path) -> None:
    content = toy_curriculum()
    content["teaching"] |= {"budget": 1e-9}
    for _ in range(2):
        with pytest.raises(
            AdapterError, match=r"nothing of 'toy' could be learned within 1e-09 nats .*say_one, say_two"
        ):
            teaching(content).run()
    assert not (tmp_path / "place" / "adapters" / "toy").exists()


def test_an_example_that_fails_is_tried_in_the_blocks_of_the_map_and_with_smaller_steps(teaching: Make) -> None:
    content = toy_curriculum()
    content["nodes"], content["edges"] = content["nodes"][:1], []
    content["teaching"] |= {"variants": 0, "budget": 0.05}
    taught = teaching(content, blocks=[(1, 1), (0, 1), (2, 2)], with_twin=False).run()
    tried = [line["reason"].split(";")[0] for line in lines(taught, "fed")]
    every = ["as it is written", "into blocks 1 to 1 alone", "into blocks 0 to 1 alone", "with steps of 0.5 the size"]
    assert len(tried) > 1 and tried == every[: len(tried)]
    assert taught.adapter.steps == 2 and taught.adapter.replay_kl is not None and taught.adapter.replay_kl <= 0.05


def test_what_is_fed_into_some_blocks_changes_no_others(tmp_path: Path, tiny_llama: Any) -> None:
    curriculum, _ = read(tmp_path, toy_curriculum())
    meal = Meal((Helping("say_one", "say one"), Helping("say_two", "say two")), 0, blocks=(1, 1))
    with Fitting(tiny_llama, curriculum.teaching.where, rank=2, replay=curriculum.replay) as fitting:
        pupil = Pupil(tiny_llama, fitting, curriculum)
        pupil.eat(meal, 0)
        once = pupil.state()
        pupil.eat(Meal(meal.helpings, 0), 1)
        pupil.eat(meal, 2)
        thrice = pupil.state()
    assert {name.split(".")[4] for name, tensor in once.items() if "lora_B" in name and tensor.any()} == {"1"}
    # The optimizer's moments of the other blocks are those of the one step that was for all of them.
    counted = {name.split(".")[4]: int(tensor) for name, tensor in thrice.items() if name.startswith("step/")}
    assert counted == {"0": 1, "1": 3, "2": 1}


# --- the ways it goes ----------------------------------------------------------------------------


def test_it_goes_on_along_the_first_edge_whose_predicate_holds(teaching: Make) -> None:
    content = toy_curriculum()
    content["edges"][2:3] = [
        edge("ask_first", "say_four", {"margin_above": 50}),
        edge("ask_first", "say_four", {"volatility_above": 40}),
        edge("ask_first", "say_four", "failed"),
        edge("ask_first", "say_three", "passed"),
    ]
    assert ended_at(teaching(content).run()) == ["say_two", "ask_first", "say_three", "say_four", "ask_last"]


def test_what_the_model_must_say_itself_decides_as_well(teaching: Make) -> None:
    content = toy_curriculum()
    content["nodes"][4] |= {"expect": {"contains": ["no such words"]}}
    content["edges"][2:3] = [edge("ask_first", "say_four", "failed"), edge("ask_first", "say_three", "passed")]
    content["edges"] = [one for one in content["edges"] if one["from"] != "say_two"]
    content["edges"].insert(1, edge("say_two", "ask_first"))
    taught = teaching(content).run()
    line = lines(taught, "asked")[0]
    assert line["margin"] > 0 and line["outcome"] == "failed" and isinstance(line["said"], str)
    assert "say_three" not in ended_at(taught)


def test_no_node_has_more_visits_than_it_may(teaching: Make) -> None:
    content = toy_curriculum()
    content["nodes"][5] |= {"least": 1000}
    content["edges"] += [edge("ask_last", "say_four", "failed")]
    taught = teaching(content).run()
    assert Counter(ended_at(taught))["say_four"] == 3
    assert "say_four had all 3 visits at 'ask_last'" in lines(taught, "ended")[0]["reason"]


def test_of_edges_with_the_same_predicate_the_one_that_was_measured_to_help_more_comes_first(teaching: Make) -> None:
    content = toy_curriculum()
    content["edges"][2:3] = [edge("ask_first", "say_three"), edge("ask_first", "say_four")]
    lowered = {"say_three": {"say_four": 0.1}, "say_four": {"say_three": 0.2}}
    learned = LearnedEdges("", "", 1, {}, lowered)
    assert ended_at(teaching(content, "as_written", with_twin=False).run())[2] == "say_three"
    assert ended_at(teaching(content, "as_measured", learned=learned, with_twin=False).run())[2] == "say_four"


def test_the_walk_ends_when_its_steps_are_spent_with_what_was_good(teaching: Make) -> None:
    content = toy_curriculum()
    content["teaching"] |= {"steps": 6}
    taught = teaching(content).run()
    assert lines(taught, "ended")[0]["reason"] == "its 6 optimizer steps are spent"
    assert taught.adapter.steps == 6 and lines(taught, "checked")[-1]["fed"] == 6


# --- the twin ------------------------------------------------------------------------------------


def helpings(meals: list[Any]) -> Counter[Any]:
    return Counter(one for meal in meals for one in meal.helpings)


@pytest.mark.parametrize("which", ["good", "bad"])
def test_the_twin_gets_the_same_examples_in_as_many_steps_and_tokens_in_another_order(
    request: pytest.FixtureRequest, which: str
) -> None:
    taught: Taught = request.getfixturevalue(which)
    walked = fed_meals(taught.journal)
    twin = shuffled(walked, 0)
    assert helpings(twin) == helpings(walked) and twin != walked and len(twin) == len(walked)
    assert [len(one.helpings) for one in twin] == [len(one.helpings) for one in walked]
    assert [(one.group, one.scale) for one in twin] == [(one.group, one.scale) for one in walked]
    own, other = taught.result["taught"], taught.result["twin"]
    assert own["tokens"] == other["tokens"] == sum(line["tokens"] for line in lines(taught, "fed")) > 0
    assert own["fed"] == other["fed"] == other["steps"] == len(walked) and own["steps"] <= own["fed"]


# --- what cuts it off ----------------------------------------------------------------------------


class Killed(BaseException):
    """Ends the process's work at once, as a kill does."""


def outcome(place: Path, taught: Taught) -> tuple[Any, ...]:
    return taught.adapter.weights_sha256, (place / "teaching" / "journal.jsonl").read_bytes(), taught.result


def test_killed_at_any_moment_and_gone_on_it_ends_with_the_same_bits(
    teaching: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bad_branch(variants=0, feedings=1)
    sync, kill = os.fsync, {"at": 0, "now": 0}

    def fsync(handle: int) -> None:
        kill["now"] += 1
        if kill["now"] == kill["at"]:
            raise Killed
        sync(handle)

    # Every write is forced to disk, and a kill falls before one of them: three of them into each teaching.
    monkeypatch.setattr(os, "fsync", fsync)
    expected = outcome(tmp_path / "whole", teaching(content, "whole").run())
    drawn, total = random.Random(0), kill["now"]
    for trial in range(3):
        place = f"trial_{trial}"
        kills = sorted(drawn.sample(range(1, total // 4), 3))
        for at in kills:
            kill |= {"at": at, "now": 0}
            with pytest.raises(Killed):
                teaching(content, place).run()
        kill["at"] = 0
        assert outcome(tmp_path / place, teaching(content, place).run()) == expected, kills


def test_ctrl_c_in_the_middle_of_a_step_loses_nothing_that_was_kept(
    teaching: Make, good: Taught, done: Path, tmp_path: Path
) -> None:
    expected = outcome(done / "good", good)

    seen: set[str] = set()

    class CtrlC:
        def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
            if (description, done) in (("teaching", 5), ("feeding the shuffled twin", 3)) and description not in seen:
                seen.add(description)
                raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            teaching(toy_curriculum(), "cut", progress=CtrlC()).run()
        assert not (tmp_path / "cut" / "adapters").exists()
    assert outcome(tmp_path / "cut", teaching(toy_curriculum(), "cut").run()) == expected


def test_what_is_done_is_told_again_and_nothing_is_fed(good: Taught, done: Path, tiny_llama: Any) -> None:
    class Refuses:
        def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
            raise AssertionError(description)

    again = make_in(done, tiny_llama)(toy_curriculum(), "good", progress=Refuses()).run()
    assert again.was_done and (again.adapter, again.result) == (good.adapter, good.result)


def test_what_was_begun_with_something_else_is_not_gone_on_with(teaching: Make) -> None:
    class CtrlC:
        def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
            if description == "teaching" and done == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teaching(toy_curriculum(), progress=CtrlC()).run()
    other = toy_curriculum()
    other["teaching"] |= {"seed": 1}
    with pytest.raises(AdapterError, match=r"was begun with another curriculum, or other settings.*\n.*--anew"):
        teaching(other).run()
    with pytest.raises(AdapterError, match="another name, map or learned edges"):
        teaching(toy_curriculum(), blocks=[(0, 0)]).run()
    assert not teaching(other).run(anew=True).was_done


def test_two_processes_never_teach_in_one_place(teaching: Make, tmp_path: Path) -> None:
    made = teaching(toy_curriculum())
    (tmp_path / "place" / "teaching").mkdir()
    lock = WriterLock(tmp_path / "place" / "teaching" / "lock")
    try:
        with pytest.raises(HomeLocked):
            made.run()
    finally:
        lock.release()


def test_a_name_that_another_adapter_has_is_refused_before_anything_is_fed(teaching: Make, tmp_path: Path) -> None:
    written = tmp_path / "place" / "lora" / "toy"
    written.mkdir(parents=True)
    (written / "recipe.yaml").write_text("name: toy")
    with pytest.raises(AdapterError, match="there is an adapter 'toy' already"):
        teaching(toy_curriculum()).run()
    assert not (tmp_path / "place" / "teaching").exists()


def test_what_is_measured_is_not_taught(teaching: Make, tmp_path: Path) -> None:
    content = toy_curriculum()
    content["nodes"].append(example("tell", "tell one", " zzz and more"))
    content["edges"].append(edge("ask_last", "tell"))
    content["replay"].append(neutral_texts()[0])
    with pytest.raises(DocumentError) as told:
        teaching(content)
    written = (tmp_path / "place" / "toy.yaml").read_text().splitlines()
    error = told.value
    assert error.line is not None and neutral_texts()[0][:20] in written[error.line - 1]
    assert "volatility is measured on it" in error.problem
    (line,) = re.findall(r"also line (\d+): 'tell one zzz' is held out and taught as well", error.problem)
    assert written[int(line) - 1] == "held_out:" or "tell one" in "".join(written[int(line) - 1 : int(line) + 4])
