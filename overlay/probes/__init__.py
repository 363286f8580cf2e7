"""The room of probes: what a treatment strengthened, let sag or made possible, by choices of known meaning.

In go banks that people wrote, a model and two treatments of it; out come margins, a semantic map with a verdict for
every cell of level, layer and language, and checks of what the model writes itself. Adapters, axes, states and
prompts are all the same here: it never asks what a treatment is made of, and it trains nothing.
"""

from __future__ import annotations

from overlay.probes.bank import ProbeBank, read_bank
from overlay.probes.check_report import (
    CheckReport,
    Likeness,
    check_generations,
    meets,
    require_checkable,
)
from overlay.probes.cues import Doubt, doubts
from overlay.probes.map_plot import draw_map
from overlay.probes.map_table import map_table
from overlay.probes.margins import ProbeMargin, margins
from overlay.probes.probe import Cell, Check, CheckKind, Choice, Expectation, Layer, Level, Probe, cells_of
from overlay.probes.semantic_map import SemanticMap, semantic_map
from overlay.probes.shift import LEAST_SHIFT, SIGNIFICANCE, Shift, Verdict, weigh

__all__ = [
    "LEAST_SHIFT",
    "SIGNIFICANCE",
    "Cell",
    "Check",
    "CheckKind",
    "CheckReport",
    "Choice",
    "Doubt",
    "Expectation",
    "Layer",
    "Level",
    "Likeness",
    "Probe",
    "ProbeBank",
    "ProbeMargin",
    "SemanticMap",
    "Shift",
    "Verdict",
    "cells_of",
    "check_generations",
    "doubts",
    "draw_map",
    "map_table",
    "margins",
    "meets",
    "read_bank",
    "require_checkable",
    "semantic_map",
    "weigh",
]
