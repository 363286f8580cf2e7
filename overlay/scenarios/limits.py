"""Limits: how much of a script each arm of a run plays. Nothing here needs the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

ArmSet = Literal["core", "all"]

RANDOM_DIRECTIONS: Mapping[ArmSet, int] = {"core": 8, "all": 39}
"""Random directions of each matching, where nobody says how many: with 39 an empirical p goes down to .025."""

NORM_DIRECTIONS = 8
"""At most so many random directions have the treated arm's dose as well: an empirical p is claimed for those of its
volatility alone, which is the harder control."""

RANDOM_PARAPHRASES = 1
"""Random directions run on the first wording of each item only: on all of them they would triple the time, and
wordings of one item hardly differ."""

SECOND_PARAPHRASES = 2
"""Wordings on which the arms run that the verdict doesn't rest on alone: doses, other exposures, other levels."""

PROBED_PARAPHRASES = 2
"""Wordings of each item whose trial is followed by questions about the agent itself."""
