"""The benchmark of the inner life counts what really went through the model."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from toy_home import create_toy_home

from overlay.model import Message, Row, Sampling

BENCH = Path(__file__).parents[2] / "benchmarks" / "inner.py"


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    return runpy.run_path(str(BENCH))


HISTORY = (Message("system", "You answer."), Message("user", "One. " * 12), Message("assistant", "Two. " * 12))


def rows(count: int) -> list[Row]:
    """Rows of equal length that share their history."""
    return [Row((*HISTORY, Message("user", f"Voice {number}?")), sampling=Sampling(3)) for number in range(count)]


def passed(bench: dict[str, Any], model: Any, count: int, *, shared: bool) -> Any:
    counts = bench["Counts"]()
    limit = model.prefixes.limit
    model.prefixes.clear()
    model.prefixes.limit = limit if shared else 0
    try:
        with bench["counted_passes"](model, counts):
            model.generate(rows(count))
    finally:
        model.prefixes.limit = limit
        model.prefixes.clear()
    return counts


def test_without_sharing_every_prompt_is_encoded_whole(bench: dict[str, Any], tiny_llama: Any) -> None:
    counts = passed(bench, tiny_llama, 3, shared=False)
    assert counts.encoded == sum(len(tiny_llama.encode(row).tokens) for row in rows(3))
    assert counts.calls["encoding"] == 1 and 0 < counts.calls["decoding"] <= 3


def test_with_sharing_a_history_is_encoded_once(bench: dict[str, Any], tiny_llama: Any) -> None:
    length = len(tiny_llama.encode(rows(1)[0]).tokens)
    own = length - tiny_llama.encode(rows(1)[0]).turn_start
    counts = passed(bench, tiny_llama, 3, shared=True)
    assert counts.calls["encoding"] == 2
    assert counts.encoded == length - own + 3 * own


def test_reading_and_measuring_encode_no_prompt(bench: dict[str, Any], tiny_llama: Any) -> None:
    counts = bench["Counts"]()
    with bench["counted_passes"](tiny_llama, counts):
        tiny_llama.observe([Row(text="What is there to be read?")])
        list(tiny_llama.logits([(2, 3, 4)], [Row(text="")]))
    assert counts.encoded == 0 and counts.calls == {"reading": 1, "measuring": 1}
    assert not hooks(tiny_llama)


def hooks(model: Any) -> list[Any]:
    return [hook for hook in model.module._forward_pre_hooks.values() if "counted_passes" in hook.__qualname__]


def test_a_step_of_the_state_takes_some_time(bench: dict[str, Any]) -> None:
    assert bench["state_step_ms"](steps=5) > 0


@pytest.mark.real
def test_the_figures_of_a_conversation_fit_together(
    bench: dict[str, Any], tiny_llama: Any, embedder_folder: Path
) -> None:
    found = bench["measure"](
        turns=2, model=tiny_llama, make_home=lambda folder: create_toy_home(folder, embedder_folder)
    )
    arms = list(bench["ARMS"])
    for figure in ("turn_seconds", "tokens_encoded", "tokens_encoded_without_sharing", "model_calls", "sharing_ratio"):
        assert list(found[figure]) == arms
    off, small, large = arms
    assert found["rounds"][off] == 0 and found["rounds"][small] == 1 and 1 <= found["rounds"][large] <= 3
    calls = found["model_calls"]
    assert calls[off]["encoding"] == 1 and calls[off]["decoding"] < calls[small]["decoding"]
    assert found["tokens_said"][off] < found["tokens_said"][small] < found["tokens_said"][large]
    for arm in arms:
        assert 0 < found["tokens_encoded"][arm] < found["tokens_encoded_without_sharing"][arm]
        assert found["measuring_seconds"][arm] <= found["turn_seconds"][arm]
    assert found["sharing_ratio"][large] > found["sharing_ratio"][off] > 1
    assert found["turns"] == 2 and found["state_step_ms"] > 0
