"""A focus does to the attention what its definition says: nats added where chosen queries look at chosen keys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from windowed_models import WINDOW, WINDOWED_ARCHITECTURES, windowed_model

from overlay.errors import InterventionError
from overlay.model import NOTHING, Focus, Intervention, Message, Positions, Row, Sampling

TEXT = "The second boat leaves at noon."
CHAT = (
    Message("user", "Which boat leaves first?"),
    Message("assistant", "The red one, at ten. The grey boat is late."),
    Message("user", "And the red one?"),
)


@pytest.fixture(scope="module", params=WINDOWED_ARCHITECTURES)
def windowed(request: pytest.FixtureRequest) -> Any:
    return windowed_model(request.param)


@contextlib.contextmanager
def eager(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collects what each block's heads pay to each key: (rows, heads, queries, keys), block by block."""
    found: list[torch.Tensor] = []
    before = model.module.config._attn_implementation
    model.module.set_attn_implementation("eager")
    handles = [
        part.register_forward_hook(lambda module, args, output: found.append(output[1]))
        for part in model.blocks.attention
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
        model.module.set_attn_implementation(before)


def attention(model: Any, rows: list[Row]) -> list[torch.Tensor]:
    with eager(model) as found:
        model.observe(rows)
    assert len(found) == model.layers
    return found


def focused(keys: str | Positions, weight: float, **how: Any) -> Intervention:
    return Intervention(focus=(Focus(keys, weight, **how),))


def logits(model: Any, *rows: Row) -> list[torch.Tensor]:
    tokens = [model.encode(row).tokens for row in rows]
    return [found for _, found in sorted(model.logits(tokens, rows), key=lambda pair: pair[0])]


def by_hand(model: Any, tokens: list[int], keys: tuple[int, ...], weight: float, start: int) -> torch.Tensor:
    """Logits (tokens, vocabulary) of one plain pass, under an additive mask that was written out."""
    count = len(tokens)
    query, key = torch.arange(count)[:, None], torch.arange(count)[None, :]
    bias = torch.zeros(count, count)
    bias[start:, [place for place in keys if place < count]] = weight
    lowest = torch.finfo(torch.float32).min
    full = torch.where(key <= query, bias, lowest)[None, None]
    narrow = torch.where((key <= query) & (query - key < WINDOW), bias, lowest)[None, None]
    mask: Any = full
    if model.name == "windowed-mistral":
        mask = narrow
    elif model.name == "windowed-gemma3_text":
        mask = {"full_attention": full, "sliding_attention": narrow}
    options = {"position_ids": torch.arange(count)[None]} if model._takes_positions else {}
    with torch.inference_mode():
        return model.module(input_ids=torch.tensor([tokens]), attention_mask=mask, use_cache=False, **options).logits[0]


@pytest.mark.parametrize("weight", [2.0, -3.0])
def test_attention_is_multiplied_before_it_is_shared_out(tiny_model: Any, weight: float) -> None:
    """At the first focused block, where the queries are still the same: p * e**weight, renormalised."""
    keys = (3, 4, 9)
    for heads in (None, (1, 3)):
        given = focused(Positions(keys), weight, blocks=(1,), heads=heads)
        plain = attention(tiny_model, [Row(text=TEXT)])
        found = attention(tiny_model, [Row(text=TEXT, intervention=given)])
        assert torch.equal(found[0], plain[0]), "a block that wasn't named has changed"
        expected = plain[1].clone()
        chosen = list(range(4)) if heads is None else list(heads)
        for place in keys:
            expected[:, chosen, :, place] *= torch.tensor(weight).exp()
        expected /= expected.sum(-1, keepdim=True)
        torch.testing.assert_close(found[1], expected, atol=1e-5, rtol=1e-4)
        mass, before = (one[1][:, chosen, 10:][..., keys].sum(-1) for one in (found, plain))
        assert bool((mass > before).all() if weight > 0 else (mass < before).all())


def test_a_key_lowered_by_twenty_nats_is_as_good_as_hidden(tiny_model: Any) -> None:
    tokens = list(tiny_model.encode(Row(text=TEXT)).tokens)
    hidden = by_hand(tiny_model, tokens, (5, 6), -1e9, 0)
    (found,) = logits(tiny_model, Row(text=TEXT, intervention=focused(Positions((5, 6)), -20.0)))
    torch.testing.assert_close(found, hidden, atol=1e-4, rtol=0)
    (plain,) = logits(tiny_model, Row(text=TEXT))
    assert float((found - plain).abs().max()) > 1e-2


@pytest.mark.parametrize("span", ["all", "turn", "generated"])
def test_generation_and_scores_follow_a_mask_written_by_hand(tiny_model: Any, span: Any) -> None:
    """From a cache, in a batch with padding and alone without."""
    check_against_masks(tiny_model, span)


@pytest.mark.parametrize("span", ["all", "turn", "generated"])
def test_a_sliding_window_stays_what_it_is(windowed: Any, span: Any) -> None:
    """Keys that a window hides stay hidden, however much they are raised; the others are found in their places."""
    check_against_masks(windowed, span)


def check_against_masks(model: Any, span: Any) -> None:
    length = len(model.encode(Row(CHAT)).tokens)
    keys = (length - 5, length - 4, 30, length + 1)
    rows = [
        Row(
            CHAT,
            intervention=focused(Positions(keys), 6.0, span=span),
            sampling=Sampling(max_tokens=4),
            options=(" yes",),
        ),
        Row(text="A much shorter row.", sampling=Sampling(max_tokens=3), options=(" no",)),
        Row(text="A longer row, " * 12, sampling=Sampling(max_tokens=3), options=(" no",)),
    ]
    start = {"all": 0, "turn": model.encode(rows[0]).turn_start, "generated": length}[span]
    tokens = list(model.encode(rows[0]).tokens)
    expected = list(tokens)
    for _ in range(4):
        expected.append(int(by_hand(model, expected, keys, 6.0, start)[-1].argmax()))
    tail = list(model.tokenizer(" yes")["input_ids"])
    likely = by_hand(model, tokens + tail, keys, 6.0, start).log_softmax(-1)
    total = sum(float(likely[length - 1 + place, token]) for place, token in enumerate(tail))
    for batch in (rows, rows[:2], rows[:1]):
        assert [*tokens, *model.generate(batch)[0].tokens] == expected
        assert model.score(batch)[0].total[0] == pytest.approx(total, abs=2e-4)
    plain = model.score([replace(rows[0], intervention=NOTHING)])[0].total[0]
    assert abs(plain - total) > 1e-3


def test_a_windows_reach_is_part_of_the_test(windowed: Any) -> None:
    """The hand-written masks would prove nothing about windows if the models had none."""
    tokens = list(windowed.encode(Row(CHAT)).tokens)
    expected = by_hand(windowed, tokens, (), 0.0, 0)
    wide = windowed.module.config.sliding_window
    torch.testing.assert_close(logits(windowed, Row(CHAT))[0], expected, atol=1e-4, rtol=0)
    windowed.module.config.sliding_window = 4096
    try:
        assert float((logits(windowed, Row(CHAT))[0] - expected).abs().max()) > 1e-2
    finally:
        windowed.module.config.sliding_window = wide


def test_what_a_window_hides_cannot_be_raised(windowed: Any) -> None:
    """In blocks that all have the window, a key beyond every later query's reach changes nothing at all."""
    length = len(windowed.encode(Row(CHAT)).tokens)
    blocks = tuple(range(5))
    row = Row(CHAT, options=(" yes",))
    raised = focused(Positions((2, 3)), 20.0, blocks=blocks, span="turn")
    lowered = focused(Positions((2, 3)), -20.0, blocks=blocks, span="turn")
    assert windowed.encode(row).turn_start > 3 + WINDOW and length > 40
    found = windowed.score([replace(row, intervention=one) for one in (raised, lowered, NOTHING)])
    assert found[0].total == found[1].total == found[2].total


def test_earlier_queries_are_left_alone_bit_for_bit(tiny_model: Any) -> None:
    """Next to a focused row everything takes the same path: what comes before the turn is the same to the last bit."""
    seen: list[torch.Tensor] = []
    handle = tiny_model.blocks.modules[-1].register_forward_hook(
        lambda module, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    mate = Row(CHAT, intervention=focused("boat", 1.0))
    try:
        for given in (NOTHING, focused("red one", 3.0, span="turn"), focused(Positions((4,)), -5.0, span="turn")):
            tiny_model.observe([Row(CHAT, intervention=given), mate])
    finally:
        handle.remove()
    start = tiny_model.encode(mate).turn_start
    plain, *others = seen
    for other in others:
        assert torch.equal(other[0, :start], plain[0, :start])
        assert float((other[0, start:] - plain[0, start:]).abs().max()) > 1e-3
        assert torch.equal(other[1], plain[1]), "a batch mate was touched"


def test_a_text_is_found_wherever_it_stands(tiny_model: Any) -> None:
    """With one token per byte, its places are those of its letters: here twice, in two messages, and overlapping."""
    written = tiny_model.decode(tiny_model.encode(Row(CHAT)).tokens)
    first, second = written.index("red one"), written.rindex("red one")
    assert first != second
    places = tuple(range(first, first + 7)) + tuple(range(second, second + 7))
    by_text, by_place, one = (
        logits(tiny_model, Row(CHAT, intervention=focused(keys, 2.0)))[0]
        for keys in ("red one", Positions(places), Positions(places[:7]))
    )
    assert torch.equal(by_text, by_place) and not torch.equal(by_text, one)
    assert tiny_model._prompts.locate(Row(text="banana"), "ana") == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("verb", ["generate", "score", "observe"])
def test_a_text_that_is_not_there_is_refused(tiny_llama: Any, verb: str) -> None:
    row = Row(CHAT, intervention=focused("blue one", 2.0), options=("a",))
    with pytest.raises(InterventionError, match="'blue one', which doesn't stand in the prompt") as caught:
        getattr(tiny_llama, verb)([Row(CHAT, options=("a",)), row])
    assert "copy it" in caught.value.next_step
    assert not tiny_llama.steering.has_plan


def test_a_block_or_head_that_is_not_there_is_refused(tiny_llama: Any) -> None:
    for given, wanted in (
        (focused("boat", 1.0, blocks=(3,)), "blocks from 0 to 2"),
        (focused("boat", 1.0, heads=(4,)), "heads from 0 to 3"),
    ):
        with pytest.raises(InterventionError) as caught:
            tiny_llama.observe([Row(CHAT, intervention=given)])
        assert wanted in caught.value.next_step


def test_a_place_counted_from_the_end_is_found_behind_a_shared_beginning(tiny_llama: Any) -> None:
    """Two chats share their beginning, which is encoded once: it is shorter than the prompts that places count in."""
    length = len(tiny_llama.encode(Row(CHAT)).tokens)
    rows = [
        Row(
            (*CHAT[:2], Message("user", text)),
            options=(" yes",),
            intervention=focused(Positions((3 - length,)), 5.0, span="turn"),
        )
        for text in ("And the red one?", "And the big one?")
    ]
    absolute = focused(Positions((3,)), 5.0, span="turn")
    tiny_llama.prefixes.clear()
    found = tiny_llama.score(rows)
    assert len(tiny_llama.prefixes) == 1
    for row, scored in zip(rows, found, strict=True):
        assert tiny_llama.score([replace(row, intervention=absolute)])[0].total == pytest.approx(scored.total, abs=1e-4)


def test_logits_of_other_tokens_than_the_prompts_know_no_text_to_look_at(tiny_llama: Any) -> None:
    row = Row(text=TEXT, intervention=focused("boat", 2.0))
    with pytest.raises(ValueError, match="other tokens were given"):
        list(tiny_llama.logits([(5, 6, 7)], [row]))
