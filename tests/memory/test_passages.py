"""How texts are divided, and that a long text is found by what any part of it says."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.memory import Memory
from overlay.memory.passages import passages, sentences
from overlay.memory.words import stems, words

Opener = Callable[..., Memory]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        (
            "Dr. Smith paid 3.50 at 5 p.m. in St. Ives. He left.",
            ["Dr. Smith paid 3.50 at 5 p.m. in St. Ives.", "He left."],
        ),
        ('"Why?" she asked. Nobody knew.', ['"Why?" she asked.', "Nobody knew."]),
        ("См. рис. 3. Это было в 1998 г. в Твери. А. С. Пушкин жил там.", None),
        ("A heading\n\nA text under it", ["A heading", "A text under it"]),
        ("- one\n- two\n1. three", ["- one", "- two", "1. three"]),
        ("i went home. then i slept", ["i went home.", "then i slept"]),
        ("  \n ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str] | None) -> None:
    russian = ["См. рис. 3.", "Это было в 1998 г. в Твери.", "А. С. Пушкин жил там."]
    assert [text[start:end] for start, end in sentences(text)] == (russian if expected is None else expected)


@given(
    text=st.text(alphabet="ab .!?\n\t«»яЁ1", max_size=400),
    longest=st.integers(2, 30),
    overlap=st.integers(0, 3),
)
def test_passages_leave_out_nothing_go_forward_and_are_short_enough(text: str, longest: int, overlap: int) -> None:
    found = passages(text, longest, overlap)
    covered = set()
    for number, one in enumerate(found):
        assert one.position == number
        assert one.text == text[one.start : one.end]
        assert len(one.text.split()) <= longest
        covered.update(range(one.start, one.end))
    assert all(place in covered for place, sign in enumerate(text) if not sign.isspace())
    assert all(one.start < other.start and one.end < other.end for one, other in itertools.pairwise(found))


def test_neighbouring_passages_share_a_sentence() -> None:
    text = " ".join(f"This is sentence number {number}." for number in range(20))
    found = passages(text, longest=20, overlap=1)
    assert len(found) > 3
    for one, other in itertools.pairwise(found):
        assert text[other.start : one.end].count(".") == 1


def test_a_word_without_end_is_cut() -> None:
    assert all(len(one.text) <= 30 * 201 for one in passages("x" * 50_000, longest=30))
    assert sum(len(one.text) for one in passages("x" * 50_000, longest=30)) == 50_000


def test_inflections_meet_in_english_and_russian() -> None:
    assert stems("practising") == stems("Practises")
    assert stems("ёжика") == stems("Ежик")
    assert stems("медвежонка") == stems("медвежонок") or stems("поезда") == stems("поезд")
    assert words("Ёлка foo_bar x2") == ["елка", "foo", "bar", "x2"]


def test_a_long_note_is_one_note_found_by_each_of_its_parts_with_what_stands_beside(open_memory: Opener) -> None:
    memory = open_memory(passage_words=12, minimum_score=0.0)
    parts = ["The harbour freezes in January.", "Nobody goes fishing then.", "The lighthouse keeper plays chess alone."]
    parts += ["His dog is called Admiral.", "In spring the ferries return with oranges."]
    memory.remember(" ".join(parts), kind="read", source="book", note_id="book", title="Harbour")
    memory.remember("Something else entirely.", kind="read", source="book", note_id="other")
    for query, sentence in [("who plays chess", parts[2]), ("ferries with oranges", parts[4])]:
        [first, *rest] = memory.recall(query)
        assert first.note.id == "book"
        assert sentence in first.passage.text
        assert first.passage.text == first.note.text[first.passage.start : first.passage.end]
        assert first.beside
        assert all(one.note.id != "book" for one in rest)
    assert memory.check().is_whole
    assert memory.check().passages == memory.truth.passages.count() > 3


def test_a_title_says_what_its_text_does_not(memory: Memory) -> None:
    memory.remember("A number in nats per token.", kind="read", source="v", note_id="v", title="Volatility")
    memory.remember("A number of apples in a basket.", kind="read", source="v", note_id="a", title="Harvest")
    found = memory.recall("What is volatility?")
    assert found[0].note.id == "v"
    assert found[0].terms["text"] == 1.0
    assert found[0].passage.text == "A number in nats per token."


def test_cyrillic_is_found_in_any_case_and_inflection(memory: Memory) -> None:
    memory.remember("Ёжик в тумане ищет медвежонка у старого дуба.", kind="read", source="v", note_id="hedgehog")
    memory.remember("Ночной поезд в Казань отходит в девять.", kind="read", source="v", note_id="train")
    assert memory.recall("ежика")[0].note.id == "hedgehog"
    assert memory.recall("СТАРЫЕ ДУБЫ")[0].note.id == "hedgehog"
    assert memory.recall("ночные поезда")[0].note.id == "train"
