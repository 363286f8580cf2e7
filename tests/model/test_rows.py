"""What a row gives depends on the row alone; what was switched on is off again; zero changes nothing."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from overlay.errors import AdapterError, ArgumentError, InterventionError
from overlay.model import NOTHING, AdapterUse, Direction, Dose, Intervention, LanguageModel, Message, Row, Sampling

TEXTS = [
    "a",
    "The ferry leaves.",
    "Sorting keeps the order of equal keys in the list.",
    "B",
    "rain in the north by evening",
]


def chat(text: str) -> tuple[Message, ...]:
    return (
        Message("system", "You work."),
        Message("user", "Hello"),
        Message("assistant", "Yes."),
        Message("user", text),
    )


def mixed_rows(model: Any, make: Any) -> list[Row]:
    """Rows that differ in text, direction, blocks, span, sampling and seed."""
    spans = ["all", "turn", "generated", "all", "turn"]
    rows = []
    for index, (text, span) in enumerate(zip(TEXTS, spans, strict=True)):
        doses = [Dose(make(model, index), 0.3 * (-1) ** index, (index % model.layers, model.layers - 1), span)]
        if index == 2:
            doses.append(Dose(make(model, 9), 0.2, (0,), "all"))
        rows.append(
            Row(
                chat(text),
                intervention=NOTHING if index == 3 else Intervention(tuple(doses)),
                sampling=Sampling(max_tokens=6 + index, temperature=0.9 * (index % 2), top_p=0.9 if index == 1 else 1),
                seed=100 + index,
                options=(" yes", " no, not now", "x"),
            )
        )
    return rows


def test_a_row_in_a_batch_generates_what_it_generates_alone(tiny_model: Any, random_direction: Any) -> None:
    rows = mixed_rows(tiny_model, random_direction)
    together = tiny_model.generate(rows)
    alone = [tiny_model.generate([row])[0] for row in rows]
    assert [completion.tokens for completion in together] == [completion.tokens for completion in alone]
    assert [completion.tokens for completion in tiny_model.generate(rows[::-1])[::-1]] == [c.tokens for c in alone]


def test_a_row_in_a_batch_scores_what_it_scores_alone(tiny_model: Any, random_direction: Any) -> None:
    rows = mixed_rows(tiny_model, random_direction)
    together = tiny_model.score(rows)
    for row, scored in zip(rows, together, strict=True):
        assert tiny_model.score([row])[0].total == pytest.approx(scored.total, abs=1e-3)


def test_scores_are_those_of_the_whole_sequence(tiny_model: Any) -> None:
    """The cached prompt plus option gives what one plain forward pass over both gives."""
    row = Row(text="The ferry", options=(" leaves", " is late"))
    scored = tiny_model.score([row, Row(text="A much longer text before it", options=(" ends",))])[0]
    for option, total in zip(row.options, scored.total, strict=True):
        prompt = tiny_model.tokenizer(row.text)["input_ids"]
        tail = tiny_model.tokenizer(option)["input_ids"]
        with torch.inference_mode():
            logits = tiny_model.module(input_ids=torch.tensor([prompt + tail])).logits[0].log_softmax(-1)
        expected = sum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(tail))
        assert total == pytest.approx(expected, abs=1e-3)


def test_a_row_in_a_batch_is_observed_as_alone(tiny_model: Any, random_direction: Any) -> None:
    rows = mixed_rows(tiny_model, random_direction)
    for row, seen in zip(rows, tiny_model.observe(rows), strict=True):
        np.testing.assert_allclose(tiny_model.observe([row])[0].activations, seen.activations, rtol=1e-3, atol=2e-3)


def test_the_tokenizers_own_padding_side_changes_nothing(tiny_model: Any, random_direction: Any) -> None:
    rows = mixed_rows(tiny_model, random_direction)
    before = tiny_model.tokenizer.padding_side
    found = []
    try:
        for side in ("left", "right"):
            tiny_model.tokenizer.padding_side = side
            found.append([completion.tokens for completion in tiny_model.generate(rows)])
    finally:
        tiny_model.tokenizer.padding_side = before
    assert found[0] == found[1]


def test_cached_generation_equals_generation_without_a_cache(tiny_model: Any, random_direction: Any) -> None:
    """Each generated token is the greedy choice of a plain forward pass over everything before it."""
    direction = random_direction(tiny_model, 5)
    for span in ("all", "turn", "generated"):
        row = Row(
            chat("go"), intervention=Intervention((Dose(direction, 0.4, (1,), span),)), sampling=Sampling(max_tokens=8)
        )
        completion = tiny_model.generate([row])[0]
        prompt = tiny_model.encode(row)
        start = {"all": 0, "turn": prompt.turn_start, "generated": len(prompt.tokens)}[span]
        delta = torch.from_numpy(direction.vectors[1] * 0.4 * direction.norms[1])

        def bend(module: Any, args: Any, output: Any, start: int = start, delta: Any = delta) -> Any:
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden[:, start:] += delta
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = tiny_model.blocks.modules[1].register_forward_hook(bend)
        try:
            tokens = list(prompt.tokens)
            for token in completion.tokens:
                with torch.inference_mode():
                    logits = tiny_model.module(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
                assert int(logits.argmax()) == token
                tokens.append(token)
        finally:
            handle.remove()


def test_dose_zero_is_bit_identical_to_no_hooks(tiny_model: Any, random_direction: Any) -> None:
    zero = Intervention((Dose(random_direction(tiny_model), 0.0, tuple(range(tiny_model.layers))),))
    tokens = [tiny_model.encode(Row(text=text)).tokens for text in TEXTS]

    def logits(model: Any, intervention: Intervention) -> dict[int, torch.Tensor]:
        return dict(model.logits(tokens, [Row(text=text, intervention=intervention) for text in TEXTS]))

    with_zero, with_hooks = logits(tiny_model, zero), logits(tiny_model, NOTHING)
    architecture = tiny_model.name.removeprefix("tiny-")
    from tiny_models import byte_tokenizer, tiny_module

    bare = LanguageModel(tiny_module(architecture), byte_tokenizer(), "bare")
    bare.steering.remove()
    without_hooks = logits(bare, NOTHING)
    for index in range(len(TEXTS)):
        assert torch.equal(with_zero[index], with_hooks[index])
        assert torch.equal(with_hooks[index], without_hooks[index])


def test_a_dose_moves_the_residual_stream_by_exactly_that_much(tiny_model: Any, random_direction: Any) -> None:
    direction = random_direction(tiny_model, 3)
    row = Row(text="The train leaves from platform four.")
    plain = tiny_model.observe([row])[0].activations
    dosed = Row(text=row.text, intervention=Intervention((Dose(direction, 0.5, (1,)),)))
    moved = tiny_model.observe([dosed])[0].activations
    np.testing.assert_allclose(moved[1] - plain[1], direction.vectors[1] * 0.5 * direction.norms[1], atol=1e-3)
    np.testing.assert_array_equal(moved[0], plain[0])


def test_no_plan_is_left_after_an_exception(tiny_model: Any, random_direction: Any) -> None:
    row = Row(text="abc def", intervention=Intervention((Dose(random_direction(tiny_model), 0.5, (0,)),)))
    before = dict(tiny_model.logits([(5, 6, 7)], [Row(text="abc")]))[0]

    def fail(*_: Any) -> None:
        raise RuntimeError("planted")

    for verb in (tiny_model.generate, tiny_model.observe):
        handle = tiny_model.blocks.modules[-1].register_forward_hook(fail)
        try:
            with pytest.raises(RuntimeError, match="planted"):
                verb([row])
        finally:
            handle.remove()
        assert not tiny_model.steering.has_plan
    assert torch.equal(dict(tiny_model.logits([(5, 6, 7)], [Row(text="abc")]))[0], before)


def test_equal_seeds_sample_equally_and_different_seeds_differ(tiny_llama: Any) -> None:
    def sample(seed: int) -> tuple[int, ...]:
        row = Row(text="The ferry", sampling=Sampling(max_tokens=24, temperature=1.5), seed=seed)
        return tuple(tiny_llama.generate([row])[0].tokens)

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(6)}) > 3


def test_sampling_follows_the_models_own_probabilities(tiny_llama: Any) -> None:
    from overlay.model.noise import RowSampler

    logits = torch.randn(12, generator=torch.Generator().manual_seed(0)) * 1.5
    draws = 6000
    sampler = RowSampler([Sampling(temperature=0.8)] * draws, list(range(draws)))
    picked = sampler.apply(logits.expand(draws, -1), [3] * draws).argmax(-1)
    observed = torch.bincount(picked, minlength=12).numpy() / draws
    np.testing.assert_allclose(observed, (logits / 0.8).softmax(-1).numpy(), atol=0.02)


def test_top_p_never_leaves_the_nucleus() -> None:
    from overlay.model.noise import RowSampler

    logits = torch.tensor([[3.0, 2.9, 0.0, -1.0]]).expand(500, -1)
    sampler = RowSampler([Sampling(temperature=1.0, top_p=0.6)] * 500, list(range(500)))
    assert set(sampler.apply(logits, [0] * 500).argmax(-1).tolist()) == {0, 1}


def test_rows_end_by_themselves(tiny_llama: Any) -> None:
    free = Row(text="The ferry", sampling=Sampling(max_tokens=20))
    text = tiny_llama.generate([free])[0].text
    stop = text[4:6]
    stopped, short = tiny_llama.generate(
        [
            Row(text="The ferry", sampling=Sampling(max_tokens=20, stop=(stop,))),
            Row(text="The ferry", sampling=Sampling(max_tokens=3)),
        ]
    )
    assert stopped.ended == "stop" and stop not in stopped.text and text.startswith(stopped.text)
    assert short.ended == "length" and len(short.tokens) == 3


def test_a_stream_gives_the_text_of_generate_and_can_be_cancelled(tiny_llama: Any, random_direction: Any) -> None:
    dosed = Intervention((Dose(random_direction(tiny_llama), 0.5, (0,)),))
    row = Row(text="The ferry", intervention=dosed, sampling=Sampling(max_tokens=30))
    *pieces, completion = tiny_llama.stream(row)
    assert completion == tiny_llama.generate([row])[0]
    assert "".join(pieces).strip() == completion.text

    cancelled = threading.Event()
    cancelled.set()
    *_, last = tiny_llama.stream(Row(text="The ferry", sampling=Sampling(max_tokens=400)), cancelled)
    assert last.ended == "cancelled" and len(last.tokens) == 1
    abandoned = tiny_llama.stream(row)
    next(abandoned)
    abandoned.close()
    assert not tiny_llama.steering.has_plan


def test_results_come_back_in_order_across_batches(tiny_llama: Any) -> None:
    rows = [Row(text="x" * (1 + 7 * index % 11), sampling=Sampling(max_tokens=2)) for index in range(70)]
    seen: list[int] = []
    found = tiny_llama.generate(rows, progress=seen.append)
    assert [len(completion.prompt_tokens) for completion in found] == [len(row.text or "") for row in rows]
    assert seen[-1] == 70 and seen == sorted(seen)


def test_what_does_not_fit_is_refused_with_a_reason(tiny_llama: Any, random_direction: Any) -> None:
    with pytest.raises(ArgumentError, match="either messages or text"):
        Row()
    with pytest.raises(ArgumentError, match="options"):
        tiny_llama.score([Row(text="a")])
    with pytest.raises(ArgumentError, match="no tokens"):
        tiny_llama.generate([Row(text="")])
    with pytest.raises(ArgumentError, match="temperature"):
        Sampling(temperature=-1)
    wide = Direction("wide", np.eye(3, 64, dtype=np.float32), np.ones(3, np.float32))
    with pytest.raises(InterventionError, match="made for another model"):
        tiny_llama.observe([Row(text="ab", intervention=Intervention((Dose(wide, 1.0, (0,)),)))])
    with pytest.raises(InterventionError, match="blocks"):
        Dose(random_direction(tiny_llama), 1.0, (99,))
    with pytest.raises(InterventionError, match="unit length"):
        Direction("long", np.full((3, 32), 2.0, np.float32), np.ones(3, np.float32))
    with pytest.raises(AdapterError, match="not attached"):
        tiny_llama.generate([Row(text="ab", intervention=Intervention(adapters=(AdapterUse("absent"),)))])


def test_interventions_are_values(tiny_llama: Any, random_direction: Any) -> None:
    one = Intervention((Dose(random_direction(tiny_llama, 1), 0.5, (0,)),))
    same = Intervention((Dose(random_direction(tiny_llama, 1), 0.5, (0,)),))
    assert one == same and hash(one) == hash(same) and one.digest == same.digest
    assert (one * 2).doses[0].coefficient == 1.0 and (one * 2).digest != one.digest
    assert len((one + same).doses) == 2 and one + NOTHING == one
