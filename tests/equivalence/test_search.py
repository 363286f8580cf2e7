"""The search and the soft prompt: within their budgets, the same again, and without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from equivalence.ladders import SPOKEN, count_tokens, spoken, target

from overlay.equivalence import Prompt, PromptSearch, measure_soft, train_soft_prompt
from overlay.errors import ArgumentError
from overlay.model import Row

PHRASES = ("zz", "top", "river", "a list", "never mind", "qu")


def search(aim: Any, budget: int, journal: Path | None = None, seed: int = 3) -> PromptSearch:
    return PromptSearch(aim, aim.of(range(3), [0]), PHRASES, budget=budget, seed=seed, journal=journal)


@pytest.mark.parametrize("budget", [0, 100, 700, 2500, 6001])
def test_a_search_never_reads_more_than_its_budget(
    tiny_llama: Any, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    aim = target(tiny_llama, spoken())
    read = count_tokens(monkeypatch)
    found = search(aim, budget).run()
    assert sum(read) <= budget
    assert (found.spent if found else 0) == sum(read)
    assert (found is None) == (budget < 150)


def test_a_search_finds_a_prompt_that_its_phrases_make(tiny_llama: Any) -> None:
    found = search(target(tiny_llama, spoken()), 40_000).run()
    assert found is not None and found.prompt.text == SPOKEN and found.score < 1e-4
    scores = [score for _, score in found.tried]
    assert scores == sorted(scores) and scores[0] == found.score


@pytest.mark.parametrize("lines", [1, 4])
def test_a_search_that_was_killed_comes_to_the_same(
    tiny_llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    aim = target(tiny_llama, spoken())
    whole = search(aim, 6000, tmp_path / "whole.jsonl").run()
    written = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    assert len(written) > lines
    # What a killed process leaves: whole lines, and a torn one.
    (tmp_path / "torn.jsonl").write_bytes(b"".join(written[:lines]) + written[lines][:20])
    read = count_tokens(monkeypatch)
    resumed = search(aim, 6000, tmp_path / "torn.jsonl").run()
    assert resumed == whole and whole is not None and 0 < sum(read) < whole.spent
    read.clear()
    assert search(aim, 6000, tmp_path / "torn.jsonl").run() == whole and not read


def test_another_seed_searches_another_way(tiny_llama: Any) -> None:
    aim = target(tiny_llama, spoken())
    one, other = search(aim, 4000, seed=1).run(), search(aim, 4000, seed=2).run()
    assert one is not None and other is not None and one == search(aim, 4000, seed=1).run()
    assert {prompt.text for prompt, _ in one.tried} != {prompt.text for prompt, _ in other.tried}


def test_a_soft_prompt_gets_nearer_and_leaves_the_model_bit_identical(tiny_model: Any) -> None:
    aim = target(tiny_model, spoken())
    samples = aim.of(range(4), [0])
    rows = [Row(text="the river rises"), Row(text="a")]
    tokens = [tiny_model.encode(row).tokens for row in rows]
    before = [logits.clone() for _, logits in tiny_model.logits(tokens, rows)]
    census, weights = tiny_model.census(), {name: one.clone() for name, one in tiny_model.module.state_dict().items()}
    soft = train_soft_prompt(aim, samples, Prompt("say it"), budget=15_000)
    after = [logits for _, logits in tiny_model.logits(tokens, rows)]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert tiny_model.census() == census
    assert all(torch.equal(weights[name], one) for name, one in tiny_model.module.state_dict().items())
    assert all(weight.grad is None for weight in tiny_model.module.parameters())
    assert soft.spent <= 15_000 and min(soft.losses) < 0.8 * soft.losses[0]
    # What is kept is the best state, and it is measured as it was trained.
    kl = sum(one.kl.sum() for one in measure_soft(aim, soft, samples)) / sum(one.positions for one in samples)
    assert kl == pytest.approx(min(soft.losses), rel=1e-3)


def test_an_untrained_soft_prompt_is_its_written_one(tiny_model: Any) -> None:
    aim = target(tiny_model, spoken())
    samples = aim.of(range(2), [0])
    soft = train_soft_prompt(
        aim, samples, Prompt("say it"), budget=3 * aim.cost([(Prompt("say it"), s) for s in samples])
    )
    written = aim.measure([(Prompt("say it"), sample) for sample in samples])
    assert len(soft.losses) == 1
    for one, other in zip(measure_soft(aim, soft, samples), written, strict=True):
        assert one.kl == pytest.approx(other.kl, rel=1e-3, abs=1e-5)


def test_a_budget_for_less_than_a_step_is_refused(tiny_llama: Any) -> None:
    aim = target(tiny_llama, spoken())
    with pytest.raises(ArgumentError, match="not enough"):
        train_soft_prompt(aim, aim.samples, Prompt("say it"), budget=10)
    with pytest.raises(ArgumentError, match="no tokens"):
        train_soft_prompt(aim, aim.samples, Prompt(), budget=10_000)
