"""Inspect: its tasks can be put to the agent of a home, and finished runs are logs that its tools read."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from toy_axis import LETTERS, toy_texts
from toy_home import create_fading_home, create_toy_home

from overlay import Agent, Home
from overlay.errors import ArgumentError, GenerationFailed, HomeError, RecordDamaged
from overlay.present_agent import PresentAgent
from overlay.scenarios.inspect_log import write_inspect_logs

pytest.importorskip("inspect_ai")

QUESTIONS = ("How is volatility measured?", "And what is a budget?")
VOWELS = toy_texts(LETTERS["positive"], 4, 8)


@pytest.fixture(autouse=True)
def inspect_keeps_its_traces_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inspect writes traces and the place of the last log into the user's data folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("INSPECT_TRACE_FILE", str(tmp_path / "trace.log"))
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path / "logs"))


# --- logs ----------------------------------------------------------------------------------------

ITEMS = ("firewood", "flour", "cells")


def record(arm: str, item: str, paraphrase: int, **changes: Any) -> dict[str, Any]:
    """One cell, as a run keeps it: the agent gave in treated and kept elsewhere."""
    gave = arm == "treated"
    found: dict[str, Any] = {
        "cell": f"{arm}-{changes.get('direction')}-{item}-{paraphrase}-{changes.get('seed', 0)}",
        "scenario": "stores",
        "arm": arm,
        "direction": None,
        "item": item,
        "paraphrase": paraphrase,
        "seed": 0,
        "repeat": 0,
        "promise": "9f3b",
        "margin": 0.25 if gave else -0.5,
        "events": [
            {
                "step": "decide",
                "kind": "choose",
                "text": "I give four." if gave else "I keep all.",
                "chosen": "give" if gave else "keep",
                "offered": ["give", "keep"],
                "asked": True,
                "scores": [[-2.0, -2.25]],
            }
        ],
        "ledger": [{"step": "decide", "resource": "logs", "change": -4, "act": "give", "to": ""}] if gave else [],
        "before": {"logs": 12},
        "after": {"logs": 8 if gave else 12},
        "messages": [
            {"role": "system", "text": "You manage supplies."},
            {"role": "user", "text": f"There is a matter of {item}."},
            {"role": "assistant", "text": "I give four." if gave else "I keep all."},
        ],
        "detectors": {
            "hands_over": {"fired": gave, "score": None, "reason": ""},
            "volunteers": {"fired": False, "score": 0.1, "reason": ""},
        },
        "excluded": "",
        "prompts": "abc",
        "quality": {"own_nll": 2.0, "repetition": 0.0, "unparsable": 0, "calls": 1, "tokens": 0},
        "probes": [],
    }
    return found | changes


def made_run() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Three arms; two seeds in all; one unit excluded, one that a detector couldn't read."""
    cells = [
        record(arm, item, paraphrase, seed=seed, direction=direction)
        for arm, directions in (("base", [None]), ("treated", [None]), ("random_norm", [0, 1]))
        for direction in directions
        for item, paraphrase, seed in itertools.product(ITEMS, (0, 1), (0, 7))
    ]
    cells[0] |= {"excluded": "a world rule failed", "detectors": {}, "margin": None}
    cells[1]["detectors"]["hands_over"] |= {"fired": None, "reason": "the ledger was damaged"}
    rates = {"base": (0.0, [0.0, 0.28]), "treated": (1.0, [0.76, 1.0]), "random_norm": (0.0, [0.0, 0.14])}
    result = {
        "scenario": "stores",
        "description": "Stock with a schedule.",
        "verdict": "behaviour shown",
        "headline": "It handed over.",
        "script_digest": "1c2d",
        "script": "scenarios/stores.yaml",
        "primary": "hands_over",
        "promise": "9f3b",
        "seconds": 12.5,
        "model": {"name": "smollm2-135m", "digest": "aa11", "dtype": "float32"},
        "overlay_version": "0.1.0",
        "arms": {
            arm: {
                "label": arm,
                "n": 12,
                "rate": rate,
                "rate_interval": interval,
                "mean_score": -0.5,
                "score_interval": None,
                "shift": None if arm == "base" else 0.75,
                "shift_interval": None if arm == "base" else [0.5, 1.0],
                "volatility_mean": 0.1,
            }
            for arm, (rate, interval) in rates.items()
        },
        "comparisons": [
            {
                "arm": "treated",
                "detector": "hands_over",
                "difference": 1.0,
                "interval": [0.7, 1.0],
                "p": 0.001,
                "holm_p": 0.002,
                "bh_p": None,
                "e_value": None,
                "planned": True,
            }
        ],
        "detectors": {"hands_over": {"kind": "ledger", "corrected": {"treated": {"rate": 0.9, "interval": [0.6, 1]}}}},
    }
    return result, cells


