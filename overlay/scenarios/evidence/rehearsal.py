"""Rehearsal: simulated runs of a plan, weighed by the very code that weighs real ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ArgumentError
from overlay.model import Volatility
from overlay.scenarios.cells import Arm, Record
from overlay.scenarios.evidence.units import Units
from overlay.scenarios.evidence.weighing import decide
from overlay.scenarios.script import Scenario
from overlay.scenarios.verdict import Verdict
from overlay.statistics import Interval, Power, PowerPlan, estimate_power, wilson

DIRECTIONS = 8
WOBBLE = 0.05
"""How far a random direction moves a margin, as a share of how much answers to one item vary."""

Margins = NDArray[np.float64]

_COST = Volatility(0.1, 0.2)


@dataclass(frozen=True)
class Rehearsal:
    """What weighing found in simulated runs of a plan, beside what `estimate_power` promised.

    Attributes:
        power: share of runs with the effect whose verdict was "behaviour shown", and its Monte-Carlo interval.
        verdicts: how often each verdict was given in those runs.
        false_alarms: the same share in runs without the effect, and its Monte-Carlo interval.
        promised: the power that the plan's tests have by themselves.
    """

    runs: int
    power: float
    interval: Interval
    verdicts: Mapping[str, int]
    false_alarms: float
    false_alarms_interval: Interval
    promised: Power

    @property
    def kept(self) -> bool:
        """Whether what was found isn't below what was promised by more than chance explains."""
        return self.interval.high >= self.promised.interval.low


def simulate_power(plan: PowerPlan, *, runs: int = 1000, seed: int = 0, scored: bool = True) -> Rehearsal:
    """Simulate a plan of one scenario `runs` times with its effect and as often without, and weigh every run.

    Where the behaviour is scored, margins say more than yes and no, and more is found than `estimate_power`, which
    knows only those, promises. The same seed gives the same answer.

    Raises:
        ArgumentError: no run, or a plan of several scenarios.
    """
    if runs < 1:
        raise ArgumentError(f"{runs} simulated runs show nothing", "ask for at least 100")
    found: list[Counter[str]] = []
    for place, effect in enumerate((plan.effect, 0.0)):
        generator = np.random.default_rng((seed, place))
        found.append(Counter(rehearse(plan, effect, generator, scored=scored).kind for _ in range(runs)))
    shown, alarms = (counts["behaviour shown"] for counts in found)
    return Rehearsal(
        runs,
        shown / runs,
        wilson(shown, runs),
        dict(found[0]),
        alarms / runs,
        wilson(alarms, runs),
        estimate_power(plan, seed=seed),
    )


def rehearse(plan: PowerPlan, effect: float, generator: np.random.Generator, *, scored: bool = True) -> Verdict:
    """One simulated run in which the state adds `effect` to the rate, and its verdict.

    Answers are drawn as `estimate_power` draws them, with the distance to the quantile as their margin; the
    reversed dose mirrors what the treated one moved, and random directions hardly move anything. Without `scored`
    margins are forgotten, as in a scenario of free text.

    Raises:
        ArgumentError: a plan of several scenarios.
    """
    from scipy.special import ndtri

    if plan.scenarios != 1:
        raise ArgumentError(
            f"a rehearsal of {plan.scenarios} scenarios", "rehearse one scenario: each is weighed on its own"
        )
    shape = (plan.items, plan.paraphrases)
    rates = np.full(plan.items, plan.base_rate + effect)
    if plan.item_sd > 0:
        planned = plan.base_rate + plan.effect
        concentration = planned * (1 - planned) / plan.item_sd**2 - 1
        rates = generator.beta(rates * concentration, (1 - rates) * concentration)
    own = np.sqrt(1 - plan.likeness)
    item = np.sqrt(plan.likeness) * generator.standard_normal((plan.items, 1))
    base = ndtri(plan.base_rate) - item - own * generator.standard_normal(shape)
    treated = ndtri(rates)[:, None] - item - own * generator.standard_normal(shape)
    random = [base + WOBBLE * generator.standard_normal(shape) for _ in range(DIRECTIONS)]
    return judge_margins(base, treated, 2 * base - treated, random, scored=scored)


def judge_margins(
    base: Margins, treated: Margins, back: Margins, random: Sequence[Margins], *, scored: bool = True
) -> Verdict:
    """The verdict on simulated margins (items, paraphrases) of base, treated, reversed and random directions.

    Random directions count with the first wording of each item only, as in a real run.
    """
    scenario = _script(*base.shape)
    arms = [Arm("base", "base"), *(Arm(name, name, volatility=_COST) for name in ("treated", "sham", "reversed"))]
    arms += [
        Arm("random_norm", "random", volatility=_COST, direction=number, paraphrases=1) for number in range(len(random))
    ]
    margins = [base, treated, base, back, *(one[:, :1] for one in random)]
    records = [
        record | ({} if scored else {"margin": None})
        for arm, one in zip(arms, margins, strict=True)
        for record in simulate_records(scenario, arm, one)
    ]
    units = Units(scenario, arms, records)
    return decide(units, [], exploratory=False, detector_checks={}, leaks={}).verdict


def simulate_records(scenario: Scenario, arm: Arm, margins: Margins) -> list[Record]:
    """One record a unit of an arm that met `margins` (items, paraphrases): the behaviour is chosen above 0."""
    promise = scenario.promise
    found: list[Record] = []
    for item, row in zip(scenario.trial.items, margins.tolist(), strict=True):
        give, keep = item.options[:2]
        for paraphrase, margin in enumerate(row):
            chosen = give if margin > 0 else keep
            event = {
                "step": "choose",
                "kind": "choose",
                "text": chosen.text,
                "chosen": chosen.id,
                "offered": [give.id, keep.id],
                "asked": True,
                "scores": [[margin / 2, -margin / 2]] * 2,
            }
            found.append(
                {
                    "cell": f"{arm.name}-{arm.direction}-{item.id}-{paraphrase}",
                    "scenario": scenario.name,
                    "arm": arm.name,
                    "direction": arm.direction,
                    "item": item.id,
                    "paraphrase": paraphrase,
                    "seed": 0,
                    "repeat": 0,
                    "promise": promise,
                    "margin": margin,
                    "events": [event],
                    "ledger": [],
                    "before": {},
                    "after": {},
                    "messages": [
                        {"role": "user", "text": item.paraphrases[paraphrase]},
                        {"role": "assistant", "text": chosen.text},
                    ],
                    "detectors": {
                        detector.name: {"fired": margin > 0, "score": None, "reason": ""}
                        for detector in scenario.detectors
                    },
                    "excluded": "",
                    "prompts": f"{item.id}-{paraphrase}",
                    "quality": {"own_nll": None, "repetition": None, "unparsable": 0, "calls": 2, "tokens": 0},
                    "probes": [],
                }
            )
    return found


@lru_cache(maxsize=8)
def _script(items: int, paraphrases: int) -> Scenario:
    """A script of the size that is rehearsed."""
    return Scenario.model_validate(
        {
            "name": "rehearsal",
            "description": "Simulated answers.",
            "axes": ["simulated"],
            "exposure": ["Nothing is read."],
            "trial": {
                "setting": "Nothing is played.",
                "items": [
                    {
                        "id": f"item-{number}",
                        "paraphrases": [f"Wording {place} of {number}." for place in range(paraphrases)],
                        "options": [{"id": "give", "text": "I give."}, {"id": "keep", "text": "I keep."}],
                    }
                    for number in range(items)
                ],
            },
            "detectors": [{"name": "gave", "kind": "choice", "option": "give"}],
            "primary": "gave",
        }
    )
