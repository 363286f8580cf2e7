"""The page of one script: its verdict in words on top, and below everything that the verdict rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overlay.errors import ArgumentError
from overlay.records import write_record
from overlay.scenarios.report.arms import MEANING, RANDOM, ReportedArm, arms_of, beside_treated, in_order
from overlay.scenarios.report.bars import item_bars, item_pairs, level_bars, rate_bars, rate_change_bars, shift_bars
from overlay.scenarios.report.canvas import plots
from overlay.scenarios.report.numbers import number
from overlay.scenarios.report.plots import (
    RATE,
    RATE_CHANGE,
    SHIFT,
    SOURCE_MARKERS,
    Bar,
    Scale,
    axes_of,
    draw_bars,
    draw_doses,
    draw_pairs,
    draw_state,
    draw_volatility,
)
from overlay.scenarios.report.templates import template
from overlay.scenarios.report.transcripts import side_by_side

REQUIRED = ("scenario", "verdict", "headline", "model", "arms")

# The class that colours the band; the words are always there too.
VERDICTS = {"behaviour shown": "shown", "no change detected": "unchanged", "invalid": "invalid"}

EMPIRICAL_P = 39
"""Fewer random directions than these can't give an empirical p of .025."""

MECHANICAL = {"ledger", "choice", "volunteered"}
"""Detectors that count what was done: they need no labelled examples."""

# Shown in a plot of their own, so that the plot of effects stays one look.
_OWN_PLOT = {
    "dose_response": {"dose_0.5", "dose_1.5", "half", "double"},
    "levels": {"topic", "prompted", "adapter"},
}


@dataclass(frozen=True)
class Section:
    """One part of the page: `name` is its template and its anchor; `short` is its word in the list of parts."""

    name: str
    title: str
    short: str


def write_report(result: Mapping[str, Any], path: Path) -> None:
    """Write the page of one script's result to `path`, replacing it whole or not at all.

    `result` is what `overlay run --json` prints: margins and shifts in nats per token, volatility in nats per
    token, rates as shares of 1, `seconds` in seconds. Parts that a run did not reach may be missing or None and are
    left out; the intervals are labelled with the result's "confidence", 0.95 where it has none.

    Raises:
        ArgumentError: a part that no report can do without is missing, or the verdict is none of the three.
        StorageFull: the disk is full.
    """
    for key in REQUIRED:
        if key not in result:
            raise ArgumentError(f"a report needs the result's {key!r}", "pass the whole result of a run")
    if result["verdict"] not in VERDICTS:
        raise ArgumentError(
            f"{result['verdict']!r} is not a verdict", "give one of: " + ", ".join(map(repr, VERDICTS)) + "."
        )
    write_record(path, template("page.html.j2").render(**_content(result)))


def _content(result: Mapping[str, Any]) -> dict[str, Any]:
    arms = arms_of(result)
    examples = list(result.get("examples") or [])
    comparisons = list(result.get("comparisons") or [])
    directions = [len(arms[name].directions) for name in RANDOM if name in arms and arms[name].directions]
    content = {
        "result": result,
        "band": VERDICTS[result["verdict"]],
        "standing": list(_standing(result)),
        "confidence": result.get("confidence") or 0.95,
        "budget": number(result.get("budget")),
        "arms": arms,
        "labels": {name: arm.label for name, arm in arms.items()},
        "examples": examples,
        "options": _common_options(examples),
        "beside": list(beside_treated(arms)),
        "controlled": bool(directions),
        "few_directions": bool(directions) and min(directions) < EMPIRICAL_P,
        "least_directions": EMPIRICAL_P,
        "checks": _checks(result),
        "planned": [one for one in comparisons if one.get("planned")],
        "exploratory": [one for one in comparisons if not one.get("planned")],
        "several_detectors": len({one.get("detector") for one in comparisons}) > 1,
        "validity": _ordered(result.get("validity")),
        "corrected": _corrected(result.get("detectors")),
        "mechanical": MECHANICAL,
        "transcripts": [side_by_side(one) for one in result.get("transcripts") or []],
        "free_arms": _free_arms(result),
    }
    content |= _state(result)
    content |= _figures(result, arms)
    content["sections"] = list(_sections(result, content))
    return content