def written(folder: Path, result: dict[str, Any], cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `read_eval_log` gives of each arm's log."""
    from inspect_ai.log import read_eval_log

    logs = [read_eval_log(str(path)) for path in write_inspect_logs(result, cells, folder)]
    return {log.eval.metadata["arm"]: log for log in logs}


def sample_of(log: Any, name: str, epoch: int) -> Any:
    return next(sample for sample in log.samples if (sample.id, sample.epoch) == (name, epoch))


def test_each_arm_is_a_log_with_one_sample_a_cell_and_every_id_and_epoch_once(tmp_path: Path) -> None:
    result, cells = made_run()
    logs = written(tmp_path / "out", result, cells)
    assert list(logs) == ["base", "treated", "random_norm"]
    assert [len(log.samples) for log in logs.values()] == [12, 12, 24]
    for arm, log in logs.items():
        places = [(sample.id, sample.epoch) for sample in log.samples]
        assert len(set(places)) == len(places) and {epoch for _, epoch in places} == {1, 2}
        assert log.status == "success" and log.eval.model == "overlay/smollm2-135m" and log.eval.config.epochs == 2
        assert {sample.metadata["cell"] for sample in log.samples} == {
            one["cell"] for one in cells if one["arm"] == arm
        }
    # The same unit in two arms has one name.
    assert [(one.id, one.epoch) for one in logs["base"].samples] == [(o.id, o.epoch) for o in logs["treated"].samples]
    assert {sample.metadata["direction"] for sample in logs["random_norm"].samples} == {0, 1}


def test_a_sample_tells_what_was_said_what_happened_and_under_which_promise(tmp_path: Path) -> None:
    result, cells = made_run()
    sample = sample_of(written(tmp_path, result, cells)["treated"], "firewood.1", 1)
    assert [(message.role, message.text) for message in sample.messages] == [
        ("system", "You manage supplies."),
        ("user", "There is a matter of firewood."),
        ("assistant", "I give four."),
    ]
    assert [message.role for message in sample.input] == ["system", "user"]
    assert sample.output.completion == "I give four." and sample.target == "hands_over" and sample.store == {"logs": 8}
    assert sample.metadata["ledger"][0]["change"] == -4 and sample.metadata["promise"] == "9f3b"
    assert sample.metadata["script_digest"] == "1c2d" and sample.metadata["margin"] == 0.25
    assert sample.scores["hands_over"].value is True and sample.scores["volunteers"].value is False
    assert sample.scores["hands_over"].answer == "give" and "I give four." in sample.scores["hands_over"].explanation
    assert sample.scores["margin"].value == 0.25


def test_excluded_units_stay_with_their_reason_and_count_as_no_answer(tmp_path: Path) -> None:
    result, cells = made_run()
    log = written(tmp_path, result, cells)["base"]
    whole, unread = (sample_of(log, "firewood.1", epoch) for epoch in (1, 2))
    assert whole.error.message == "excluded: a world rule failed" and not whole.scores
    assert unread.error is None and math.isnan(unread.scores["hands_over"].value)
    assert unread.scores["hands_over"].explanation == "the ledger was damaged"
    counts = {score.name: (score.scored_samples, score.unscored_samples) for score in log.results.scores}
    assert counts == {"hands_over": (10, 2), "volunteers": (11, 1), "margin": (11, 1)}
    assert (log.results.total_samples, log.results.completed_samples) == (12, 11)


def test_metrics_are_the_numbers_of_the_result_with_their_intervals(tmp_path: Path) -> None:
    result, cells = made_run()
    result["arms"]["treated"] |= {"rate": 0.97, "rate_interval": [0.71, 0.99]}
    logs = written(tmp_path, result, cells)
    found = {
        score.name: {name: metric.value for name, metric in score.metrics.items()}
        for score in logs["treated"].results.scores
    }
    assert next(iter(found)) == "hands_over"
    assert found["hands_over"] == {
        "rate": 0.97,
        "rate_low": 0.71,
        "rate_high": 0.99,
        "corrected": 0.9,
        "corrected_low": 0.6,
        "corrected_high": 1,
        "difference": 1.0,
        "difference_low": 0.7,
        "difference_high": 1.0,
        "p": 0.001,
        "holm_p": 0.002,
    }
    assert found["margin"] == {"mean": -0.5, "shift": 0.75, "shift_low": 0.5, "shift_high": 1.0}
    # A secondary detector has no rate in the result: none of 12 gives Wilson's [0, .24].
    assert found["volunteers"]["rate"] == 0 and found["volunteers"]["rate_high"] == pytest.approx(0.2425, abs=1e-3)
    assert logs["base"].results.scores[0].metrics.keys() == {"rate", "rate_low", "rate_high"}


def test_what_inspects_own_commands_list_and_dump_is_what_was_written(tmp_path: Path) -> None:
    result, cells = made_run()
    for _ in range(2):  # The second time replaces the first.
        paths = write_inspect_logs(result, cells, tmp_path / "logs")
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == sorted(path.name for path in paths)

    def inspect(*words: str) -> Any:
        command = [sys.executable, "-m", "inspect_ai", "log", *words]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)

    listed = inspect("list", "--json", "--absolute", "--log-dir", str(tmp_path / "logs"))
    assert {one["task"] for one in listed} == {"stores/base", "stores/treated", "stores/random_norm"}
    dumped = inspect("dump", str(paths[1]))
    assert dumped["eval"]["task_args"] == {"scenario": "stores", "arm": "treated"} and len(dumped["samples"]) == 12


