"""The departure: along which edge a walk leaves a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from overlay.teaching.curriculum import Curriculum, Edge, MarginAbove, VolatilityAbove
from overlay.teaching.graph import edges_from
from overlay.teaching.learned_edges import LearnedEdges
from overlay.teaching.standing import Standing


@dataclass(frozen=True)
class Found:
    """What was found at a node: whether it passed, and its margin where it is a probe."""

    outcome: Literal["passed", "failed"]
    margin: float | None = None


def departure(
    curriculum: Curriculum, node: str, found: Found, standing: Standing, learned: LearnedEdges | None
) -> Edge | str:
    """The first edge whose predicate holds and whose target may be visited again; or, in words, why there is none."""
    visits = curriculum.teaching.visits
    holding = [edge for _, edge in edges_from(curriculum, node) if holds(edge, found, standing.replay_kl)]
    spent = [edge.to for edge in holding if standing.visits.get(edge.to, 0) >= visits]
    possible = [edge for edge in holding if edge.to not in spent]
    if not possible:
        why = f"{', '.join(spent)} had all {visits} visits" if spent else "no edge's predicate holds"
        return f"{why} at '{node}'"
    tied = [edge for edge in possible if edge.when == possible[0].when]
    if learned is None or len(tied) == 1:
        return tied[0]
    missing = [one.id for one in curriculum.examples if one.id not in standing.learned]
    return max(tied, key=lambda edge: learned.help(edge.to, missing))


def holds(edge: Edge, found: Found, replay_kl: float) -> bool:
    """Whether an edge's predicate holds after what was found."""
    if isinstance(edge.when, VolatilityAbove):
        return replay_kl > edge.when.volatility_above
    if isinstance(edge.when, MarginAbove):
        return found.margin is not None and found.margin > edge.when.margin_above
    return edge.when in ("always", found.outcome)
