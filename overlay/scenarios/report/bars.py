"""Bars: which numbers of a result become which rows of a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from overlay.plots import BLUE, GREY, INK, VERMILION
from overlay.scenarios.report.arms import COLOUR, ReportedArm
from overlay.scenarios.report.numbers import (
    number,
    p_value,
    pair,
    percent,
    percent_span,
    points,
    points_span,
    signed,
    span,
)
from overlay.scenarios.report.plots import Bar


def shift_bars(arms: Iterable[ReportedArm]) -> list[Bar]:
    """The arms that have a shift; base is the zero line, not a row."""
    return [
        Bar(
            arm.label, arm.shift, arm.shift_interval, arm.colour, "D" if arm.directions else "o",
            tuple(arm.cloud("shift")), (signed(arm.shift), span(arm.shift_interval)),
        )
        for arm in arms
        if arm.name != "base" and (arm.shift is not None or arm.cloud("shift"))
    ]  # fmt: skip


def rate_bars(arms: Iterable[ReportedArm]) -> list[Bar]:
    """How often the behaviour happened in each arm, in percent."""
    return [
        Bar(
            arm.label, _hundred(arm.rate), _hundreds(arm.rate_interval), arm.colour,
            cloud=tuple(100 * rate for rate in arm.cloud("rate")),
            numbers=(percent(arm.rate), percent_span(arm.rate_interval)),
        )
        for arm in arms
        if arm.rate is not None
    ]  # fmt: skip


def rate_change_bars(result: Mapping[str, Any], arms: Mapping[str, ReportedArm]) -> list[Bar]:
    """The change of the primary detector's rate against base, in percentage points, of each arm compared."""
    found = {
        one["arm"]: one
        for one in result.get("comparisons") or []
        if one.get("detector") == result.get("primary") and number(one.get("difference")) is not None
    }
    bars = []
    for name, arm in arms.items():
        value = number(found[name]["difference"]) if name in found else None
        cloud = tuple(100 * change for change in arm.cloud("rate_difference"))
        if cloud and value is None:
            # Random directions stand in no comparison of their own: the diamond is the mean of their dots.
            value = sum(cloud) / len(cloud) / 100
        if value is not None and name != "base":
            ends = found.get(name, {}).get("interval")
            marker = "D" if arm.directions else "o"
            bars.append(
                Bar(
                    arm.label, 100 * value, _hundreds(pair(ends)), arm.colour, marker, cloud,
                    (points(value), points_span(ends)),
                )
            )  # fmt: skip
    return bars


def item_bars(items: Sequence[Mapping[str, Any]], whole: ReportedArm | None) -> list[Bar]:
    """One row per item, the largest shift first, and all items together below."""
    known = [item for item in items if number(item.get("shift")) is not None]
    known.sort(key=lambda item: -(number(item["shift"]) or 0.0))
    bars = [
        Bar(str(item["item"]), number(item["shift"]), pair(item.get("interval")), GREY,
            numbers=(signed(item["shift"]), _change(item.get("rate_base"), item.get("rate_treated"))))
        for item in known
    ]  # fmt: skip
    if bars and whole is not None and whole.shift is not None:
        bars.append(Bar("all items", whole.shift, whole.shift_interval, BLUE, "D", numbers=(signed(whole.shift), "")))
    return bars


def item_pairs(items: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """One row per item from its rate in base to its rate in the treated arm, in percent."""
    bars = []
    for item in items:
        before, after = number(item.get("rate_base")), number(item.get("rate_treated"))
        if before is not None and after is not None:
            colour = BLUE if after > before else VERMILION if after < before else GREY
            numbers = (points(after - before), _change(before, after))
            bars.append(Bar(str(item["item"]), None, (100 * before, 100 * after), colour, numbers=numbers))
    return bars


def level_bars(levels: Sequence[Mapping[str, Any]], key: str) -> list[Bar]:
    """One row per level of influence; `key` is "shift" (nats per token) or "rate" (shares, drawn in percent)."""
    bars = []
    for level in levels:
        value, ends = number(level.get(key)), pair(level.get(f"{key}_interval"))
        if value is None:
            continue
        name = f"Level {level['level']}: {level['name']}"
        colour = COLOUR.get(str(level["name"]), GREY)
        if key == "rate":
            bars.append(Bar(name, 100 * value, _hundreds(ends), colour, numbers=(percent(value), percent_span(ends))))
        else:
            bars.append(Bar(name, value, ends, colour, numbers=(signed(value), span(ends))))
    return bars


def scenario_bars(scenarios: Sequence[Mapping[str, Any]], overall: Mapping[str, Any]) -> list[Bar]:
    """One row per script, those that count first, and what all of these say together last."""
    bars = []
    for one in sorted(scenarios, key=lambda one: not counts(one)):
        shift = number(one.get("shift"))
        if shift is not None:
            told = f"Holm p {p_value(one.get('holm_p'))}" if counts(one) else "not counted"
            bars.append(
                Bar(
                    str(one["scenario"]), shift, pair(one.get("shift_interval")), INK if counts(one) else GREY,
                    "o" if counts(one) else "s", numbers=(signed(shift), told),
                )
            )  # fmt: skip
    whole = number(overall.get("shift"))
    if bars and whole is not None:
        ends = pair(overall.get("shift_interval"))
        text = f"p {p_value(overall.get('sign_flip_p'))}"
        bars.append(Bar("all that count", whole, ends, BLUE, "D", numbers=(signed(whole), text)))
    return bars


def counts(scenario: Mapping[str, Any]) -> bool:
    """Whether a script is part of what all scripts say together; negative controls never are."""
    return bool(scenario.get("counted", True)) and scenario.get("control") != "negative"


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _hundreds(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if ends is None else (100 * ends[0], 100 * ends[1])


def _change(before: Any, after: Any) -> str:
    return f"{percent(before)} → {percent(after)}" if number(before) is not None or number(after) is not None else ""