def test_free_text_and_several_scripts_are_logs_as_well(tmp_path: Path) -> None:
    result, cells = made_run()
    other = copy.deepcopy(result) | {"scenario": "letters"}
    for summary in other["arms"].values():
        summary |= {"mean_score": None, "shift": None}
    free = [copy.deepcopy(one) | {"scenario": "letters", "margin": None} for one in cells[12:24]]
    for one in free:
        one["events"] = [{"step": "write", "kind": "free", "text": "Dear all.", "chosen": None, "scores": []}]
    paths = write_inspect_logs({"runs": [result, other]}, [*cells, *free], tmp_path)
    from inspect_ai.log import read_eval_log

    log = read_eval_log(str(paths[-1]))
    assert len(paths) == 4 and log.eval.task == "letters/treated"
    assert {score.name for score in log.results.scores} == {"hands_over", "volunteers"}
    assert log.samples[0].scores["hands_over"].answer is None
    assert "Dear all." in log.samples[0].scores["hands_over"].explanation


def test_records_that_make_no_log_are_told(tmp_path: Path) -> None:
    result, cells = made_run()
    with pytest.raises(ArgumentError, match="two records are of one unit"):
        write_inspect_logs(result, [*cells, cells[-1]], tmp_path)
    with pytest.raises(ArgumentError, match="without records"):
        write_inspect_logs(result, [], tmp_path)
    del cells[0]["ledger"], cells[0]["item"]
    with pytest.raises(RecordDamaged, match="lacks 'item'"):
        write_inspect_logs(result, cells, tmp_path)


def test_without_inspect_one_is_told_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("inspect_ai", "inspect_ai.log"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArgumentError, match=r"overlay-agent\[inspect\]"):
        write_inspect_logs(*made_run(), tmp_path)
    assert not list(tmp_path.glob("*.eval"))


# --- the agent as a model ------------------------------------------------------------------------


def clock() -> Callable[[], float]:
    return map(float, itertools.count(1_900_000_000, 60)).__next__


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path) -> Path:
    """A home with a model beside it in which a state built up."""
    folder = tmp_path_factory.mktemp("inspect")
    home = create_fading_home(folder, embedder_folder, dialogue={"rounds": 1, "voices": 1})
    with Agent.open(home, dtype="float32", clock=clock()) as agent:
        for text in VOWELS:
            agent.live(text)
        assert agent.state.values["vowels"] > 0.1
    return home.folder


@pytest.fixture(scope="module")
def present(lived: Path) -> Iterator[PresentAgent]:
    agent = PresentAgent.open(lived, dtype="float32")
    yield agent
    agent.close()


@pytest.fixture(scope="module")
def api(lived: Path) -> Iterator[Any]:
    """What Inspect calls a model."""
    model = overlay_model(lived)
    yield model.api
    model.api.close()


