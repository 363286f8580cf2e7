"""The page of a calibration: what was found, in sentences and tables, the same in a terminal and in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overlay.axes.axis import Axis
from overlay.axes.calibration import Calibration
from overlay.axes.coherence import DIVERSITY_SHARE, REPETITION_MARGIN, SURPRISE_FACTOR
from overlay.axes.layer_sweep import LayerSweep, as_spans
from overlay.axes.random_comparison import RandomComparison
from overlay.axes.response import OWN, DosePoint, DoseResponse, Effect
from overlay.records import write_record

MATCHED = {"norm": "the same dose", "volatility": "the same volatility"}


@dataclass(frozen=True)
class Table:
    """A table of a page, all cells as people read them; a wide one leaves its intervals out in a terminal."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wide: bool = False

    @property
    def terminal_rows(self) -> tuple[tuple[str, ...], ...]:
        """The rows as a terminal of 80 columns has room for them."""
        return tuple(tuple(cell.split(" (")[0] for cell in row) for row in self.rows) if self.wide else self.rows


@dataclass(frozen=True)
class PageFiles:
    """Where the parts of a page were written."""

    page: Path
    svg: Path
    png: Path
    record: Path


def write_page(axis: Axis, folder: Path, command: str = "") -> PageFiles:
    """Write NAME.md, NAME.svg, NAME.png and NAME.json into `folder`, each whole or not at all."""
    from overlay.axes.calibration_plot import draw_calibration

    files = PageFiles(*(folder / f"{axis.name}{ending}" for ending in (".md", ".svg", ".png", ".json")))
    write_record(files.svg, draw_calibration(axis, "svg"))
    write_record(files.png, draw_calibration(axis, "png"))
    write_record(files.record, json.dumps(calibration_record(axis), indent=1, ensure_ascii=False) + "\n")
    write_record(files.page, _markdown(axis, files.svg.name, command))
    return files


def calibration_record(axis: Axis) -> dict[str, Any]:
    """All that was measured and what was concluded from it, as JSON can hold it."""
    found = axis.calibration
    return {
        "axis": axis.name,
        "model": axis.model_name,
        "model_digest": axis.model_digest,
        "method": axis.method,
        "writes": axis.writes,
        "blocks": list(axis.blocks),
        "proven": axis.proven,
        "failures": axis.evidence.failures,
        "findings": findings(axis),
        **found.to_json(),
        "random": [_summary(comparison) for comparison in found.comparisons],
        "best_window": list(found.sweep.best.blocks) if found.sweep else None,
    }


def _summary(comparison: RandomComparison) -> dict[str, Any]:
    places = range(len(comparison.doses))
    keys = ("mean", "low", "high")
    return {
        "matching": comparison.matching,
        "doses": list(comparison.doses),
        "own": [dict(zip(keys, comparison.spread(place, "own"), strict=True)) for place in places],
        "specific": [dict(zip(keys, comparison.spread(place, "specific"), strict=True)) for place in places],
        "as_far_own": [comparison.as_far(place, "own") for place in places],
        "as_far_specific": [comparison.as_far(place, "specific") for place in places],
        "directions": len(comparison.scales),
    }


# --- what was found ------------------------------------------------------------------------------


def findings(axis: Axis) -> list[str]:
    """What was measured, in sentences that hold whatever came out."""
    found = axis.calibration
    said = [] if axis.proven else [f"The axis did not pass its checks: {'; '.join(axis.evidence.failures)}."]
    said += [_budget_sentence(found), _limit_sentence(found)]
    if found.response is not None:
        said += _response_sentences(found, found.response)
    said += [_random_sentence(found, comparison) for comparison in found.comparisons]
    if found.sweep is not None:
        said += _sweep_sentences(found.sweep)
    return said


def _budget_sentence(found: Calibration) -> str:
    if found.spends_budget:
        return (
            f"The budget of {found.budget:g} nats per token is spent at a dose of {found.budget_dose:.4f} of the "
            f"residual norm ({found.cost:.3f} in the dearer of its signs)."
        )
    return (
        f"Text falls apart before the budget of {found.budget:g} nats per token is spent: the budget dose is the "
        f"limit, {found.budget_dose:.4f} of the residual norm, which costs {found.cost:.3f}."
    )


def _limit_sentence(found: Calibration) -> str:
    if not found.falls_apart:
        return f"Up to a dose of {found.limit:g} text was not seen to fall apart; larger doses were not tried."
    broken = min((abs(p.dose) for p in found.coherence if not p.coherent and abs(p.dose) > found.limit), default=None)
    next_up = "" if broken is None else f"; at {broken:.4f} it no longer was"
    return (
        f"The model's own text stays coherent up to a dose of {found.limit:.4f}, "
        f"{found.limit / found.budget_dose:.2f} times the budget dose{next_up}. Larger ones are refused."
    )


