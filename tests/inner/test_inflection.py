"""Inflections: a word of the lexicon is found in every form, and words that only look alike are left alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from overlay.axes import ContrastSet, read_contrast
from overlay.home import Home, stock_folder
from overlay.inner import WordFinder
from overlay.model import neutral_texts
from overlay.scenarios import read_scenario

STOCK = stock_folder()


@pytest.fixture(scope="module")
def contrast() -> ContrastSet:
    return read_contrast(STOCK / "adapters" / "steering" / "tenderness.yaml")


@pytest.fixture(scope="module")
def stock(contrast: ContrastSet) -> WordFinder:
    return WordFinder(contrast.lexicon + contrast.lexicon_ru)


ENGLISH = """
loves loving lovingly tenderest tenderly caringly cares kindest kindnesses gentler gentlest affections compassions
comfortingly consoling consoles fonder fondest pities pitied pitying cherishes cherishing adores adoring mercies
soothes soothingly nurture nurtures dearest cuddling empathizes empathised compassionately tender-hearted Tenderhearted
"""

RUSSIAN = """
любовью любишь любили любящая любимого нежностью нежнейшей нежнее нежен нежна заботой заботились заботятся забочусь
заботливая заботливее добрее доброго добрейший ласкою ласковая состраданием сочувствия сочувствует сочувствую
милосердием человечности привязанностью утешает утешил лелеяла Нежность не́жность
"""

ONLY_ALIKE = """
careful carefully careless career lovely kinds kindred gentleman comfortable comfortably compass affect affected
effects human humanity humans warm warmer warmest tend tended consider consideration devotee consolidate adorable
любой любая любую любые любых любого добавить добраться одобрить доброволец забор ласточка дорога нежилой милый
милиция утес чутье сердце
"""


@pytest.mark.parametrize("word", [*ENGLISH.split(), *RUSSIAN.split()])
def test_the_stock_lexicon_is_found_in_every_form(stock: WordFinder, word: str) -> None:
    (found,) = stock(f"so {word}, it said / и {word}.")[:1]
    assert found.start == 3 and found.end == 3 + len(word)


@pytest.mark.parametrize("word", ONLY_ALIKE.split())
def test_words_that_only_share_letters_are_left_alone(stock: WordFinder, word: str) -> None:
    assert stock(word) == []


def test_nothing_that_ships_with_the_program_names_the_stock_state(stock: WordFinder, contrast: ContrastSet) -> None:
    texts = [path.read_text(encoding="utf-8") for path in (STOCK / "memory").rglob("*.*")]
    texts += [Home.open(STOCK).settings.system, *neutral_texts()]
    texts += [text for path in (STOCK / "scenarios").glob("*.yaml") for _, text in read_scenario(path).texts()]
    texts += [str(text) for group in contrast.groups().values() for text in group]
    confirmation = STOCK / "adapters" / "steering" / "tenderness.confirm.yaml"
    texts += [
        str(text) for group in yaml.safe_load(confirmation.read_text(encoding="utf-8")).values() for text in group
    ]
    assert len(texts) > 500
    assert [found for text in texts for found in stock(text)] == []


def test_scenarios_forbid_more_words_and_hold_none_of_their_forms(contrast: ContrastSet) -> None:
    for path in (STOCK / "scenarios").glob("*.yaml"):
        scenario = read_scenario(path)
        find = WordFinder(contrast.lexicon + contrast.lexicon_ru + scenario.forbidden)
        assert [found for _, text in scenario.texts() for found in find(text)] == []


def test_synonyms_leave_the_axis_as_it_is(contrast: ContrastSet) -> None:
    other = contrast.model_copy(update={"lexicon": ("zzz",), "lexicon_ru": ()})
    assert other.digest == contrast.digest


@pytest.mark.parametrize(
    ("lexicon", "text", "found"),
    [
        (("hug",), "hugging, hugs, hugged, huge", ["hugging", "hugs", "hugged"]),
        (("sad",), "sadder sadness sadly saddle", ["sadder", "sadness", "sadly"]),
        (("happy",), "happier happily happiness happen", ["happier", "happily", "happiness"]),
        (("warmly",), "warm warmest warmly", ["warmly"]),
        (("haste", "hasty"), "hasty, hastily, hasten, hasted", ["hasty", "hastily", "hasted"]),
        (("take care",), "taking  care; take-care; take good care", ["taking  care", "take-care"]),
        (("warm-hearted",), "warm hearted warmhearted heart", ["warm hearted", "warmhearted"]),
        (("рука",), "рукой, руками, ручка", ["рукой", "руками"]),
        (("тревожный",), "тревожная тревожно тревожить", ["тревожная", "тревожно"]),
        (("café",), "CAFE, cafes", ["cafe", "cafes"]),
        (("愛",), "愛 and 愛情", ["愛"]),
        (("<3",), "I <3 it", ["<3"]),
        (("tender",), "tenderness_2 Tender2 pretender", ["tenderness", "tender"]),
    ],
)
def test_the_endings_of_any_lexicon(lexicon: tuple[str, ...], text: str, found: list[str]) -> None:
    assert [one.word for one in WordFinder(lexicon)(text)] == found


@pytest.mark.parametrize("written", ["T\u00e9nder", "ten\u00adder", "te\u200bnder", "ＴＥＮＤＥＲ", "te\u0301nder"])
def test_accents_and_hidden_signs_hide_nothing(written: str) -> None:
    text = f"so {written}!"
    (found,) = WordFinder(["tender"])(text)
    assert text[found.start : found.end] == written and found.word == "tender"


@given(st.text(max_size=60), st.sampled_from(["tender", "нежность", "take care"]))
def test_places_lie_in_the_text_and_never_overlap(text: str, entry: str) -> None:
    find: Any = WordFinder([entry])
    found = find(f"{text} {entry} {text}")
    assert entry in [one.entry for one in found]
    for one, following in itertools.pairwise(found):
        assert 0 <= one.start < one.end <= following.start


@given(st.text(max_size=80))
def test_an_empty_lexicon_finds_nothing(text: str) -> None:
    assert WordFinder([])(text) == [] == WordFinder(["", "  "])(text)
