"""Overall: what several scenarios say together, each of them one piece of evidence however many units it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from overlay.errors import ArgumentError
from overlay.scenarios.verdict import SIGNIFICANCE, p_value
from overlay.statistics import cluster_bootstrap, holm, sign_flip

TWIN = "_ru"
"""How the name of a scenario's Russian version ends."""

Result = Mapping[str, Any]


def overall(results: Sequence[Result]) -> dict[str, Any]:
    """One verdict over the results of several scripts.

    "Behaviour shown" needs a scenario whose own verdict, with all its controls, says so and whose p, the larger of
    that over units and that over items, stays below .05 after Holm over the scenarios. How general it is says the
    sign-flip test over the scenarios' mean shifts (nats per token), and over their changes of the rate.
    Negative controls, invalid runs, and Russian versions whose English original was run too are listed and don't
    count; a negative control that changed makes the whole run invalid.

    Raises:
        ArgumentError: no result, or two results of one scenario.
    """
    names = [str(result["scenario"]) for result in results]
    if not names or len(set(names)) < len(names):
        raise ArgumentError(
            f"an overall verdict over {', '.join(names) or 'no scenario'}", "give each scenario's result once"
        )
    left_out = {name: _why_left_out(result, names) for name, result in zip(names, results, strict=True)}
    counted = [result for name, result in zip(names, results, strict=True) if not left_out[name]]
    ps = {str(result["scenario"]): p for result in counted if (p := _p(result)) is not None}
    adjusted = holm(ps)
    scenarios = [_row(result, left_out[name], adjusted) for name, result in zip(names, results, strict=True)]
    shifts = [float(row["shift"]) for row in scenarios if row["counted"] and row["shift"] is not None]
    rates = [
        float(row["rate_difference"]) for row in scenarios if row["counted"] and row["rate_difference"] is not None
    ]
    found: dict[str, Any] = {
        "sign_flip_p": sign_flip(shifts) if shifts else None,
        "shift": float(np.mean(shifts)) if shifts else None,
        "shift_interval": _interval(shifts),
        "rate_sign_flip_p": sign_flip(rates) if rates else None,
        "rate_difference": float(np.mean(rates)) if rates else None,
        "rate_interval": _interval(rates),
    }
    verdict, headline = _verdict(scenarios, found)
    if any(str(result["headline"]).startswith("Exploratory: ") for result in results):
        headline = f"Exploratory: {headline}"
    return {
        "verdict": verdict,
        "headline": headline,
        "reasons": _reasons(scenarios, found, len(shifts), len(rates)),
        "scenarios": scenarios,
        **found,
    }


def _why_left_out(result: Result, names: Sequence[str]) -> str:
    name = str(result["scenario"])
    if result.get("control") == "negative":
        return "a negative control"
    if result["verdict"] == "invalid":
        return "invalid"
    if name.endswith(TWIN) and name.removesuffix(TWIN) in names:
        return f"a Russian version of {name.removesuffix(TWIN)}, and no independent piece of evidence beside it"
    return ""


def _p(result: Result) -> float | None:
    """Both tests must agree, so the larger p is that of the scenario."""
    treated = result["arms"].get("treated") or {}
    p, item_p = treated.get("p"), treated.get("item_p")
    return None if p is None or item_p is None else max(float(p), float(item_p))


def _row(result: Result, left_out: str, adjusted: Mapping[str, float]) -> dict[str, Any]:
    treated = result["arms"].get("treated") or {}
    compared = (
        row["difference"]
        for row in result.get("comparisons", ())
        if (row["arm"], row["detector"]) == ("treated", result["primary"])
    )
    return {
        "scenario": result["scenario"],
        "control": result.get("control"),
        "verdict": result["verdict"],
        "shift": treated.get("shift"),
        "shift_interval": treated.get("shift_interval"),
        "rate_difference": next(compared, None),
        "p": _p(result),
        "holm_p": adjusted.get(str(result["scenario"])),
        "counted": not left_out,
        "left_out": left_out,
    }


def _verdict(scenarios: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> tuple[str, str]:
    misfired = [row["scenario"] for row in scenarios if _misfired(row)]
    counted = [row for row in scenarios if row["counted"]]
    shown = [row["scenario"] for row in counted if row["verdict"] == "behaviour shown" and _holds(row)]
    if misfired:
        return "invalid", (
            "These runs prove nothing either way: the instrument misfires, "
            f"for something changed in the negative control {_listed(misfired)}."
        )
    if not counted:
        return "invalid", "These runs prove nothing either way: no scenario that counts is valid."
    if shown:
        general = "" if _general(found) else " Over the scenarios together no shift could be told from chance."
        return "behaviour shown", (
            f"The state made the agent do it more often in {len(shown)} of {len(counted)} scenarios, "
            f"corrected for looking at all of them: {_listed(shown)}.{general}"
        )
    if _general(found):
        return "no change detected", (
            f"Over {len(counted)} scenarios the state tilted the preference ({found['shift']:+.3f} nats per token), "
            "but in none of them could a change of what was done be shown."
        )
    return "no change detected", f"In none of {len(counted)} scenarios could a change of what was done be shown."


def _reasons(scenarios: Sequence[Mapping[str, Any]], found: Mapping[str, Any], shifts: int, rates: int) -> list[str]:
    reasons = []
    if found["shift"] is not None:
        reasons.append(
            f"preference: moved by {found['shift']:+.3f} nats per token over {shifts} scenarios "
            f"(sign-flip {p_value(found['sign_flip_p'])})"
        )
    if found["rate_difference"] is not None:
        reasons.append(
            f"choices: {found['rate_difference']:+.1%} of units over {rates} scenarios "
            f"(sign-flip {p_value(found['rate_sign_flip_p'])})"
        )
    shown = [row for row in scenarios if row["counted"] and row["verdict"] == "behaviour shown"]
    reasons += [f"{row['scenario']}: behaviour shown, {p_value(row['holm_p'])} after Holm" for row in shown]
    for row in scenarios:
        if row["control"] == "negative":
            wanted = "as hoped for" if row["verdict"] == "no change detected" else "which is not what it is for"
            reasons.append(f"{row['scenario']}: a negative control, {row['verdict']}, {wanted}; it isn't counted")
        elif row["left_out"]:
            reasons.append(f"{row['scenario']}: not counted: {row['left_out']} (its verdict: {row['verdict']})")
    return reasons


def _misfired(row: Mapping[str, Any]) -> bool:
    return (row["control"], row["verdict"]) == ("negative", "behaviour shown")


def _holds(row: Mapping[str, Any]) -> bool:
    return row["holm_p"] is not None and row["holm_p"] < SIGNIFICANCE


def _general(found: Mapping[str, Any]) -> bool:
    return found["shift"] is not None and found["shift"] > 0 and found["sign_flip_p"] < SIGNIFICANCE


def _interval(values: Sequence[float]) -> list[float] | None:
    """Bootstrap over whole scenarios; None with fewer than two."""
    if len(values) < 2:
        return None
    interval = cluster_bootstrap(values, range(len(values)))
    return [interval.low, interval.high]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
