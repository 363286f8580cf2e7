"""Logit biases: the fixed nudges to tokens that bring one set of distributions nearest to another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

TOKENS = 64
"""Biased tokens: few enough to be written down, many enough for a vocabulary of spelling or brevity."""

LARGEST = 8.0
"""Nats. Beyond this a token is as good as forced or forbidden."""

RIDGE = 0.003
"""Against biases that rest on a handful of positions."""


def fit_biases(
    treated: Sequence[Tensor], prompted: Sequence[Tensor], count: int = TOKENS
) -> tuple[tuple[int, float], ...]:
    """The biases, (token id, nats), that bring `prompted` nearest to `treated` in mean KL(treated ‖ biased).

    Both are log-probabilities, (positions, vocabulary) a sample. The tokens are those whose mean probability differs
    most, which is the gradient of that KL at no bias; it is convex in the biases, and they start from the mean logit
    difference.
    """
    from scipy.optimize import minimize

    wanted = sum(one.exp().sum(0) for one in treated)
    given = sum(one.exp().sum(0) for one in prompted)
    positions = sum(len(one) for one in treated)
    assert isinstance(wanted, Tensor) and isinstance(given, Tensor)
    slope = (wanted - given) / positions
    tokens = slope.abs().topk(min(count, len(slope))).indices
    probabilities = torch.cat([one[:, tokens].exp() for one in prompted]).double().cpu().numpy()
    aims = torch.cat([one[:, tokens].exp() for one in treated]).double().mean(0).cpu().numpy()
    lifts = torch.cat([one[:, tokens] - other[:, tokens] for one, other in zip(treated, prompted, strict=True)])
    rest = np.clip(1 - probabilities.sum(1), 1e-12, 1)

    def loss(biases: np.ndarray) -> tuple[float, np.ndarray]:
        raised = probabilities * np.exp(biases)
        whole = rest + raised.sum(1)
        value = np.log(whole).mean() - biases @ aims + RIDGE / 2 * biases @ biases
        return float(value), (raised / whole[:, None]).mean(0) - aims + RIDGE * biases

    start = np.clip(lifts.double().mean(0).cpu().numpy(), -1, 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-LARGEST, LARGEST)] * len(start)).x
    order = np.argsort(-np.abs(found))
    return tuple((int(tokens[place]), float(found[place])) for place in order)
