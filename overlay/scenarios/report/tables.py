"""Tables: a result's arms, comparisons and items as CSV, for programs that compute further."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from overlay.errors import ArgumentError
from overlay.records import write_record
from overlay.scenarios.report.arms import in_order
from overlay.scenarios.report.numbers import number, pair

ARMS = (
    "scenario", "arm", "label", "n", "rate", "rate_low", "rate_high", "rate_base", "mean_score",
    "score_low", "score_high", "shift", "shift_low", "shift_high", "p", "item_p", "empirical_p",
    "volatility_mean", "volatility_p95", "leaks", "directions",
)  # fmt: skip
COMPARISONS = (
    "scenario", "arm", "detector", "planned", "n", "test", "difference", "difference_low", "difference_high",
    "difference_item_low", "difference_item_high", "p", "holm_p", "bh_p", "e_value",
)  # fmt: skip
ITEMS = ("scenario", "item", "shift", "shift_low", "shift_high", "rate_base", "rate_treated")

_INTERVALS = {
    "rate": "rate_interval",
    "score": "score_interval",
    "shift": "shift_interval",
    "difference": "interval",
    "difference_item": "item_interval",
}


def write_tables(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write arms.csv, comparisons.csv and items.csv into `folder` and return their paths.

    UTF-8 with a header line; scores and shifts in nats per token, rates and differences as shares of 1, volatility
    in nats per token. A cell is empty where nothing was measured. A table without rows still has its header, so
    that no older file stays behind.

    Raises:
        ArgumentError: the result has no scenario or no arms.
        StorageFull: the disk is full.
    """
    for key in ("scenario", "arms"):
        if key not in result:
            raise ArgumentError(f"tables need the result's {key!r}", "pass the whole result of a run")
    scenario = result["scenario"]
    arms = [
        {**result["arms"][name], "arm": name, "directions": len(result["arms"][name].get("directions") or []) or None}
        for name in in_order(result["arms"])
    ]
    # An item's interval is that of its shift, a comparison's that of its difference.
    items = [{**item, "shift_interval": item.get("interval")} for item in result.get("items") or []]
    tables: dict[str, tuple[Sequence[str], Iterable[Mapping[str, Any]]]] = {
        "arms.csv": (ARMS, arms),
        "comparisons.csv": (COMPARISONS, result.get("comparisons") or []),
        "items.csv": (ITEMS, items),
    }
    written = []
    for name, (columns, rows) in tables.items():
        sheet = io.StringIO(newline="")
        writer = csv.writer(sheet, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(column, {**row, "scenario": scenario}) for column in columns] for row in rows)
        write_record(folder / name, sheet.getvalue())
        written.append(folder / name)
    return written


def _cell(column: str, row: Mapping[str, Any]) -> str:
    stem, _, end = column.rpartition("_")
    if end in ("low", "high"):
        ends = pair(row.get(_INTERVALS[stem]))
        return "" if ends is None else repr(ends[end == "high"])
    value = row.get(column)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    found = number(value)
    return "" if found is None else repr(found)
