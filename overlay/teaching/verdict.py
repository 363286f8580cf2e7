"""The verdict: was teaching along the graph better than the same examples shuffled?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from overlay.probes import CheckReport, Probe, SemanticMap
from overlay.statistics import Interval, cluster_bootstrap, sign_flip

SIGNIFICANCE = 0.05

FEWEST = 6
"""Probes: with fewer no sign flip reaches p < .05."""

Outcome = Literal["better than", "worse than", "no difference found to", "too few held-out probes to compare with"]


@dataclass(frozen=True)
class HeldOutMargin:
    """One held-out probe's margin, nats per token: of the base, of what was taught, and of the shuffled twin."""

    id: str
    base: float
    taught: float
    twin: float


@dataclass(frozen=True)
class Comparison:
    """What was taught against the shuffled twin, over held-out probes.

    Attributes:
        difference: taught minus twin, nats per token, mean over the probes; `interval` is 95% of it, by a bootstrap.
        p: two-sided, by a sign flip over probes.
        right: on how many probes base, taught and twin are right.
    """

    probes: tuple[HeldOutMargin, ...]
    outcome: Outcome
    difference: float = 0.0
    interval: Interval | None = None
    p: float = 1.0
    right: tuple[int, int, int] = (0, 0, 0)

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        if self.interval is None:
            return f"{self.outcome} the shuffled twin ({len(self.probes)}, and {FEWEST} are the fewest)"
        base, taught, twin = self.right
        return (
            f"{self.outcome} the shuffled twin: {self.difference:+.3f} nats per token over {len(self.probes)} held-out "
            f"probes (95% {self.interval.low:+.3f} to {self.interval.high:+.3f}, p = {self.p:.3f}); right: base "
            f"{base}, taught {taught}, twin {twin}"
        )


@dataclass(frozen=True)
class Pupils:
    """What a pupil cost, KL(base ‖ pupil) in nats per token, and what it was fed.

    Attributes:
        steps: optimizer steps that its weights have learned for.
        fed, tokens: steps and tokens that it was fed, those that were taken back included.
    """

    replay_kl: float
    volatility_mean: float
    volatility_p95: float
    steps: int
    fed: int
    tokens: int


@dataclass(frozen=True)
class Verdict:
    """How a teaching ended.

    Attributes:
        map, twin_map: the semantic maps of both from the base; None where no two probes share a cell.
        checks: what the taught model says in its own words; None where the banks have no checks.
    """

    comparison: Comparison
    taught: Pupils
    twin: Pupils
    map: SemanticMap | None
    twin_map: SemanticMap | None
    checks: CheckReport | None

    def to_json(self) -> dict[str, Any]:
        """Everything, as a program reads it."""
        return {
            "words": self.comparison.words,
            "comparison": asdict(self.comparison),
            "taught": asdict(self.taught),
            "twin": asdict(self.twin),
            "map": self.map.to_json() if self.map else None,
            "twin_map": self.twin_map.to_json() if self.twin_map else None,
            "checks": self.checks.to_json() if self.checks else None,
        }


def compare(
    probes: Sequence[Probe], base: Sequence[float], taught: Sequence[float], twin: Sequence[float], seed: int
) -> Comparison:
    """Compare margins on the same held-out probes; `seed` is the bootstrap's."""
    found = tuple(
        HeldOutMargin(probe.id, one, other, third)
        for probe, one, other, third in zip(probes, base, taught, twin, strict=True)
    )
    if len(found) < FEWEST:
        return Comparison(found, "too few held-out probes to compare with")
    differences = [one.taught - one.twin for one in found]
    mean = sum(differences) / len(differences)
    p = sign_flip(differences)
    outcome: Outcome = "no difference found to"
    if p < SIGNIFICANCE:
        outcome = "better than" if mean > 0 else "worse than"
    base_right, taught_right, twin_right = (sum(margin > 0 for margin in margins) for margins in (base, taught, twin))
    return Comparison(
        probes=found,
        outcome=outcome,
        difference=mean,
        interval=cluster_bootstrap(differences, [one.id for one in found], seed=seed),
        p=p,
        right=(base_right, taught_right, twin_right),
    )
