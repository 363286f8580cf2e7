"""Corrections: how far each detector can be trusted, and rates as they must be behind its mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from overlay.errors import ArgumentError
from overlay.scenarios.detectors import corrected_rate
from overlay.scenarios.evidence.units import Units
from overlay.scenarios.verdict import Check

if TYPE_CHECKING:
    from overlay.scenarios.detectors import DetectorCheck


def detector_rows(units: Units, checks: Mapping[str, DetectorCheck]) -> dict[str, dict[str, Any]]:
    """Each detector's kind, sensitivity and specificity, and every arm's rate corrected by them.

    `corrected` is None where nothing is to be corrected, because the detector is exact, or nothing can be.
    """
    return {
        detector.name: {
            "kind": detector.kind,
            "sensitivity": check and check.sensitivity and check.sensitivity.to_json(),
            "specificity": check and check.specificity and check.specificity.to_json(),
            "corrected": _corrected(units, detector.name, check) if check else None,
        }
        for detector in units.scenario.detectors
        for check in [checks.get(detector.name)]
    }


def detector_gate(units: Units, checks: Mapping[str, DetectorCheck]) -> list[Check]:
    """Whether the primary detector beats chance on its examples, where it was examined on both kinds of them."""
    check = checks.get(units.scenario.primary)
    if check is None or check.sensitivity is None or check.specificity is None:
        return []
    told = f"sensitivity {check.sensitivity.rate:.2f}, specificity {check.specificity.rate:.2f} on its examples"
    try:
        corrected_rate(0, 1, check)
    except ArgumentError as error:
        return [Check("the detector tells", False, error.problem)]
    return [Check("the detector tells", True, told)]


def _corrected(units: Units, detector: str, check: DetectorCheck) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for name in units.names:
        read = units.usable(name, detector)
        if not read:
            continue
        try:
            rate = corrected_rate(sum(bool(one["detectors"][detector]["fired"]) for one in read), len(read), check)
        except ArgumentError:
            return None
        if rate is None:
            return None
        found[name] = {"rate": rate.rate, "interval": [rate.interval.low, rate.interval.high], "fits": rate.fits}
    return found
