"""A curriculum that can't be walked, or doesn't say what it means, is refused with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_curriculum import asked, bad_branch, edge, example, probe, read, toy_curriculum, write

from overlay.errors import DocumentError
from overlay.teaching import curriculum_graph, mistakes, read_curriculum


def refused(folder: Path, content: dict[str, Any], banks: Path | None = None) -> tuple[str, str]:
    """What a curriculum is refused with, and the text of the line that it names."""
    path = write(folder, content)
    with pytest.raises(DocumentError) as caught:
        read_curriculum(path, banks)
    assert caught.value.path == path and caught.value.line is not None
    return caught.value.problem, path.read_text().splitlines()[caught.value.line - 1]


def with_more(nodes: list[dict[str, Any]], edges: list[dict[str, Any]]) -> dict[str, Any]:
    content = toy_curriculum()
    content["nodes"] += nodes
    content["edges"] += edges
    return content


def test_what_can_be_walked_is_read_into_a_graph_with_its_predicates(tmp_path: Path) -> None:
    content = bad_branch()
    content["edges"][2]["when"] = {"margin_above": 0.2}
    curriculum, questions = read(tmp_path, content)
    graph = curriculum_graph(curriculum)
    assert len(graph) == len(content["nodes"]) and graph.number_of_edges() == len(content["edges"])
    assert graph.edges["ask_first", "say_three", 2]["label"] == "margin above 0.2"
    assert [one.id for one in questions.watched] == ["ask_first", "ask_last", "ask_after"]
    assert [one.prompt for one in questions.held_out][:2] == ["tell one", "tell two"]


def test_an_orphan_is_refused_with_its_line(tmp_path: Path) -> None:
    lonely = [example("lonely", "say nine", " z"), probe("lonely_too", "say ten", " z", " q")]
    problem, line = refused(tmp_path, with_more(lonely, [edge("lonely", "lonely_too")]))
    assert "'lonely' is an orphan: no way leads to it from the start 'say_one'" in problem and "lonely" in line
    assert "'lonely_too' is an orphan" in problem


@pytest.mark.parametrize(
    "way_back",
    [
        [edge("ask_last", "say_four")],
        [edge("ask_last", "say_four", "passed"), edge("ask_last", "say_three", "failed")],
        [edge("ask_last", "say_four", {"margin_above": -1}), edge("ask_last", "say_three", "failed")],
    ],
)
def test_a_loop_that_can_never_be_left_is_refused_with_its_line(tmp_path: Path, way_back: list[dict[str, Any]]) -> None:
    problem, line = refused(tmp_path, with_more([], way_back))
    assert "an endless loop: say_" in problem and "-> ask_last -> say_" in problem and "id: say_" in line


@pytest.mark.parametrize("when", ["failed", {"margin_above": 0.5}, {"volatility_above": 0.1}])
def test_a_loop_that_is_left_when_it_was_learned_is_no_mistake(tmp_path: Path, when: Any) -> None:
    curriculum, _ = read(tmp_path, with_more([], [edge("ask_last", "say_four", when)]))
    assert mistakes(curriculum) == []


def test_a_loop_that_only_asks_makes_no_progress_and_is_refused(tmp_path: Path) -> None:
    again = [edge("ask_last", "ask_again", "failed"), edge("ask_again", "ask_last", "failed")]
    problem, line = refused(tmp_path, with_more([probe("ask_again", "say ten", " z", " q")], again))
    assert "a loop without progress: ask_last -> ask_again -> ask_last" in problem and "ask_last" in line


def test_an_edge_that_can_never_be_taken_is_refused_with_its_line(tmp_path: Path) -> None:
    dead = [
        edge("ask_last", "say_one", "passed"),
        edge("ask_last", "say_two", {"margin_above": 0.3}),
    ]
    problem, line = refused(tmp_path, with_more([], dead))
    assert "this edge can never be taken: whenever its predicate (margin above 0.3) holds" in problem
    assert line == "- from: ask_last"


@pytest.mark.parametrize(
    ("more", "told", "line"),
    [
        (edge("ask_last", "nowhere"), "this edge leads nowhere: there is no node 'nowhere'", "  to: nowhere"),
        (edge("nowhere", "say_one"), "this edge comes from nowhere", "- from: nowhere"),
        (edge("say_four", "say_one", {"margin_above": 1}), "'say_four' is an example: only a probe", "  when:"),
        (edge("ask_last", "say_one", "perhaps"), "write always, passed, failed", "  when: perhaps"),
        (edge("ask_last", "say_one", {"volatility_above": -1}), "equal to 0", "    volatility_above: -1"),
    ],
)
def test_an_edge_without_sense_is_refused_with_its_line(
    tmp_path: Path, more: dict[str, Any], told: str, line: str
) -> None:
    problem, found = refused(tmp_path, with_more([], [more]))
    assert told in problem and found == line


@pytest.mark.parametrize(
    ("changes", "told", "line"),
    [
        ({"start": "nowhere"}, "there is no node 'nowhere' to start from", "start: nowhere"),
        ({"replay": ["Only one."]}, "give at least 4", "replay:"),
        ({"banks": ["missing"]}, "there is no probe bank 'missing'", "- missing"),
        ({"watch": ["missing"]}, "'missing' is no bank of this curriculum", "- missing"),
        ({"held_out": [asked("say seven", " zzz", " qqq")]}, "'ask_first' asks what is held out", "- id: ask_first"),
        ({"held_out": [{"probe": "missing"}]}, "'missing' is no probe of a bank", "- probe: missing"),
        ({"held_out": [{"prompt": "tell", "good": " z", "bad": " q"}]}, "needs level, layer", "- prompt: tell"),
        ({"held_out": [asked("tell", " z", " a very long other way")]}, "they may differ by", "  bad: "),
    ],
)
def test_what_has_no_sense_around_the_graph_is_refused_with_its_line(
    tmp_path: Path, changes: dict[str, Any], told: str, line: str
) -> None:
    problem, found = refused(tmp_path, toy_curriculum(**changes))
    assert told in problem and found.startswith(line)


def test_a_node_that_is_named_twice_or_asks_nothing_is_refused(tmp_path: Path) -> None:
    problem, _ = refused(tmp_path, with_more([example("say_one", "say", " z")], []))
    assert "'say_one' stands here 2 times" in problem
    problem, line = refused(tmp_path, with_more([{"id": "empty", "kind": "probe"}], []))
    assert "a probe of its own needs level, layer, prompt, good, bad" in problem and "empty" in line


def test_probes_are_taken_from_banks_by_their_ids_and_never_when_they_are_held_out(tmp_path: Path) -> None:
    banks = tmp_path / "probes"
    banks.mkdir()
    for name in ("animals", "stones"):
        items = [{"id": f"{one}", **asked(f"{name} {one}", " zz", " qq")} for one in ("first", "second", "third")]
        (banks / f"{name}.yaml").write_text(
            yaml.safe_dump({"name": name, "about": name, "source": "own texts", "probes": items})
        )
    content = toy_curriculum(banks=["animals", "stones"], watch=["stones"], held_out=[{"probe": "stones/second"}])
    content["nodes"] += [{"id": "ask_animal", "kind": "probe", "probe": "animals/first"}]
    content["edges"] += [edge("ask_last", "ask_animal")]
    _, questions = read_curriculum(write(tmp_path, content), banks)
    assert questions.asked["ask_animal"].prompt == "animals first"
    assert [one.prompt for one in questions.watched[2:]] == ["animals first", "stones first", "stones third"]
    assert len({one.id for one in questions.watched}) == 5
    content["nodes"][-1]["probe"] = "first"
    problem, line = refused(tmp_path, content, banks)
    assert "'first' stands in several banks: write BANK/ID" in problem and line == "  probe: first"


def json_lines(content: dict[str, Any]) -> str:
    header = {key: value for key, value in content.items() if key not in ("nodes", "edges")}
    return "\n".join(json.dumps(one) for one in (header, *content["nodes"], *content["edges"]))


def test_json_lines_say_the_same_as_yaml(tmp_path: Path) -> None:
    content = bad_branch()
    content["nodes"][0]["target"] = " z\u2028z\u00e9\U0001f600\x7f"
    path = tmp_path / "toy.jsonl"
    path.write_text(json_lines(content))
    assert read_curriculum(path) == read(tmp_path, content)


@pytest.mark.parametrize(
    ("number", "line", "told"),
    [
        (2, '{"id": "say_one", "kind": "example", "prompt": "say one"}', "'target' is missing"),
        (3, '{"id": "say_two", "kind": "riddle"}', "neither a node nor an edge"),
        (4, "[1, 2]", "not a JSON object"),
        (5, '{"id": ', "not valid JSON"),
        (9, '{"from": "say_one", "to": "nowhere"}', "this edge leads nowhere"),
    ],
)
def test_a_mistake_in_json_lines_is_told_with_its_line(tmp_path: Path, number: int, line: str, told: str) -> None:
    lines = json_lines(toy_curriculum()).splitlines()
    path = tmp_path / "toy.jsonl"
    path.write_text("\n".join([*lines[: number - 1], line, *lines[number:]]))
    with pytest.raises(DocumentError) as caught:
        read_curriculum(path)
    assert caught.value.line == number and told in caught.value.problem


def test_a_curriculum_has_the_name_of_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, toy_curriculum())
    other = path.rename(tmp_path / "other.yaml")
    with pytest.raises(DocumentError, match=r"other\.yaml:1: the curriculum is named 'toy'"):
        read_curriculum(other)
