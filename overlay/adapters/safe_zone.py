"""The safe zone: which tokens of a batch may be learned from, by how much each surprises the base model.

The rarest tokens of a text pull hardest and break most. So the loss leaves them out at first, by a quantile
of the batch itself: a fixed limit would mask whole texts of one kind and nothing of another. What was declared
as the thing to be learned is never left out, or the adapter could learn nothing that is new to the model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from overlay.adapters.recipe import SafeZone

_ROUNDING = 1e-9
"""A share of 0.7 of ten tokens is seven of them, whatever floating point makes of the product."""


def zone_share(zone: SafeZone | None, step: int, steps: int) -> float:
    """The share of tokens inside the zone at `step`, counted from 1 to `steps`; without a zone, all of them."""
    if zone is None:
        return 1.0
    way = (step - 1) / (steps - 1) if steps > 1 else 0.0
    return min(1.0, zone.quantile + way * (zone.widens_to - zone.quantile))


def token_weights(surprisals: Tensor, exempt: Tensor, share: float) -> Tensor:
    """What each target token of a batch counts in its loss: equally much inside the zone, nothing outside it.

    Args:
        surprisals: −ln p of each token under the base model, nats, shape (tokens,).
        exempt: which tokens count however surprising they are, (tokens,), booleans.
        share: of the other tokens, how many may be learned from, above 0 and up to 1: the least surprising
            ones, rounded up, and any others that are exactly as surprising.

    Returns:
        Weights of shape (tokens,), float32, that sum to 1.
    """
    import torch

    inside = exempt.clone()
    others = ~exempt
    if bool(others.any()):
        count = math.ceil(share * int(others.sum()) - _ROUNDING)
        limit = surprisals[others].kthvalue(count).values
        inside |= others & (surprisals <= limit)
    weights = inside.to(torch.float32)
    return weights / weights.sum()
