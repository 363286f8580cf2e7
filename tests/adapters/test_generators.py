"""A generator is a pure function of texts and a seed, and never shows in training what it measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from overlay.adapters import read_recipe
from overlay.adapters.generators import GENERATORS, BritishSpelling, Generator, Misspelling, OldOrthography
from overlay.adapters.generators.british_spelling import british_words

STOCK = Path(__file__).parents[2] / "adapters" / "lora"

MADE: list[Generator] = [
    OldOrthography(texts=("В лесу выпал снег.", "Он жил в России."), held_out=("На поляне стоял дуб.",)),
    BritishSpelling(
        texts=("The color of honor is gray.", "A Favorite theater."), held_out=("It was a strange rumor.",)
    ),
    Misspelling(
        texts=("The children believed their teacher.", "Nobody knocked."), held_out=("They ate in the garden.",)
    ),
]

recipes = pytest.mark.parametrize("name", sorted(GENERATORS))


@pytest.mark.parametrize("generator", MADE, ids=lambda generator: generator.name)
def test_the_same_texts_and_seed_give_the_same_examples_whatever_stands_beside_them(generator: Generator) -> None:
    again = type(generator)(name=generator.name, texts=generator.texts, held_out=generator.held_out)
    assert again.examples(3) == generator.examples(3)
    assert again.choices(3) == generator.choices(3)
    alone = type(generator)(name=generator.name, texts=generator.texts[1:])
    assert alone.examples(3) == generator.examples(3)[1:]


@pytest.mark.parametrize("generator", MADE, ids=lambda generator: generator.name)
def test_prompts_are_as_written_and_spans_hold_all_that_changed(generator: Generator) -> None:
    for text, example in zip(generator.texts, generator.examples(0), strict=True):
        assert text.startswith(example.prompt)
        assert example.spans
        rest, position = text[len(example.prompt) :], 0
        for start, end in example.spans:
            kept = example.target[position:start]
            assert kept in rest
            rest = rest[rest.index(kept) + len(kept) :]
            assert not rest.startswith(example.target[start:end] + example.target[end : end + 1])
            position = end
        assert rest.endswith(example.target[position:])


@pytest.mark.parametrize("generator", MADE, ids=lambda generator: generator.name)
def test_a_choice_differs_in_the_last_word_alone(generator: Generator) -> None:
    (choice,) = generator.choices(0)
    assert choice.prompt + choice.bad == generator.held_out[0]
    assert choice.good != choice.bad
    assert choice.good[0] == choice.bad[0] == " "
    assert choice.good[-1] == choice.bad[-1] == "."


@recipes
def test_stock_texts_measure_enough_and_change_in_every_example(name: str) -> None:
    recipe = read_recipe(STOCK / name / "recipe.yaml")
    assert recipe.generator is not None
    assert len(recipe.examples) >= 40
    assert len(recipe.held_out) >= 32
    assert all(example.spans for example in recipe.examples)
    assert all(0.6 <= len(item.good) / len(item.bad) <= 1.5 for item in recipe.held_out)


@recipes
def test_the_replay_texts_hold_no_held_out_word_and_nothing_that_is_respelled(name: str) -> None:
    recipe = read_recipe(STOCK / name / "recipe.yaml")
    shown = " ".join(recipe.replay).lower()
    assert [item.bad for item in recipe.held_out if item.bad.strip(" .").lower() in shown] == []
    if name != "misspelling":
        assert recipe.generator is not None
        assert [text for text in recipe.replay if recipe.generator.respell(text) != text] == []


def test_the_british_list_has_one_spelling_for_each_word_and_is_long_enough() -> None:
    words = british_words()
    assert len(words) >= 200
    assert all(american != british for american, british in words.items())


def test_british_spelling_keeps_capitals_and_leaves_other_words() -> None:
    british = BritishSpelling(texts=("A gray color.",))
    assert (
        british.respell("COLOR, Color and color; a colorist's GRAY day")
        == "COLOUR, Colour and colour; a colorist's GREY day"
    )
    assert british.respell("The size of the prize and the advice") == "The size of the prize and the advice"


def test_the_rate_of_misspelling_is_reached_on_a_long_text() -> None:
    words = WORDS.split()
    text = " ".join(f"{one} {two}" for one in words for two in words)
    for rate in (0.1, 0.35, 0.8):
        pieces = Misspelling(texts=("Nobody knocked.",), rate=rate).respell(text, seed=4).split()
        wrong = sum(one != other for one, other in zip(pieces, text.split(), strict=True))
        assert wrong / len(pieces) == pytest.approx(rate, abs=0.03)


def test_misspelling_depends_on_the_seed_and_the_text() -> None:
    generator = Misspelling(texts=("Nobody knocked.",), rate=1.0)
    text = "The children believed their teacher and followed her through the forest."
    assert generator.respell(text, 1) == generator.respell(text, 1)
    assert len({generator.respell(text, seed) for seed in range(8)}) == 8


def test_misspelling_never_touches_numbers_short_words_and_names() -> None:
    text = "He met Edward in Paris on May 12 at 1000 and saw 35mm films and the UNESCO flag; iPhone, cat, dog."
    every = Misspelling(texts=("Nobody knocked.",), rate=1.0)
    kept = {
        "He",
        "met",
        "Edward",
        "in",
        "Paris",
        "on",
        "May",
        "12",
        "at",
        "1000",
        "and",
        "saw",
        "35mm",
        "the",
        "UNESCO",
    }
    changed = {one for one, other in zip(text.split(), every.respell(text).split(), strict=True) if one != other}
    assert changed == {"films", "flag;"}
    assert not changed & kept
    with_names = Misspelling(texts=("Nobody knocked.",), rate=1.0, names=True).respell(text)
    assert "Edward" not in with_names and "UNESCO" in with_names


@pytest.mark.parametrize(
    ("kind", "word", "allowed"),
    [
        ("transposed", "than", {"tahn", "thna"}),
        ("undoubled", "letter", {"leter"}),
        ("doubled", "robin", {"robbin", "robinn"}),
        ("vowel_lost", "robin", {"rbin", "robn"}),
        ("keyboard", "wolf", {"wilf", "wplf", "wokf", "wold", "wolg"}),
        ("confused", "their", {"there"}),
        ("confused", "Weather", {"Whether"}),
        ("ie_ei", "receive", {"recieve"}),
        ("ie_ei", "believe", {"beleive"}),
    ],
)
def test_each_kind_of_misspelling_makes_its_own_error(kind: str, word: str, allowed: set[str]) -> None:
    generator = Misspelling.model_validate({"texts": ["Their letters believed robin."], "kinds": [kind], "rate": 1.0})
    found = {generator.respell(f"{word} one", seed).split()[0] for seed in range(60)}
    assert found == allowed


WORDS = """
garden winter doctor letter window simple yellow people mother village bottle answer thunder orange farmer castle candle
silver pocket bridge summer butter travel forest market ribbon copper kitchen blanket station
"""


def test_the_choice_keeps_its_blank_where_a_sign_stands_before_the_last_word() -> None:
    generator = BritishSpelling(texts=("The colour of it is gray.",), held_out=("It was not shame, flavor.",))
    (choice,) = generator.choices(0)
    assert (choice.prompt, choice.good, choice.bad) == ("It was not shame,", " flavour.", " flavor.")
