"""A traced row says what each of its tokens cost: KL(without ‖ with its intervention), measured as it was generated."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hand_written_doses import by_hand
from tiny_adapters import write_lora

from overlay.model import (
    NOTHING,
    AdapterUse,
    Ban,
    Completion,
    Dose,
    Focus,
    Intervention,
    LogitBias,
    Message,
    Row,
    Sampling,
)

CHAT = (Message("user", "Which boat?"), Message("assistant", "The first."), Message("user", "And who is on it?"))
TOLERANCE = 1e-4


def kl(base: torch.Tensor, influenced: torch.Tensor) -> list[float]:
    base = base.log_softmax(-1)
    return (base.exp() * (base - influenced.log_softmax(-1))).sum(-1).tolist()


def measured(model: Any, row: Row, completion: Completion) -> list[float]:
    """By two plain passes over the same tokens, of which the engine does the influenced one."""
    tokens = [*completion.prompt_tokens, *completion.tokens]
    with torch.inference_mode():
        base = model.module(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    ((_, influenced),) = model.logits([tokens], [row])
    start = len(completion.prompt_tokens) - 1
    return kl(base[start:-1], influenced[start:-1])


def test_each_value_is_that_of_two_plain_passes(tiny_model: Any, random_direction: Any, tmp_path: Path) -> None:
    """Every kind of intervention, greedy and sampled, in one batch with rows that aren't traced."""
    tiny_model.attach("one", write_lora(tmp_path / "one", tiny_model.module, 1))
    first, second = random_direction(tiny_model, 1), random_direction(tiny_model, 2)
    ways = [
        Intervention((Dose(first, 0.4, (0, 2)),)),
        Intervention((Dose(second, 0.7, (1,), operator="clamp", target=0.3),), biases=(LogitBias("e", 2.0),)),
        Intervention(adapters=(AdapterUse("one", 0.5),)),
        Intervention(focus=(Focus("boat", 3.0),)),
        Intervention((Dose(first, -0.3, (1,)),), (AdapterUse("one"),), (LogitBias("a", 5.0),), (Ban("a*"),)),
        NOTHING,
    ]
    rows = [
        Row(
            CHAT[-1 - 2 * (place % 2) :],
            intervention=way,
            sampling=Sampling(4 + place % 3, temperature=0.8 * (place % 2), top_p=0.9),
            seed=place,
            trace_volatility=True,
        )
        for place, way in enumerate(ways)
    ]
    try:
        untraced = [replace(row, trace_volatility=False) for row in rows]
        found = tiny_model.generate([*rows[:3], *untraced, *rows[3:]])
        traced, plain = found[:3] + found[-3:], found[3:-3]
        for row, one, other in zip(rows, traced, plain, strict=True):
            assert (one.tokens, one.text, one.ended) == (other.tokens, other.text, other.ended)
            assert other.volatility == () and len(one.volatility) == len(one.tokens)
            assert one.volatility == pytest.approx(measured(tiny_model, row, one), abs=TOLERANCE)
        assert all(min(one.volatility) > 1e-3 for one in traced[:-1])
        assert max(traced[-1].volatility) == pytest.approx(0.0, abs=1e-6)
        assert traced[4].avoided, "the ban that is left out of the measure never acted"
    finally:
        tiny_model.detach("one")


@pytest.mark.parametrize("span", ["turn", "generated"])
def test_a_span_costs_only_where_it_acts(tiny_model: Any, random_direction: Any, span: Any) -> None:
    """Against a hook written by hand; a dose on what is generated costs nothing at the first token."""
    dose = Dose(random_direction(tiny_model, 3), 0.5, (1,), span)
    row = Row(CHAT, intervention=Intervention((dose,)), sampling=Sampling(5), trace_volatility=True)
    (found,) = tiny_model.generate([row])
    prompt = tiny_model.encode(row)
    tokens = torch.tensor([[*prompt.tokens, *found.tokens]])
    start = len(prompt.tokens) - 1
    with torch.inference_mode():
        base = tiny_model.module(input_ids=tokens, use_cache=False).logits[0, start:-1]
        with by_hand(tiny_model, dose, prompt.turn_start, len(prompt.tokens)):
            influenced = tiny_model.module(input_ids=tokens, use_cache=False).logits[0, start:-1]
    assert found.volatility == pytest.approx(kl(base, influenced), abs=TOLERANCE)
    assert (found.volatility[0] > 1e-3) == (span == "turn") and min(found.volatility[1:]) > 1e-4


def test_going_back_for_a_ban_takes_its_values_back_too(tiny_llama: Any, random_direction: Any) -> None:
    """Words are cut and begun again; each token that is left has the value it has without that history."""
    free = Intervention(
        (Dose(random_direction(tiny_llama, 4), 0.3, (1,)),), biases=tuple(LogitBias(letter, 9.0) for letter in "abc ")
    )
    row = Row(CHAT, intervention=free, sampling=Sampling(24), trace_volatility=True)
    (unbanned,) = tiny_llama.generate([row])
    words = [word for word in unbanned.text.split() if len(word) > 1][:1]
    assert words, "nothing was written that could be banned"
    banned = replace(row, intervention=free + Intervention(bans=tuple(Ban(word) for word in words)))
    (found,) = tiny_llama.generate([banned])
    assert found.avoided and len(found.volatility) == len(found.tokens)
    assert found.volatility == pytest.approx(measured(tiny_llama, banned, found), abs=TOLERANCE)


def test_a_stream_traces_as_well(tiny_llama: Any, random_direction: Any) -> None:
    given = Intervention((Dose(random_direction(tiny_llama, 5), 0.4, (0,), "turn"),))
    row = Row(CHAT, intervention=given, sampling=Sampling(6), trace_volatility=True)
    *_, last = tiny_llama.stream(row)
    assert last == tiny_llama.generate([row])[0] and len(last.volatility) == 6
    assert all(math.isfinite(value) and value > 0 for value in last.volatility)


def test_scaling_down_costs_less(tiny_llama: Any, random_direction: Any) -> None:
    """The first token of every row follows the same prompt."""
    whole = Intervention((Dose(random_direction(tiny_llama, 6), 0.4, (1,), "turn"),), biases=(LogitBias("e", 2.0),))
    rows = [
        Row(CHAT, intervention=whole * share, sampling=Sampling(1), trace_volatility=True)
        for share in (1.0, 0.5, 0.25, 0.0)
    ]
    costs = [found.volatility[0] for found in tiny_llama.generate(rows)]
    assert costs == sorted(costs, reverse=True) and costs[-1] == pytest.approx(0.0, abs=1e-6)
