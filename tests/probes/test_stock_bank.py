"""The stock bank: what a reader may rely on when a semantic map is drawn with it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest

from overlay.adapters import read_recipe
from overlay.adapters.generators.british_spelling import british_words
from overlay.probes import CheckKind, Layer, Level, Probe, ProbeBank, cells_of, doubts, read_bank
from overlay.teaching import Curriculum, Questions, read_curriculum

ADAPTERS = Path(__file__).parents[2] / "adapters"

LEAST = 12
"""Probes a cell, so that a shift of one standard deviation is mostly found."""

RUN = 6
"""So many words in a row make two items one item told twice."""

RUSSIAN: dict[Level, tuple[Layer, ...]] = {"definition": ("lexical", "logical"), "analogy": ("lexical", "logical")}


@pytest.fixture(scope="module")
def bank() -> ProbeBank:
    return read_bank(ADAPTERS / "probes")


@pytest.fixture(scope="module")
def curricula() -> dict[str, tuple[Curriculum, Questions]]:
    files = sorted((ADAPTERS / "curricula").glob("*.yaml"))
    return {file.stem: read_curriculum(file, ADAPTERS / "probes") for file in files}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def runs(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[start : start + RUN]) for start in range(len(found) - RUN + 1)}


def texts(probes: Iterable[Probe]) -> Iterator[str]:
    for probe in probes:
        yield from (probe.prompt, probe.good, probe.bad)


# --- cells ----------------------------------------------------------------------------------------


def test_every_level_is_asked_in_every_layer_by_at_least_twelve_items(bank: ProbeBank) -> None:
    counts = Counter((probe.level, probe.layer) for probe in bank.probes if probe.language == "en")
    expected = {(level, layer) for level in get_args(Level) for layer in get_args(Layer)}
    assert {cell for cell, count in counts.items() if count >= LEAST} == expected


def test_two_levels_are_also_asked_in_russian(bank: ProbeBank) -> None:
    counts = Counter((probe.level, probe.layer) for probe in bank.probes if probe.language == "ru")
    expected = {(level, layer) for level, layers in RUSSIAN.items() for layer in layers}
    assert {cell for cell, count in counts.items() if count >= LEAST} == set(counts) == expected


def test_each_level_has_a_file_of_its_own(bank: ProbeBank) -> None:
    for level in get_args(Level):
        assert {probe.level for probe in read_bank(ADAPTERS / "probes" / f"{level}.yaml").probes} == {level}


def test_items_can_be_picked_by_topic(bank: ProbeBank) -> None:
    assert all(probe.topic for probe in bank.probes)
    topics = Counter(chain.from_iterable(probe.topic for probe in bank.probes))
    assert max(topics.values()) < len(bank.probes) / 4, "one topic has a quarter of the bank"


# --- surface cues ---------------------------------------------------------------------------------


def test_good_and_bad_differ_by_less_than_a_third_in_length(bank: ProbeBank) -> None:
    for probe in bank.probes:
        lengths = sorted(len(text.strip()) for text in (probe.good, probe.bad))
        assert lengths[0] >= 0.7 * lengths[1], probe.id


def test_good_is_the_longer_one_about_as_often_as_bad(bank: ProbeBank) -> None:
    for language in ("en", "ru"):
        compared = [len(probe.good) - len(probe.bad) for probe in bank.probes if probe.language == language]
        longer, shorter = sum(one > 0 for one in compared), sum(one < 0 for one in compared)
        assert 0.4 <= longer / (longer + shorter) <= 0.6, language
    for cell, probes in cells_of(bank.probes).items():
        assert abs(sum(len(probe.good) - len(probe.bad) for probe in probes)) < len(probes), f"{cell}"


def test_no_cell_can_be_solved_by_counting_letters_words_or_negations(bank: ProbeBank) -> None:
    assert doubts(bank) == ()


def test_whoever_sees_the_continuations_alone_cannot_tell_which_is_good(bank: ProbeBank) -> None:
    """A word's weight, learned from all other items, finds the good one hardly more often than a coin."""
    pairs = [(set(words(probe.good)), set(words(probe.bad))) for probe in bank.probes]
    total: defaultdict[str, int] = defaultdict(int)
    for good, bad in pairs:
        for word in good ^ bad:
            total[word] += 1 if word in good else -1
    right = wrong = 0
    for good, bad in pairs:
        # Without its own vote, or each item would tell on itself.
        weight = sum(total[word] - 1 for word in good - bad) - sum(total[word] + 1 for word in bad - good)
        right, wrong = right + (weight > 0), wrong + (weight < 0)
    assert right + wrong > len(pairs) / 4, "too few items share a word with another one to say anything"
    assert right / (right + wrong) < 0.6


