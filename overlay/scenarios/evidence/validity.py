"""Validity: whether a run may be read at all. Quality of every arm, and the gates that a valid run has passed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from overlay.scenarios.cells import Record
from overlay.scenarios.evidence.comparisons import planned_comparisons
from overlay.scenarios.evidence.units import Units
from overlay.scenarios.verdict import LEAST_ITEMS, LEAST_UNITS, Check

MOST_OWN_NLL = 1.5
"""Treated text may be this many times as surprising to the unchanged model as base's; beyond, it falls apart."""

MOST_REPETITION = 0.1
"""How much larger treated's share of repeated runs of four words may be than base's."""

MOST_UNPARSABLE = 0.1
MOST_EXCLUDED = 0.2
"""Shares of an arm's units; with more of them gone, what is left is a selection."""

NEEDED = ("base", "treated", "sham", "reversed")


def validity_rows(units: Units, leaks: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Per arm: units planned, run and left out with reasons, quality of the text, leaks, identity of its tokens."""
    return {name: _row(units, name, leaks.get(name, 0)) for name in units.names}


def prompts_identical(units: Units) -> bool:
    """Whether all arms that must have base's tokens had them, up to the first thing that the agent did."""
    return all(_same_tokens(units, name) is not False for name in units.names)


def sham_identical(units: Units) -> bool | None:
    """Whether the sham arm did, scored and wrote what base did, bit for bit; None where it didn't run."""
    sham = units.cells.get(("sham", None))
    if not sham:
        return None
    return all(_done(record) == _done(units.base[key]) for key, record in sham.items() if key in units.base)


def gates(units: Units, rows: Mapping[str, Mapping[str, Any]], *, exploratory: bool) -> list[Check]:
    """Everything that the records must satisfy before an effect may be looked at."""
    pairs = units.pairs("treated")
    items = len({pair.item for pair in pairs})
    missing = [name for name in NEEDED if not units.cells.get((name, None))]
    if not any(units.records(name) for name in units.random_names()):
        missing.append("random directions")
    found = [
        Check("controls were run", not missing, f"missing: {', '.join(missing)}" if missing else "none is missing"),
        Check(
            "enough pairs",
            items >= LEAST_ITEMS and len(pairs) >= LEAST_UNITS,
            f"{items} items and {len(pairs)} units in base and treated; {LEAST_ITEMS} and {LEAST_UNITS} are the least",
        ),
    ]
    if not exploratory:
        ran = {(name, one.name) for name in units.names for one in units.scenario.detectors if units.records(name)}
        unkept = [f"{arm} by {detector}" for arm, detector in planned_comparisons(units) if (arm, detector) not in ran]
        kept = f"not run: {', '.join(unkept)}" if unkept else "all that was promised was run"
        found.append(Check("planned comparisons were run", not unkept, kept))
    if "treated" in rows:
        found += _quality(rows["base"], rows["treated"])
    found += [
        _every(rows, "what was done could be read", "unparsable", MOST_UNPARSABLE, "units with an empty or unread act"),
        _every(rows, "few units left out", "left_out", MOST_EXCLUDED, "units left out or never run"),
    ]
    named = {name: row["leaks"] for name, row in rows.items() if row["leaks"] and _must_match(units, name)}
    words = ", ".join(f"{name}: {count}" for name, count in named.items()) or "no state word in any context"
    return [*found, Check("no leak in any arm", not named, words)]


def _row(units: Units, name: str, leaks: int) -> dict[str, Any]:
    records = units.records(name)
    planned = units.planned(name)
    reasons = units.left_out(name)
    excluded = sum(reasons.values())
    unread = sum(record["quality"]["unparsable"] > 0 for record in records)
    costs = [arm.volatility.mean for arm in units.members(name) if arm.volatility is not None]
    return {
        "planned": planned,
        "run": len(records),
        "excluded": excluded,
        "reasons": dict(sorted(reasons.items())),
        "volatility_mean": statistics.fmean(costs) if costs else None,
        "own_nll": _mean(record["quality"]["own_nll"] for record in records),
        "repetition": _mean(record["quality"]["repetition"] for record in records),
        "unparsable": unread / len(records) if records else None,
        "leaks": leaks,
        "same_tokens": _same_tokens(units, name),
        "calls": sum(record["quality"]["calls"] for record in records),
        "left_out": 1.0 if not planned else (max(0, planned - len(records)) + excluded) / max(planned, len(records)),
    }


def _quality(base: Mapping[str, Any], treated: Mapping[str, Any]) -> Iterable[Check]:
    before, after = base["own_nll"], treated["own_nll"]
    if before is not None and after is not None:
        yield Check(
            "text as coherent as base's",
            after <= MOST_OWN_NLL * before,
            f"the unchanged model finds treated text at {after:.2f} nats per token, base's at {before:.2f}",
        )
    before, after = base["repetition"], treated["repetition"]
    if before is not None and after is not None:
        yield Check(
            "no more repetition than base",
            after <= before + MOST_REPETITION,
            f"{after:.0%} of treated runs of four words came before, {before:.0%} of base's",
        )


def _every(rows: Mapping[str, Mapping[str, Any]], name: str, key: str, most: float, what: str) -> Check:
    """A share that no arm may exceed."""
    over = {arm: row[key] for arm, row in rows.items() if row[key] is not None and row[key] > most}
    largest = max((row[key] for row in rows.values() if row[key] is not None), default=0.0)
    told = ", ".join(f"{arm}: {share:.0%}" for arm, share in over.items()) or f"at most {largest:.0%} in any arm"
    return Check(name, not over, f"{what}: {told}; {most:.0%} may be")


def _same_tokens(units: Units, name: str) -> bool | None:
    """None for an arm that says something by name, and needn't have base's tokens."""
    if not _must_match(units, name):
        return None
    return all(
        record["prompts"] == units.base[key]["prompts"]
        for arm in units.members(name)
        for key, record in units.cells[name, arm.direction].items()
        if key in units.base and record["prompts"] and units.base[key]["prompts"]
    )


def _must_match(units: Units, name: str) -> bool:
    return all(arm.same_tokens for arm in units.members(name))


def _done(record: Record) -> list[tuple[Any, ...]]:
    return [
        (event["step"], event["text"], event["chosen"], [list(scores) for scores in event["scores"]])
        for event in record["events"]
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    known: Sequence[float] = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
