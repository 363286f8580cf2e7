"""A recipe says what is learned and what is measured, and its mistakes are named with their line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from overlay.adapters import read_recipe
from overlay.adapters.recipe import SafeZone
from overlay.errors import ArgumentError, DocumentError

STOCK = Path(__file__).parents[2] / "adapters" / "lora"

GOOD = """\
name: short
aim: Test.
examples:
  - {prompt: "a ", target: "b"}
  - {target: "whole text"}
held_out:
  - {prompt: "c ", good: "b", bad: "d"}
replay: [ordinary text]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_recipe_needs_no_more_than_its_texts(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD))
    assert recipe.examples[1].prompt == ""
    assert recipe.where.blocks == "all"
    assert recipe.safe_zone == SafeZone(quantile=0.7, widens_to=1.0)
    assert recipe.exempt == "spans"
    assert recipe.anchor == 1.0


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("name: short", "name: ../short", 1, "name"),
        ("aim: Test.", "aim: Test.\nstepz: 3", 3, "'stepz' is not a known key"),
        ('{target: "whole text"}', '{prompt: "a "}', 5, "target' is missing"),
        ('{target: "whole text"}', '{target: ""}', 5, "target"),
        ('{target: "whole text"}', '{target: "a b"}', 3, "stands here 2 times"),
        ('bad: "d"', 'bad: "b"', 7, "nothing to choose"),
        ('prompt: "c "', 'prompt: "a "', 6, "is trained on as well"),
        ("replay: [ordinary text]", "replay: []", 8, "replay"),
        ("replay: [ordinary text]", "replay: [text]\nwhere: {blocks: [3, 1]}", 9, "0 <= first <= last"),
        ("replay: [ordinary text]", "replay: [text]\nwhere: {blocks: some}", 9, "write all, or [first, last]"),
        ("replay: [ordinary text]", "replay: [text]\nwhere: {blocks: [true, 2]}", 9, "write all, or [first, last]"),
        ("replay: [ordinary text]", "replay: [text]\nrank: 0", 9, "rank"),
        ("replay: [ordinary text]", "replay: [text]\nanchor: .nan", 9, "anchor"),
        ("replay: [ordinary text]", "replay: [text]\nwhere:\n  modules: []", 10, "at least one is needed"),
        ("replay: [ordinary text]", "replay: [text]\nblocks: all", 9, "'blocks' is not a known key"),
        ("replay: [ordinary text]", "replay: [text]\nsafe_zone: wide", 9, "write none, or a mapping"),
        ("replay: [ordinary text]", "replay: [text]\nsafe_zone:\n  quantile: 0", 10, "greater than 0"),
        ("replay: [ordinary text]", "replay: [text]\nsafe_zone:\n  widens_to: 0.5", 10, "less than the quantile 0.7"),
        ("replay: [ordinary text]", "replay: [text]\nexempt: words", 9, "exempt"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_recipe(written(tmp_path, GOOD.replace(old, new)))
    assert caught.value.line == line
    assert says in caught.value.problem


def test_the_digest_covers_all_but_the_aim(tmp_path: Path) -> None:
    digest = read_recipe(written(tmp_path, GOOD)).digest
    assert read_recipe(written(tmp_path, GOOD.replace("Test.", "Said otherwise."))).digest == digest
    for old, new in (('"whole text"', '"whole"'), ("ordinary", "other"), ('bad: "d"', 'bad: "e"')):
        assert read_recipe(written(tmp_path, GOOD.replace(old, new))).digest != digest
    assert read_recipe(written(tmp_path, GOOD + "seed: 1\n")).digest != digest


def test_a_recipe_may_be_set_otherwise_for_one_training(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD))
    changed = recipe.overridden({"blocks": [0, 2], "steps": 3, "seed": 9})
    assert (changed.where.blocks, changed.steps, changed.seed) == ((0, 2), 3, 9)
    assert changed.digest != recipe.digest
    assert recipe.overridden({}) == recipe
    for wrong in ({"blocks": [2, 0]}, {"steps": 0}, {"rank": 2}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            recipe.overridden(wrong)


def test_another_seed_makes_other_examples_where_a_generator_makes_them() -> None:
    recipe = read_recipe(STOCK / "misspelling" / "recipe.yaml")
    assert recipe.overridden({"seed": 5}).examples != recipe.examples
    assert recipe.overridden({"seed": recipe.seed}) == recipe


@pytest.mark.parametrize("path", sorted(STOCK.glob("*/recipe.yaml")), ids=lambda path: path.parent.name)
def test_stock_recipes_measure_on_nothing_that_they_train_on(path: Path) -> None:
    from overlay.model import neutral_texts

    recipe = read_recipe(path)
    assert recipe.name == path.parent.name
    assert not set(recipe.replay) & set(neutral_texts())
    seen = [*(one.prompt + one.target for one in recipe.examples), *recipe.replay]
    held_out = [one.prompt + option for one in recipe.held_out for option in (one.good, one.bad)]
    assert held_out and not [text for text in held_out if any(text in one for one in seen)]


def test_held_out_words_of_british_spelling_stand_in_no_training_text() -> None:
    recipe = read_recipe(STOCK / "british_spelling" / "recipe.yaml")
    seen = " ".join([*(item.prompt + item.target for item in recipe.examples), *recipe.replay]).lower()
    words = [option.strip(" .") for item in recipe.held_out for option in (item.good, item.bad)]
    assert len(set(words)) == 2 * len(recipe.held_out) >= 80
    assert [word for word in words if word in seen] == []


def test_tender_texts_know_no_scene_from_which_a_state_is_built_up_in_english() -> None:
    """What is learned from texts (level 3) and what is lived through (level 4) can then be told apart."""
    recipe = read_recipe(STOCK / "tender_texts" / "recipe.yaml")
    texts = [item.prompt + item.target for item in recipe.examples]
    texts += [item.prompt + option for item in recipe.held_out for option in (item.good, item.bad)]
    lived = [path.read_text() for path in sorted((STOCK.parents[1] / "scenarios" / "exposures").glob("*.yaml"))]
    assert lived
    # Words of one and the same grammar in every text; they tell nothing about the scene.
    grammar = {"about", "after", "against", "along", "before", "between", "every", "from", "have", "into"}
    grammar |= {"nobody", "over", "that", "them", "then", "they", "through", "until", "where", "while", "with"}
    assert _words(texts) & _words(lived) - grammar == set()


def test_tender_and_businesslike_choices_are_equally_long() -> None:
    recipe = read_recipe(STOCK / "tender_texts" / "recipe.yaml")
    lengths = [(len(item.good), len(item.bad)) for item in recipe.held_out]
    assert all(0.8 <= good / bad <= 1.25 for good, bad in lengths)
    assert 0.9 <= sum(good for good, _ in lengths) / sum(bad for _, bad in lengths) <= 1.1


def _words(texts: list[str]) -> set[str]:
    """All words of four letters and more."""
    return set(re.findall(r"[a-z]{4,}", " ".join(texts).lower()))
