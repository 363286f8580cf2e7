"""Every operator on every span does exactly what a hook written by hand does, and scaling and adding add up."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hand_written_doses import by_hand
from tiny_adapters import write_lora
from tiny_models import tiny_module

from overlay.errors import InterventionError
from overlay.model import (
    NOTHING,
    AdapterUse,
    Dose,
    Focus,
    Intervention,
    LogitBias,
    Message,
    Operator,
    Positions,
    Row,
    Sampling,
    Span,
    When,
)

CHAT = (Message("user", "Which boat?"), Message("assistant", "The first."), Message("user", "And who is on it?"))

SPANS: tuple[Span, ...] = (
    "all",
    "turn",
    "generated",
    Positions((0, 3, -2, -1)),
    When(above=0.0),
    When(above=-0.5, below=0.5, within="turn"),
    When(below=0.0, within="generated"),
)

OPERATORS: tuple[Operator, ...] = get_args(Operator)


def dose(direction: Any, operator: Operator, span: Span, blocks: tuple[int, ...] = (1,)) -> Dose:
    coefficient, target = {"add": (0.4, 0.0), "project out": (0.7, 0.0), "clamp": (0.9, 0.6)}[operator]
    return Dose(direction, coefficient, blocks, span, operator, target)


def outputs(model: Any, row: Row, block: int) -> torch.Tensor:
    """What comes out of a block, doses included: (tokens, width)."""
    found: list[torch.Tensor] = []
    handle = model.blocks.modules[block].register_forward_hook(
        lambda module, args, output: found.append((output[0] if isinstance(output, tuple) else output)[0].clone())
    )
    try:
        model.observe([row])
    finally:
        handle.remove()
    return found[-1]


def logits(model: Any, interventions: list[Intervention], text: str = "The boat.") -> list[torch.Tensor]:
    """Of texts of different lengths, so that some are padded."""
    rows = [Row(text=text + "." * place, intervention=one) for place, one in enumerate(interventions)]
    tokens = [model.encode(row).tokens for row in rows]
    return [found for _, found in sorted(model.logits(tokens, rows), key=lambda pair: pair[0])]


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_span_acts_as_a_hook_written_by_hand(tiny_model: Any, random_direction: Any, operator: Operator) -> None:
    """The whole batch of spans at once, over a cached prompt and an option, against plain passes without a cache."""
    option = " nobody yet"
    doses = [dose(random_direction(tiny_model, place), operator, span, (0, 2)) for place, span in enumerate(SPANS)]
    rows = [
        Row(CHAT[-1 - 2 * (place % 2) :], intervention=Intervention((one,)), options=(option,))
        for place, one in enumerate(doses)
    ]
    tail = list(tiny_model.tokenizer(option)["input_ids"])
    for row, one, scored in zip(rows, doses, tiny_model.score(rows), strict=True):
        prompt = tiny_model.encode(row)
        tokens = [*prompt.tokens, *tail]
        with by_hand(tiny_model, one, prompt.turn_start, len(prompt.tokens)), torch.inference_mode():
            likely = tiny_model.module(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].log_softmax(-1)
        expected = sum(float(likely[len(prompt.tokens) - 1 + place, token]) for place, token in enumerate(tail))
        assert scored.total[0] == pytest.approx(expected, abs=2e-4), one.span
        plain = tiny_model.score([replace(row, intervention=NOTHING)])[0].total[0]
        assert abs(scored.total[0] - plain) > 1e-3, f"{one.span} did nothing"


@pytest.mark.parametrize("operator", OPERATORS)
def test_generation_acts_as_a_hook_written_by_hand(tiny_llama: Any, random_direction: Any, operator: Operator) -> None:
    """A position beyond the prompt is one that will be generated."""
    length = len(tiny_llama.encode(Row(CHAT)).tokens)
    for place, span in enumerate((*SPANS, Positions((1, length + 1)))):
        one = dose(random_direction(tiny_llama, 20 + place), operator, span)
        row = Row(CHAT, intervention=Intervention((one,)), sampling=Sampling(max_tokens=5))
        tokens = list(tiny_llama.encode(row).tokens)
        start = tiny_llama.encode(row).turn_start
        with by_hand(tiny_llama, one, start, length), torch.inference_mode():
            for _ in range(5):
                found = tiny_llama.module(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
                tokens.append(int(found.argmax()))
        assert list(tiny_llama.generate([row])[0].tokens) == tokens[length:], span


def test_projecting_out_leaves_nothing_along_the_direction(tiny_model: Any, random_direction: Any) -> None:
    direction = random_direction(tiny_model, 3)
    vector = torch.tensor(direction.vectors[1])
    plain = outputs(tiny_model, Row(text="The boat leaves."), 1)
    for firmness in (1.0, 0.25):
        given = Intervention((Dose(direction, firmness, (1,), operator="project out"),))
        found = outputs(tiny_model, Row(text="The boat leaves.", intervention=given), 1)
        torch.testing.assert_close(found @ vector, (1 - firmness) * (plain @ vector), atol=1e-4, rtol=0)
        across = found - (found @ vector)[:, None] * vector
        torch.testing.assert_close(across, plain - (plain @ vector)[:, None] * vector, atol=1e-4, rtol=0)


def test_a_clamp_holds_the_component_at_its_target(tiny_model: Any, random_direction: Any) -> None:
    direction = random_direction(tiny_model, 4)
    vector, norm = torch.tensor(direction.vectors[2]), float(direction.norms[2])
    plain = outputs(tiny_model, Row(text="The boat leaves."), 2) @ vector
    for firmness, target in ((1.0, 0.5), (1.0, -1.5), (0.3, 0.5)):
        given = Intervention((Dose(direction, firmness, (2,), operator="clamp", target=target),))
        found = outputs(tiny_model, Row(text="The boat leaves.", intervention=given), 2) @ vector
        torch.testing.assert_close(found, plain + firmness * (target * norm - plain), atol=1e-4, rtol=0)


def test_a_later_clamp_has_the_last_word(tiny_llama: Any, random_direction: Any) -> None:
    """Doses that only add come first, whatever their order; the others follow one another as they were given."""
    direction = random_direction(tiny_llama, 5)
    vector, norm = torch.tensor(direction.vectors[0]), float(direction.norms[0])
    push = Dose(direction, 0.7, (0,))
    holds = [Dose(direction, 1.0, (0,), operator="clamp", target=target) for target in (0.2, -0.3)]
    for doses, target in (((push, *holds), -0.3), ((*holds, push), -0.3), (tuple(holds[::-1]), 0.2)):
        found = outputs(tiny_llama, Row(text="The boat.", intervention=Intervention(doses)), 0) @ vector
        torch.testing.assert_close(found, torch.full_like(found, target * norm), atol=1e-4, rtol=0)


def test_a_condition_acts_where_it_holds_and_nowhere_else(tiny_model: Any, random_direction: Any) -> None:
    direction = random_direction(tiny_model, 6)
    vector, norm = torch.tensor(direction.vectors[1]), float(direction.norms[1])
    plain = outputs(tiny_model, Row(text="The boat leaves at ten."), 1)
    along = (plain @ vector) / norm
    ordered = along.sort().values
    # Between two values that some positions have, so that rounding decides nothing.
    low, high = (float((ordered[place] + ordered[place + 1]) / 2) for place in (4, 15))
    for when in (When(above=low), When(below=high), When(low, high), When(), When(above=100.0)):
        expected = (along > when.above) & (along < when.below)
        # A dose of another kind at the same block comes first; the condition speaks of the block's own output.
        for doses in ((), (Dose(direction, 5.0, (1,)),)):
            given = (*doses, Dose(direction, 0.5, (1,), when))
            found = outputs(tiny_model, Row(text="The boat leaves at ten.", intervention=Intervention(given)), 1)
            moved = (found - plain) @ vector / norm - 5.0 * len(doses)
            torch.testing.assert_close(moved, 0.5 * expected.float(), atol=1e-4, rtol=0)


def test_a_negative_position_counts_from_the_end_of_the_prompt(tiny_model: Any, random_direction: Any) -> None:
    direction = random_direction(tiny_model, 7)
    length = len(tiny_model.encode(Row(text="The boat.")).tokens)
    one, same, other = (
        Intervention((Dose(direction, 0.5, (0,), Positions(indices)),))
        for indices in ((-1, 2), (2, length - 1, 2), (2, length - 2))
    )
    found = [logits(tiny_model, [NOTHING, given], "The boat")[1] for given in (one, same, other)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize("verb", ["generate", "score", "observe"])
def test_a_position_before_the_prompt_is_refused(tiny_llama: Any, random_direction: Any, verb: str) -> None:
    far = Positions((-99,))
    for given in (
        Intervention((Dose(random_direction(tiny_llama), 0.5, (0,), far),)),
        Intervention(focus=(Focus(far, 1.0),)),
    ):
        row = Row(text="The boat.", intervention=given, options=("a",))
        with pytest.raises(InterventionError, match="position -99 lies before a prompt of 9 tokens") as caught:
            getattr(tiny_llama, verb)([row])
        assert "-9" in caught.value.next_step
        assert not tiny_llama.steering.has_plan


def test_doses_add_up_and_scale(tiny_model: Any, random_direction: Any) -> None:
    """At the block where they act; what follows is the model's own and not linear."""
    row = Row(CHAT)
    one = Intervention((Dose(random_direction(tiny_model, 1), 0.3, (2,), "turn"),))
    other = Intervention(
        (
            Dose(random_direction(tiny_model, 2), -0.5, (2,)),
            Dose(random_direction(tiny_model, 3), 0.2, (2,), Positions((-1,))),
        )
    )
    plain = outputs(tiny_model, row, 2)

    def moved(given: Intervention) -> torch.Tensor:
        return outputs(tiny_model, replace(row, intervention=given), 2) - plain

    for joined, expected in (
        (one + other, moved(one) + moved(other)),
        (other + one, moved(one) + moved(other)),
        (one * 2, moved(one) * 2),
        (-0.5 * other, moved(other) * -0.5),
        (one + one * -1.0, torch.zeros_like(plain)),
    ):
        torch.testing.assert_close(moved(joined), expected, atol=1e-4, rtol=0)


