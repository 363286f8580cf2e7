"""The page of several scripts: what they say together, with each script's own effect below it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from overlay.errors import ArgumentError
from overlay.records import write_record
from overlay.scenarios.report.bars import counts, scenario_bars
from overlay.scenarios.report.canvas import plots
from overlay.scenarios.report.page import VERDICTS
from overlay.scenarios.report.plots import SHIFT, draw_bars
from overlay.scenarios.report.templates import template


def write_overview(document: Mapping[str, Any], path: Path, links: Mapping[str, str]) -> None:
    """Write one page for several scripts to `path`, replacing it whole or not at all.

    `document` is what `overlay run --json` prints for several scripts: {"runs": [result, ...], "overall": {...}},
    shifts in nats per token. `links` gives each script's page as a path relative to this page's folder; a script
    without one is listed unlinked.

    Raises:
        ArgumentError: the document lacks a part, or a link isn't a relative path.
        StorageFull: the disk is full.
    """
    for key in ("runs", "overall"):
        if document.get(key) is None:
            raise ArgumentError(f"an overview needs the document's {key!r}", "pass the whole document of the run")
    overall: Mapping[str, Any] = document["overall"]
    for key in ("verdict", "headline"):
        if key not in overall:
            raise ArgumentError(f"an overview needs {key!r} of the overall result", "pass the whole document")
    for scenario, link in links.items():
        if Path(link).is_absolute() or link.startswith(("/", "\\")):
            raise ArgumentError(
                f"the link {link!r} of {scenario!r} isn't relative", f"give it relative to {path.parent}"
            )
    runs = {run["scenario"]: run for run in document["runs"]}
    # Results of runs that broke off before anything was weighed have no row of their own.
    weighed = list(overall.get("scenarios") or [])
    listed = {one["scenario"] for one in weighed}
    weighed += [
        {"scenario": name, "control": run.get("control"), "verdict": run.get("verdict"), "counted": False}
        for name, run in runs.items()
        if name not in listed
    ]
    forest = plots(
        "scenarios",
        "Shift of each script against base",
        scenario_bars(weighed, overall),
        lambda axes, rows, canvas: draw_bars(axes, rows, canvas, SHIFT),
    )
    content = {
        "overall": overall,
        "band": VERDICTS.get(overall["verdict"], "unchanged"),
        "bands": VERDICTS,
        "counted": [one for one in weighed if counts(one)],
        "left_out": [one for one in weighed if not counts(one) and one.get("control") != "negative"],
        "negative": [one for one in weighed if one.get("control") == "negative"],
        "runs": runs,
        "forest": forest,
        "confidence": overall.get("confidence") or 0.95,
        # Quoted, a colon can't make a scheme of the path's beginning.
        "links": {scenario: quote(Path(link).as_posix()) for scenario, link in links.items()},
    }
    write_record(path, template("overview.html.j2").render(**content))
