"""The room of scenarios: evidence that a state changed what the agent did.

In go a script (exposure, trial, detectors) and a home; out come records, statistics, a verdict and
a report. An effect is never reported without its controls: base, sham, reversed, and random
directions matched in dose and in volatility.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.scenarios.script import Scenario, read_scenario
from overlay.scenarios.verdict import Check, Effect, Verdict, judge

if TYPE_CHECKING:
    from overlay.scenarios.report import write_report
    from overlay.scenarios.run import run_scenario

__all__ = ["Check", "Effect", "Scenario", "Verdict", "judge", "read_scenario", "run_scenario", "write_report"]

_HEAVY = {"run_scenario": "overlay.scenarios.run", "write_report": "overlay.scenarios.report"}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(importlib.import_module(_HEAVY[name]), name)
    raise AttributeError(f"module 'overlay.scenarios' has no attribute '{name}'")
