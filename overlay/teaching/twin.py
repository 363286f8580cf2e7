"""The twin: the same examples, shuffled, in as many steps and tokens, with the same anchor and no checks.

It gets everything that the walk fed, what was taken back too: what checks and order are worth shows against a pupil
that had neither.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from overlay.errors import AdapterError
from overlay.progress import Progress
from overlay.teaching.pupil import Meal, Pupil, read_meal
from overlay.teaching.standing import Keeper, Standing
from overlay.teaching.walk import GOOD, NOW

if TYPE_CHECKING:
    from torch import Tensor

KEEP_EVERY = 8
"""Steps between two times that the twin is kept: more of them cost time, fewer of them lose more steps."""


def fed_meals(journal: Iterable[Mapping[str, Any]]) -> list[Meal]:
    """Everything that a walk fed, in its order."""
    return [read_meal(record) for line in journal if line["action"] == "fed" for record in line["meals"]]


def shuffled(meals: Sequence[Meal], seed: int) -> list[Meal]:
    """The same helpings in another order, in meals of the same sizes, replay groups, learning rates and blocks."""
    helpings = [one for meal in meals for one in meal.helpings]
    random.Random(f"{seed}/twin").shuffle(helpings)
    found, taken = [], 0
    for meal in meals:
        size = len(meal.helpings)
        found.append(Meal(tuple(helpings[taken : taken + size]), meal.group, meal.scale, meal.blocks))
        taken += size
    return found


def feed_twin(
    pupil: Pupil,
    meals: Sequence[Meal],
    standing: Standing,
    keeper: Keeper,
    good: Mapping[str, Tensor],
    now: Mapping[str, Tensor],
    progress: Progress,
) -> None:
    """Feed what is left of a twin's meals, from what it was in `now`; then the pupil is the twin."""
    pupil.restore(now)
    for step in range(standing.twin, len(meals)):
        try:
            loss = pupil.eat(meals[step], step)
        except AdapterError as error:
            # A pupil without checks may fall: that is what it is for.
            keeper.say(standing, action="twin fell", node=None, reason=f"at step {step + 1}: {error.problem}")
            break
        progress.step("feeding the shuffled twin", step + 1, len(meals), f"loss {loss:.2f}")
        standing.twin = step + 1
        if standing.twin % KEEP_EVERY == 0 or standing.twin == len(meals):
            keeper.keep(standing, {GOOD: good, NOW: pupil.state()})
