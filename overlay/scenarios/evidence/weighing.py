"""Weighing: all that the records of one run say, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from overlay.scenarios.cells import Arm, Record
from overlay.scenarios.evidence.comparisons import comparisons
from overlay.scenarios.evidence.corrections import detector_gate, detector_rows
from overlay.scenarios.evidence.doses import dose_response
from overlay.scenarios.evidence.excerpts import examples, transcripts
from overlay.scenarios.evidence.self_report import weigh_self_report
from overlay.scenarios.evidence.summaries import (
    arm_summaries,
    empirical_p,
    item_rows,
    level_rows,
    measure_of,
    treated_on,
    values_of,
)
from overlay.scenarios.evidence.units import Units, by_item, mean, rise
from overlay.scenarios.evidence.validity import gates, prompts_identical, sham_identical, validity_rows
from overlay.scenarios.script import Scenario
from overlay.scenarios.verdict import SIGNIFICANCE, Check, Effect, Measure, Rival, Verdict, judge
from overlay.statistics import sign_flip

if TYPE_CHECKING:
    from overlay.scenarios.detectors import DetectorCheck

RIVALS = ("neutral", "shuffled")


@dataclass(frozen=True)
class Decision:
    """A verdict and what it rests on; `checks` are all but the two identities, which stand by themselves."""

    verdict: Verdict
    measure: Measure
    checks: tuple[Check, ...]
    comparisons: list[dict[str, Any]]
    validity: dict[str, dict[str, Any]]
    prompts_identical: bool
    sham_identical: bool | None


def weigh(
    scenario: Scenario,
    arms: Sequence[Arm],
    records: Sequence[Record],
    checks: Sequence[Check],
    *,
    exploratory: bool,
    detector_checks: Mapping[str, DetectorCheck] | None = None,
    leaks: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What the records of a run say, as the parts of its result that rest on them; JSON throughout.

    Margins and shifts are in nats per token, rates are shares of 1. `checks` are conditions that the records can't
    tell (the budget, the state); those that they can are added. `leaks` counts state words by arm. Where no margin
    was scored, shifts are null, and changes of the rate stand in for them in the verdict.

    Raises:
        ArgumentError: there is no record of base, a record is of no arm or item of this run, or a cell comes twice.
    """
    units = Units(scenario, arms, records)
    leaked, examined = leaks or {}, detector_checks or {}
    decided = decide(units, checks, exploratory=exploratory, detector_checks=examined, leaks=leaked)
    verdict, measure = decided.verdict, decided.measure
    summaries = arm_summaries(units, measure, leaked)
    return {
        "verdict": verdict.kind,
        "headline": verdict.headline,
        "reasons": list(verdict.reasons),
        "units": _unit_counts(units),
        "arms": summaries,
        "comparisons": decided.comparisons,
        "dose_response": dose_response(units, measure),
        "levels": level_rows(units, summaries),
        "validity": decided.validity,
        "items": item_rows(units),
        "detectors": detector_rows(units, examined),
        "self_report": weigh_self_report(units, verdict.kind),
        "checks": [asdict(check) for check in decided.checks],
        "prompts_identical": decided.prompts_identical,
        "sham_identical": decided.sham_identical,
        "examples": examples(units),
        "transcripts": transcripts(units),
    }


def decide(
    units: Units,
    checks: Sequence[Check],
    *,
    exploratory: bool,
    detector_checks: Mapping[str, DetectorCheck],
    leaks: Mapping[str, int],
) -> Decision:
    """The verdict alone, with what it rests on."""
    measure = measure_of(units)
    validity = validity_rows(units, leaks)
    compared = comparisons(units)
    same, sham = prompts_identical(units), sham_identical(units)
    gated = gates(units, validity, exploratory=exploratory)
    conditions = (*checks, *gated, *detector_gate(units, detector_checks))
    identity = [Check("prompts identical", same, "the trial's token hashes agree across all arms that must agree")]
    if sham is not None:
        told = "with hooks on and dose 0, every act and score is bit-identical to base"
        identity.append(Check("sham equals base", sham, told))
    verdict = judge(
        [*identity, *conditions],
        _effect(units, measure, compared),
        negative_control=units.scenario.control == "negative",
        exploratory=exploratory,
    )
    return Decision(verdict, measure, conditions, compared, validity, same, sham)


def _unit_counts(units: Units) -> dict[str, int]:
    """Units of the comparison that the verdict rests on: planned for base, and readable in base and treated."""
    planned, run = units.planned("base"), len(units.pairs("treated"))
    return {
        "items": len(units.scenario.trial.items),
        "paraphrases": max(len(item.paraphrases) for item in units.scenario.trial.items),
        "planned": planned,
        "run": run,
        "excluded": max(0, planned - run),
    }


def _effect(
    units: Units,
    measure: Measure,
    compared: Sequence[Mapping[str, Any]],
) -> Effect | None:
    """What the verdict judges by; None where the treated arm or one of its controls wasn't measured."""
    primary = units.scenario.primary
    pairs = units.pairs("treated")
    random = units.random_names()
    moved = [
        mean(values_of(units, units.pairs(arm.name, arm.direction), measure))
        for arm in units.arms
        if arm.direction is not None
    ]
    values = values_of(units, pairs, measure)
    shift = mean(values)
    beside = mean(values_of(units, treated_on(units, random), measure))
    back = _rival(units, "reversed", measure)
    row = next((row for row in compared if (row["arm"], row["detector"]) == ("treated", primary)), None)
    if shift is None or beside is None or back is None or row is None:
        return None
    outcomes = [pair.outcomes(primary) for pair in pairs]
    choice_p, adjusted = _choice_p(row, compared)
    told = [pair.outcomes(primary) for pair in units.pairs("positive_control")]
    return Effect(
        rate_before=sum(before for before, _ in outcomes) / len(outcomes),
        rate_after=sum(after for _, after in outcomes) / len(outcomes),
        choice_p=choice_p,
        item_p=sign_flip(list(by_item(values).values())),
        shift=shift,
        random_units_shift=beside,
        random_shifts=tuple(one for one in moved if one is not None),
        reversed_shift=back.shift,
        reversed_units_shift=back.treated,
        rivals=tuple(rival for name in RIVALS if (rival := _rival(units, name, measure)) is not None),
        measure=measure,
        adjusted=adjusted,
        positive_control=rise(told) < SIGNIFICANCE if told else None,
        empirical=tuple(
            (name.removeprefix("random_"), p) for name in random if (p := empirical_p(units, name, measure)) is not None
        ),
    )


def _choice_p(row: Mapping[str, Any], compared: Sequence[Mapping[str, Any]]) -> tuple[float, str]:
    """The treated arm's p, adjusted in its family, and how, in words."""
    if not row["planned"]:
        return float(row["bh_p"]), "not planned: after Benjamini and Hochberg over the exploratory comparisons"
    family = sum(one["planned"] for one in compared)
    return float(row["holm_p"]), f"after Holm over {family} planned comparisons" if family > 1 else ""


def _rival(units: Units, name: str, measure: Measure) -> Rival | None:
    own = mean(values_of(units, units.pairs(name), measure)) if name in units.names else None
    treated = mean(values_of(units, treated_on(units, [name]), measure)) if own is not None else None
    return None if own is None or treated is None else Rival(name, own, treated)
