"""The room of scenarios: evidence that a state changed what the agent did.

In go a script (exposure, trial, detectors) and a home; out come records, statistics, a verdict and
a report. An effect is never reported without its controls: base, sham, reversed, and random
directions matched in dose and in volatility.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.scenarios.script import Exposure, Scenario, read_scenario
from overlay.scenarios.verdict import Check, Effect, Verdict, judge

if TYPE_CHECKING:
    from overlay.scenarios.arms import core_arms, drawn, match
    from overlay.scenarios.cells import Arm, Cells, Record, Unit, plan
    from overlay.scenarios.episode import first_prompts, play_group
    from overlay.scenarios.exposure import LivedBefore, live_through
    from overlay.scenarios.inspect_log import write_inspect_logs
    from overlay.scenarios.report import write_overview, write_report, write_tables
    from overlay.scenarios.run import Laboratory, RunSettings, run_scenario, run_scenarios, script_context

__all__ = [
    "Arm",
    "Cells",
    "Check",
    "Effect",
    "Exposure",
    "Laboratory",
    "LivedBefore",
    "Record",
    "RunSettings",
    "Scenario",
    "Unit",
    "Verdict",
    "core_arms",
    "drawn",
    "first_prompts",
    "judge",
    "live_through",
    "match",
    "plan",
    "play_group",
    "read_scenario",
    "run_scenario",
    "run_scenarios",
    "script_context",
    "write_inspect_logs",
    "write_overview",
    "write_report",
    "write_tables",
]

# These import torch, matplotlib or optional packages.
_LATER = {
    "Arm": "cells",
    "Cells": "cells",
    "Laboratory": "run",
    "LivedBefore": "exposure",
    "Record": "cells",
    "RunSettings": "run",
    "Unit": "cells",
    "core_arms": "arms",
    "drawn": "arms",
    "first_prompts": "episode",
    "live_through": "exposure",
    "match": "arms",
    "plan": "cells",
    "play_group": "episode",
    "run_scenario": "run",
    "run_scenarios": "run",
    "script_context": "run",
    "write_inspect_logs": "inspect_log",
    "write_overview": "report",
    "write_report": "report",
    "write_tables": "report",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"overlay.scenarios.{_LATER[name]}"), name)
    raise AttributeError(f"module 'overlay.scenarios' has no attribute '{name}'")
