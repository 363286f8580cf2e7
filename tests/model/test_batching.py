"""Batches hold every row once, equal keys together, and no more than memory allows; results come back in order."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.model import Row, Sampling
from overlay.model.batching import MAX_BATCH_ROWS, MAX_BATCH_TOKENS, MAX_LOGITS, Load, batches

keys: st.SearchStrategy[Hashable] = st.sampled_from([(), ("a",), ("a", "b")])
loads = st.lists(
    st.builds(
        lambda tokens, more, key, logits: Load(tokens, tokens + more, key, logits),
        st.integers(1, 3000) | st.integers(1, 40),
        st.integers(0, 9000) | st.integers(0, 60),
        keys,
        st.integers(0, 5) | st.integers(0, MAX_LOGITS * 2),
    ),
    max_size=120,
)


@settings(max_examples=200, deadline=None)
@given(loads)
def test_every_row_runs_once_among_its_like_and_within_bounds(given_loads: list[Load]) -> None:
    found = batches(given_loads)
    assert sorted(index for batch in found for index in batch) == list(range(len(given_loads)))
    for batch in found:
        members = [given_loads[index] for index in batch]
        assert batch and len({load.key for load in members}) == 1
        assert len(batch) <= MAX_BATCH_ROWS
        if len(batch) > 1:
            # One row alone is run whatever it takes.
            assert len(batch) * max(load.length for load in members) <= MAX_BATCH_TOKENS
            assert len(batch) * max(load.logits for load in members) <= MAX_LOGITS


@settings(max_examples=100, deadline=None)
@given(loads)
def test_no_two_batches_that_follow_one_another_could_be_one(given_loads: list[Load]) -> None:
    """Rows of a key are cut into batches only where a bound asks for it."""
    found = batches(given_loads)
    for one, following in pairwise(found):
        members = [given_loads[index] for index in (*one, following[0])]
        if members[0].key == members[-1].key:
            count = len(members)
            assert (
                count > MAX_BATCH_ROWS
                or count * max(load.length for load in members) > MAX_BATCH_TOKENS
                or count * max(load.logits for load in members) > MAX_LOGITS
            )


@settings(max_examples=100, deadline=None)
@given(loads)
def test_rows_of_like_cost_run_together(given_loads: list[Load]) -> None:
    """Within a key, no row costs less than one of an earlier batch."""
    latest: dict[Hashable, int] = {}
    for batch in batches(given_loads):
        costs = [given_loads[index].tokens for index in batch]
        key = given_loads[batch[0]].key
        assert min(costs) >= latest.get(key, 0)
        latest[key] = max(costs)


@pytest.mark.parametrize("verb", ["generate", "score", "observe"])
def test_results_come_back_in_the_order_of_the_rows(tiny_llama: Any, verb: str) -> None:
    """More rows than a batch holds, of lengths that batching sorts, and one too long for a full batch."""
    texts = ["x" * (1 + 17 * place % 23) for place in range(MAX_BATCH_ROWS + 9)] + ["y" * 300]
    rows = [Row(text=text, sampling=Sampling(max_tokens=1), options=("a",) * (1 + len(text) % 3)) for text in texts]
    done: list[int] = []
    found = getattr(tiny_llama, verb)(rows, progress=done.append)
    assert done == sorted(done) and done[-1] == len(rows) and len(done) > 1
    for text, one in zip(texts, found, strict=True):
        if verb == "observe":
            # Position 0 is left out, unless it is all there is.
            assert one.tokens == max(1, len(text) - 1)
        else:
            assert len(one.prompt_tokens) == len(text)
        if verb == "score":
            assert len(one.total) == 1 + len(text) % 3


def test_no_rows_are_no_results(tiny_llama: Any) -> None:
    assert tiny_llama.generate([]) == tiny_llama.score([]) == tiny_llama.observe([]) == []