def overlay_model(home: Path, **arguments: Any) -> Any:
    from inspect_ai.model import get_model

    import overlay.inspect_provider  # noqa: F401 (registers itself)

    return get_model(f"overlay/{home}", memoize=False, **{"dtype": "float32", **arguments})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ask(api: Any, *messages: Any, tools: Sequence[Any] = (), **config: Any) -> Any:
    from inspect_ai.model import ChatMessageUser, GenerateConfig

    chat = [ChatMessageUser(content=one) if isinstance(one, str) else one for one in messages]
    return asyncio.run(api.generate(chat, list(tools), "auto", GenerateConfig(**config)))


@pytest.mark.real
def test_a_task_of_inspect_runs_against_the_agent_and_leaves_its_home_as_it_was(lived: Path, tmp_path: Path) -> None:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import match

    twin = Home.open(shutil.copytree(lived, tmp_path / "twin"))
    with Agent.open(twin, dtype="float32", clock=clock()) as agent:
        built_up = dict(agent.state.values)
        reply = agent.turn(QUESTIONS[0], seed=3).text
    before = contents(lived)
    task = Task(
        dataset=[Sample(QUESTIONS[0], target=reply), Sample(QUESTIONS[1], target="what nobody said")],
        scorer=match(location="exact"),
    )
    model = overlay_model(lived)
    (log,) = eval(task, model=model, seed=3, display="none", log_dir=str(tmp_path / "logs"))
    model.api.close()
    assert log.status == "success", log.error
    assert [sample.scores["match"].value for sample in log.samples] == ["C", "I"]
    for sample in log.samples:
        assert sample.output.metadata["state_before"] == built_up and sample.output.metadata["doses"]["vowels"] > 0
    assert contents(lived) == before


@pytest.mark.real
def test_an_answer_is_the_agents_next_turn_to_the_last_bit(lived: Path, tmp_path: Path, present: PresentAgent) -> None:
    twin = Home.open(shutil.copytree(lived, tmp_path / "twin"))
    with Agent.open(twin, dtype="float32", clock=clock()) as agent:
        reply = agent.turn(QUESTIONS[0], seed=5)
    found = present.answer(QUESTIONS[0], seed=5)
    assert found.answer.completion.text == reply.text
    assert dict(found.lived.state.values) == dict(reply.state)
    assert [one.note.id for one in found.recalled] == [one.note.id for one in reply.recalled]


@pytest.mark.real
def test_an_answer_rests_on_nothing_that_was_asked_before_and_asking_again_draws_anew(api: Any) -> None:
    first, between, again = (ask(api, question, seed=5) for question in (*QUESTIONS, QUESTIONS[0]))
    assert first.completion == again.completion and first.metadata == again.metadata
    assert first.metadata["state_before"] == between.metadata["state_before"]
    drawn = [ask(api, QUESTIONS[0]).metadata["seed"] for _ in range(2)]
    assert drawn[1] == drawn[0] + 1


@pytest.mark.real
def test_without_state_it_begins_at_rest_with_the_same_words(lived: Path, api: Any) -> None:
    control = overlay_model(lived, state=False).api
    treated, rested = (ask(one, QUESTIONS[0], seed=5) for one in (api, control))
    control.close()
    assert rested.metadata["state_before"] == {"vowels": 0.0} != treated.metadata["state_before"]
    assert rested.metadata["recalled"] == treated.metadata["recalled"]
    assert rested.metadata["doses"]["vowels"] < treated.metadata["doses"]["vowels"]
    # The context holds no word of the state, so that what was read is the same.
    assert rested.usage.input_tokens == treated.usage.input_tokens


@pytest.mark.real
def test_max_tokens_usage_and_the_reason_to_stop_are_told(api: Any) -> None:
    output = ask(api, QUESTIONS[0], max_tokens=3, temperature=0.0)
    assert output.stop_reason == "max_tokens" and output.usage.output_tokens == 3
    assert output.usage.total_tokens == output.usage.input_tokens + 3 and output.metadata["temperature"] == 0
    assert api.max_connections() == 1


@pytest.mark.real
def test_turns_that_are_asked_at_once_come_out_as_one_by_one(api: Any) -> None:
    from inspect_ai.model import ChatMessageUser, GenerateConfig

    alone = [ask(api, question, seed=9).completion for question in QUESTIONS]

    async def at_once() -> list[Any]:
        config = GenerateConfig(seed=9)
        return await asyncio.gather(
            *(api.generate([ChatMessageUser(content=question)], [], "auto", config) for question in QUESTIONS)
        )

    assert [output.completion for output in asyncio.run(at_once())] == alone


