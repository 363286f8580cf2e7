"""One batch mixes rows with sixteen different interventions, and each row gives what it gives alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_adapters import write_lora
from tiny_models import byte_tokenizer, tiny_module

from overlay.model import (
    NOTHING,
    AdapterUse,
    Ban,
    Dose,
    Focus,
    Intervention,
    LanguageModel,
    LogitBias,
    Message,
    Positions,
    Row,
    Sampling,
    When,
)

TOLERANCE = 1e-4
"""Nats, in float32. Logits of the random models reach 20: this is a few units in the last place."""

HISTORY = (
    Message("system", "You keep the timetable of a small ferry."),
    Message("user", "Which boats leave today?"),
    Message("assistant", "The first at ten, the second at noon."),
)

QUESTIONS = ("Why?", "When does the second boat leave, and who is on it?", "Is there rain in the north?", "B")


def interventions(model: LanguageModel, direction: Callable[[int], Any]) -> list[Intervention]:
    """Sixteen interventions, no two alike: every span, every operator, every part, and several at once."""
    first, last = 0, model.layers - 1
    both = (AdapterUse("one", 0.5), AdapterUse("two", 0.75))
    return [
        NOTHING,
        Intervention((Dose(direction(1), 0.3, (first,)),)),
        Intervention((Dose(direction(2), -0.3, (1, last), "turn"),)),
        Intervention((Dose(direction(3), 0.4, (1,), "generated"),)),
        Intervention((Dose(direction(4), 0.5, (first, 1), Positions((2, -3))),)),
        Intervention((Dose(direction(5), 0.4, (1, last), When(above=0.0, within="turn")),)),
        Intervention((Dose(direction(6), 1.0, (1,), "all", "project out"),)),
        Intervention((Dose(direction(7), 0.8, (last,), "turn", "clamp", 0.5),)),
        Intervention(
            (Dose(direction(8), 0.5, (1,), "generated", "clamp", -0.4), Dose(direction(9), 0.2, (first, 1), "all"))
        ),
        Intervention(biases=(LogitBias("e", 8.0),), bans=(Ban("e*"), Ban("the ferry"))),
        Intervention(focus=(Focus("boat", 3.0),)) + Intervention(biases=(LogitBias((40,), 0.5),)),
        Intervention(focus=(Focus(Positions((1, 2, -4)), -4.0, (1, last), (0, 2), "turn"),)),
        Intervention(biases=(LogitBias((70, 71), 4.0), LogitBias((70,), 1.5), LogitBias("e", -2.0))),
        Intervention(adapters=(AdapterUse("one"),)),
        Intervention((Dose(direction(10), 0.3, (last,)),), (AdapterUse("two", -0.5),)),
        Intervention(
            (Dose(direction(11), -0.2, (1,), "turn"), Dose(direction(12), 0.5, (1,), "all", "project out")),
            both,
            (LogitBias((80,), 2.0),),
            (Ban("o*"),),
            (Focus("boat", -2.0, heads=(1,)), Focus(Positions((5,)), 2.0, (first,), span="generated")),
        ),
    ]


def sixteen_rows(
    model: LanguageModel, direction: Callable[[int], Any], max_tokens: int = 5, history: tuple[Message, ...] = HISTORY
) -> list[Row]:
    """Chats of many lengths and plain texts, each under another intervention; some end early, some are traced."""
    rows = []
    for index, intervention in enumerate(interventions(model, direction)):
        question = QUESTIONS[index % len(QUESTIONS)]
        wanted: dict[str, Any] = (
            {"text": f"The boat {index}: {question}"}
            if index % 5 == 1
            else {"messages": (*history[: 3 if index % 3 else 1], Message("user", f"The boat. {question}"))}
        )
        rows.append(
            Row(
                **wanted,
                intervention=intervention,
                sampling=Sampling(max_tokens + index % 4, stop=("x", "q") if index % 2 else ()),
                seed=index,
                options=(" at ten", " no") if index % 2 else (" never, not today",),
                trace_volatility=index in (2, 13, 15),
            )
        )
    return rows


def all_logits(model: LanguageModel, rows: list[Row], **how: Any) -> list[torch.Tensor]:
    """At every position of each row's prompt and of something said after it."""
    tokens = [model.encode(row).tokens + (60, 61, 70, 71, 72)[: 1 + len(row.sampling.stop)] for row in rows]
    return [found for _, found in sorted(model.logits(tokens, rows, **how), key=lambda pair: pair[0])]


def assert_each_row_is_as_alone(model: LanguageModel, rows: list[Row]) -> None:
    """Under either padding, and in either order."""
    alone = [
        (model.generate([row])[0], model.score([row])[0], model.observe([row])[0], all_logits(model, [row])[0])
        for row in rows
    ]
    before = model.tokenizer.padding_side
    try:
        for padding, step in (("left", 1), ("right", -1)):
            model.tokenizer.padding_side = padding
            ordered = rows[::step]
            logits = all_logits(model, ordered, padding=padding)
            found = zip(model.generate(ordered), model.score(ordered), model.observe(ordered), logits, strict=True)
            for row, one, other in zip(ordered, found, alone[::step], strict=True):
                assert_equal(one, other, f"row {row.seed}, padded on the {padding}")
    finally:
        model.tokenizer.padding_side = before


