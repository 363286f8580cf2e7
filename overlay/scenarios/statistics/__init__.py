"""Statistics: what the numbers of a run can carry, as pure functions over counts and plain numbers.

Pairs of one scenario go to `mcnemar_exact` and `paired_difference`; several scenarios go to `sign_flip`, one value
each, because pooling their pairs raises false alarms to 12% where scenario effects vary; `estimate_power` runs those
very tests on simulated runs. Planned comparisons are adjusted by `holm`, exploratory ones by `benjamini_hochberg`.
Nothing here reads a record, judges a run, or imports scipy or statsmodels before it counts something (they take a
second to load).
"""

from __future__ import annotations

from overlay.scenarios.statistics.clusters import cluster_bootstrap, sign_flip
from overlay.scenarios.statistics.controls import rank_among
from overlay.scenarios.statistics.doses import DoseTrend, dose_trend
from overlay.scenarios.statistics.equivalence import Equivalence, equivalence_of_means, equivalence_of_rates
from overlay.scenarios.statistics.families import benjamini_hochberg, holm
from overlay.scenarios.statistics.groups import Boschloo, boschloo
from overlay.scenarios.statistics.interval import Interval
from overlay.scenarios.statistics.pairs import Difference, McNemar, mcnemar_exact, paired_difference
from overlay.scenarios.statistics.power import Power, PowerPlan, SmallestPlan, estimate_power, smallest_plan
from overlay.scenarios.statistics.rates import CorrectedRate, Validation, rogan_gladen, wilson
from overlay.scenarios.statistics.sequential import SequentialEvidence, sequential_evidence

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
