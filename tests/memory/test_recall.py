"""What recall finds, and that each score is what its terms say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overlay.errors import ArgumentError
from overlay.memory import TERMS, Filters, Memory, NewNote, RecallWeights, SentenceEmbedder

Opener = Callable[..., Memory]

TEXTS = {
    "tea": "Anna drinks green tea every morning",
    "cat": "the cat Murka sleeps on the warm radiator",
    "train": "the night train to Kazan leaves at nine",
    "cyrillic": "Ёжик в тумане ищет медвежонка",
    "piano": "Boris practises the piano and plays Bach badly",
    "garden": "beans and tomatoes grow behind the shed",
    "quote": 'she said "NEAR the river" AND laughed',
    "rain": "it rained on the roof the whole night",
    "bread": "rye bread needs a sour starter",
    "key": "the spare key hangs behind the clock",
}


@pytest.fixture
def filled(memory: Memory) -> Memory:
    memory.remember_many(NewNote(text, "fact", "test", note_id=name) for name, text in TEXTS.items())
    return memory


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Who plays the piano?", "piano"),
        ("practising", "piano"),
        ("ёжик", "cyrillic"),
        ('"near the river"', "quote"),
        ("growing tomato", "garden"),
    ],
)
def test_recall_finds_the_note_that_shares_words_or_stems(filled: Memory, query: str, expected: str) -> None:
    assert filled.recall(query)[0].note.id == expected


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.text(max_size=60) | st.sampled_from(['"', "a AND", "NOT", "tea*", "^tea", "text:tea", "(", "🎄", "'; --"])
)
def test_nothing_a_person_types_breaks_recall(filled: Memory, query: str) -> None:
    for found in filled.recall(query):
        assert found.score == RecallWeights().total(found.terms)


@pytest.mark.parametrize("query", ["", "   ", "\n\t"])
def test_a_query_of_nothing_recalls_nothing(filled: Memory, query: str) -> None:
    assert filled.recall(query) == []


def test_a_very_long_query_is_answered(filled: Memory) -> None:
    assert filled.recall("green tea " * 20_000)[0].note.id == "tea"
    filled.recall(" ".join(f"word{number}" for number in range(20_000)))


def test_a_lone_surrogate_in_a_query_is_no_error(filled: Memory) -> None:
    assert filled.recall("tea \ud800")[0].note.id == "tea"


def test_each_score_is_exactly_the_weighted_sum_of_its_terms_and_results_are_sorted(open_memory: Opener) -> None:
    weights = RecallWeights(text=0.3, vector=0.9, links=0.7)
    memory = open_memory(weights=weights, minimum_score=0.0)
    memory.remember_many(
        NewNote(text, "fact", "test", note_id=name, links=("cat", "key")) for name, text in TEXTS.items()
    )
    found = memory.recall("the cat drinks tea at night", count=10)
    assert len(found) > 5
    for one in found:
        assert set(one.terms) == set(TERMS)
        assert one.score == pytest.approx(sum(getattr(weights, name) * value for name, value in one.terms.items()))
        assert 0 <= one.terms["text"] <= 1
        assert -1.0001 <= one.terms["vector"] <= 1.0001
        assert 0 <= one.terms["links"] <= 1
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_the_best_text_hit_has_the_text_term_one(filled: Memory) -> None:
    assert max(one.terms["text"] for one in filled.recall("green tea")) == 1.0


def test_nothing_below_the_floor_is_returned(open_memory: Opener) -> None:
    memory = open_memory(minimum_score=0.6)
    memory.remember_many(NewNote(text, "fact", "test", note_id=name) for name, text in TEXTS.items())
    found = memory.recall("rye bread needs a sour starter", count=10)
    assert [one.note.id for one in found] == ["bread"]
    assert memory.recall("zeppelin") == []


def test_a_linked_note_is_found_though_it_shares_no_word(open_memory: Opener) -> None:
    memory = open_memory(minimum_score=0.05)
    memory.remember("Anna drinks green tea", kind="fact", source="t", note_id="tea", links=["pot"])
    memory.remember("a brown vessel", kind="fact", source="t", note_id="pot")
    memory.remember("some other vessel", kind="fact", source="t", note_id="other")
    found = {one.note.id: one for one in memory.recall("who drinks green tea")}
    assert found["pot"].terms["text"] == 0.0
    assert found["pot"].terms["links"] > 0
    assert "other" not in found or found["other"].terms["links"] == 0.0


def test_links_work_both_ways(open_memory: Opener) -> None:
    memory = open_memory(minimum_score=0.0)
    memory.remember("zebra", kind="fact", source="t", note_id="zebra")
    memory.remember("points there", kind="fact", source="t", note_id="pointing", links=["zebra", "nowhere"])
    memory.remember("stands apart", kind="fact", source="t", note_id="apart")
    terms = {one.note.id: one.terms["links"] for one in memory.recall("zebra")}
    assert terms["pointing"] > 0
    assert terms["apart"] == 0.0


def test_a_link_to_itself_or_to_nothing_changes_no_score(open_memory: Opener) -> None:
    plain, linked = open_memory("plain"), open_memory("linked")
    plain.remember("zebra", kind="fact", source="t", note_id="zebra")
    linked.remember("zebra", kind="fact", source="t", note_id="zebra", links=["zebra", "nowhere"])
    assert [one.score for one in plain.recall("zebra")] == [one.score for one in linked.recall("zebra")]


def test_kinds_limit_what_is_returned(memory: Memory) -> None:
    memory.remember("tea is hot", kind="said", source="t", note_id="said")
    memory.remember("tea is cold", kind="thought", source="t", note_id="thought")
    assert [one.note.id for one in memory.recall("tea", filters=Filters(kinds=["thought"]))] == ["thought"]
    assert memory.recall("tea", filters=Filters(kinds=[])) == []
    with pytest.raises(ArgumentError, match="rumour"):
        memory.recall("tea", filters=Filters(kinds=["rumour"]))


def test_as_of_asks_what_held_then(open_memory: Opener, clock: Any) -> None:
    memory = open_memory(minimum_score=0.0)
    memory.remember("Anna lives in Tver", kind="fact", source="t", note_id="anna", links=["volga"])
    memory.remember("a wide river", kind="fact", source="t", note_id="volga")
    clock.now = 2_000.0
    memory.remember("Anna lives in Omsk", kind="fact", source="t", note_id="anna", links=[])
    query = "where does Anna live"
    now = {one.note.text: one.terms["links"] for one in memory.recall(query)}
    then = {one.note.text: one.terms["links"] for one in memory.recall(query, filters=Filters(as_of=1_500.0))}
    assert set(now) == {"Anna lives in Omsk", "a wide river"}
    assert set(then) == {"Anna lives in Tver", "a wide river"}
    assert now["a wide river"] == 0.0
    assert then["a wide river"] > 0.0
    assert memory.recall(query, filters=Filters(as_of=500.0)) == []


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(memory: Memory, count: int) -> None:
    with pytest.raises(ArgumentError):
        memory.recall("tea", count)


def test_the_scan_and_the_index_recall_the_same_notes(open_memory: Opener) -> None:
    words = ["sea", "ship", "storm", "harbour", "captain", "rope", "sail", "gull", "island", "map", "anchor", "tide"]
    words += ["wind", "salt", "lamp"]
    memory = open_memory(exact_below=10_000)
    memory.remember_many(
        NewNote(
            " ".join(words[(row * step) % len(words)] for step in (1, 3, 7, 11)) + f" number{row}",
            "said" if row % 3 else "thought",
            "test",
            note_id=f"n{row}",
            links=(f"n{(row * 7) % 400}",),
        )
        for row in range(400)
    )
    for row in range(0, 60):
        memory.remember(f"changed {words[row % 15]} number{row}", kind="said", source="t", note_id=f"n{row}")
    queries = ["storm at sea", "captain with a rope", "island number77", "lamp and salt", "changed gull"]
    ask = [(query, kinds) for query in queries for kinds in (None, ["thought"])]

    def answers(memory: Memory) -> list[list[tuple[str, float]]]:
        found = [memory.recall(query, filters=Filters(kinds=kinds)) for query, kinds in ask]
        return [[(one.note.id, one.score) for one in one_answer] for one_answer in found]

    scanned = answers(memory)
    memory.close()
    memory = open_memory(exact_below=0)
    indexed = answers(memory)
    assert [[name for name, _ in one] for one in indexed] == [[name for name, _ in one] for one in scanned]
    assert all(scanned)


@pytest.mark.real
def test_the_sentence_embedder_finds_meaning_without_shared_words(embedder_folder: Path, tmp_path: Path) -> None:
    embedder = SentenceEmbedder(embedder_folder, "all-minilm-l6-v2")
    assert embedder.dimension == 384
    vectors = embedder.embed(["a dog", "a puppy", "tax law"])
    assert vectors.shape == (3, 384)
    assert abs((vectors**2).sum(axis=1) - 1).max() < 1e-5
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert embedder.embed([]).shape == (0, 384)
    with Memory.open(tmp_path / "home", embedder) as memory:
        memory.remember_many(NewNote(text, "fact", "test", note_id=name) for name, text in TEXTS.items())
        assert memory.recall("which instrument does somebody play?")[0].note.id == "piano"
        assert memory.recall("feline pet")[0].note.id == "cat"
        assert memory.recall("vegetables")[0].note.id == "garden"
