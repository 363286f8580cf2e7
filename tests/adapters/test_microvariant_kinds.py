"""Kinds of microvariants: each makes the change that it is named after, and leaves all other characters as they are."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import byte_tokenizer

from overlay.adapters.microvariants.continuation import continuations
from overlay.adapters.microvariants.contraction import contractions
from overlay.adapters.microvariants.edit import Edit, edited, language_of
from overlay.adapters.microvariants.hedge import hedges
from overlay.adapters.microvariants.json_form import json_forms
from overlay.adapters.microvariants.marking import anchors, marked_words, shifts, single_pairs, single_tokens
from overlay.adapters.microvariants.number_word import number_words
from overlay.adapters.microvariants.omission import omissions
from overlay.adapters.microvariants.punctuation import repunctuations
from overlay.adapters.microvariants.summary import summaries
from overlay.adapters.microvariants.synonym import synonyms
from overlay.adapters.microvariants.word_order import reorderings

FAMILIES: dict[str, Callable[[str], list[Edit]]] = {
    "marked_word": lambda text: marked_words(text, [("*", "*"), ("«", "»")]),
    "anchor": lambda text: anchors(text, ["§"]),
    "shift": lambda text: shifts(text, ["→"]),
    "summary": lambda text: summaries(text, ["→"]),
    "dropped": omissions,
    "json": json_forms,
    "synonym": synonyms,
    "word_order": reorderings,
    "continuation": lambda text: continuations(text, [" and rain"]),
    "punctuation": repunctuations,
    "contraction": contractions,
    "number": number_words,
    "hedge": hedges,
}
ENGLISH = "The old shop was closed for three weeks, and she often said that it is warm. They bought tea and milk."
RUSSIAN = "Старый мост закрыли на три недели, чтобы утром начать ремонт. Она часто покупала лук и хлеб."


def texts_of(edits: list[Edit]) -> list[str]:
    return [edit.text for edit in edits]


def is_subsequence(part: str, whole: str) -> bool:
    rest = iter(whole)
    return all(sign in rest for sign in part)


@pytest.mark.parametrize("text", [ENGLISH, RUSSIAN])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_has_edits_in_both_languages(family: str, text: str) -> None:
    edits = FAMILIES[family](text)
    assert edits and {edit.kind for edit in edits} == {family}


@given(st.lists(st.sampled_from([*ENGLISH.split(), *RUSSIAN.split(), "\n", "«", '"', "5", "…", "e"]), max_size=14))
@settings(deadline=None, max_examples=60)
def test_whatever_the_text_is_all_characters_outside_the_spans_are_its_own(words: list[str]) -> None:
    text = " ".join(words)
    for propose in FAMILIES.values():
        for edit in propose(text):
            kept, end = "", 0
            for start, stop in edit.spans:
                assert end <= start <= stop <= len(edit.text)
                kept, end = kept + edit.text[end:start], stop
            assert is_subsequence(kept + edit.text[end:], text)


def test_changes_are_made_where_they_are_said_to_be() -> None:
    edit = edited("abcdef", "kind", (1, 1, "XY"), (2, 4, "Z"), (6, 6, "!"))
    assert edit.text == "aXYbZef!"
    assert [edit.text[start:stop] for start, stop in edit.spans] == ["XY", "Z", "!"]


def test_language_is_that_of_most_letters() -> None:
    assert language_of("Мост (bridge) закрыли") == "ru"
    assert language_of("The word мост means bridge") == "en"


def test_only_marks_that_are_one_token_are_used() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["\u2020", " \u2020", " #"])
    assert single_tokens(tokenizer, ["†", "#", "[ANCHOR]", "→"]) == ("†", "#")
    assert all(len(side) == 1 and side.isascii() for pair in single_pairs(tokenizer) for side in pair)


def test_words_are_marked_one_at_a_time() -> None:
    found = texts_of(marked_words("The old shop", [("*", "*")]))
    assert found == ["The *old* shop", "The * old * shop", "The old *shop*", "The old * shop *"]


def test_anchors_stand_before_words_and_shifts_behind_sentences() -> None:
    assert texts_of(anchors("It rains.", ["§"])) == ["§ It rains.", "It § rains."]
    assert texts_of(shifts("It rains. We go.", ["→"])) == [
        "It rains. → We go.",
        "It rains. We go. →",
        "It rains. We go →.",
    ]


def test_a_summary_is_made_of_the_texts_own_words_in_their_order() -> None:
    for text in (ENGLISH, RUSSIAN):
        for variant in texts_of(summaries(text, ["→"])):
            start, summary = variant.rsplit(" → ", 1)
            assert start == text
            assert is_subsequence(summary.replace(" ", ""), text.lower())


def test_the_last_line_sentence_word_and_sign_are_dropped() -> None:
    found = texts_of(omissions("One goes. Two stay.\nThree sleep, all day."))
    assert "One goes. Two stay." in found
    assert "One goes. Two stay.\nThree sleep, all." in found and "One goes. Two stay.\nThree sleep, all" in found
    assert "One goes. Two stay.\nThree sleep, all day" in found
    assert omissions("Alone") == []


@pytest.mark.parametrize("text", [ENGLISH, RUSSIAN, 'She said: "no\\yes".\nHe left.'])
def test_the_json_form_holds_the_text(text: str) -> None:
    for variant in texts_of(json_forms(text)):
        value = json.loads(variant)
        assert (
            value if isinstance(value, str) else next(iter(value.values() if isinstance(value, dict) else value))
        ) == text


@pytest.mark.parametrize(
    ("text", "variants"),
    [
        ("The shop was closed.", ["The shop was shut."]),
        ("Started late.", ["Began late."]),
        ("It has started.", ["It has begun."]),
        ("We started it.", ["We began it."]),
        ("She put it there.", []),
        ("They will put it there.", []),
        ("She finds it.", ["She discovers it."]),
        ("Она нашла ключ.", ["Она отыскала ключ."]),
        ("Он нашёл ключ.", ["Он отыскал ключ."]),
        ("Дети гуляли.", ["Дети ходили."]),
        ("The shutter closeted.", []),
    ],
)
def test_a_verb_becomes_another_in_the_same_form_or_stays(text: str, variants: list[str]) -> None:
    assert texts_of(synonyms(text)) == variants


@pytest.mark.parametrize(
    ("text", "variants"),
    [
        ("We bought tea and milk.", {"We bought milk and tea."}),
        ("It was sold in Paris and out.", set()),
        ("He and she left.", set()),
        (
            "The man slowly opened it.",
            {"Slowly the man opened it.", "The man opened it slowly."},
        ),
        (
            "The man waited patiently there.",
            {"The man patiently waited there.", "Patiently the man waited there.", "The man waited there patiently."},
        ),
        ("Она тихо вышла.", {"Тихо она вышла.", "Она вышла тихо."}),
        ("Купили лук и хлеб.", {"Купили хлеб и лук."}),
    ],
)
def test_words_move_where_the_sense_stays(text: str, variants: set[str]) -> None:
    assert set(texts_of(reorderings(text))) == variants


@pytest.mark.parametrize("text", [ENGLISH, RUSSIAN])
def test_reordering_keeps_every_word(text: str) -> None:
    for variant in texts_of(reorderings(text)):
        assert Counter(re.findall(r"\w+", variant.lower())) == Counter(re.findall(r"\w+", text.lower()))


def test_repunctuation_keeps_every_word() -> None:
    for text in (ENGLISH, RUSSIAN):
        for variant in texts_of(repunctuations(text)):
            assert re.findall(r"\w+", variant) == re.findall(r"\w+", text) and variant != text


@pytest.mark.parametrize(
    ("one", "other"),
    [("We do not go.", "We don't go."), ("It is warm.", "It's warm."), ("Жду, чтобы идти.", "Жду, чтоб идти.")],
)
def test_contractions_go_both_ways(one: str, other: str) -> None:
    assert other in texts_of(contractions(one)) and one in texts_of(contractions(other))


@pytest.mark.parametrize(
    ("text", "variants"),
    [
        ("Three men, 4 oars.", ["3 men, 4 oars.", "Three men, four oars."]),
        ("Две реки и 5 лодок.", ["2 реки и 5 лодок.", "Две реки и пять лодок."]),
        ("Built in 1903, at 2.5 percent.", []),
    ],
)
def test_numbers_are_written_the_other_way(text: str, variants: list[str]) -> None:
    assert texts_of(number_words(text)) == variants


def test_a_hedge_takes_the_capital_only_from_words_that_are_no_names() -> None:
    assert "Perhaps the shop is open." in texts_of(hedges("The shop is open."))
    assert not any(variant.startswith("Perhaps") for variant in texts_of(hedges("Anna is here.")))
    assert not any(" i " in variant for variant in texts_of(hedges("I am here.")))
    assert "Anna is here, perhaps." in texts_of(hedges("Anna is here."))


def test_a_proverb_is_continued_first_and_likely_words_next() -> None:
    assert texts_of(continuations("Better late.", [" today"]))[:2] == ["Better late than never.", "Better late today."]
    assert texts_of(continuations("Век живи"))[0] == "Век живи, век учись"