def test_logit_biases_add_up_and_scale(tiny_llama: Any) -> None:
    one, other = (
        Intervention(biases=(LogitBias("e", 2.0),)),
        Intervention(biases=(LogitBias((70, 71), -1.0), LogitBias((71,), 0.5))),
    )
    plain = logits(tiny_llama, [NOTHING, NOTHING])

    def moved(given: Intervention) -> torch.Tensor:
        return logits(tiny_llama, [NOTHING, given])[1] - plain[1]

    torch.testing.assert_close(moved(one + other), moved(one) + moved(other))
    torch.testing.assert_close(moved(other * -3), moved(other) * -3)
    assert float(moved(one).abs().sum()) == pytest.approx(2.0 * len(plain[1]), abs=1e-3)


def test_weights_of_a_focus_add_up(tiny_model: Any) -> None:
    places = Positions((1, 3))
    twice = Intervention(focus=(Focus(places, 1.0), Focus(places, 0.5)))
    once = Intervention(focus=(Focus(places, 3.0),)) * 0.5
    for one, other in zip(logits(tiny_model, [NOTHING, twice]), logits(tiny_model, [NOTHING, once]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_nothing_of_everything_is_bit_identical_to_nothing(
    tiny_model: Any, random_direction: Any, tmp_path: Path
) -> None:
    folder = write_lora(tmp_path / "one", tiny_model.module, 1)
    direction = random_direction(tiny_model, 1)
    tiny_model.attach("one", folder)
    try:
        parts = [
            *(Intervention((Dose(direction, 0.0, (0, 1, 2), span),)) for span in SPANS),
            *(Intervention((Dose(direction, 0.0, (0, 1, 2), operator=operator),)) for operator in OPERATORS),
            Intervention((Dose(direction, 0.0, (1,), "all", "clamp", 0.5),)),
            Intervention(adapters=(AdapterUse("one", 0.0),)),
            Intervention(biases=(LogitBias("e", 0.0),)),
            Intervention(focus=(Focus("boat", 0.0), Focus(Positions((1,)), 0.0, (0,), (1,)))),
        ]
        strong = Intervention(
            (Dose(direction, 0.5, (1,), "generated", "project out"), Dose(direction, 0.5, (1,), "turn")),
            (AdapterUse("one"),),
            focus=(Focus("boat", 2.0),),
        )
        for mates in ([], [strong]):
            expected = logits(tiny_model, [*mates, *[NOTHING] * len(parts)])
            found = logits(tiny_model, [*mates, *parts])
            assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    finally:
        tiny_model.detach("one")


def test_an_adapter_acts_as_in_its_own_library(tiny_model: Any, tmp_path: Path) -> None:
    """Alone, at a scale, and two at once: against PEFT's own way of switching adapters on."""
    from peft import PeftModel

    folders = {
        name: write_lora(tmp_path / name, tiny_model.module, seed, lora_alpha=3) for seed, name in enumerate("ab")
    }
    reference = PeftModel.from_pretrained(tiny_module(tiny_model.name.removeprefix("tiny-")), folders["a"], "a").eval()
    reference.load_adapter(folders["b"], "b")
    tokens = tiny_model.encode(Row(text="The boat.")).tokens
    for name, folder in folders.items():
        tiny_model.attach(name, folder)
    try:
        for scales in ({"a": 1.0}, {"b": 1.0}, {"a": 0.5, "b": -1.25}):
            given = Intervention(adapters=tuple(AdapterUse(name, scale) for name, scale in scales.items()))
            reference.base_model.set_adapter(list(scales))
            layers = [part for part in reference.modules() if isinstance(getattr(part, "scaling", None), dict)]
            for layer in layers:
                layer.scaling.update({name: 1.5 * scale for name, scale in scales.items()})
            with torch.inference_mode():
                expected = reference(input_ids=torch.tensor([tokens])).logits[0]
            torch.testing.assert_close(logits(tiny_model, [given])[0], expected, atol=1e-4, rtol=0)
    finally:
        for name in folders:
            tiny_model.detach(name)


def test_an_operator_that_holds_takes_a_share(random_direction: Any, tiny_llama: Any) -> None:
    held = Intervention((Dose(random_direction(tiny_llama), 0.6, (0,), operator="clamp", target=0.5),))
    assert (held * 0.5).doses[0].coefficient == pytest.approx(0.3) and (held * 0.5).doses[0].target == 0.5
    for factor in (2.0, -1.0, math.inf):
        with pytest.raises(InterventionError) as caught:
            held * factor
        assert caught.value.next_step