def assert_equal(one: tuple[Any, ...], other: tuple[Any, ...], where: str) -> None:
    completion, scored, seen, logits = one
    alone, alone_scored, alone_seen, alone_logits = other
    assert completion.tokens == alone.tokens, where
    assert (completion.text, completion.ended) == (alone.text, alone.ended), where
    assert [entry.text for entry in completion.avoided] == [entry.text for entry in alone.avoided], where
    assert completion.volatility == pytest.approx(alone.volatility, abs=TOLERANCE), where
    assert scored.total == pytest.approx(alone_scored.total, abs=TOLERANCE * sum(scored.lengths)), where
    torch.testing.assert_close(logits, alone_logits, atol=TOLERANCE, rtol=0, msg=where)
    np.testing.assert_allclose(seen.activations, alone_seen.activations, atol=TOLERANCE, rtol=1e-4, err_msg=where)
    assert seen.tokens == alone_seen.tokens, where


def with_adapters(model: LanguageModel, folder: Path) -> None:
    written = [write_lora(folder / name, model.module, seed) for seed, name in enumerate(("one", "two"))]
    for place in written:
        model.attach(place.name, place)


@pytest.fixture
def adapted_model(tiny_model: LanguageModel, tmp_path: Path) -> Any:
    with_adapters(tiny_model, tmp_path)
    yield tiny_model
    for name in tuple(tiny_model.adapters):
        tiny_model.detach(name)


def test_each_of_sixteen_rows_is_as_alone(adapted_model: LanguageModel, random_direction: Any) -> None:
    rows = sixteen_rows(adapted_model, lambda seed: random_direction(adapted_model, seed))
    assert_each_row_is_as_alone(adapted_model, rows)


def test_the_sixteen_interventions_all_act(adapted_model: LanguageModel, random_direction: Any) -> None:
    """Without this, rows that are as they are alone would say nothing."""
    rows = sixteen_rows(adapted_model, lambda seed: random_direction(adapted_model, seed))
    plain = [Row(row.messages, row.text, sampling=row.sampling, options=row.options) for row in rows]
    skewed, base = all_logits(adapted_model, rows), all_logits(adapted_model, plain)
    for index, (one, other) in enumerate(zip(skewed, base, strict=True)):
        only_generated = index in (0, 3)
        assert torch.equal(one, other) if only_generated else float((one - other).abs().max()) > 0.1, index
    generated = adapted_model.generate(rows)
    assert generated[9].avoided and generated[15].volatility[0] > 0.001
    scored = zip(adapted_model.score(rows), adapted_model.score(plain), strict=True)
    unmoved = [index for index, (one, other) in enumerate(scored) if one.total == pytest.approx(other.total, abs=1e-3)]
    assert unmoved == [0]


@pytest.mark.parametrize("tiny_model", ["llama"], indirect=True)
def test_threads_that_share_a_model_do_not_meet(adapted_model: LanguageModel, random_direction: Any) -> None:
    rows = sixteen_rows(adapted_model, lambda seed: random_direction(adapted_model, seed))
    expected = [completion.tokens for completion in adapted_model.generate(rows)]
    found: dict[int, Any] = {}

    def work(first: int) -> None:
        for index in range(first, len(rows), 4):
            found[index] = adapted_model.generate([rows[index]])[0].tokens
            adapted_model.observe([rows[index - 1]])

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(len(rows))] == expected


def test_what_a_model_file_wishes_for_sampling_acts_nowhere() -> None:
    """Penalties and suppressed tokens would act in `generate` and not in `score`, and count padding as text."""
    plain = LanguageModel(tiny_module("llama"), byte_tokenizer(), "plain")
    rows = [
        Row(text=text, sampling=Sampling(12)) for text in ("The boat", "The boat leaves at noon, and nobody is on it.")
    ]
    expected = [completion.tokens for completion in plain.generate(rows)]
    module = tiny_module("llama")
    for name, value in {
        "repetition_penalty": 3.0,
        "no_repeat_ngram_size": 2,
        "suppress_tokens": list(expected[0]),
        "min_new_tokens": 40,
        "do_sample": True,
        "num_beams": 3,
    }.items():
        setattr(module.generation_config, name, value)
    wishful = LanguageModel(module, byte_tokenizer(), "wishful")
    assert [completion.tokens for completion in wishful.generate(rows)] == expected


@pytest.mark.real
def test_each_of_sixteen_rows_is_as_alone_on_the_embedded_model(tmp_path: Path, random_direction: Any) -> None:
    model = LanguageModel.load("smollm2-135m", dtype="float32", pull=True)
    norms = model.residual_norms(["The second boat leaves at noon, and nobody is on it yet."])

    def direction(seed: int) -> Any:
        return replace(random_direction(model, seed), norms=norms * 0.2)

    with_adapters(model, tmp_path)
    assert_each_row_is_as_alone(model, sixteen_rows(model, direction, 2, HISTORY[:1]))
