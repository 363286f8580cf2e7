"""The safe zone lets in the least surprising tokens, as many as it says, and whatever was declared."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from overlay.adapters.recipe import SafeZone
from overlay.adapters.safe_zone import token_weights, zone_share

TOKENS = st.lists(st.tuples(st.floats(0, 20, width=32), st.booleans()), min_size=1, max_size=40)
SHARES = st.floats(0.01, 1)


@given(TOKENS, SHARES)
def test_weights_are_equal_inside_nothing_outside_and_sum_to_one(
    tokens: list[tuple[float, bool]], share: float
) -> None:
    surprisals, exempt = (torch.tensor(part) for part in zip(*tokens, strict=True))
    weights = token_weights(surprisals, exempt, share)
    inside = weights > 0
    assert float(weights.sum()) == pytest.approx(1)
    assert weights[inside].unique().numel() == 1
    assert inside[exempt].all()
    within, without = surprisals[inside & ~exempt], surprisals[~inside]
    if len(within) and len(without):
        assert within.max() < without.min()


@given(st.lists(st.floats(0, 20, width=32), min_size=1, max_size=40, unique=True), SHARES)
def test_of_distinct_tokens_exactly_the_share_is_inside_rounded_up(surprisals: list[float], share: float) -> None:
    weights = token_weights(torch.tensor(surprisals), torch.zeros(len(surprisals), dtype=torch.bool), share)
    assert int((weights > 0).sum()) == math.ceil(share * len(surprisals) - 1e-9)


def test_declared_tokens_take_no_place_of_others() -> None:
    surprisals = torch.tensor([1.0, 2.0, 3.0, 4.0, 90.0, 80.0])
    exempt = torch.tensor([False, False, False, False, True, True])
    assert (token_weights(surprisals, exempt, 0.5) > 0).tolist() == [True, True, False, False, True, True]


def test_a_share_of_seven_tenths_of_ten_tokens_is_seven() -> None:
    for count in (10, 20, 30, 1000):
        none = torch.zeros(count, dtype=torch.bool)
        assert int((token_weights(torch.arange(count).float(), none, 0.7) > 0).sum()) == count * 7 // 10


def test_the_zone_widens_evenly_from_its_quantile_to_its_end() -> None:
    zone = SafeZone(quantile=0.6, widens_to=0.9)
    assert [zone_share(zone, step, 4) for step in range(1, 5)] == pytest.approx([0.6, 0.7, 0.8, 0.9])
    assert zone_share(zone, 1, 1) == 0.6
    assert zone_share(None, 1, 4) == 1.0