def _response_sentences(found: Calibration, response: DoseResponse) -> list[str]:
    texts = sum(response.texts.values())
    kind = "texts that the axis was not built from" if response.fresh else "the texts that the axis was built from"
    said = [f"Doses were measured on {texts} texts ({kind})."]
    if not response.fresh:
        said.append("There are no confirmation texts: what the axis does to texts it has seen flatters it.")
    best = max(response.points, key=lambda point: point.groups[OWN].mean)
    if best.dose == 0:
        said.append("No measured dose makes its own texts likelier.")
    else:
        said.append(
            f"Of these doses {signed(best.dose, 4)} makes its own texts likeliest, {_effect(best.groups[OWN])}."
        )
    for sign, name in ((1, "up"), (-1, "down")):
        point = nearest(response.points, sign * found.budget_dose)
        said.append(
            f"A dose of {signed(point.dose, 4)} ({name}, nearest to the budget dose) changes its own texts by "
            f"{_effect(point.groups[OWN])} nats per token; own minus other groups: {_effect(point.specific)}"
            + (", an interval that holds 0." if point.specific.low <= 0 <= point.specific.high else ".")
        )
    return said


def _random_sentence(found: Calibration, comparison: RandomComparison) -> str:
    places = range(len(comparison.doses))
    count = len(comparison.scales)
    parts = []
    for sign in (1, -1):
        place = min(places, key=lambda at: abs(comparison.doses[at] - sign * found.budget_dose))
        mean, low, high = comparison.spread(place)
        parts.append(
            f"at {signed(comparison.doses[place], 4)} {signed(mean)} ({signed(low)} to {signed(high)}) against the "
            f"axis's {signed(comparison.axis_specific[place])}, and {comparison.as_far(place)} of {count} went as far"
        )
    return (
        f"Random directions of {MATCHED[comparison.matching]}, own minus other groups on the same "
        f"{sum(comparison.texts.values())} texts: {'; '.join(parts)}."
    )


def _sweep_sentences(sweep: LayerSweep) -> list[str]:
    now, best = sweep.own_window, sweep.best
    texts = sum(sweep.texts.values())
    start = f"Of {len(sweep.windows)} windows of {len(sweep.current)} blocks at equal volatility, on {texts} texts"
    acts = f"where the axis acts now, blocks {as_spans(now.blocks)}, has {_effect(now.specific)}"
    others = [window for window in sweep.windows if window is not now]
    apart = sum(not window.gain.low <= 0 <= window.gain.high for window in others)
    told = f"{apart} of the {len(others)} others differ from it by an interval without 0."
    if best is now:
        return [f"{start}, {acts}: the largest specific effect of all. {told}"]
    gain = "an interval that holds 0" if best.gain.low <= 0 <= best.gain.high else "an interval without 0"
    return [
        f"{start}, blocks {as_spans(best.blocks)} have the largest specific effect, {_effect(best.specific)}; {acts}. "
        f"The difference is {_effect(best.gain)}, {gain}; the best of many windows flatters, and coherence was not "
        f"measured there. Where it acts now: {told}"
    ]


def nearest(points: Sequence[DosePoint], dose: float) -> DosePoint:
    """The measured point nearest to a dose."""
    return min(points, key=lambda point: abs(point.dose - dose))


# --- tables --------------------------------------------------------------------------------------


def calibration_tables(axis: Axis) -> list[Table]:
    """Every table of the page, in its order."""
    found = axis.calibration
    tables = []
    if found.response is not None:
        tables += [_response_table(found.response), _groups_table(found.response)]
    tables += [_random_table(comparison) for comparison in found.comparisons]
    if found.sweep is not None:
        tables.append(_sweep_table(found.sweep))
    return [*tables, _coherence_table(found)]


def _response_table(response: DoseResponse) -> Table:
    return Table(
        "Dose-response",
        "Change of the log-likelihood from dose 0, nats per token, with 95% bootstrap intervals over texts; "
        "volatility is KL on neutral text, nats per token.",
        ("dose", "volatility", "95th percentile", "its own texts", "own minus other groups"),
        tuple(
            (
                signed(point.dose, 4),
                f"{point.volatility_mean:.3f}",
                f"{point.volatility_p95:.3f}",
                _effect(point.groups[OWN]),
                _effect(point.specific),
            )
            for point in response.points
        ),
    )