def test_continuations_begin_with_a_blank_and_end_alike(bank: ProbeBank) -> None:
    for probe in bank.probes:
        assert probe.good.startswith(" ") and probe.bad.startswith(" "), probe.id
        assert probe.good[-1] == probe.bad[-1] and probe.good[-1] in ".?", probe.id


def test_prompts_are_short(bank: ProbeBank) -> None:
    assert max(len(probe.prompt.split()) for probe in bank.probes) <= 40


# --- language -------------------------------------------------------------------------------------


def test_each_language_is_written_in_its_own_letters(bank: ProbeBank) -> None:
    for probe in bank.probes:
        letters = [letter for text in (probe.prompt, probe.good, probe.bad) for letter in text if letter.isalpha()]
        cyrillic = [letter for letter in letters if "а" <= letter.lower() <= "я" or letter.lower() == "ё"]
        assert len(cyrillic) == (len(letters) if probe.language == "ru" else 0), probe.id


def test_an_adapter_of_spelling_finds_nothing_to_respell(bank: ProbeBank) -> None:
    both = {*british_words(), *british_words().values()}
    found = {word for text in texts(bank.probes) for word in words(text)} & both
    assert not found


# --- items are apart ------------------------------------------------------------------------------


def test_no_item_tells_another_one_again(bank: ProbeBank) -> None:
    owners: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for probe in bank.probes:
        for run in runs(probe.prompt):
            owners[run].add(probe.id)
    assert {run: ids for run, ids in owners.items() if len(ids) > 1} == {}
    said = Counter((frozenset((probe.good, probe.bad)), probe.level) for probe in bank.probes)
    assert all(count == 1 for count in said.values())


def test_nothing_that_is_taught_is_an_item_of_the_bank(
    bank: ProbeBank, curricula: dict[str, tuple[Curriculum, Questions]]
) -> None:
    taught = [
        f"{prompt}{node.target}"
        for curriculum, _ in curricula.values()
        for node in curriculum.examples
        for prompt in (node.prompt, *node.variants)
    ]
    for recipe in sorted((ADAPTERS / "lora").glob("*/recipe.yaml")):
        taught += [f"{example.prompt}{example.target}" for example in read_recipe(recipe).examples]
    told = {run for text in taught for run in runs(text)}
    assert len(told) > 1000
    assert {probe.id for probe in bank.probes if runs(f"{probe.prompt}{probe.good}") & told} == set()


# --- the village ----------------------------------------------------------------------------------


def test_each_kind_of_check_is_asked_often_enough_to_show_something(bank: ProbeBank) -> None:
    counts = Counter(check.kind for check in bank.checks)
    assert set(counts) == set(get_args(CheckKind))
    assert min(counts.values()) >= 6


def test_the_stock_curriculum_teaches_and_asks_enough(curricula: dict[str, tuple[Curriculum, Questions]]) -> None:
    curriculum, asked = curricula["causes_and_rules"]
    assert len(curriculum.nodes) >= 60
    assert len(curriculum.examples) >= 40
    assert len(curriculum.probes) >= 20
    assert len(asked.held_out) >= LEAST


def test_where_a_custom_was_not_understood_something_else_is_taught(
    curricula: dict[str, tuple[Curriculum, Questions]],
) -> None:
    curriculum, _ = curricula["causes_and_rules"]
    examples = {node.id for node in curriculum.examples}
    ways = [edge for edge in curriculum.edges if edge.when == "failed"]
    assert len(ways) >= 5
    assert all(edge.to in examples for edge in ways)


def test_held_out_probes_are_no_examples(curricula: dict[str, tuple[Curriculum, Questions]]) -> None:
    for curriculum, asked in curricula.values():
        prompts = {prompt for node in curriculum.examples for prompt in (node.prompt, *node.variants)}
        assert not {probe.prompt for probe in asked.held_out} & prompts


def test_the_planted_branch_teaches_what_the_probes_call_wrong_and_can_be_left(
    curricula: dict[str, tuple[Curriculum, Questions]],
) -> None:
    curriculum, asked = curricula["planted_bad_branch"]
    wrong = {(probe.prompt, probe.bad) for probe in asked.asked.values()}
    bad = [node for node in curriculum.examples if (node.prompt, node.target) in wrong]
    assert len(bad) == 4
    good = {node.id for node in curriculum.examples if node not in bad and not node.id.startswith("bad")}
    for node in bad:
        assert [edge.to in good for edge in curriculum.edges if edge.source == node.id and edge.when == "failed"] == [
            True
        ]
