"""How likely each generated token was: the same as scoring the text afterwards says, whatever chose the token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from overlay.model import Ban, Completion, Dose, Intervention, LogitBias, Message, Row, Sampling

CHAT = (Message("user", "Which way does the river run?"),)
TOLERANCE = 1e-4


def read(model: Any, row: Row, found: Completion) -> list[float]:
    """Log-probabilities of the generated tokens by one forward pass over prompt and text, bans left out."""
    prompt = model.encode(row).tokens
    free = replace(row, intervention=replace(row.intervention, bans=()))
    ((_, logits),) = model.logits([(*prompt, *found.tokens)], [free])
    likely = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return likely[torch.arange(len(found.tokens)), list(found.tokens)].tolist()


@pytest.mark.parametrize("sampling", [Sampling(8), Sampling(8, temperature=1.3), Sampling(8, 0.9, top_p=0.5)])
def test_what_is_noted_is_what_reading_says(tiny_llama: Any, random_direction: Any, sampling: Sampling) -> None:
    """Under a dose and a bias, in one batch with a row that isn't traced; the choice itself stays the same."""
    acting = Intervention((Dose(random_direction(tiny_llama, 1), 0.4, (1,)),), biases=(LogitBias("e", 2.0),))
    row = Row(CHAT, intervention=acting, sampling=sampling, seed=5, trace_likelihood=True)
    traced, untraced = tiny_llama.generate([row, replace(row, trace_likelihood=False)])
    assert traced.log_likelihood == pytest.approx(read(tiny_llama, row, traced), abs=TOLERANCE)
    assert untraced.log_likelihood == () and replace(traced, log_likelihood=()) == untraced


def test_a_ban_leaves_the_likelihood_of_what_was_kept(tiny_llama: Any, random_direction: Any) -> None:
    """Words are cut and begun again; no value of what was taken back is left."""
    free = Intervention(
        (Dose(random_direction(tiny_llama, 4), 0.3, (1,)),), biases=tuple(LogitBias(letter, 9.0) for letter in "abc ")
    )
    row = Row(CHAT, intervention=free, sampling=Sampling(24), trace_likelihood=True)
    (unbanned,) = tiny_llama.generate([row])
    words = [word for word in unbanned.text.split() if len(word) > 1][:1]
    assert words, "nothing was written that could be banned"
    banned = replace(row, intervention=free + Intervention(bans=tuple(Ban(word) for word in words)))
    (found,) = tiny_llama.generate([banned])
    assert found.avoided and len(found.log_likelihood) == len(found.tokens)
    assert found.log_likelihood == pytest.approx(read(tiny_llama, banned, found), abs=TOLERANCE)
