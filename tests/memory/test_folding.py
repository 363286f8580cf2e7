"""What folding promises: one root, compression, an update changes only its chain, nothing forgotten stays."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overlay.errors import ArgumentError
from overlay.memory import Filters, FoldNode, Memory, NewNote, fold, tree
from overlay.memory.clusters import LARGEST

Opener = Callable[..., Memory]

SUBJECTS = {
    "sea": "harbour sail anchor captain storm gull tide rope island lighthouse",
    "kitchen": "bread oven butter flour spoon kettle onion pepper soup plate",
    "music": "piano violin chord melody concert drum choir tempo singer stage",
    "сад": "яблоня грядка лопата семена роса куст забор скамейка шмель тропинка",
}


def text_of(number: int, subject: str | None = None) -> str:
    """Three sentences about a subject; the number stands in each of them."""
    draw = random.Random(number)
    name = subject or list(SUBJECTS)[number % len(SUBJECTS)]
    words = SUBJECTS[name].split()
    lines = [" ".join([name, *draw.sample(words, 4)]) for _ in range(3)]
    return " ".join(f"{line.capitalize()} mark{number}." for line in lines)


def fill(memory: Memory, count: int, namespace: str = "", first: int = 0) -> None:
    memory.remember_many(
        NewNote(text_of(number), "said", "test", note_id=f"{namespace}n{number}", namespace=namespace)
        for number in range(first, first + count)
    )


def flat(nodes: Sequence[FoldNode]) -> list[FoldNode]:
    return [node for top in nodes for node in (top, *flat(top.children))]


def notes_below(node: FoldNode) -> set[str]:
    return {one.id for one in flat([node]) if one.height == 0}


def folds_of(memory: Memory) -> dict[str, str]:
    return {node.id: node.text for node in flat(tree(memory)) if node.height}


def chain_of(memory: Memory, note_id: str) -> set[str]:
    return {node.id for node in flat(tree(memory)) if node.height and note_id in notes_below(node)}


@pytest.mark.parametrize("count", [2, 10, 11, 150])
def test_a_namespace_gets_one_root_that_stands_above_every_note(memory: Memory, count: int) -> None:
    fill(memory, count)
    report = fold(memory)
    (root,) = tree(memory)
    assert notes_below(root) == {f"n{number}" for number in range(count)}
    assert report.notes == count
    assert report.depth == root.height
    for node in flat([root]):
        assert all(child.height == node.height - 1 for child in node.children)
        assert len(node.children) <= LARGEST
    leaves = [node for node in flat([root]) if node.height == 1]
    assert sum(len(node.children) for node in leaves) == count  # no note twice


def test_what_is_folded_is_shorter_and_the_report_says_by_how_much(memory: Memory) -> None:
    fill(memory, 150)
    report = fold(memory)
    (root,) = tree(memory)
    for height, ratio in enumerate(report.ratios, start=1):
        above = sum(len(re.findall(r"\w+", node.text)) for node in flat([root]) if node.height == height)
        below = sum(len(re.findall(r"\w+", node.text)) for node in flat([root]) if node.height == height - 1)
        assert ratio == pytest.approx(above / below)
        assert ratio <= 0.34
    assert report.made == len(folds_of(memory))
    assert (report.refolded, report.kept, report.emptied, report.unwritten) == (0, 0, 0, ())


def test_notes_of_one_subject_go_together(memory: Memory) -> None:
    fill(memory, 160)
    fold(memory)
    leaves = [node for node in flat(tree(memory)) if node.height == 1]
    pure = sum(len({int(name[1:]) % 4 for name in notes_below(node)}) == 1 for node in leaves)
    assert pure >= 0.9 * len(leaves)


def test_links_and_neighbours_in_a_stream_pull_together(open_memory: Opener) -> None:
    def together(name: str, **fields: Any) -> int:
        memory = open_memory(name)
        # Words alone say nothing here: every note has its own.
        memory.remember_many(
            NewNote(
                f"w{number * 7919} v{number * 104729} u{number * 1299709}",
                "said",
                "test",
                note_id=f"n{number}",
                stream=f"s{number // 5}" if fields.get("streams") else "",
                links=(f"n{number // 5 * 5}",) if fields.get("links") and number % 5 else None,
            )
            for number in range(60)
        )
        fold(memory)
        leaves = [notes_below(node) for node in flat(tree(memory)) if node.height == 1]
        pairs = [(f"n{number}", f"n{number + 1}") for number in range(60) if number % 5 < 4]
        return sum(any({one, other} <= leaf for leaf in leaves) for one, other in pairs)

    apart = together("apart")
    assert together("streams", streams=True) >= apart + 15
    assert together("links", links=True) >= apart + 15


def test_every_sentence_of_a_fold_stands_in_a_note_below_it(memory: Memory) -> None:
    fill(memory, 80)
    fold(memory)
    texts = {node.id: node.text for node in flat(tree(memory)) if not node.height}
    for node in flat(tree(memory)):
        if node.height:
            below = [texts[name] for name in notes_below(node)]
            assert all(any(line in text for text in below) for line in node.text.split("\n"))


def test_a_fold_is_a_note_with_its_height_and_links_to_what_it_folds(memory: Memory) -> None:
    fill(memory, 80)
    fold(memory)
    for node in flat(tree(memory)):
        note = memory.get(node.id)
        assert note.height == node.height
        if node.height:
            assert (note.kind, note.source, note.is_stale) == ("fold", "fold", False)
            assert note.text == node.text
            assert set(note.links) == {child.id for child in node.children}
    found = memory.recall("piano violin", filters=Filters(height=1))
    assert found
    assert {one.note.height for one in found} == {1}


def test_folding_again_changes_nothing(memory: Memory) -> None:
    fill(memory, 80)
    first = fold(memory)
    before, journal = list(memory.notes()), memory.journal()
    again = fold(memory)
    assert (again.made, again.refolded, again.kept) == (0, 0, first.made)
    assert list(memory.notes()) == before
    assert memory.journal() == journal


def test_equal_memories_fold_to_equal_trees(open_memory: Opener) -> None:
    one, other = open_memory("one"), open_memory("other")
    for memory in (one, other):
        fill(memory, 120)
        fold(memory)
    assert tree(one) == tree(other)


def test_an_updated_note_changes_only_its_own_chain(memory: Memory) -> None:
    fill(memory, 120)
    fold(memory)
    before, chain = folds_of(memory), chain_of(memory, "n17")
    memory.supersede("n17", "Sea otters hold hands. Otters float on the tide asleep.", source="test")
    assert {node.id for node in flat(tree(memory)) if node.is_stale} == chain
    assert all(memory.get(name).is_stale == (name in chain) for name in before)
    report = fold(memory)
    after = folds_of(memory)
    assert (report.made, report.refolded, report.kept) == (0, len(chain), len(before) - len(chain))
    assert chain_of(memory, "n17") == chain
    assert {name: text for name, text in after.items() if name not in chain} == {
        name: text for name, text in before.items() if name not in chain
    }
    lowest = min(chain, key=lambda name: memory.get(name).height)
    assert after[lowest] != before[lowest]
    assert not any(node.is_stale for node in flat(tree(memory)))


def test_a_new_note_joins_the_folds_of_its_subject_and_changes_no_others(memory: Memory) -> None:
    fill(memory, 120)
    fold(memory)
    before = folds_of(memory)
    memory.remember(text_of(5_002, "music"), kind="said", source="test", note_id="new")
    fold(memory)
    chain = chain_of(memory, "new")
    lowest = next(node for node in flat(tree(memory)) if node.height == 1 and "new" in notes_below(node))
    others = {name for name in notes_below(lowest) if name != "new"}
    assert others
    assert {int(name[1:]) % 4 for name in others} == {2}
    assert {name: text for name, text in folds_of(memory).items() if name not in chain} == {
        name: text for name, text in before.items() if name not in chain
    }


def test_a_fold_that_grows_too_large_is_split_and_the_tree_stays_whole(memory: Memory) -> None:
    fill(memory, 8)
    fold(memory)
    for step in range(12):
        fill(memory, 15, first=8 + 15 * step)
        fold(memory)
        (root,) = tree(memory)
        assert notes_below(root) == {f"n{number}" for number in range(8 + 15 * (step + 1))}
        assert all(len(node.children) <= 16 for node in flat([root]))
        assert not any(node.is_stale for node in flat([root]))
    assert root.height > 1


def test_a_retired_note_leaves_the_folds_and_an_empty_tree_is_gone(memory: Memory) -> None:
    fill(memory, 20)
    fold(memory)
    memory.retire("n3")
    fold(memory)
    assert "mark3" not in " ".join(folds_of(memory).values()).replace("mark3.", "mark3 ").split()
    assert chain_of(memory, "n3") == set()
    for number in range(20):
        memory.retire(f"n{number}")
    report = fold(memory)
    assert report.emptied > 0
    assert (tree(memory), report.depth, report.notes, report.words) == ((), 0, 0, (0,))
    assert memory.count() == 0
    fill(memory, 5, first=100)
    fold(memory)
    (root,) = tree(memory)
    assert notes_below(root) == {f"n{number}" for number in range(100, 105)}


def test_one_note_is_not_folded_nor_is_one_with_a_time_to_live(memory: Memory) -> None:
    memory.remember("one alone", kind="said", source="test")
    assert fold(memory).depth == 0
    assert tree(memory) == ()
    memory.remember("soon gone", kind="said", source="test", expires_at=5_000.0)
    assert fold(memory).depth == 0


def test_namespaces_share_no_fold(memory: Memory) -> None:
    fill(memory, 30)
    fill(memory, 30, namespace="voice")
    fold(memory)
    roots = {root.namespace: root for root in tree(memory)}
    assert notes_below(roots[""]) == {f"n{number}" for number in range(30)}
    assert notes_below(roots["voice"]) == {f"voicen{number}" for number in range(30)}
    assert all(memory.get(node.id).namespace == "voice" for node in flat([roots["voice"]]))


def test_notes_of_signs_alone_can_be_folded(memory: Memory) -> None:
    memory.remember_many(NewNote(sign * 3, "said", "test") for sign in "🎄🌲🌊🔥")
    fold(memory)
    assert tree(memory)[0].text.strip()


def test_a_long_note_is_cut_to_the_limit(memory: Memory) -> None:
    memory.remember(" ".join(f"word{number}" for number in range(3_000)), kind="read", source="test")
    memory.remember("short", kind="read", source="test")
    fold(memory)
    assert 0 < len(tree(memory)[0].text.split()) <= 120


# -- writers ----------------------------------------------------------------------------------


def test_a_writer_writes_the_folds_and_they_say_so(memory: Memory) -> None:
    fill(memory, 30)
    report = fold(memory, writer=lambda texts: f"In short {len(texts)} things", written_by="small-model")
    assert report.unwritten == ()
    for node in flat(tree(memory)):
        if node.height:
            assert node.text == f"In short {len(node.children)} things"
            assert node.written_by == "small-model"
            assert memory.get(node.id).source == "fold:small-model"
    assert memory.recall("in short things", filters=Filters(kinds=["fold"]))


@pytest.mark.parametrize("wrong", ["", "  \n", "much " * 5_000])
def test_a_fold_quotes_where_its_writer_writes_nothing_or_too_much(memory: Memory, wrong: str) -> None:
    fill(memory, 30)
    report = fold(memory, writer=lambda texts: wrong)
    assert {name for name, _ in report.unwritten} == set(folds_of(memory))
    assert all(node.written_by == "quotes" for node in flat(tree(memory)) if node.height)


def test_a_writer_that_raises_leaves_a_quoting_fold_and_is_reported(memory: Memory) -> None:
    fill(memory, 30)

    def tired(texts: Sequence[str]) -> str:
        raise RuntimeError("out of tokens")

    report = fold(memory, writer=tired)
    assert all(reason == "RuntimeError: out of tokens" for _, reason in report.unwritten)
    assert all("mark" in text for text in folds_of(memory).values())
    assert not any(node.is_stale for node in flat(tree(memory)))


def test_a_writer_needs_a_name(memory: Memory) -> None:
    with pytest.raises(ArgumentError, match="name"):
        fold(memory, writer=lambda texts: "x", written_by=" ")


def test_an_interrupted_folding_leaves_a_whole_tree_and_goes_on(open_memory: Opener) -> None:
    memory = open_memory()
    fill(memory, 400)
    calls = 0

    def interrupted(texts: Sequence[str]) -> str:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise KeyboardInterrupt
        return "done"

    with pytest.raises(KeyboardInterrupt):
        fold(memory, writer=interrupted)
    memory.close()
    memory = open_memory()
    (root,) = tree(memory)
    assert len(notes_below(root)) == 400
    finished = {node.id: node.text for node in flat([root]) if node.height and not node.is_stale}
    assert set(finished.values()) == {"done"}
    report = fold(memory)
    after = folds_of(memory)
    assert report.kept == len(finished)
    assert report.made == len(after) - len(finished)
    assert {name: after[name] for name in finished} == finished
    assert not any(node.is_stale for node in flat(tree(memory)))


def test_progress_counts_every_fold(memory: Memory) -> None:
    fill(memory, 100)
    steps: list[tuple[str, int | None, int | None]] = []

    class Told:
        def step(self, description: str, done: int | None, total: int | None, detail: str = "") -> None:
            steps.append((description, done, total))

    report = fold(memory, progress=Told())
    assert steps[-1] == ("folding", report.made, report.made)


# -- forgetting -------------------------------------------------------------------------------

Step = tuple[str, int]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "supersede", "retire", "fold", "fold", "write", "forget", "forget"]),
            st.integers(0, 60),
        ),
        min_size=4,
        max_size=16,
    ),
    number=st.integers(0, 10**6),
)
def test_nothing_of_a_forgotten_note_stays_in_any_fold(
    tmp_path_factory: pytest.TempPathFactory, embedder: Any, steps: list[Step], number: int
) -> None:
    with Memory.open(tmp_path_factory.mktemp("home"), embedder) as memory:
        fill(memory, 30)
        fold(memory)
        serial = 1_000
        gone: set[str] = set()
        marks: dict[str, set[str]] = {f"n{row}": {f"mark{row}"} for row in range(30)}
        for action, which in steps:
            serial += 1
            living = sorted(name for name in marks if name in memory)
            target = living[which % len(living)] if living else None
            if action == "add":
                memory.remember(text_of(serial), kind="said", source="test", note_id=f"n{serial}")
                marks[f"n{serial}"] = {f"mark{serial}"}
            elif action == "fold":
                fold(memory)
            elif action == "write":
                fold(memory, writer=lambda texts: " ".join(re.findall(r"mark\d+", " ".join(texts))))
            elif target and action == "supersede" and memory.get(target).is_current:
                memory.supersede(target, text_of(serial), source="test")
                marks[target].add(f"mark{serial}")
            elif target and action == "retire":
                memory.retire(target)
            elif target and action == "forget":
                memory.forget(target)
                gone |= marks.pop(target)
            said = {mark for note in memory.notes() for mark in re.findall(r"mark\d+", note.text)}
            assert not said & gone
        fold(memory)
        said = {mark for note in memory.notes() for mark in re.findall(r"mark\d+", note.text)}
        assert not said & gone
        current = {note.id for note in memory.notes() if note.is_current and note.kind != "fold"}
        below = [name for root in tree(memory) for name in notes_below(root)]
        # One note alone is not folded if nothing was folded before it.
        assert sorted(below) == sorted(current) or len(current) == 1
        assert not any(node.is_stale for node in flat(tree(memory)))


def test_forgetting_takes_the_text_of_the_whole_chain_until_it_is_folded_anew(memory: Memory) -> None:
    fill(memory, 80)
    fold(memory)
    before, chain = folds_of(memory), chain_of(memory, "n5")
    memory.forget("n5")
    assert all(name not in memory for name in chain)
    assert all(name in memory for name in set(before) - chain)
    report = fold(memory)
    assert report.kept == len(before) - len(chain)
    after = folds_of(memory)
    assert set(after) == set(before)
    assert {name: after[name] for name in set(before) - chain} == {name: before[name] for name in set(before) - chain}


def test_a_note_that_is_forgotten_while_its_fold_is_written_does_not_stay_in_it(memory: Memory) -> None:
    fill(memory, 12)
    forgotten: list[str] = []

    def write(texts: Sequence[str]) -> str:
        # Another thread forgets a note after its text was read.
        if not forgotten:
            forgotten.append("n4")
            memory.forget("n4")
        return " ".join(re.findall(r"mark\d+", " ".join(texts)))

    fold(memory, writer=write)
    assert not any(re.search(r"mark4\b", note.text) for note in memory.notes())
    fold(memory)
    assert not any(re.search(r"mark4\b", note.text) for note in memory.notes())
    assert not any(node.is_stale for node in flat(tree(memory)))


def test_a_memory_for_reading_shows_its_tree(open_memory: Opener, tmp_path: Path) -> None:
    memory = open_memory()
    fill(memory, 30)
    fold(memory)
    shown = tree(memory)
    memory.close()
    assert tree(open_memory(read_only=True)) == shown
