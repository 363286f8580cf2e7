"""What was encoded before is not encoded again, and nothing but time and memory tells that it wasn't."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_adapters import write_lora
from windowed_models import WINDOW, WINDOWED_ARCHITECTURES, windowed_model

from overlay.model import (
    NOTHING,
    AdapterUse,
    Dose,
    Focus,
    Intervention,
    Message,
    Positions,
    Row,
    Sampling,
    When,
)
from overlay.model.prefix_cache import SHORTEST, KeyValues, PrefixCache

HISTORY = (
    Message("system", "You keep the timetable of a small ferry, and you answer in one line."),
    Message("user", "Which boats leave today?"),
    Message("assistant", "The first at ten, the second at noon."),
)
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=WINDOWED_ARCHITECTURES)
def windowed(request: pytest.FixtureRequest) -> Any:
    return windowed_model(request.param)


@pytest.fixture
def model(tiny_llama: Any, tmp_path: Path) -> Iterator[Any]:
    """The tiny llama with an empty cache and two adapters attached."""
    folders = [write_lora(tmp_path / name, tiny_llama.module, seed) for seed, name in enumerate(("one", "two"))]
    for folder in folders:
        tiny_llama.attach(folder.name, folder)
    tiny_llama.prefixes.clear()
    yield tiny_llama
    for name in tuple(tiny_llama.adapters):
        tiny_llama.detach(name)
    tiny_llama.prefixes.clear()


def asked(text: str, intervention: Intervention = NOTHING, history: tuple[Message, ...] = HISTORY, **more: Any) -> Row:
    return Row(
        (*history, Message("user", text)),
        intervention=intervention,
        sampling=Sampling(max_tokens=4),
        options=(" at ten", " never"),
        **more,
    )


def results(model: Any, rows: list[Row]) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    generated, scored = model.generate(rows), model.score(rows)
    return [(one.tokens, other.total) for one, other in zip(generated, scored, strict=True)]


def without_cache(model: Any, rows: list[Row]) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    limit = model.prefixes.limit
    model.prefixes.limit = 0
    try:
        return results(model, rows)
    finally:
        model.prefixes.limit = limit


def assert_same(found: list[Any], expected: list[Any]) -> None:
    for index, ((tokens, totals), (other_tokens, other_totals)) in enumerate(zip(found, expected, strict=True)):
        assert tokens == other_tokens, index
        assert totals == pytest.approx(other_totals, abs=5 * TOLERANCE), index


def many_rows(model: Any, make: Any) -> list[Row]:
    """Long shared histories, histories of different lengths, and rows without one; doses of every span."""
    one, other = make(model, 1), make(model, 2)
    return [
        asked("Why?"),
        asked("Why is the second one late today?", Intervention((Dose(one, 0.4, (1,), "turn"),))),
        asked("Who?", Intervention((Dose(one, 0.4, (0, 2)),))),
        asked("Who is on it?", Intervention((Dose(one, 0.4, (0, 2)),))),
        asked("Why?", Intervention((Dose(other, 0.4, (1,), When(above=0.0)),))),
        asked("Why?", Intervention((Dose(other, 1.0, (1,), "generated", "project out"),))),
        asked("Why?", Intervention((Dose(other, 0.5, (1,), Positions((3, -1))),))),
        asked("Why?", Intervention(focus=(Focus("ferry", 3.0, span="turn"),))),
        asked("Why?", Intervention(focus=(Focus("ferry", 3.0),))),
        asked("Why?", history=HISTORY[:1]),
        asked(
            "The first?", history=(*HISTORY, Message("user", "And then?"), Message("assistant", "Nothing, until six."))
        ),
        Row((Message("user", "Hello"),), sampling=Sampling(max_tokens=3), options=(" yes",)),
        Row(text="The first boat leaves at ten, the second", sampling=Sampling(max_tokens=3), options=(" at noon",)),
        Row(text="The first boat leaves at ten, the third", sampling=Sampling(max_tokens=3), options=(" never",)),
    ]


def check_on_and_off(model: Any, rows: list[Row]) -> None:
    """Cold, warm, and warm in another company."""
    expected = without_cache(model, rows)
    model.prefixes.clear()
    assert_same(results(model, rows), expected)
    reused = model.prefixes.tokens_reused
    assert_same(results(model, rows), expected)
    assert model.prefixes.tokens_reused > reused
    assert_same(results(model, rows[::3]), expected[::3])


def test_with_the_cache_everything_is_as_without(tiny_model: Any, random_direction: Any) -> None:
    check_on_and_off(tiny_model, many_rows(tiny_model, random_direction))


def test_beyond_a_sliding_window_everything_is_as_without(windowed: Any, random_direction: Any) -> None:
    rows = many_rows(windowed, random_direction)
    assert windowed.encode(rows[0]).turn_start > 3 * WINDOW
    check_on_and_off(windowed, rows)


def test_what_was_encoded_under_one_intervention_is_not_used_under_another(model: Any, random_direction: Any) -> None:
    """One after the other over the same chat, so that each finds what all before it left."""
    one, other = random_direction(model, 1), random_direction(model, 2)
    ways = [
        NOTHING,
        *(Intervention((Dose(one, size, (1,)),)) for size in (0.3, 0.6, -0.3)),
        Intervention((Dose(other, 0.3, (1,)),)),
        Intervention((Dose(one, 0.3, (0,)),)),
        Intervention((Dose(one, 0.3, (1,)), Dose(other, 0.3, (1,)))),
        Intervention((Dose(one, 0.3, (1,), "all", "project out"),)),
        *(Intervention((Dose(one, 0.3, (1,), "all", "clamp", target),)) for target in (0.3, 0.6)),
        *(Intervention((Dose(one, 0.3, (1,), When(above=bound)),)) for bound in (0.0, 0.1)),
        Intervention((Dose(one, 0.3, (1,), Positions((4, 5))),)),
        Intervention((Dose(one, 0.3, (1,), Positions((4, 6))),)),
        *(Intervention(adapters=(AdapterUse(name, scale),)) for name in ("one", "two") for scale in (1.0, 0.5, -1.0)),
        Intervention(adapters=(AdapterUse("one"), AdapterUse("two", 0.5))),
        Intervention(adapters=(AdapterUse("one", 0.5), AdapterUse("two"))),
        Intervention((Dose(one, 0.3, (1,)),), (AdapterUse("one"),)),
        *(Intervention(focus=(Focus("ferry", weight),)) for weight in (2.0, -2.0)),
        Intervention(focus=(Focus("boats", 2.0),)),
    ]
    rows = [asked("Why?", way) for way in ways]
    expected = [without_cache(model, [row])[0] for row in rows]
    for _ in range(2):
        for row, wanted in zip(rows, expected, strict=True):
            assert_same(results(model, [row]), [wanted])
    assert len({totals for _, totals in expected}) == len(ways), "two of them act alike: the test shows nothing"


@pytest.mark.parametrize("changed", ["weights", "configuration"])
def test_other_weights_under_the_same_name_are_other_weights(model: Any, tmp_path: Path, changed: str) -> None:
    """Also where only the configuration differs, which says how strongly the weights act."""
    row = asked("Why?", Intervention(adapters=(AdapterUse("one"),)))
    before = results(model, [row])
    model.detach("one")
    seed, alpha = (7, 2) if changed == "weights" else (0, 6)
    base = [part for name, part in model.adapters.items() if name == "two"]
    model.detach("two")
    model.attach("one", write_lora(tmp_path / "changed", model.module, seed, lora_alpha=alpha))
    expected = without_cache(model, [row])
    assert expected != before and base
    assert_same(results(model, [row]), expected)


def test_the_history_of_a_turn_is_encoded_once_for_all_voices_and_rounds(model: Any, random_direction: Any) -> None:
    history = len(model.encode(asked("")).tokens[: model.encode(asked("")).turn_start])
    before = model.prefixes.tokens_encoded
    for turn in range(3):
        voices = [
            asked(
                f"Voice {voice}, round {turn}: what now?",
                Intervention((Dose(random_direction(model, voice), 0.2 + turn / 10, (1,), "turn"),)),
                seed=voice,
            )
            for voice in range(4)
        ]
        model.generate(voices)
    assert model.prefixes.tokens_encoded - before == history
    assert len(model.prefixes) == 1


def test_the_next_turn_encodes_what_is_new(model: Any) -> None:
    first = asked("Is there room for a lorry on the first boat?")
    before = model.prefixes.tokens_encoded
    model.generate([first])
    second = asked(
        "And on the second?",
        history=(*first.messages, Message("assistant", "There is room, but only for one of them.")),
    )
    model.generate([second])
    assert model.prefixes.tokens_encoded - before == model.encode(second).turn_start
    assert len(model.prefixes) == 1, "the shorter history is part of the longer one"
    reused = model.prefixes.tokens_reused
    assert_same(results(model, [second]), without_cache(model, [second]))
    assert model.prefixes.tokens_reused - reused == 2 * model.encode(second).turn_start


def test_a_dose_on_the_turn_finds_the_plain_history(model: Any, random_direction: Any) -> None:
    model.generate([asked("Why?")])
    encoded, start = model.prefixes.tokens_encoded, model.encode(asked("Why?")).turn_start
    for span in ("turn", "generated", When(above=0.0, within="turn")):
        reused = model.prefixes.tokens_reused
        model.generate([asked("Why?", Intervention((Dose(random_direction(model), 0.3, (1,), span),)))])
        assert model.prefixes.tokens_reused - reused == start
    assert model.prefixes.tokens_encoded == encoded
    model.generate([asked("Why?", Intervention((Dose(random_direction(model), 0.3, (1,)),)))])
    assert model.prefixes.tokens_encoded == encoded + start


def test_a_traced_row_and_the_row_beside_it_both_use_what_is_known(model: Any, random_direction: Any) -> None:
    row = asked("Why?", Intervention((Dose(random_direction(model), 0.3, (1,), "turn"),)), trace_volatility=True)
    (cold,) = model.generate([row])
    reused = model.prefixes.tokens_reused
    (warm,) = model.generate([row])
    assert model.prefixes.tokens_reused - reused == 2 * model.encode(row).turn_start
    assert warm.tokens == cold.tokens and warm.volatility == pytest.approx(cold.volatility, abs=TOLERANCE)
    everywhere = replace(row, intervention=Intervention((Dose(random_direction(model), 0.3, (1,)),)))
    first, again = model.generate([everywhere])[0], model.generate([everywhere])[0]
    assert first.volatility == pytest.approx(again.volatility, abs=TOLERANCE) and first.volatility[0] > 0


def test_a_limit_of_zero_turns_it_off(model: Any) -> None:
    row = asked("Why?")
    model.generate([row])
    encoded, reused = model.prefixes.tokens_encoded, model.prefixes.tokens_reused
    found = without_cache(model, [row, row])
    assert (model.prefixes.tokens_encoded, model.prefixes.tokens_reused) == (encoded, reused)
    assert_same(found, results(model, [row, row]))


def test_a_small_limit_bounds_the_memory_and_changes_no_result(model: Any) -> None:
    rows = [
        asked("Why?", history=(Message("system", f"You are number {place}, and you keep the timetable."), *HISTORY[1:]))
        for place in range(6)
    ]
    expected = without_cache(model, rows)
    limit = model.prefixes.limit
    (one,) = results(model, rows[:1])
    model.prefixes.limit = int(model.prefixes.bytes * 2.5)
    try:
        for _ in range(2):
            assert_same(results(model, rows), expected)
            for row, wanted in zip(rows, expected, strict=True):
                assert_same(results(model, [row]), [wanted])
                assert model.prefixes.bytes <= model.prefixes.limit and len(model.prefixes) <= 2
        assert_same([one], expected[:1])
    finally:
        model.prefixes.limit = limit


# --- the cache by itself -------------------------------------------------------------------------


def encoding(tokens: list[int]) -> KeyValues:
    return KeyValues(((torch.zeros(1, len(tokens), 1), torch.zeros(1, len(tokens), 1)),))


CHATS = [[place] * SHORTEST + list(range(length)) for place in range(4) for length in (0, 6, 12)]
CHATS += [[0] * (SHORTEST - 1), [0] * SHORTEST + [9, 9, 9]]

steps = st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.integers(0, len(CHATS) - 1)), max_size=30)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_what_was_used_longest_ago_goes_first(taken: list[tuple[bool, str, int]]) -> None:
    """Against a plain list, oldest first."""
    limit = 8 * 90
    cache = PrefixCache(limit)
    kept: list[tuple[str, list[int]]] = []
    for is_kept, key, place in taken:
        tokens = CHATS[place]
        if is_kept:
            cache.keep(key, tokens, encoding(tokens))
            if len(tokens) >= SHORTEST:
                kept = [one for one in kept if one[0] != key or one[1] != tokens[: len(one[1])]]
                kept.append((key, tokens))
            while sum(8 * len(one) for _, one in kept) > limit:
                kept.pop(0)
        else:
            found, shared = cache.find(key, tokens)
            lengths = [common(one, tokens) if owner == key else 0 for owner, one in kept]
            longest = max(lengths, default=0)
            assert shared == (longest if longest >= SHORTEST else 0)
            if found is None:
                assert shared == 0
            else:
                used = next(one for one, length in zip(kept, lengths, strict=True) if length == longest)
                assert found.tokens == len(used[1])
                kept.remove(used)
                kept.append(used)
        assert cache.bytes == sum(8 * len(one) for _, one in kept) <= limit
        assert len(cache) == len(kept)


def common(one: list[int], other: list[int]) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length


def test_what_is_larger_than_the_limit_is_not_kept() -> None:
    cache = PrefixCache(8 * SHORTEST)
    cache.keep("a", CHATS[0], encoding(CHATS[0]))
    cache.keep("a", CHATS[1], encoding(CHATS[1]))
    assert len(cache) == 1 and cache.find("a", CHATS[0])[1] == SHORTEST