def _standing(result: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know of the kind of run before reading its verdict."""
    if result.get("control") == "negative":
        yield (
            "Negative control: in this script nothing should change, so “no change detected” is what is hoped for. "
            "“Behaviour shown” would mean that the instrument misfires."
        )
    if result.get("exploratory"):
        yield (
            "Exploratory run: it does not follow a plan fixed before the first record. Its p values point to what is "
            "worth a planned run; they are no evidence by themselves."
        )


def _figures(result: Mapping[str, Any], arms: Mapping[str, ReportedArm]) -> dict[str, Any]:
    elsewhere = {name for key, names in _OWN_PLOT.items() if result.get(key) for name in names}
    shown = {name: arm for name, arm in arms.items() if name not in elsewhere}
    effect, scale = shift_bars(shown.values()), SHIFT
    if not effect:
        # A script of free text only has no scored options, so its effect is a change of rates.
        effect, scale = rate_change_bars(result, shown), RATE_CHANGE
    doses = list((result.get("dose_response") or {}).get("doses") or [])
    dosed = "shift" if any(number(dose.get("shift")) is not None for dose in doses) else "rate"
    doses = doses if any(number(dose.get(dosed)) is not None for dose in doses) else []
    items = list(result.get("items") or [])
    forest, paired = item_bars(items, arms.get("treated")), item_pairs(items)
    levels = list(result.get("levels") or [])
    by_level, level_scale = level_bars(levels, "shift"), SHIFT
    if not by_level:
        by_level, level_scale = level_bars(levels, "rate"), RATE
    # Arms without an intervention cost nothing; sham is drawn all the same, since its nothing is a finding.
    costs = [arm for arm in arms.values() if arm.volatility_mean or (arm.name == "sham" and arm.volatility_mean == 0)]
    budget = number(result.get("budget"))
    return {
        "effect": _bars("effect", "Shift of each arm against base", effect, scale),
        "effect_is_rate": scale is RATE_CHANGE,
        "rates": _bars("rates", "Rate of each arm", rate_bars(shown.values()), RATE),
        "doses": plots(
            "doses", "Response at each dose", doses, lambda axes, rows, canvas: draw_doses(axes, rows, canvas, dosed)
        ),
        "dosed": dosed,
        "items": _bars("items", "Shift of each item", forest, SHIFT)
        if forest
        else plots("items", "Rate of each item in base and treated", paired, draw_pairs),
        "items_are_rates": not forest,
        "levels": _bars("levels", "The levels of influence side by side", by_level, level_scale),
        "levels_are_rates": level_scale is RATE,
        "volatility": plots(
            "volatility",
            "Volatility of each arm against the budget",
            costs,
            lambda axes, rows, canvas: draw_volatility(axes, rows, canvas, budget),
        ),
    }


def _bars(name: str, title: str, bars: Sequence[Bar], scale: Scale) -> Any:
    return plots(name, title, bars, lambda axes, rows, canvas: draw_bars(axes, rows, canvas, scale))


def _state(result: Mapping[str, Any]) -> dict[str, Any]:
    path: list[Mapping[str, Any]] = list(result.get("state_path") or [])
    return {
        "path": path,
        "axes": axes_of(path),
        "sources": [source for source in SOURCE_MARKERS if any(step.get("source") == source for step in path)],
        "state": plots("state", "State after each step", path, draw_state),
    }


def _sections(result: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[Section]:
    """The parts that this result has something for, in the order in which a doubter asks for them."""
    levels = {1: "One level", 2: "Two levels", 3: "Three levels", 4: "Four levels", 5: "Base and four levels"}
    count = len(result.get("levels") or [])
    possible = (
        (content["effect"], Section("effect", "Effect against base", "Effect")),
        (content["rates"], Section("rates", "How often it happened", "Rates")),
        (content["doses"], Section("doses", "Does a larger dose do more?", "Doses")),
        (content["items"], Section("items", "Does it hold from item to item?", "Items")),
        (count, Section("levels", f"{levels.get(count, f'{count} levels')} of influence side by side", "Levels")),
        (result.get("self_report"), Section("self_report", "Does it name what moves it?", "Self-report")),
        (content["transcripts"], Section("transcripts", "What was said in base and treated", "Transcripts")),
        (content["examples"], Section("examples", "Choices that moved most", "Choices")),
        (content["state"], Section("state", "How the state built up", "State")),
        (content["volatility"], Section("volatility", "What the interventions cost", "Cost")),
        (True, Section("validity", "Is the comparison valid?", "Validity")),
        (result.get("detectors"), Section("detectors", "How well the detectors see", "Detectors")),
        (result.get("comparisons"), Section("comparisons", "All comparisons with base", "Comparisons")),
        (content["arms"], Section("arms", "All arms in numbers", "Numbers")),
        (True, Section("again", "Run it again", "Run it again")),
    )
    return (section for present, section in possible if present)


def _checks(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    known = {
        "prompts_identical": ("Same prompts in all arms", "the tokens of every trial were compared between arms"),
        "sham_identical": ("Sham arm equals base", "hook on at dose 0 against no hook"),
    }
    own = [
        {"name": name, "passed": bool(result[key]), "detail": detail}
        for key, (name, detail) in known.items()
        if result.get(key) is not None
    ]
    return own + list(result.get("checks") or [])


def _common_options(examples: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of the options where all examples offer the same ones, behaviour first; else none."""
    offered = [list(example.get("options") or {}) for example in examples]
    return offered[0] if offered and all(one == offered[0] for one in offered) else []


def _ordered(by_arm: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: by_arm[name] for name in in_order(by_arm)} if by_arm else {}


def _corrected(detectors: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Corrected rates by arm, then by detector."""
    found: dict[str, dict[str, Any]] = {}
    for name, detector in (detectors or {}).items():
        for arm, rate in (detector.get("corrected") or {}).items():
            found.setdefault(arm, {})[name] = rate
    return _ordered(found)


def _free_arms(result: Mapping[str, Any]) -> list[str]:
    """Arms whose free answers were counted."""
    counted = [one for one in (result.get("self_report") or {}).get("free") or []]
    return in_order({arm: None for one in counted for arm in one if arm in MEANING or arm in result["arms"]})
