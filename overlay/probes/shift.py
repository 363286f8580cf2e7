"""Shifts: by how much margins moved in groups of probes, and the rule by which that is called a change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np

from overlay.errors import ArgumentError
from overlay.probes.margins import ProbeMargin
from overlay.statistics import Interval, benjamini_hochberg, cluster_bootstrap, sign_flip, wilson

Verdict = Literal["strengthened", "became possible", "sagged", "unchanged"]

SIGNIFICANCE = 0.05
"""Of the groups that are called changed, at most this share is wrong on average."""

LEAST_SHIFT = 0.05
"""Nats per token. Whatever is done to a model moves all margins a little; what is called a change is more than that."""

CHANCE = 0.5

Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True)
class Shift:
    """What happened to one group of probes between two treatments.

    Attributes:
        n: how many probes it holds.
        before, after: mean margin under either treatment, nats per token; `shift` is the mean of the differences.
        interval: of the shift, 95%, by a paired bootstrap over probes.
        p: how often so large a shift would be seen if the true one were no larger than the least shift, either way: a
            sign flip over probes. `q` is p adjusted for the number of groups (Benjamini and Hochberg).
        right_before, right_after: on how many probes the margin is above 0; `accuracy_before` and `accuracy_after`
            are Wilson's 95% intervals of these rates.
    """

    n: int
    before: float
    after: float
    shift: float
    interval: Interval
    p: float
    q: float
    right_before: int
    right_after: int
    accuracy_before: Interval
    accuracy_after: Interval
    verdict: Verdict


def weigh(
    groups: Mapping[Group, Sequence[ProbeMargin]], *, seed: int = 0, least_shift: float = LEAST_SHIFT
) -> dict[Group, Shift]:
    """Give every group of probes its verdict.

    strengthened, sagged: q <= .05 that the mean shift exceeds `least_shift`, up or down. became possible:
    strengthened, and the accuracy crosses chance: its interval held 1/2 or lay below it, and lies above it now. So a
    treatment that moves no group by more than `least_shift` gets any verdict but "unchanged" in at most 5% of cases;
    where some groups move, at most 5% of the verdicts are wrong on average. Both hold for shifts that spread alike to
    both sides, as a sign flip takes them to.

    Args:
        seed: of the bootstrap.

    Raises:
        ArgumentError: `least_shift` is below 0, or a group has fewer than two probes.
    """
    if not least_shift >= 0:
        raise ArgumentError(f"a least shift of {least_shift} nats per token", "give 0 or more")
    for group, held in groups.items():
        if len(held) < 2:
            raise ArgumentError(
                f"{len(held)} probe in {group}", "one item says nothing about a cell: add probes, or leave it out"
            )
    names = {group: str(place) for place, group in enumerate(groups)}
    p_values = {names[group]: _p(held, least_shift) for group, held in groups.items()}
    q_values = benjamini_hochberg(p_values)
    return {
        group: _weighed(held, p_values[names[group]], q_values[names[group]], seed) for group, held in groups.items()
    }


def _p(held: Sequence[ProbeMargin], least_shift: float) -> float:
    """A sign flip around the nearer edge of what is no change: it tests the largest shift that would be none."""
    shifts = np.array([one.after - one.before for one in held])
    mean = float(shifts.mean())
    if abs(mean) <= least_shift:
        return 1.0
    return sign_flip([float(shift) for shift in shifts - np.copysign(least_shift, mean)])


def _weighed(held: Sequence[ProbeMargin], p: float, q: float, seed: int) -> Shift:
    before, after = np.array([one.before for one in held]), np.array([one.after for one in held])
    shifts, n = after - before, len(held)
    shift = float(shifts.mean())
    right_before, right_after = int(np.count_nonzero(before > 0)), int(np.count_nonzero(after > 0))
    accuracy_before, accuracy_after = wilson(right_before, n), wilson(right_after, n)
    verdict: Verdict = "unchanged"
    if q <= SIGNIFICANCE:
        crosses = accuracy_before.low <= CHANCE < accuracy_after.low
        verdict = "sagged" if shift < 0 else "became possible" if crosses else "strengthened"
    return Shift(
        n=n,
        before=float(before.mean()),
        after=float(after.mean()),
        shift=shift,
        interval=cluster_bootstrap([float(one) for one in shifts], range(n), seed=seed),
        p=p,
        q=q,
        right_before=right_before,
        right_after=right_after,
        accuracy_before=accuracy_before,
        accuracy_after=accuracy_after,
        verdict=verdict,
    )


def counted(shifts: Iterable[Shift]) -> dict[Verdict, int]:
    """How many groups got each verdict."""
    given = Counter(shift.verdict for shift in shifts)
    return {verdict: given[verdict] for verdict in get_args(Verdict)}
