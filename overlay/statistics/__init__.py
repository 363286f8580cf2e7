"""Statistics: what the numbers of a run can carry, as pure functions over counts and plain numbers.

Pairs of one scenario go to `mcnemar_exact` and `paired_difference`; several scenarios go to `sign_flip`, one value
each, because pooling their pairs raises false alarms to 12% where scenario effects vary; `estimate_power` runs those
very tests on simulated runs. Planned comparisons are adjusted by `holm`, exploratory ones by `benjamini_hochberg`.
Nothing here reads a record, judges a run, or imports scipy or statsmodels before it counts something (they take a
second to load).
"""

from __future__ import annotations

from overlay.statistics.clusters import cluster_bootstrap, sign_flip
from overlay.statistics.controls import rank_among
from overlay.statistics.doses import DoseTrend, dose_trend
from overlay.statistics.equivalence import Equivalence, equivalence_of_means, equivalence_of_rates
from overlay.statistics.families import benjamini_hochberg, holm
from overlay.statistics.groups import Boschloo, boschloo
from overlay.statistics.interval import Interval
from overlay.statistics.pairs import Difference, McNemar, mcnemar_exact, paired_difference
from overlay.statistics.power import Power, PowerPlan, SmallestPlan, estimate_power, smallest_plan
from overlay.statistics.rates import CorrectedRate, Validation, rogan_gladen, wilson
from overlay.statistics.sequential import SequentialEvidence, sequential_evidence

__all__ = [
    "Boschloo",
    "CorrectedRate",
    "Difference",
    "DoseTrend",
    "Equivalence",
    "Interval",
    "McNemar",
    "Power",
    "PowerPlan",
    "SequentialEvidence",
    "SmallestPlan",
    "Validation",
    "benjamini_hochberg",
    "boschloo",
    "cluster_bootstrap",
    "dose_trend",
    "equivalence_of_means",
    "equivalence_of_rates",
    "estimate_power",
    "holm",
    "mcnemar_exact",
    "paired_difference",
    "rank_among",
    "rogan_gladen",
    "sequential_evidence",
    "sign_flip",
    "smallest_plan",
    "wilson",
]