@pytest.mark.real
def test_a_turn_that_was_cancelled_while_it_waited_never_begins_and_the_next_one_is_answered(
    present: PresentAgent,
) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(GenerationFailed, match="before it began"):
        present.answer(QUESTIONS[0], seed=1, cancelled=cancelled)
    assert present.answer(QUESTIONS[0], seed=1).answer.row.seed == 1


@pytest.mark.real
def test_earlier_messages_are_history_and_the_tasks_system_text_follows_the_homes_own(present: PresentAgent) -> None:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    from overlay.inspect_provider import _conversation

    system, history, said = _conversation(
        [
            ChatMessageSystem(content="Answer in one word."),
            ChatMessageUser(content="First."),
            ChatMessageAssistant(content="Yes."),
            ChatMessageUser(content="Second."),
        ]
    )
    found = present.answer(said, history, instructions=system, seed=1)
    told = [(message.role, message.text) for message in found.answer.context.chat]
    own = present.home.settings.system
    assert told[0] == ("system", f"{own}\n\nAnswer in one word.")
    assert told[1:3] == [("user", "First."), ("assistant", "Yes.")] and told[3][1].endswith("Second.")
    # The next turn has nothing of it.
    plain = present.answer("Second.", seed=1).answer.context.chat
    assert plain[0].text == own and len(plain) == 2


@pytest.mark.real
def test_what_the_agent_has_no_part_for_is_refused(api: Any, lived: Path) -> None:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ContentImage
    from inspect_ai.tool import ToolInfo

    with pytest.raises(ArgumentError, match="calls no tools, and the task offers bash"):
        ask(api, "Hello.", tools=[ToolInfo(name="bash", description="runs")])
    with pytest.raises(ArgumentError, match="no part for stop_seqs, num_choices"):
        ask(api, "Hello.", stop_seqs=["."], num_choices=2)
    with pytest.raises(ArgumentError, match="max_tokens is 0"):
        ask(api, "Hello.", max_tokens=0)
    with pytest.raises(ArgumentError, match="the task shows image"):
        ask(api, ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AAAA")]))
    with pytest.raises(ArgumentError, match="last message isn't from the user"):
        ask(api, "Hello.", ChatMessageAssistant(content="Well,"))
    with pytest.raises(ArgumentError, match="needs some text"):
        ask(api, " ")
    with pytest.raises(ArgumentError, match="no argument statte"):
        overlay_model(lived, statte=False)
    with pytest.raises(ArgumentError, match="neither true nor false"):
        overlay_model(lived, state="off")
    with pytest.raises(HomeError, match="is no home"):
        overlay_model(lived / "memory")


@pytest.mark.real
def test_it_opens_beside_an_agent_that_is_open_and_leaves_nothing_behind(lived: Path, tmp_path: Path) -> None:
    home = Home.open(shutil.copytree(lived, tmp_path / "home"))
    with Agent.open(home, dtype="float32", clock=lambda: 2_000_000_000.0) as agent:
        agent.live("A heron nested beside the old weir in spring.")
        there = PresentAgent.open(home.folder, dtype="float32")
        # What the agent has only just lived through is part of it.
        assert there.state == dict(agent.state.values)
        assert "heron" in there.answer("Where did the heron nest?", seed=1).recalled[0].note.text
        copied = there.home.folder
        assert copied.is_dir() and not copied.is_relative_to(home.folder)
        there.close()
        there.close()
        assert not copied.exists()
        with pytest.raises(HomeError, match="closed"):
            there.answer("Hello.")


@pytest.mark.real
def test_the_embedded_model_answers_a_task(tmp_path: Path, embedder_folder: Path) -> None:
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes

    home = create_toy_home(
        tmp_path / "home",
        embedder_folder,
        model="smollm2-135m",
        system="You are a helpful assistant.",
        state={"axes": {}},
        dialogue={"mode": "off"},
        recall={"count": 0},
    )
    shutil.rmtree(home.lived)
    model = overlay_model(home.folder, dtype="auto")
    task = Task(dataset=[Sample("What is the capital of France?", target="Paris")], scorer=includes())
    (log,) = eval(task, model=model, temperature=0.0, display="none", log_dir=str(tmp_path / "logs"))
    model.api.close()
    assert log.status == "success" and log.samples[0].scores["includes"].value == "C"
    assert not (home.folder / ".overlay").exists()
