"""A recipe may name a generator instead of writing examples; its mistakes are named with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from overlay.adapters import Example, Recipe, read_recipe
from overlay.errors import DocumentError

STOCK = Path(__file__).parents[2] / "adapters" / "lora"

GENERATED = """\
name: british
aim: Test.
generator:
  name: british_spelling
  texts:
    - The color of the sky.
    - The theater is closed.
  held_out: [It was a strange rumor.]
replay: [ordinary text]
"""

FROM_FILES = GENERATED.replace(
    """  texts:
    - The color of the sky.
    - The theater is closed.
  held_out: [It was a strange rumor.]
""",
    """  texts: texts.yaml
  held_out: held_out.yaml
""",
)


def written(folder: Path, text: str, **lists: str) -> Path:
    (folder / "recipe.yaml").write_text(text)
    for name, content in lists.items():
        (folder / f"{name}.yaml").write_text(content)
    return folder / "recipe.yaml"


def test_texts_become_examples_and_choices(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GENERATED))
    assert recipe.examples[0] == Example(prompt="The", target=" colour of the sky.", spans=((1, 7),))
    (choice,) = recipe.held_out
    assert (choice.prompt, choice.good, choice.bad) == ("It was a strange", " rumour.", " rumor.")


def test_texts_from_files_beside_the_recipe_are_the_same_as_inline_ones(tmp_path: Path) -> None:
    inline = read_recipe(written(tmp_path, GENERATED))
    lists = {"texts": "- The color of the sky.\n- The theater is closed.\n", "held_out": "- It was a strange rumor.\n"}
    assert read_recipe(written(tmp_path, FROM_FILES, **lists)) == inline
    assert read_recipe(written(tmp_path, FROM_FILES, **lists)).digest == inline.digest


def test_choices_may_be_written_while_examples_are_generated(tmp_path: Path) -> None:
    text = GENERATED.replace("  held_out: [It was a strange rumor.]\n", "")
    recipe = read_recipe(written(tmp_path, text + 'held_out: [{prompt: "a", good: " b", bad: " c"}]\n'))
    assert len(recipe.examples) == 2
    assert recipe.held_out[0].good == " b"


def test_the_digest_covers_texts_settings_and_what_is_generated(tmp_path: Path) -> None:
    digest = read_recipe(written(tmp_path, GENERATED)).digest
    for old, new in (("sky", "sea"), ("strange", "wild"), ("ordinary", "other")):
        assert read_recipe(written(tmp_path, GENERATED.replace(old, new))).digest != digest
    text = GENERATED.replace("british_spelling", "misspelling").replace("strange rumor", "strange story")
    rates = {
        read_recipe(written(tmp_path, text.replace("  texts:", f"  rate: {r}\n  texts:"))).digest for r in (0.4, 0.6)
    }
    assert len(rates) == 2
    assert read_recipe(written(tmp_path, GENERATED.replace("aim: Test.", "aim: Test.\nlicence: MIT"))).digest == digest


def test_spans_count_in_the_digest() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "a",
            "aim": "b",
            "examples": [{"target": "colour"}],
            "held_out": [{"prompt": "a", "good": "b", "bad": "c"}],
            "replay": ["d"],
        }
    )
    marked = recipe.model_copy(update={"examples": (Example(target="colour", spans=((0, 6),)),)})
    assert marked.digest != recipe.digest


def test_a_generated_recipe_is_read_back_from_its_own_json(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GENERATED))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("name: british_spelling", "name: klingon", 4, "no generator; known: british_spelling"),
        ("  texts:", "  rate: 1\n  texts:", 5, "no setting of this generator"),
        ("The color of the sky.", "Nothing here.", 6, "changes nothing in this text"),
        ("The theater is closed.", "A rumored theater.", 7, "'rumor', the root of the held-out 'rumor'"),
        ("a strange rumor.", "a strange sky.", 8, "leaves 'sky' as it is"),
        ("rumor.]", "rumor., It was another rumor.]", 8, "which is measured"),
        ("[It was a strange rumor.]", "[Rumor.]", 8, "words before it"),
        ("[It was a strange rumor.]", "../held.yaml", 8, "no file beside the recipe"),
        ("replay:", "examples: [{target: gray}]\nreplay:", 9, "leave them out here"),
        ("replay:", 'held_out: [{prompt: "a", good: "b", bad: "c"}]\nreplay:', 9, "leave them out here"),
        ("british_spelling\n", "misspelling\n  rate: 2\n", 5, "less than or equal to 1"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_recipe(written(tmp_path, GENERATED.replace(old, new)))
    assert says in caught.value.problem
    assert (caught.value.path.name, caught.value.line) == ("recipe.yaml", line)


@pytest.mark.parametrize(
    ("texts", "line", "says"),
    [
        ("- The color.\n- Nothing.\n", 2, "changes nothing in this text"),
        ("# ours\n- The rumors of color.\n", 2, "the root of the held-out"),
        ('- The color.\n- ""\n', 2, "at least 1 character"),
        ("- [a, b]\n", 1, "string"),
        ("[]\n", None, "at least one is needed"),
    ],
)
def test_a_mistake_in_a_text_file_is_named_with_that_file_and_its_line(
    tmp_path: Path, texts: str, line: int | None, says: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        read_recipe(written(tmp_path, FROM_FILES, texts=texts, held_out="- It was a strange rumor.\n"))
    assert says in caught.value.problem
    assert (caught.value.path.name, caught.value.line) == ("texts.yaml", line)


def test_a_text_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"held_out\.yaml.*does not exist"):
        read_recipe(written(tmp_path, FROM_FILES, texts="- The color.\n"))


@pytest.mark.parametrize("spans", [[(0, 9)], [(3, 3)], [(2, 4), (1, 5)], [(-1, 2)]])
def test_spans_lie_in_the_target_in_order(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="span"):
        Example.model_validate({"target": "colour", "spans": spans})


def test_every_stock_recipe_says_whose_its_texts_are() -> None:
    paths = sorted(STOCK.glob("*/recipe.yaml"))
    assert {"british_spelling", "causes", "misspelling", "old_orthography", "terse_style", "tender_texts"} <= {
        path.parent.name for path in paths
    }
    for path in paths:
        assert "written for this project" in read_recipe(path).licence


@pytest.mark.parametrize("name", ["terse_style", "causes"])
def test_written_stock_choices_are_enough_and_about_equally_long(name: str) -> None:
    recipe = read_recipe(STOCK / name / "recipe.yaml")
    assert len(recipe.examples) >= 40
    assert len(recipe.held_out) >= 24
    assert len(recipe.replay) >= 16
    good, bad = (sum(len(getattr(item, side)) for item in recipe.held_out) for side in ("good", "bad"))
    assert 0.85 <= good / bad <= 1.15
    trained = {example.prompt for example in recipe.examples}
    assert not trained & {item.prompt for item in recipe.held_out}
