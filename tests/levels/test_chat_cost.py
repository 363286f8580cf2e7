"""Chat cost: nothing costs nothing, a prompt costs something, and a dose costs what it does to the reply."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from overlay.levels.chat_cost import QUERY, ChatGauge
from overlay.levels.level import Level
from overlay.model import Dose, Intervention, LanguageModel, Row

SYSTEM = "You answer."
TEXTS = ("The river rises in the hills.", "x")


def test_base_costs_nothing_and_a_prompt_something(tiny_llama: LanguageModel) -> None:
    gauge = ChatGauge(tiny_llama, Level("base").treatment(SYSTEM), TEXTS)
    assert gauge.measure(Level("cleared").treatment(SYSTEM)).mean == 0
    told = gauge.measure(Level("instruction", instruction="Be calm.").treatment(SYSTEM))
    assert 0 < told.mean <= told.p95


def test_a_dose_on_the_current_turn_costs_what_it_does_to_each_token_of_the_reply(
    tiny_llama: LanguageModel, random_direction: Any
) -> None:
    dose = Dose(random_direction(tiny_llama), 0.5, (1,), "turn")
    level = Level("state", Intervention((dose,)))
    treated, base = level.treatment(SYSTEM), Level("base").treatment(SYSTEM)
    measured = ChatGauge(tiny_llama, base, TEXTS[1:]).measure(treated)

    # The one-token reply was drawn from what follows the prompt: every token's chance there, scored one by one.
    tokens = [tiny_llama.decode([token]) for token in range(258)]
    said = tuple(text for text in dict.fromkeys(tokens) if len(text) == 1 and text.isascii())

    def chances(treatment: Any) -> Any:
        row: Row = treatment.row(QUERY, options=said, chat=True)
        (scored,) = tiny_llama.score([row])
        return np.array(scored.total)

    before, after = chances(base), chances(treated)
    known = np.exp(before).sum()
    assert known > 0.2
    assert measured.mean > 0
    partial = float((np.exp(before) * (before - after)).sum())
    left_before, left_after = 1 - known, 1 - np.exp(after).sum()
    # By the log-sum inequality, tokens that can't be written as text add at least this.
    assert measured.mean >= partial + left_before * np.log(left_before / left_after) - 1e-4


@pytest.mark.parametrize("span", ["all", "turn"])
def test_a_dose_of_zero_costs_nothing(tiny_llama: LanguageModel, random_direction: Any, span: Any) -> None:
    level = Level("sham", Intervention((Dose(random_direction(tiny_llama), 0.0, (1,), span),)))
    gauge = ChatGauge(tiny_llama, Level("base").treatment(SYSTEM), TEXTS)
    assert gauge.measure(level.treatment(SYSTEM)).mean == 0