def _groups_table(response: DoseResponse) -> Table:
    groups = [group for group in response.texts if group != OWN]
    return Table(
        "The other groups",
        "The same change, group by group. Texts: "
        + ", ".join(f"{'its own' if group == OWN else group} {count}" for group, count in response.texts.items())
        + ".",
        ("dose", *groups),
        tuple(
            (signed(point.dose, 4), *(_effect(point.groups[group]) for group in groups)) for point in response.points
        ),
        wide=True,
    )


def _random_table(comparison: RandomComparison) -> Table:
    count = len(comparison.scales)
    scales = "" if comparison.matching == "norm" else (
        f" Their doses are {min(comparison.scales):.2f} to {max(comparison.scales):.2f} times the axis's."
    )  # fmt: skip
    return Table(
        f"Random directions of {MATCHED[comparison.matching]}",
        f"{count} directions, mean and range, nats per token, all on the same {sum(comparison.texts.values())} texts; "
        f"at the budget dose they cost {min(comparison.costs):.3f} to {max(comparison.costs):.3f}.{scales} As far: how "
        "many go at least as far as the axis, up for a dose above 0 and down below it.",
        ("dose", "own: axis", "own: random", "as far", "own minus others: axis", "random", "as far"),
        tuple(
            (
                signed(dose, 4),
                *(
                    cell
                    for part in ("own", "specific")
                    for cell in (
                        signed(comparison.of_axis(part)[place]),
                        _spread(comparison.spread(place, part)),
                        f"{comparison.as_far(place, part)} of {count}" if dose else "",
                    )
                ),
            )
            for place, dose in enumerate(comparison.doses)
        ),
    )


def _sweep_table(sweep: LayerSweep) -> Table:
    best, now = sweep.best, sweep.own_window
    left_out = f" Windows from blocks {', '.join(map(str, sweep.left_out))} can't spend it." if sweep.left_out else ""
    return Table(
        "Windows of blocks",
        f"Each at the dose that costs what the budget dose costs where the axis acts now, on "
        f"{sum(sweep.texts.values())} texts; the last column is the specific effect minus that of the window where the "
        f"axis acts now.{left_out}",
        ("blocks", "dose", "volatility", "its own texts", "own minus other groups", "minus now", ""),
        tuple(
            (
                as_spans(window.blocks),
                f"{window.dose:.4f}",
                f"{window.volatility:.3f}",
                _effect(window.own),
                _effect(window.specific),
                "" if window is now else _effect(window.gain),
                ", ".join(["now"] * (window is now) + ["best"] * (window is best)),
            )
            for window in sweep.windows
        ),
    )


def _coherence_table(found: Calibration) -> Table:
    return Table(
        "Where text falls apart",
        f"The model's own text under each dose. Coherent: at most {SURPRISE_FACTOR:g} times as surprising to the "
        f"unsteered model (nats per token) as unsteered text, at most {REPETITION_MARGIN:g} more of its 3-grams "
        f"repeated, and at least {DIVERSITY_SHARE:.0%} of the distinct 2-grams left. Other texts give "
        "another limit: those of two draws for the stock axis lay a tenth apart.",
        ("dose", "surprise", "repeated 3-grams", "distinct 2-grams", "coherent"),
        tuple(
            (
                signed(point.dose, 4),
                "no text" if point.surprise is None else f"{point.surprise:.2f}",
                f"{point.repetition:.3f}",
                f"{point.diversity:.3f}",
                "yes" if point.coherent else "no",
            )
            for point in found.coherence
        ),
    )


def _markdown(axis: Axis, plot: str, command: str) -> str:
    acts_along = "" if axis.writes == "reading" else ", acting along the gradient"
    acts = f"acts at blocks {as_spans(axis.blocks)}, method {axis.method}{acts_along}"
    lines = [
        f"# {axis.name}: calibration",
        "",
        f"On {axis.model_name} (`{axis.model_digest[:12]}`); {acts}."
        + (f" Made by `{command}`, which replaces this page." if command else ""),
        "",
        *(f"- {sentence}" for sentence in findings(axis)),
        "",
        f"![{axis.name}: what doses do, cost, and where]({plot})",
        "",
    ]
    for table in calibration_tables(axis):
        lines += [
            f"## {table.title}",
            "",
            table.note,
            "",
            f"| {' | '.join(table.columns)} |",
            "|" + "---|" * len(table.columns),
            *(f"| {' | '.join(row)} |" for row in table.rows),
            "",
        ]
    return "\n".join(lines)


# --- numbers -------------------------------------------------------------------------------------


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign; what rounds to zero has none."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else ("+" if value > 0 else "-") + text


def _effect(effect: Effect) -> str:
    return f"{signed(effect.mean)} ({signed(effect.low)} to {signed(effect.high)})"


def _spread(spread: tuple[float, float, float]) -> str:
    mean, low, high = spread
    return f"{signed(mean)} ({signed(low)} to {signed(high)})"
