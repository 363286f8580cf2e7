"""Evidence: from the records of a run to what they say, as pure functions.

In go a script, the arms and one record per cell; out come the parts of a result that rest on them: verdict, arms,
comparisons, doses, levels, validity, items, detectors, self-report and example transcripts. A unit counts only where
both arms of its pair can be read; what was left out is counted with its reasons. Nothing here plays a cell, touches
disk or model, or reports an effect without its controls.
"""

from __future__ import annotations

from overlay.scenarios.evidence.rehearsal import Rehearsal, rehearse, simulate_power
from overlay.scenarios.evidence.weighing import weigh

__all__ = ["Rehearsal", "rehearse", "simulate_power", "weigh"]
